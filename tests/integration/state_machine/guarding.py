"""Rules: halts and breakers change, and processes hear of it at their own pace.

What a process has heard of, it keeps to: nothing begins there that is stopped. Where a breaker is
half-open, who begins is its one probe. Nothing else is to be seen of it: what is stopped waits in
its place, so that all that is said of order and of settlements holds in this machine, too.
"""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
from hypothesis.stateful import rule
from pydantic_core import from_json, to_json
from tests.integration.state_machine.acting import any_of
from tests.integration.state_machine.owned_process import OwnedProcess, members_of
from tests.integration.state_machine.owned_shapes import KEYS
from tests.integration.state_machine.requeuing import Requeuing

from streamatiq.broker import guard_scripts
from streamatiq.broker.delivery import Delivery
from streamatiq.broker.guard_state import Scope
from streamatiq.broker.guard_subjects import subject_of

__all__ = ["Guarding"]

SCOPES = (
    Scope(),
    *(Scope(name) for name in ("orders", "bars", "quotes", "notes", "mail")),
    *(Scope(key=key) for key in KEYS),
    Scope("orders", "a"),
    Scope("bars", "c"),
)
BREAKERS = ("orders", "venue:x", "venue:y")
scopes = st.sampled_from(SCOPES)
breakers = st.sampled_from(BREAKERS)


class Guarding(Requeuing):
    """See the module."""

    def __init__(self) -> None:
        #: By breaker, the delivery that is its probe, and the consumer.
        self.probes: dict[str, tuple[Delivery, str]] = {}
        self.known: set[str] = set()
        super().__init__()
        self.guard_keys = self.example.keys.guards

    # -- what changes --------------------------------------------------------------------------

    @rule(scope=scopes, who=any_of)
    def halt(self, scope: Scope, who: int) -> None:
        """Something is halted; one process hears of it at once."""
        self.example.links.call(
            lambda link: link.run(guard_scripts.halt(self.guard_keys, scope, why="w", by="me"))
        )
        self.hear(who)

    @rule(which=any_of, who=any_of)
    def resume(self, which: int, who: int) -> None:
        """One halt ends."""
        halted: Any = sorted(self.example.admin.hkeys(self.guard_keys.halts))
        if halted:
            self._resume(halted[which % len(halted)].decode())
        self.hear(who)

    def _resume(self, scope: str) -> None:
        call = guard_scripts.resume(self.guard_keys, Scope.parse(scope), why="w", by="me")
        self.example.links.call(lambda link: link.run(call))

    @rule(
        name=breakers, to=st.sampled_from(("open", "open", "close", "reset", "reset")), who=any_of
    )
    def set_breaker(self, name: str, to: str, who: int) -> None:
        """By hand."""
        self._set(name, to)
        self.hear(who)

    def _set(self, name: str, to: str) -> None:
        call = guard_scripts.set_breaker(
            self.guard_keys, name, to, why="w", by="me", reset_ms=3_600_000
        )
        self.example.links.call(lambda link: link.run(call))
        self.probes.pop(name, None)

    @rule(name=breakers, who=any_of)
    def reset_time_passes(self, name: str, who: int) -> None:
        """An open breaker may be probed; a probe's lease is over if its process is dead."""
        record = self._record(name)
        if record.get("state") == "open":
            record["until_ms"] = 1
        elif record.get("state") == "half_open" and self.is_lost(record["probe_by"]):
            record["probe_until"] = 1
        else:
            return
        self.example.admin.hset(self.guard_keys.breakers, name, to_json(record))
        self.hear(who)

    @rule(who=any_of)
    def hear(self, who: int) -> None:
        """A process learns of all changes."""
        process = self.process(who)
        assert isinstance(process, OwnedProcess)
        process.hear()

    @rule(name=breakers, who=any_of, which=any_of)
    def probe(self, name: str, who: int, which: int) -> None:
        """A breaker has been open for long; all know, and ask."""
        self._set(name, "open")
        record = self._record(name)
        record["until_ms"] = 1
        self.example.admin.hset(self.guard_keys.breakers, name, to_json(record))
        for place in range(len(self.processes)):
            self.hear(place)
        group = "orders" if name == "orders" else "bars"
        for process in list(self.processes):
            self.take(process, group, self.sources(group), room=4)
            self.begin_handler(self.processes.index(process), which, 2)

    def mend(self) -> None:
        """Everything is opened."""
        halted: Any = self.example.admin.hkeys(self.guard_keys.halts)
        for scope in halted:
            self._resume(scope.decode())
        for name in BREAKERS:
            self._set(name, "close")
        for place in range(len(self.processes)):
            self.hear(place)

    def _record(self, name: str) -> dict[str, Any]:
        text: Any = self.example.admin.hget(self.guard_keys.breakers, name)
        return from_json(text) if text else {}

    # -- what is kept to -----------------------------------------------------------------------

    def before_run(self, process: OwnedProcess, delivery: Delivery) -> None:
        """See `Running`."""
        self.known = {one.name for one in process.guards.breakers() if one.state != "closed"}

    def begins(self, process: OwnedProcess, delivery: Delivery) -> None:
        """See `Running`."""
        memory = process.guards._memory
        for one in members_of(delivery):
            if one.turned_away:
                continue
            subject = subject_of(process.broker, one)
            halt = memory.halt_of(subject)
            assert halt is None, f"{one} begins, and {halt}"
            for name in set(subject.breakers) & self.known:
                self._is_probe(process, delivery, name)

    def _is_probe(self, process: OwnedProcess, delivery: Delivery, name: str) -> None:
        record = self._record(name)
        if not record or record["state"] == "closed":
            return
        assert record["state"] == "half_open", f"{delivery} begins while {name} is open"
        runs = [_run(one) for one in members_of(delivery)]
        assert record["probe"] in runs, f"{delivery} begins, and is not the probe of {name}"
        running, consumer = self.probes.get(name, (None, ""))
        assert running in (None, delivery) or self.is_lost(consumer), f"{name} has two probes"
        if len([one for one in members_of(delivery) if not one.turned_away]) > 1:
            of_it = [
                one
                for one in members_of(delivery)
                if not one.turned_away and name in subject_of(process.broker, one).breakers
            ]
            assert len(of_it) == 1, f"{len(of_it)} events are the one probe of {name}"
        self.probes[name] = (delivery, delivery.consumer)

    def ends(self, process: OwnedProcess, delivery: Delivery) -> None:
        """See `Running`."""
        for name in [one for one, (probe, _) in self.probes.items() if probe is delivery]:
            del self.probes[name]


def _run(delivery: Delivery) -> str:
    where = f"{delivery.consumer} {delivery.source.keys.entries} {delivery.entry_id.decode()}"
    return f"{where} {delivery.started_ns}"
