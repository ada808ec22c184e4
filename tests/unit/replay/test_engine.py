"""Controls in any order: nothing is lost or doubled, except as `seek` says."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.support import wait_until
from tests.unit.replay.replay_kit import MS, Clock, Memory, Tick, Tock, engine_of, places

from streamatiq.errors import InvalidReplay, ReplayError
from streamatiq.scheduler.replay.controls import Status
from streamatiq.scheduler.replay.digest import EMPTY, chained_items
from streamatiq.scheduler.replay.engine import Batch, Engine, Wait
from streamatiq.scheduler.replay.items import Replayed
from streamatiq.scheduler.replay.progress import Progress
from streamatiq.scheduler.replay.run import Replay
from streamatiq.scheduler.replay.spec import ReplaySpec


def some(count: int = 40) -> Memory:
    memory = Memory()
    for n in range(count):
        memory.add(Tick, str(n % 2), 1000 + n * 10, n=n)
        memory.add(Tock, ("high", "low")[n % 2], 1000 + n * 10, n=n)
    return memory


BOTH = [Tick, Tock]


def taken(engine: Engine, limit: int = 256) -> list[Replayed]:
    """All that is due now."""
    items: list[Replayed] = []
    while isinstance(batch := engine.poll(limit), Batch):
        engine.delivered(batch)
        items += batch.items
    return items


def whole(memory: Memory) -> list[Replayed]:
    return taken(engine_of(memory, ReplaySpec.of(BOTH), Clock()))


class Controls(RuleBasedStateMachine):
    """A model that holds a list and an index, against the engine; the process dies, too."""

    @initialize(speed=st.sampled_from(["max", 1.0, 7.5]), rate=st.sampled_from([None, None, 200]))
    def begin(self, speed: Any, rate: Any) -> None:
        self.memory = some()
        self.all = whole(self.memory)
        self.clock = Clock()
        self.spec = ReplaySpec.of(BOTH, speed=speed, max_rate=rate)
        self.engine = engine_of(self.memory, self.spec, self.clock)
        self.next = 0
        self.count = 0
        self.digest = EMPTY
        self.paused = False
        self.ended = False

    def took(self, items: list[Replayed]) -> None:
        wanted = self.all[self.next : self.next + len(items)]
        assert places(items) == places(wanted)
        self.next += len(items)
        self.count += len(items)
        self.digest = chained_items(self.digest, items)

    @precondition(lambda self: not self.ended)
    @rule(ms=st.integers(0, 60), limit=st.sampled_from([1, 2, 256]))
    def go_on(self, ms: int, limit: int) -> None:
        self.clock.now_ns += ms * MS
        items = taken(self.engine, limit)
        assert not (self.paused and items)
        self.took(items)
        self.ended = self.engine.status is Status.DONE
        assert not self.ended or self.next == len(self.all)

    @precondition(lambda self: not self.ended)
    @rule()
    def pause(self) -> None:
        self.engine.pause()
        self.paused = True

    @precondition(lambda self: not self.ended)
    @rule()
    def resume(self) -> None:
        self.engine.resume()
        self.paused = False

    @precondition(lambda self: not self.ended)
    @rule(count=st.integers(1, 5))
    def step(self, count: int) -> None:
        self.engine.step(count)
        self.paused = True
        left = len(self.all) - self.next
        items = taken(self.engine)
        assert len(items) == min(count, left)
        self.took(items)

    @precondition(lambda self: not self.ended)
    @rule(data=st.data())
    def seek_place(self, data: Any) -> None:
        self.next = data.draw(st.integers(0, len(self.all) - 1))
        self.engine.seek(self.all[self.next].place)

    @precondition(lambda self: not self.ended)
    @rule(ms=st.integers(990, 1450))
    def seek_time(self, ms: int) -> None:
        self.engine.seek(ms * MS)
        self.next = sum(one.time_ns < ms * MS for one in self.all)

    @precondition(lambda self: not self.ended)
    @rule(speed=st.sampled_from(["max", 0.5, 20]))
    def change_speed(self, speed: Any) -> None:
        self.engine.set_speed(speed)

    @precondition(lambda self: not self.ended)
    @rule()
    def die(self) -> None:
        """Another process goes on from what was saved."""
        saved = Progress.from_json(self.engine.snapshot()[1].to_json())
        self.engine = engine_of(self.memory, self.spec, self.clock, saved)
        self.paused = False

    @precondition(lambda self: not self.ended)
    @rule()
    def cancel(self) -> None:
        self.engine.cancel()
        self.ended = True
        assert self.engine.poll() is None
        with pytest.raises(ReplayError, match="cancelled"):
            self.engine.resume()

    @precondition(lambda self: self.ended)
    @rule()
    def stays_ended(self) -> None:
        assert self.engine.poll() is None
        self.engine.cancel()

    @invariant()
    def counts_and_digest(self) -> None:
        if hasattr(self, "engine"):
            progress = self.engine.snapshot()[1]
            assert progress.count == self.count
            assert progress.digest == self.digest

    def teardown(self) -> None:
        if hasattr(self, "engine") and not self.ended:
            self.engine.resume()
            self.engine.set_speed("max")
            self.clock.now_ns += 3_600_000 * MS
            while self.engine.status is Status.RUNNING:
                self.took(taken(self.engine))
                self.clock.now_ns += 10 * MS
            assert self.next == len(self.all)


TestControls = Controls.TestCase
TestControls.settings = settings(stateful_step_count=25, deadline=None)


def test_a_paced_replay_gives_each_event_when_it_is_due() -> None:
    clock = Clock()
    engine = engine_of(some(), ReplaySpec.of(Tick, speed=10), clock)
    began = clock.now_ns
    for n in range(40):
        step = engine.poll()
        if n:
            assert step == Wait(began + n * MS, 0)
            clock.now_ns += MS
            step = engine.poll()
        assert isinstance(step, Batch)
        assert len(step.items) == 1
        engine.delivered(step)
    assert engine.poll() is None
    assert engine.progress.lateness.most_ns == 0


def test_late_events_are_not_skipped_and_lateness_is_counted() -> None:
    clock = Clock()
    engine = engine_of(some(), ReplaySpec.of(Tick, speed=1), clock)
    taken(engine)
    clock.now_ns += 100 * MS
    assert len(taken(engine)) == 10
    assert engine.progress.lateness.most_ns == 90 * MS
    assert engine.progress.late_ns == 0


def test_what_was_handed_out_before_a_seek_counts_but_does_not_move_it() -> None:
    engine = engine_of(some(), ReplaySpec.of(Tick), Clock())
    batch = engine.poll(5)
    assert isinstance(batch, Batch)
    engine.seek(1000 * MS)
    engine.delivered(batch)
    assert engine.progress.count == 5
    again = engine_of(some(), ReplaySpec.of(Tick), Clock(), engine.progress)
    assert len(taken(again)) == 40


@pytest.mark.parametrize("change", ["resume", "step", "seek", "speed", "cancel", "interrupt"])
def test_a_waiting_driver_hears_at_once(change: str) -> None:
    """With the real clock: a wait of an hour ends when another thread says so."""
    memory = Memory()
    memory.add(Tick, "0", 1000)
    memory.add(Tick, "0", 3_601_000)
    from streamatiq.scheduler.replay.merge import Merge
    from streamatiq.scheduler.replay.pace import Pace

    spec = ReplaySpec.of(Tick, speed=1)
    engine = Engine(Merge(spec, memory.ranges(spec), memory), Pace(1))
    replay = Replay(engine)
    came: list[str] = []

    def drive() -> None:
        came.extend(str(item.place) for item in replay)
        came.append("end")

    driver = threading.Thread(target=drive)
    driver.start()
    wait_until(lambda: len(came) == 1)
    if change == "resume":
        replay.pause()
        replay.set_speed("max")
        replay.resume()
    elif change == "step":
        replay.step()
        wait_until(lambda: len(came) == 2)
        replay.cancel()
    elif change == "seek":
        replay.seek("replay.tick/0/3601000-0")
    elif change == "speed":
        replay.set_speed("max")
    elif change == "cancel":
        replay.cancel()
    else:
        replay.interrupt()
    driver.join(5)
    assert came[-1] == "end"
    assert len(came) == (2 if change in ("cancel", "interrupt") else 3)


def test_a_change_between_poll_and_wait_is_not_missed() -> None:
    memory = Memory()
    memory.add(Tick, "0", 1000)
    memory.add(Tick, "0", 3_601_000)
    clock = Clock()
    engine = engine_of(memory, ReplaySpec.of(Tick, speed=1), clock)
    taken(engine)
    wait = engine.poll()
    assert isinstance(wait, Wait)
    engine.set_speed("max")
    engine.wait(wait)  # would wait for an hour
    assert len(taken(engine)) == 1


def test_wrong_commands_change_nothing() -> None:
    engine = engine_of(some(), ReplaySpec.of(Tick), Clock())
    first = engine.poll(1)
    assert isinstance(first, Batch)
    for bad in ("nonsense", 1.5, None, "replay.tick/0/5-5"):
        with pytest.raises(InvalidReplay):
            engine.seek(bad)
    for count in (0, -1, 1.5, True):
        with pytest.raises(InvalidReplay):
            engine.step(count)  # type: ignore[arg-type]  # on purpose
    for speed in (0, -1, float("nan"), "fast"):
        with pytest.raises(InvalidReplay):
            engine.set_speed(speed)  # type: ignore[arg-type]  # on purpose
    assert len(taken(engine)) == 39


def test_a_loop_that_is_left_goes_on_where_it_stood() -> None:
    replay = Replay(engine_of(some(), ReplaySpec.of(Tick), Clock()))
    first = []
    for item in replay:
        first.append(item)
        if len(first) == 7:
            break
    rest = list(replay)
    assert len(first) + len(rest) == 40
    assert replay.status is Status.DONE


async def collected(replay: Replay) -> list[str]:
    return [str(item.place) async for item in replay]


@pytest.mark.asyncio
async def test_async_iteration_gives_the_same() -> None:
    memory = some()
    plain = Replay(engine_of(memory, ReplaySpec.of(BOTH), Clock()))
    wanted = places(list(plain))
    replay = Replay(engine_of(memory, ReplaySpec.of(BOTH), Clock()))
    assert await collected(replay) == wanted
    assert replay.report().digest == plain.report().digest
