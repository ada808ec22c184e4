"""Halts in one process: scopes, reasons, repeats, what still runs."""

from __future__ import annotations

import threading
from collections.abc import Callable

import dramatiq
import pytest
from tests.integration.logs.harness import Bench, Note, note
from tests.support import wait_until

from streamatiq import errors
from streamatiq.broker import Scope


def _heard(bench: Bench, halts: int) -> None:
    """Wait until this process knows so many halts."""
    wait_until(lambda: bench.broker.guards and len(bench.broker.guards.halts()) == halts)


def test_a_halted_subscription_waits_and_goes_on_with_no_attempt_burnt(bench: Bench) -> None:
    ran: list[str] = []
    others: list[str] = []

    @bench.on(Note, name="halted", max_retries=0)
    def halted(event: Note) -> None:
        ran.append(event.text)

    @bench.on(Note, name="other")
    def other(event: Note) -> None:
        others.append(event.text)

    bench.start()
    done = bench.broker.halt("halted", reason="maintenance", by="me")
    assert done.is_new
    _heard(bench, 1)
    bench.logs.publish_many([note(n) for n in range(10)])
    wait_until(lambda: len(others) == 10)
    assert ran == []
    ended = bench.broker.resume("halted", by="you", reason="over")
    assert ended == done.halt
    bench.settled("halted")
    assert sorted(ran, key=int) == [str(n) for n in range(10)]
    assert bench.broker.count_dead_letters("halted") == 0
    told = [
        (one.what, one.name, one.before, one.after, one.reason, one.by)
        for one in bench.broker.guard_changes()
    ]
    assert told == [
        ("halt", "sub halted", "halted", "running", "over", "you"),
        ("halt", "sub halted", "running", "halted", "maintenance", "me"),
    ]


def test_a_halted_key_waits_and_others_run(bench: Bench) -> None:
    ran: list[str] = []

    @bench.on(Note, name="keys")
    def keys(event: Note) -> None:
        ran.append(event.key)

    bench.start()
    bench.broker.halt("keys", "BTC", reason="x")
    bench.broker.halt(key="SOL", reason="x")
    bench.broker.halt("another", "ETH", reason="x")
    _heard(bench, 3)
    bench.logs.publish_many([note(n, key=key) for n in range(3) for key in ("BTC", "ETH", "SOL")])
    wait_until(lambda: ran.count("ETH") == 3)
    assert set(ran) == {"ETH"}
    bench.broker.resume("keys", "BTC")
    wait_until(lambda: ran.count("BTC") == 3)
    bench.broker.resume(key="SOL")
    wait_until(lambda: ran.count("SOL") == 3)


def test_everything_is_halted_but_what_runs_when_halted(bench: Bench) -> None:
    ran: list[str] = []

    @bench.on(Note, name="orders")
    def orders(event: Note) -> None:
        ran.append("orders")

    @bench.on(Note, name="cancels", runs_when_halted=True)
    def cancels(event: Note) -> None:
        ran.append("cancels")

    @dramatiq.actor(broker=bench.broker)
    def plain() -> None:
        ran.append("plain")

    @dramatiq.actor(broker=bench.broker, runs_when_halted=True)
    def urgent() -> None:
        ran.append("urgent")

    bench.broker.halt(everything=True, reason="the big red button")
    bench.start()  # what was halted before it began is known before it reads
    bench.logs.publish(note("x"))
    plain.send()
    urgent.send()
    wait_until(lambda: sorted(ran) == ["cancels", "urgent"])
    bench.broker.resume(everything=True)
    wait_until(lambda: sorted(ran) == ["cancels", "orders", "plain", "urgent"])


def test_the_first_reason_stays(bench: Bench) -> None:
    first = bench.broker.halt("x", reason="  first ", by="me")
    again = bench.broker.halt("x", reason="second", by="you")
    assert (first.is_new, again.is_new) == (True, False)
    assert again.halt == first.halt
    assert (again.halt.reason, again.halt.by) == ("first", "me")
    assert bench.broker.halts() == [first.halt]
    assert len(list(bench.broker.guard_changes())) == 1
    assert bench.broker.resume("x") == first.halt
    assert bench.broker.resume("x") is None
    assert bench.broker.halts() == []


@pytest.mark.parametrize(
    ("scope", "reason"),
    [
        ({"subscription": "x"}, ""),
        ({"subscription": "x"}, " \n"),
        ({}, "why"),
        ({"everything": True, "key": "BTC"}, "why"),
        ({"subscription": "two words"}, "why"),
        ({"key": ""}, "why"),
    ],
)
def test_a_halt_that_makes_no_sense_is_refused(
    bench: Bench, scope: dict[str, object], reason: str
) -> None:
    with pytest.raises(ValueError, match=r"reason|meant|excludes|name of|character"):
        bench.broker.halt(**scope, reason=reason)  # type: ignore[arg-type]
    assert bench.broker.halts() == []


def test_scopes_are_apart(bench: Bench) -> None:
    for arguments in ({"subscription": "a"}, {"key": "a"}, {"everything": True}):
        bench.broker.halt(**arguments, reason="x")  # type: ignore[arg-type]
    bench.broker.halt("a", "b c", reason="x")
    assert {one.scope for one in bench.broker.halts()} == {
        Scope("a"), Scope(key="a"), Scope(), Scope("a", "b c"),
    }  # fmt: skip
    bench.broker.resume(everything=True)
    assert len(bench.broker.halts()) == 3


def test_a_handler_that_runs_is_not_interrupted(bench: Bench) -> None:
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    @bench.on(Note, name="long")
    def long(event: Note) -> None:
        begun.set()
        go_on.wait(10)
        ended.set()

    bench.start()
    bench.logs.publish(note("x"))
    assert begun.wait(10)
    bench.broker.halt("long", reason="x")
    _heard(bench, 1)
    go_on.set()
    assert ended.wait(10)
    bench.settled("long")


def test_two_processes_learn_from_each_other(open_bench: Callable[..., Bench]) -> None:
    one, two = open_bench(), open_bench()
    heard = threading.Event()
    for bench in (one, two):

        @bench.on(Note, name="shared")
        def shared(event: Note) -> None: ...

        bench.start()
        wait_until(lambda bench=bench: bench.broker.guards is not None)
    guards = two.broker.guards
    assert guards is not None
    guards.on_change(heard.set)
    one.broker.halt("shared", reason="x")
    assert heard.wait(5)
    # What it heard of may have been what there was when it began to follow.
    wait_until(lambda: [halt.reason for halt in guards.halts()] == ["x"], 5)


def test_runs_when_halted_must_be_a_bool(bench: Bench) -> None:
    with pytest.raises(errors.HandlerDefinitionError, match="runs_when_halted"):

        @bench.on(Note, name="wrong", runs_when_halted="yes")
        def wrong(event: Note) -> None: ...
