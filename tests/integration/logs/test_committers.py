"""What is urgent is settled beside what is not, over a connection of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from tests.integration.logs.harness import Bench, Echo, Note, Spread, note
from tests.support import wait_until

from streamatiq.broker.committer import Committer

REST = "streamatiq-committer-rest"


def committers() -> list[str]:
    return sorted(one.name for one in threading.enumerate() if "committer" in one.name)


def test_a_batch_of_ticks_that_hangs_holds_up_no_fill(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs, go_on = threading.Event(), threading.Event()
    commit: Callable[..., Any] = Committer._commit

    def slow(self: Committer, units: Any) -> Any:
        if threading.current_thread().name == REST:
            hangs.set()
            assert go_on.wait(10)
        return commit(self, units)

    monkeypatch.setattr(Committer, "_commit", slow)
    ran: list[str] = []

    @bench.on(Note, name="ticks", priority=100)
    def tick(event: Note) -> None:
        ran.append(event.text)

    @bench.on(Spread, name="orders")
    def order(event: Spread) -> Echo:
        return Echo(ts_event=2, text=f"fill of {event.text}")

    bench.start(threads=2)
    bench.logs.publish_many([note(f"{n}") for n in range(20)])
    assert hangs.wait(10)
    bench.logs.publish(Spread(ts_event=1, text="a"))
    assert bench.echoes(1) == ["fill of a"]
    assert not go_on.is_set()
    health = bench.broker.health().processes[0]
    assert health.unsettled > 0
    go_on.set()
    bench.settled("ticks", "orders")
    assert sorted(ran, key=int) == [f"{n}" for n in range(20)]


def test_the_second_one_is_made_when_it_is_needed_and_ends_with_the_first(bench: Bench) -> None:
    @bench.on(Note, name="usual")
    def usual(event: Note) -> None: ...

    @bench.on(Spread, name="later", priority=1)
    def later(event: Spread) -> None: ...

    bench.start()
    bench.logs.publish(note("x"))
    bench.settled("usual")
    assert REST not in committers()
    bench.logs.publish(Spread(ts_event=1, text="y"))
    bench.settled("later")
    assert REST in committers()
    assert [kind for kind, _ in bench.broker.outages()].count("committer") == 2
    bench.stop()
    bench.broker.close()
    wait_until(lambda: not committers(), what="both threads have ended")
