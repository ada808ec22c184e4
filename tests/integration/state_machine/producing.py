"""Rules: what producers and operators do."""

from __future__ import annotations

from functools import partial

import hypothesis.strategies as st
from hypothesis.stateful import initialize, rule
from tests.integration.state_machine import endings
from tests.integration.state_machine.acting import QUEUES, Steps, any_of, cuts, kept
from tests.integration.state_machine.ledger import unit_of
from tests.integration.state_machine.shapes import HOUR_MS, LANES, cause, message
from tests.integration.state_machine.surroundings import Surroundings

__all__ = ["Producing"]

lanes = st.integers(0, 2)
queues = st.sampled_from(QUEUES)
#: Few, so that events are published more than once.
events = st.integers(0, 11)


class Producing(Surroundings):
    """Publish, enqueue, cancel, flush; and what others write into our streams."""

    @initialize(
        numbers=st.lists(events, min_size=2, max_size=8, unique=True),
        wanted=st.lists(st.tuples(lanes, st.booleans()), min_size=2, max_size=6),
    )
    def begin(self, numbers: list[int], wanted: list[tuple[int, bool]]) -> None:
        """Something to do."""
        self.publish(numbers, 0, 0)
        self.enqueue(QUEUES[0], wanted, 0, 0)
        self.verify()

    @rule(numbers=st.lists(events, min_size=1, max_size=6), times=cuts, keep=kept)
    def publish(self, numbers: list[int], times: int, keep: int) -> None:
        logs = self.example.logs
        made = [cause(number, number % 5) for number in numbers]
        batches: dict[str, list[tuple[bytes, bytes]]] = {}
        wires = [logs.prepared(event) for event in made]
        for keys, event_id, data in wires:
            batches.setdefault(keys.entries, []).append((event_id, data))

        def effects() -> Steps:
            for entries, pairs in batches.items():
                yield self.model.publish(self.example.log_keys[entries], pairs)

        with self.example.cutting(times, keep_bytes=keep):
            receipts = self.attempt_steps(lambda: logs.publish_many(made), effects())
        if receipts is None:
            for event, (keys, event_id, _) in zip(made, wires, strict=True):
                if event_id in self.model.ids[keys.entries]:
                    self.ledger.events[str(event.id)] = event.type
            return
        self.verify()
        for event, (keys, event_id, _), receipt in zip(made, wires, receipts, strict=True):
            self.ledger.events[str(event.id)] = event.type
            ids = self.model.ids[keys.entries]
            entry = ids.young.get(event_id) or ids.old[event_id]
            assert entry is not None
            assert receipt.entry_id.encode() == entry.entry_id, f"receipt {receipt} of {event.id}"

    @rule(number=events, who=any_of, second=endings.endings())
    def publish_late(self, number: int, who: int, second: endings.Ending) -> None:
        """An event is handled, and published again after its window: its log has it twice, but the
        marks tell that it was handled."""
        event = cause(number, number % 5)
        log, event_id, _ = self.example.logs.prepared(event)
        process = self.process(who)
        group = ("alpha", "beta")[who % 2] if number % 5 >= 2 else "alpha"
        for ending in (endings.EMITS, second):
            self.publish([number], 0, 0)
            self.take(process, group, self.sources(group), room=20)
            for place in reversed(range(len(process.held))):
                one = process.held[place]
                if one.source.group == group and one.event_id == event_id:
                    self.verify()
                    self.commit(process, self._ended(process, place, [ending]))
            self.example.admin.delete(log.ids, log.ids_old)
            self.model.ids[log.entries].forget()

    @rule(
        queue=queues,
        wanted=st.lists(st.tuples(lanes, st.booleans()), min_size=1, max_size=4),
        times=cuts,
        keep=kept,
        again=st.sampled_from((False, False, False, True)),
    )
    def enqueue(
        self, queue: str, wanted: list[tuple[int, bool]], times: int, keep: int, again: bool = False
    ) -> None:
        """New messages; or, if `again`, the last ones once more: that lifts a cancellation."""
        work = self.example.layout.work[queue]
        wires = []
        known = [unit for unit, name in self.ledger.messages.items() if name == queue]
        for lane, later in wanted:
            self.numbers += 1
            number = int(known.pop().removeprefix("m")) if again and known else self.numbers
            one = message(queue, number, lane)
            wires.append(work.to_enqueue(one, HOUR_MS if later else None))
        with self.example.cutting(times, keep_bytes=keep):
            self.attempt(
                partial(work.enqueue, self.example.links, wires),
                lambda model: model.enqueue(queue, wires, lifts=True),
            )
        held = {one.member for one in wires if one.member in self.model.delayed[queue]}
        streams = {
            one.payload for key in work.targets.values() for one in self.model.streams[key.entries]
        }
        for wire in wires:
            if wire.member in held or wire.message in streams:
                self.ledger.messages[wire.member.partition(":")[2]] = queue

    @rule(queue=queues, lane=lanes)
    def add_garbage_to_queue(self, queue: str, lane: int) -> None:
        self._garbage(self.example.layout.work[queue].targets[LANES[lane]].entries, "m")

    @rule(which=any_of)
    def add_garbage_to_log(self, which: int) -> None:
        keys = sorted(self.example.log_keys)
        self._garbage(keys[which % len(keys)], "d")

    def _garbage(self, key: str, name: str) -> None:
        self.numbers += 1
        text = f"not ours {self.numbers}"
        self.example.admin.xadd(key, {name: text})
        self.model.append(key, text.encode())
        self.ledger.garbage.add(text)

    @rule(queue=queues, which=any_of, times=cuts)
    def cancel(self, queue: str, which: int, times: int) -> None:
        known = sorted(one for one, name in self.ledger.messages.items() if name == queue)
        if not known:
            return
        work = self.example.layout.work[queue]
        unit = known[which % len(known)]
        with self.example.cutting(times):
            self.attempt(
                lambda: work.cancel(self.example.links, [unit]),
                lambda model: model.cancelled[queue].add(unit),
            )
        if unit in self.model.cancelled[queue]:
            self.ledger.cancelled.add(unit)

    @rule(queue=queues, who=any_of, delayed=st.booleans())
    def cancel_running(self, queue: str, who: int, delayed: bool) -> None:
        """Messages are cancelled while they run; what is retried must not come again."""
        process = self.process(who)
        self.take(process, queue, self.sources(queue), room=3)
        self.verify()
        work = self.example.layout.work[queue]
        for unit in [unit_of(one.data) for one in process.held if one.source.group == queue]:
            if unit in self.ledger.messages:
                work.cancel(self.example.links, [unit])
                self.model.cancelled[queue].add(unit)
                self.ledger.cancelled.add(unit)
        self.commit_all(process, queue, endings.LATER if delayed else endings.RETRY)

    @rule(
        queue=queues,
        who=any_of,
        ending=st.sampled_from((endings.RETRY, endings.LATER, endings.FAIL, endings.DONE)),
        running=st.booleans(),
    )
    def flush(self, queue: str, who: int, ending: endings.Ending, running: bool) -> None:
        """A queue is emptied; under handlers that run, if `running`."""
        process = self.process(who)
        if running:
            self.enqueue(queue, [(1, False)], 0, 0)
            self.verify()
            self.take(process, queue, self.sources(queue), room=4)
            self.verify()
        self._flush(queue)
        if running:
            self.verify()
            self.commit_all(process, queue, ending)

    def _flush(self, queue: str) -> None:
        work = self.example.layout.work[queue]
        sources = self.sources(queue)
        dropped = {unit_of(one.message) for one in self.model.delayed[queue].values()}
        for source in sources:
            dropped |= {unit_of(one.payload) for one in self.model.streams[source.keys.entries]}
        self.ledger.flushed |= dropped
        assert work.flush(self.example.links) == self.model.flush(queue, sources)
