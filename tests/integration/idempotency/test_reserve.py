"""The scripts of business keys by themselves, against a small model of what they promise."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.integration.logs.harness import Note
from tests.support import wait_until

from streamatiq import Lane
from streamatiq.broker.connections import Endpoint, Link
from streamatiq.broker.keys import Keys
from streamatiq.broker.reservations import Answer, Standing, Want, next_token, reserve
from streamatiq.broker.settlements import (
    DONE,
    HAND_BACK,
    Action,
    BusinessKey,
    DeadLetter,
    Emit,
    Park,
    Settlement,
    settle,
)
from streamatiq.broker.sources import AuditLevel, Source
from streamatiq.broker.subscriptions import Subscription
from streamatiq.broker.work_queues import WorkQueue

ME, OTHER = "h:1:me", "h:2:other"
_numbers = itertools.count(1)


class Stream:
    """One stream, with entries that consumers have."""

    def __init__(self, link: Link, namespace: str, *, window_ms: int = 0) -> None:
        self.link = link
        self.window_ms = window_ms
        keys = Keys(namespace)
        self.source: Source = Subscription("s", (Note,), "new").sources(keys, {}, AuditLevel.OFF)[0]
        self.keys = self.source.keys
        link.send("XGROUP", "CREATE", self.keys.entries, "s", "0", "MKSTREAM")
        self._batch = 0

    def claim(self, consumer: str = ME) -> bytes:
        added: bytes = self.link.send("XADD", self.keys.entries, "*", "d", "x")
        self.link.send("XREADGROUP", "GROUP", "s", consumer, "STREAMS", self.keys.entries, ">")
        return added

    def reserve(
        self, key: str, entry: bytes, run: str, consumer: str = ME, *, takes: bool = True
    ) -> Answer:
        (answer,) = self.reserve_many([Want(key, entry, run, entry, takes)], consumer)
        return answer

    def reserve_many(self, wants: list[Want], consumer: str = ME) -> list[Answer]:
        return self.link.run(
            reserve(
                self.keys, [], group="s", consumer=consumer, window_ms=self.window_ms, wants=wants
            )
        )

    def settle(
        self,
        key: str,
        entry: bytes,
        run: str,
        action: Action,
        becomes: str,
        consumer: str = ME,
        *,
        event_id: bytes = b"",
        emits: Sequence[Emit] = (),
    ) -> list[str]:
        self._batch += 1
        named = BusinessKey(key, self.window_ms, run, entry, becomes)
        event_id = event_id or uuid4().bytes
        one = Settlement(self.source, consumer, entry, event_id, action, emits, key=named)
        outcome = self.link.run(settle("writer", self._batch, 60_000, [one]))
        return [text for _, _, text in outcome.problems]

    def stands(self) -> dict[str, str]:
        flat = self.link.send("HGETALL", self.keys.keys)
        return {k.decode(): v.decode() for k, v in zip(flat[::2], flat[1::2], strict=True)}


@pytest.fixture
def link(redis_url: str) -> Iterator[Link]:
    with closing(Link(Endpoint(redis_url))) as made:
        yield made


@pytest.fixture
def stream(link: Link, namespace: str) -> Stream:
    return Stream(link, namespace)


def test_a_key_is_reserved_once_and_a_repeated_call_says_the_same(stream: Stream) -> None:
    entry = stream.claim()
    assert stream.reserve("k", entry, "run1").standing is Standing.NEW
    assert stream.reserve("k", entry, "run1").standing is Standing.NEW
    assert stream.stands() == {"k": f"r {entry.decode()} run1"}


def test_many_are_reserved_in_their_order(stream: Stream) -> None:
    entries = [stream.claim() for _ in range(3)]
    wants = [
        Want(key, entry, "run", entry, True) for key, entry in zip("aba", entries, strict=True)
    ]
    found = stream.reserve_many(wants)
    assert [one.standing for one in found] == [Standing.NEW, Standing.NEW, Standing.BUSY]
    assert found[2].stood == f"r {entries[0].decode()} run"


@pytest.mark.parametrize("takes", [True, False])
def test_what_was_left_uncertain_is_told_again_to_a_repeated_call(
    stream: Stream, takes: bool
) -> None:
    stream.link.send("HSET", stream.keys.keys, "k", "r 1-1 dead")
    entry = stream.claim()
    for _ in range(2):
        assert stream.reserve("k", entry, "run", takes=takes).standing is Standing.UNCERTAIN
    mine = f"r {entry.decode()} run?"
    assert stream.stands() == {"k": mine if takes else "r 1-1 dead"}


def test_a_requeued_one_is_told_again_to_a_repeated_call(stream: Stream) -> None:
    entry = stream.claim()
    stream.link.send("HSET", stream.keys.keys, "k", f"u 1-1 {entry.decode()}")
    for _ in range(2):
        assert stream.reserve("k", entry, "run", takes=False).standing is Standing.REQUEUED
    assert stream.reserve("k", entry, "another").standing is Standing.OURS


def test_a_fenced_consumer_and_an_entry_of_another_are_refused(stream: Stream) -> None:
    entry = stream.claim(OTHER)
    assert stream.reserve("k", entry, "run").standing is Standing.GONE
    assert stream.reserve("k", b"1-1", "run").standing is Standing.GONE
    stream.link.send("SET", stream.keys.fence(OTHER), 1)
    assert stream.reserve("k", entry, "run", OTHER).standing is Standing.FENCED
    assert stream.stands() == {}


def test_busy_tells_when_to_look_again(stream: Stream) -> None:
    holder, entry = stream.claim(), stream.claim()
    stream.reserve("k", holder, "run")
    soon = stream.reserve("k", entry, "run")
    assert (soon.standing, soon.delay_ms) == (Standing.BUSY, 50)
    # Until a parked holder is due, within bounds.
    now_ms = int(stream.link.send("TIME")[0]) * 1000
    stream.link.send("ZADD", stream.keys.parked, now_ms + 9_000, holder)
    assert 5_000 < stream.reserve("k", entry, "run").delay_ms <= 9_000
    stream.link.send("ZADD", stream.keys.parked, now_ms + 900_000, holder)
    assert stream.reserve("k", entry, "run").delay_ms == 15_000


def test_the_longer_a_holder_runs_the_rarer_is_it_asked_for(stream: Stream) -> None:
    holder, entry = stream.claim(), stream.claim()
    stream.reserve("k", holder, "run")
    stream.link.send("XCLAIM", stream.keys.entries, "s", ME, 0, holder, "IDLE", 7_000)
    assert 7_000 <= stream.reserve("k", entry, "run").delay_ms < 9_000


@pytest.mark.parametrize("window_ms", [0, 400])
def test_how_long_keys_are_kept(link: Link, namespace: str, window_ms: int) -> None:
    stream = Stream(link, namespace, window_ms=window_ms)
    entry = stream.claim()
    stream.reserve("k", entry, "run")
    assert stream.settle("k", entry, "run", DONE, "d") == []
    left = link.send("PTTL", stream.keys.keys)
    assert left == -1 if window_ms == 0 else 400 < left <= 800
    later = stream.claim()
    assert stream.reserve("k", later, "run").standing is Standing.DONE
    if window_ms:
        wait_until(lambda: stream.reserve("k", later, "run").standing is Standing.NEW)


def test_a_window_that_becomes_endless_forgets_nothing_any_more(link: Link, namespace: str) -> None:
    stream = Stream(link, namespace, window_ms=5_000)
    entry = stream.claim()
    stream.reserve("k", entry, "run")
    stream.settle("k", entry, "run", DONE, "d")
    stream.window_ms = 0
    stream.reserve("other", stream.claim(), "run")
    assert link.send("PTTL", stream.keys.keys) == -1


def test_a_repeated_event_with_a_done_key_emits_nothing(stream: Stream, namespace: str) -> None:
    """The settle looks by itself: a key may have been done while this run was under way."""
    log = Keys(namespace).log("test.echo", "0")
    emits = [Emit(log, uuid4().bytes, b"{}")]
    entry = stream.claim()
    stream.link.send("HSET", stream.keys.keys, "k", "d")
    assert stream.settle("k", entry, "run", DONE, "d", emits=emits) == ["DUPLICATE"]
    assert stream.link.send("EXISTS", log.entries) == 0
    assert stream.link.send("XPENDING", stream.keys.entries, "s")[0] == 0


@pytest.mark.parametrize("action", [DONE, Park(60_000, b"{}"), DeadLetter(["data", "x"])])
def test_an_event_with_a_done_mark_is_settled_and_causes_nothing(
    stream: Stream, namespace: str, action: Action
) -> None:
    log = Keys(namespace).log("test.echo", "0")
    entry, event_id = stream.claim(), uuid4().bytes
    stream.reserve("k", entry, "run")
    stream.link.send("HSET", stream.keys.done_old, event_id, 1)
    emits = [Emit(log, uuid4().bytes, b"{}")]
    problems = stream.settle("k", entry, "run", action, "d", emits=emits, event_id=event_id)
    assert problems == ["DUPLICATE"]
    if action is DONE:
        assert stream.stands() == {"k": f"d {entry.decode()}"}
    for key in (log.entries, stream.keys.dead, stream.keys.parked):
        assert stream.link.send("EXISTS", key) == 0
    assert stream.link.send("XPENDING", stream.keys.entries, "s")[0] == 0


@pytest.mark.parametrize("becomes", ["d", "u"])
def test_what_stays_pending_keeps_its_reservation(stream: Stream, becomes: str) -> None:
    """Neither done nor a dead letter: the next delivery finds out."""
    entry = stream.claim()
    stream.reserve("k", entry, "run")
    stream.settle("k", entry, "run", Park(60_000, b""), becomes)
    assert stream.stands() == {"k": f"r {entry.decode()} run"}


def test_of_another_run_nothing_is_freed(stream: Stream) -> None:
    entry = stream.claim()
    stream.reserve("k", entry, "first")
    stream.settle("k", entry, "second", Park(60_000, b""), "f")
    assert stream.stands() == {"k": f"r {entry.decode()} first"}


def test_twenty_dead_letters_are_remembered(stream: Stream) -> None:
    entries = [stream.claim() for _ in range(22)]
    for entry in entries:
        stream.settle("k", entry, "run", DeadLetter(["data", "x"]), "u")
    names = stream.stands()["k"].split()
    assert names == ["u", *(entry.decode() for entry in entries[2:])]


def test_lanes_of_a_queue_with_the_same_entry_ids_are_told_apart(
    link: Link, namespace: str
) -> None:
    queue = WorkQueue(Keys(namespace), "q")
    low, high = (queue.sources[number].keys for number in (2, 0))
    for keys in (low, high):
        link.send("XGROUP", "CREATE", keys.entries, "q", "0", "MKSTREAM")
        link.send("XADD", keys.entries, "7-0", "m", "x")
        link.send("XREADGROUP", "GROUP", "q", ME, "STREAMS", keys.entries, ">")
    beside = [source.keys for source in queue.sources]

    def ask(own: Any, run: str) -> Answer:
        others = [keys for keys in beside if keys is not own]
        wants = [Want("k", b"7-0", run, b"id", True)]
        call = reserve(own, others, group="q", consumer=ME, window_ms=0, wants=wants)
        return link.run(call)[0]

    assert ask(low, "a").standing is Standing.NEW
    busy = ask(high, "b")
    assert (busy.standing, busy.stood) == (Standing.BUSY, f"r 7-0.{Lane.LOW} a")
    link.send("XACK", low.entries, "q", "7-0")
    assert ask(high, "b").standing is Standing.UNCERTAIN


def test_tokens_grow_and_who_has_lost_the_entry_gets_none(stream: Stream) -> None:
    def token(consumer: str, entry: bytes) -> int | str:
        call = next_token(stream.keys, group="s", consumer=consumer, entry_id=entry)
        return stream.link.run(call)

    entry = stream.claim()
    assert [token(ME, entry), token(ME, entry)] == [1, 2]
    stream.link.send("XCLAIM", stream.keys.entries, "s", OTHER, 0, entry)
    assert token(ME, entry) == "GONE"
    assert token(OTHER, entry) == 3
    stream.link.send("SET", stream.keys.fence(OTHER), 1)
    assert token(OTHER, entry) == "FENCED"


# -- the model ---------------------------------------------------------------------------------


@dataclass
class Model:
    """What stands at each key, and who has each entry."""

    holders: dict[int, str | None] = field(default_factory=dict)
    keys: dict[str, tuple[Any, ...]] = field(default_factory=dict)

    def reserve(self, key: str, entry: int, run: str, consumer: str, takes: bool) -> Standing:
        if self.holders.get(entry) != consumer:
            return Standing.GONE
        stood = self.keys.get(key)
        if stood is None:
            self.keys[key] = ("r", entry, run)
            return Standing.NEW
        if stood == ("d",):
            return Standing.DONE
        if stood[0] == "r":
            if stood[1:] == (entry, run):
                return Standing.NEW
            if stood[1] == entry:
                return Standing.OURS
            if self.holders.get(stood[1]) is not None:
                return Standing.BUSY
        elif entry in stood[1]:
            self.keys[key] = ("r", entry, run)
            return Standing.REQUEUED
        if takes:
            self.keys[key] = ("r", entry, run)
        return Standing.UNCERTAIN

    def settle(self, key: str, entry: int, run: str, consumer: str, kind: str, become: str) -> None:
        if kind != "done" and self.holders.get(entry) != consumer:
            return
        stood = self.keys.get(key)
        if kind in ("done", "dead") and self.holders.get(entry) is not None:
            self.holders[entry] = None
        if kind in ("park", "back"):
            self.holders[entry] = "__free__"
        if stood == ("d",):
            return
        if become == "d":
            if kind == "done":
                self.keys[key] = ("d",)
        elif become == "u":
            if kind in ("done", "dead"):
                before = stood[1] if stood is not None and stood[0] == "u" else ()
                self.keys[key] = ("u", (*(one for one in before if one != entry), entry))
        elif stood == ("r", entry, run):
            del self.keys[key]


_ENTRY = st.integers(0, 3)
_KEY = st.sampled_from("ab")
_WHO = st.sampled_from([ME, OTHER])
_STEP = st.one_of(
    st.tuples(st.just("reserve"), _KEY, _ENTRY, _WHO, st.booleans()),
    st.tuples(st.just("reserve"), _KEY, _ENTRY, _WHO, st.booleans()),
    st.tuples(st.just("claim"), _ENTRY, _WHO),
    st.tuples(
        st.just("settle"), _KEY, _ENTRY, _WHO, st.sampled_from(["done", "dead", "park", "back"]),
        st.sampled_from("dffu"),
    ),
    st.tuples(st.just("die"), _ENTRY),
)  # fmt: skip
_ACTIONS: dict[str, Action] = {
    "done": DONE,
    "dead": DeadLetter(["data", "x"]),
    "park": Park(3_600_000, b""),
    "back": HAND_BACK,
}


@pytest.mark.timeout(60)
@settings(deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(st.lists(_STEP, min_size=4, max_size=30))
def test_any_sequence_of_calls_goes_as_the_model_says(
    link: Link, namespace: str, client: redis.Redis, steps: list[tuple[Any, ...]]
) -> None:
    stream, model = Stream(link, f"{namespace}m{next(_numbers)}"), Model()
    ids = [stream.claim() for _ in range(4)]
    model.holders = dict.fromkeys(range(4), ME)
    runs = [itertools.count() for _ in range(4)]
    run = [f"run{at}.{next(one)}" for at, one in enumerate(runs)]
    for what, *how in steps:
        if what == "claim":
            entry, who = how
            if model.holders[entry] is not None:
                link.send("XCLAIM", stream.keys.entries, "s", who, 0, ids[entry])
                model.holders[entry] = who
                run[entry] = f"run{entry}.{next(runs[entry])}"
        elif what == "die":  # and delivered again, to the same name
            run[how[0]] = f"run{how[0]}.{next(runs[how[0]])}"
        elif what == "reserve":
            key, entry, who, takes = how
            before = model.keys.get(key)
            expected = model.reserve(key, entry, run[entry], who, takes)
            found = stream.reserve(key, ids[entry], run[entry], who, takes=takes)
            again = before == ("r", entry, run[entry])
            if again:  # as the first time; the model does not keep how that was
                assert found.standing in (Standing.NEW, Standing.UNCERTAIN, Standing.REQUEUED) or (
                    expected is Standing.GONE and found.standing is Standing.GONE
                )
            else:
                assert found.standing is expected, (what, how, before)
        else:
            key, entry, who, kind, become = how
            stream.settle(key, ids[entry], run[entry], _ACTIONS[kind], become, who)
            model.settle(key, entry, run[entry], who, kind, become)
        numbered = {one.decode(): number for number, one in enumerate(ids)}
        assert {key: _read(value, numbered) for key, value in stream.stands().items()} == model.keys


def _read(value: str, numbered: dict[str, int]) -> tuple[Any, ...]:
    kind, *words = value.split()
    if kind == "r":
        return ("r", numbered[words[0]], words[1].rstrip("?!"))
    return ("d",) if kind == "d" else ("u", tuple(numbered[word] for word in words))
