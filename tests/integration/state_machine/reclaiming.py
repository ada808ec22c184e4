"""Rules: who is dead, or seems so, is reclaimed; processes leave; heartbeats."""

from __future__ import annotations

from itertools import chain
from typing import Any

import hypothesis.strategies as st
from hypothesis.stateful import rule
from tests.integration.state_machine.acting import Steps, any_of
from tests.integration.state_machine.ending import Ending
from tests.integration.state_machine.model import FREE
from tests.integration.state_machine.process import MAX_DELIVERIES, Process
from tests.integration.state_machine.shapes import HOUR_MS

from streamatiq.broker import reclaimer, scripts
from streamatiq.broker.settlements import HAND_BACK, Settlement
from streamatiq.broker.sources import Source

__all__ = ["Reclaiming"]


class Reclaiming(Ending):
    """Reclaimers, one after another and at the same time, interrupted or not."""

    @rule(who=any_of, victim=any_of, pages=st.integers(1, 4))
    def reclaim_some(self, who: int, victim: int, pages: int) -> None:
        """A reclaimer that is interrupted after some pages."""
        name, process = self._victim(victim), self.process(who)
        if process.name != name:
            self.bury_partly(process, name, pages)

    def bury_partly(self, process: Process, name: str, pages: int) -> None:
        reads = sorted(self.model.reads.get(name, ()))
        sources = [source for group in reads for source in self.sources(group)]
        for source in sources:
            more = True
            while more:
                if pages == 0:
                    return
                pages -= 1
                page = process.link.run(
                    scripts.reclaim(
                        source.keys,
                        name=source.name,
                        group=source.group,
                        consumer=name,
                        is_log=source.is_log,
                        fence=True,
                        max_deliveries=MAX_DELIVERIES,
                        page=reclaimer.PAGE,
                    )
                )
                said = self._reclaim_page(source, name)
                assert tuple(page) == said, f"reclaim said {page}, should say {said}"
                self.verify()
                more = page.more

    def _reclaim_page(self, source: Source, name: str, fence: bool = True) -> Any:
        return self.model.reclaim(
            source, name, fence=fence, max_deliveries=MAX_DELIVERIES, page=reclaimer.PAGE
        )

    def _reclaiming(self, sources: list[Source], name: str, fence: bool = True) -> Steps:
        for source in sources:
            more = True
            while more:
                *_, more = self._reclaim_page(source, name, fence)
                yield None

    def _victim(self, which: int) -> str:
        """A dead process; or one that lives, and was silent for too long."""
        names = self.graves or [one.name for one in self.processes]
        return names[which % len(names)]

    @rule(who=any_of, victim=any_of, after=st.integers(0, 6), cut=st.booleans())
    def reclaim(self, who: int, victim: int, after: int, cut: bool) -> None:
        """The product's reclaimer; a lost reply leaves the rest to the next one."""
        name, process = self._victim(victim), self.process(who)
        if process.name != name:
            self.bury(process, name, after=after, cut=cut)

    def bury(
        self, process: Process, name: str, *, after: int = 0, cut: bool = False, fence: bool = True
    ) -> None:
        with self.example.cutting(int(cut), after=after):
            done = self.attempt_steps(
                lambda: process.reclaimer.reclaim(process.link, name, fence=fence) >= 0,
                self._in_recorded_order(name, fence),
            )
        if done is None:
            process.link.close()
        elif name in self.graves:
            self.graves.remove(name)

    def _in_recorded_order(self, name: str, fence: bool) -> Steps:
        """As `_burying`, in the order in which the server lists what it read."""
        reads: Any = self.example.admin.hkeys(self.example.keys.members.reads(name))
        return self._burying_of([group.decode() for group in reads], name, fence)

    def _burying_of(self, groups: list[str], name: str, fence: bool) -> Steps:
        for group in groups:
            yield from self._reclaiming(self.sources(group), name, fence)
        for group in groups:
            yield self.model.resign(group, name)
        self.model.forget(name)
        yield None

    def _sweeping(self, source: Source, name: str) -> Steps:
        yield from self._reclaiming([source], name)
        yield self.model.resign(source.group, name)

    @rule(who=any_of)
    def leave(self, who: int) -> None:
        """A process stops: what it holds is handed back, then it signs off."""
        process = self.process(who)
        batch = [
            Settlement(one.source, one.consumer, one.entry_id, b"", HAND_BACK)
            for one in process.held
        ]
        process.held.clear()
        self.commit(process, batch)
        self.verify()
        name = process.name
        self._die(process)
        self.graves.remove(name)
        self.bury(process, name, fence=False)

    @rule(who=any_of, after=st.integers(0, 6), cut=st.booleans())
    def heartbeat(self, who: int, after: int, cut: bool) -> None:
        """A heartbeat: who was fenced cleans up, the leader looks for who is listed nowhere."""
        self.beat(self.process(who), after=after, cut=cut)

    def beat(self, process: Process, *, after: int = 0, cut: bool = False) -> None:
        name = process.name
        beat = process.link.run(
            scripts.heartbeat(
                self.example.keys.members, name, None, lease_ms=HOUR_MS, believed_dead=""
            )
        )
        self.model.alive.add(name)
        if not self.model.lease:
            self.model.lease = name
        assert beat.is_reclaimer == (self.model.lease == name)
        with self.example.cutting(int(cut), after=after):
            done = self.attempt_steps(
                lambda: self._is_told(process, beat),
                self._told(process, list(process.identity._lost), beat.is_reclaimer),
            )
        if done is None:
            process.link.close()
            process.reclaimer.pause()

    @staticmethod
    def _is_told(process: Process, beat: scripts.Heartbeat) -> bool:
        process.reclaimer.told(process.link, beat, None)
        return True

    def _told(self, process: Process, lost: list[str], leads: bool) -> Steps:
        """What the reclaimer will do; the server is asked now, before it does."""
        own = [source for group in process._intakes for source in self.sources(group)]
        steps: list[Steps] = []
        for name in lost:
            steps += [self._reclaiming(own, name), self._in_recorded_order(name, True)]
        if leads and process.reclaimer._next_sweep == 0.0:
            listed = set(self.model.alive)
            for source in own:
                infos: Any = self.example.admin.xinfo_consumers(source.keys.entries, source.group)
                names = [info["name"].decode() for info in infos]
                steps += [
                    self._sweeping(source, name)
                    for name in names
                    if name != FREE and name not in listed | set(lost)
                ]
        return chain.from_iterable(steps)
