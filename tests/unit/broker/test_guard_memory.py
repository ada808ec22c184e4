"""What a process decides from what it knows: by a clock of the test, without a server."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from streamatiq.broker.guard_memory import SLOT_S, Change, GuardMemory
from streamatiq.broker.guard_scripts import Guarded, Report
from streamatiq.broker.guard_state import BreakerState, Halt, Scope, Subject

#: The server's clock when the test begins, ms; the monotonic one shows 100 s then.
BEGIN_MS = 1_000_000

OPEN = BreakerState(
    name="venue",
    state="open",
    failures=5,
    since_ms=BEGIN_MS,
    last_ms=BEGIN_MS,
    until_ms=BEGIN_MS + 60_000,
    reset_ms=60_000,
    reason="OSError",
    by="h:1:a",
    probe="",
    probe_by="",
    probe_until_ms=0,
)
FAILING = replace(OPEN, state="closed", failures=2, until_ms=0)
PROBED = replace(
    OPEN, state="half_open", probe="run", probe_by="h:2:b", probe_until_ms=BEGIN_MS + 10_000
)


def subject(key: str = "BTC", name: str = "risk", **fields: bool) -> Subject:
    values = {"runs_when_halted": False, **fields}
    return Subject(name, name, key, ("venue",), **values)


def halt(subscription: str | None = None, key: str | None = None) -> Halt:
    return Halt(Scope(subscription, key), "why", "me", datetime(2026, 1, 1, tzinfo=UTC))


class Known:
    """A memory, the clock, and changes with their numbers."""

    def __init__(self, *breakers: BreakerState, halts: tuple[Halt, ...] = ()) -> None:
        self.now_s = 100.0
        self.memory = GuardMemory(lambda: self.now_s)
        self.number = 7
        self.load(*breakers, halts=halts)

    def load(self, *breakers: BreakerState, halts: tuple[Halt, ...] = ()) -> bool:
        now_ms = BEGIN_MS + round((self.now_s - 100) * 1000)
        named = {one.name: one for one in breakers}
        scoped = {one.scope.text: one for one in halts}
        return self.memory.load(Guarded(now_ms, self.number, "1-1", named, scoped))

    def change(self, name: str, value: BreakerState | Halt | None, kind: str = "b") -> bool:
        self.number += 1
        return self.memory.follow([Change(self.number, kind, name, value)])


def test_nothing_runs_before_the_state_is_known() -> None:
    memory = GuardMemory(lambda: 5.0)
    assert not memory.quiet
    assert memory.admit(subject()) == 6.0


def test_quiet_is_when_nothing_is_stopped_or_failing() -> None:
    known = Known()
    assert known.memory.quiet
    known.change("venue", FAILING)
    assert not known.memory.quiet
    assert known.memory.admit(subject()) is None
    known.change("venue", None)
    assert known.memory.quiet
    known.change("all", halt(), "h")
    assert not known.memory.quiet


@pytest.mark.parametrize(
    ("halted", "stops"),
    [
        (halt(), {("risk", "BTC"), ("risk", "ETH"), ("risk", ""), ("fills", "BTC")}),
        (halt("risk"), {("risk", "BTC"), ("risk", "ETH"), ("risk", "")}),
        (halt(key="BTC"), {("risk", "BTC"), ("fills", "BTC")}),
        (halt("risk", "BTC"), {("risk", "BTC")}),
    ],
)
def test_a_halt_stops_its_scope_and_nothing_else(halted: Halt, stops: set[tuple[str, str]]) -> None:
    known = Known(halts=(halted,))
    everybody = [("risk", "BTC"), ("risk", "ETH"), ("risk", ""), ("fills", "BTC")]
    stopped = {
        (name, key) for name, key in everybody if known.memory.admit(subject(key, name)) == math.inf
    }
    assert stopped == stops
    assert all(
        known.memory.admit(subject(key, name, runs_when_halted=True)) is None
        for name, key in everybody
    )


def test_scopes_are_read_as_they_are_written() -> None:
    for scope in (Scope(), Scope("a"), Scope(key="b c"), Scope("a", "b c"), Scope(key="sub x")):
        assert Scope.parse(scope.text) == scope


def test_an_open_breaker_tells_when_to_ask_and_then_admits_one() -> None:
    known = Known(OPEN)
    assert known.memory.admit(subject()) == pytest.approx(160.0)
    known.now_s = 160.0
    assert known.memory.admit(subject("BTC")) is None
    assert known.memory.admit(subject("ETH")) == pytest.approx(160.0 + SLOT_S)
    assert known.memory.admit(subject("BTC")) == pytest.approx(160.0 + SLOT_S)
    # Nothing came of it.
    known.now_s += SLOT_S
    assert known.memory.admit(subject("ETH")) is None


def test_a_subscription_as_a_whole_takes_no_place_from_its_entries() -> None:
    known = Known(OPEN)
    known.now_s = 160.0
    assert known.memory.admit(subject("", whole=True)) is None
    assert known.memory.admit(subject("", whole=True)) is None
    assert known.memory.admit(subject("BTC")) is None
    assert known.memory.admit(subject("", whole=True)) == pytest.approx(160.0 + SLOT_S)


def test_a_place_without_a_key_is_passed_on_to_an_entry_once() -> None:
    known = Known(OPEN)
    known.now_s = 160.0
    assert known.memory.admit(subject("")) is None
    assert known.memory.admit(subject("BTC")) is None
    assert known.memory.admit(subject("ETH")) is not None


def test_while_another_process_probes_everybody_waits_for_its_lease() -> None:
    known = Known(PROBED)
    assert known.memory.admit(subject()) == pytest.approx(110.0)
    known.now_s = 110.0
    assert known.memory.admit(subject()) is None
    # A given-up probe leaves its place at once.
    known = Known(replace(PROBED, probe="", probe_until_ms=0))
    assert known.memory.admit(subject()) is None


def test_a_breaker_opened_until_somebody_closes_it_waits_for_a_change() -> None:
    known = Known(replace(OPEN, until_ms=0))
    assert known.memory.admit(subject()) == math.inf


def test_all_breakers_must_let_it_through_and_then_one_place_of_each_is_taken() -> None:
    other = replace(OPEN, name="other", until_ms=BEGIN_MS + 90_000)
    known = Known(OPEN, other)
    both = subject()._replace(breakers=("venue", "other"))
    known.now_s = 160.0
    assert known.memory.admit(both) == pytest.approx(190.0)
    assert known.memory.admit(subject()) is None, "the place of `venue` was not taken before"


def test_a_gap_in_the_numbers_is_noticed() -> None:
    known = Known()
    known.number += 1
    assert not known.change("venue", OPEN)
    known.load(OPEN)
    assert known.change("venue", None)


def test_a_stream_that_begins_anew_is_followed_from_1() -> None:
    known = Known(OPEN)
    known.memory.told("venue", Report("open", BEGIN_MS, 99, OPEN))
    known.number = 0
    known.load()
    assert known.memory.quiet
    assert known.change("venue", OPEN)
    assert known.memory.breakers() == [OPEN]


def test_a_reply_ahead_of_the_stream_is_not_undone_by_it() -> None:
    known = Known()
    known.memory.told("venue", Report("open", BEGIN_MS, 9, OPEN))
    assert known.memory.admit(subject()) is not None
    assert known.change("venue", FAILING)  # 8: the first failure, told late
    assert known.memory.breakers() == [OPEN]
    assert known.change("venue", OPEN)  # 9
    assert known.change("venue", None)  # 10
    assert known.memory.quiet


def test_a_reply_behind_the_stream_changes_nothing() -> None:
    known = Known()
    known.change("venue", OPEN)
    known.memory.told("venue", Report("", BEGIN_MS, 7, None))
    assert known.memory.breakers() == [OPEN]


def test_a_load_says_whether_anything_is_new() -> None:
    known = Known(OPEN)
    assert not known.load(OPEN)
    assert known.load(OPEN, halts=(halt(),))
