"""Any sequence of script calls: the twin replies as the server does, and then holds the same."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.conformance.alike import Normal
from tests.conformance.conftest import Both
from tests.conformance.player import HOUR_MS, Item, Player

from streamatiq.broker import scripts
from streamatiq.broker.keys import Keys

_numbers = itertools.count(1)

CONSUMER = st.sampled_from(["h:1:a", "h:1:b", "h:1:c"])
ROOM = st.integers(0, 4)
DELAY_MS = st.sampled_from([-1, -1, 0, HOUR_MS])
LIMIT = st.sampled_from([0, 0, 3])
NUMBERS = st.lists(st.integers(0, 9), min_size=1, max_size=4)
ITEM = st.builds(
    Item,
    st.integers(0, 20),
    st.sampled_from(["done", "done", "park", "park_now", "back", "dead"]),
    st.lists(st.integers(0, 5), max_size=2).map(tuple),
    st.lists(DELAY_MS, max_size=2).map(tuple),
    st.sampled_from(["", "", "", "d", "f", "u"]),
    st.sampled_from(["", "", "", "w", "w", "r", "x"]),
)


def _step(name: str, *arguments: Any) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.tuples(st.just(name), *arguments)


def _steps(of_logs: bool) -> st.SearchStrategy[tuple[Any, ...]]:
    """Steps of a log's subscription, or of a work queue."""
    logs = st.just(of_logs)
    adding = (
        _step("publish", st.integers(0, 1), NUMBERS, LIMIT, st.booleans())
        if of_logs
        else _step("enqueue", st.lists(st.integers(1, 3), min_size=1, max_size=3), DELAY_MS,
                   st.sampled_from([False, False, True]), LIMIT)
    )  # fmt: skip
    fetching = _step("fetch", logs, CONSUMER, ROOM, st.sampled_from([False, False, False, True]))
    settling = _step("settle", st.lists(ITEM, min_size=1, max_size=4),
                     st.sampled_from([False] * 5 + [True]))  # fmt: skip
    return st.one_of(
        adding,
        adding,
        fetching,
        fetching,
        settling,
        settling,
        _step(
            "reserve",
            st.sampled_from("ab"),
            st.lists(st.integers(0, 5), min_size=1, max_size=3),
            st.sampled_from(["run1", "run2"]),
            st.booleans(),
            st.sampled_from([0, HOUR_MS]),
        ),
        _step("token", st.integers(0, 20)),
        _step("reclaim", logs, CONSUMER, st.sampled_from([True, False, False]), st.just(3)),
        _step("unfence", logs, CONSUMER),
        _step("requeue", logs, st.integers(1, 3)),
        _step("purge", logs, st.integers(1, 2)),
        _step("look"),
        _step("cancel", st.sampled_from(["m10", "m20", "m31"])),
        _step("ensure", logs, st.sampled_from(["0", "$"])),
        _step("flush"),
    )


EXAMPLES = settings(
    max_examples=30, deadline=None, suppress_health_check=list(HealthCheck), database=None
)


def _compare(both: Both, begin: list[Any], steps: list[Any]) -> None:
    namespace = f"played{next(_numbers)}"
    said: list[list[Any]] = []
    held: list[Any] = []
    for link in both:
        player, normal = Player(link, namespace), Normal()
        said.append([normal(player.play(step)) for step in [*begin, *steps]])
        held.append(normal(player.held()))
        player.clear()
    for step, server, twin in zip([*begin, *steps], *said, strict=True):
        assert server == twin, f"{step}\n  server: {server!r}\n  twin:   {twin!r}"
    for server, twin in zip(*held, strict=True):
        assert server == twin, f"in the end\n  server: {server!r}\n  twin:   {twin!r}"


@pytest.mark.timeout(60)
@EXAMPLES
@given(st.lists(_steps(True), min_size=5, max_size=40))
def test_a_subscription(both: Both, steps: list[Any]) -> None:
    begin = [("ensure", True, "0"), ("publish", 0, [1, 2, 3], 0, False)]
    _compare(both, [*begin, ("fetch", True, "h:1:a", 2, False)], steps)


PART = st.integers(0, 1)


@pytest.mark.timeout(60)
@EXAMPLES
@given(
    st.lists(
        st.one_of(
            _steps(True),
            _step("own", PART, CONSUMER),
            _step("own", PART, CONSUMER),
            _step("disown", PART, CONSUMER),
            _step("whereabouts", PART, st.integers(1, 5)),
            _step("fetch_owned", PART, CONSUMER, ROOM, st.booleans()),
            _step("fetch_owned", PART, CONSUMER, ROOM, st.booleans()),
        ),
        min_size=5,
        max_size=40,
    )
)
def test_an_ordered_subscription(both: Both, steps: list[Any]) -> None:
    begin = [("ensure", True, "0"), ("publish", 0, [1, 2, 3], 0, False), ("own", 0, "h:1:a")]
    _compare(both, [*begin, ("fetch_owned", 0, "h:1:a", 2, False)], steps)


@pytest.mark.timeout(60)
@EXAMPLES
@given(st.lists(_steps(False), min_size=5, max_size=40))
def test_a_work_queue(both: Both, steps: list[Any]) -> None:
    begin = [("ensure", False, "0"), ("enqueue", [1, 2, 3, 2], -1, False, 0)]
    _compare(both, [*begin, ("fetch", False, "h:1:a", 3, False)], steps)


@EXAMPLES
@given(
    st.lists(
        st.one_of(
            _step("beat", CONSUMER, st.sampled_from(["", "h:1:a", "h:1:b"])),
            _step("enlist", CONSUMER),
            _step("forget", CONSUMER),
            _step("claim_share", CONSUMER),
            _step("claimants"),
            _step("resign", st.sampled_from(["", "h:1:a", "h:1:b"])),
            _step("layout", st.sampled_from(["laned", "partitioned:1"])),
        ),
        max_size=15,
    )
)
def test_members_and_layouts(both: Both, steps: list[Any]) -> None:
    _compare(both, [], steps)


PLACES = st.lists(st.integers(0, 5), max_size=3)
NAMES = st.lists(st.sampled_from("abc"), max_size=3, unique=True)


@pytest.mark.timeout(60)
@EXAMPLES
@given(
    st.lists(
        st.one_of(
            _step("publish", st.integers(0, 1), NUMBERS, st.just(0), st.just(False)),
            _step("fetch", st.just(True), CONSUMER, ROOM, st.just(False)),
            _step("settle", st.lists(ITEM, min_size=1, max_size=3), st.just(False)),
            _step("cut", st.integers(0, 3), st.integers(0, 5)),
            _step("rewind", st.sampled_from(["alike", "alike", "new"]), st.integers(0, 5), PLACES,
                  st.lists(CONSUMER, max_size=3, unique=True)),
            _step("unmark", st.integers(0, 9)),
            _step("retain", st.integers(1, 4), st.sampled_from(["", "1-1"]), st.booleans()),
            _step("abandon"),
        ),
        min_size=5,
        max_size=30,
    )
)  # fmt: skip
def test_positions_rewinds_and_trims(both: Both, steps: list[Any]) -> None:
    begin = [("ensure", True, "0"), ("publish", 0, [1, 2, 3], 0, False)]
    _compare(both, [*begin, ("fetch", True, "h:1:a", 2, False)], steps)


@EXAMPLES
@given(
    st.lists(
        st.one_of(
            _step("busy", st.sampled_from(["aaaa", "bbbb"]), st.sampled_from([0, HOUR_MS])),
            _step("store", st.sampled_from("abc")),
            _step("prune", st.sampled_from("abc"), NAMES),
            _step("note"),
            _step("seen", NAMES, st.lists(st.sampled_from("xyz"), max_size=2, unique=True)),
            _step("pin", st.sampled_from("ab"), st.sampled_from([b"", b"{}"])),
        ),
        max_size=15,
    )
)
def test_checkpoints_and_pins(both: Both, steps: list[Any]) -> None:
    _compare(both, [], steps)


BREAKER = st.sampled_from(["a", "b"])
RUN = st.sampled_from(["r1", "r2", "r3"])
#: Over at the next call, or not before the test's end; 0 = never.
SOON_MS = st.sampled_from([1, HOUR_MS])


@pytest.mark.timeout(60)
@EXAMPLES
@given(
    st.lists(
        st.one_of(
            _step("breaker_fails", BREAKER, RUN, SOON_MS),
            _step("breaker_fails", BREAKER, RUN, SOON_MS),
            _step("breaker_passes", BREAKER, RUN),
            _step("breaker_probe", BREAKER, RUN, st.sampled_from(["take", "take", "renew",
                  "release"]), SOON_MS),
            _step("breaker_set", BREAKER, st.sampled_from(["open", "close", "reset"]),
                  st.sampled_from([0, 1, HOUR_MS])),
            _step("breaker_forget", st.sampled_from([0, HOUR_MS])),
            _step("halt", st.sampled_from(["BTC", "a b"]), st.sampled_from(["t", "u"])),
            _step("resume", st.sampled_from(["BTC", "a b"])),
            _step("guarded"),
        ),
        min_size=5,
        max_size=40,
    )
)  # fmt: skip
def test_halts_and_breakers(both: Both, steps: list[Any]) -> None:
    _compare(both, [], steps)


def test_a_crash_loop_step_by_step(both: Both) -> None:
    """What random steps seldom reach: handed back, then a suspect, then a dead letter, put back."""
    crash = [
        ("fetch", True, "h:1:a", 5, False),
        ("reclaim", True, "h:1:a", True, 3),
        ("unfence", True, "h:1:a"),
    ]
    alone = [("fetch", True, "h:1:a", 1, True), *crash[1:]]
    steps = [
        *crash, *crash, ("fetch", True, "h:1:b", 5, False), *alone, *alone, *alone,
        ("requeue", True, 5), ("fetch", True, "h:1:b", 5, False),
        ("settle", [Item(9, "done", (7, 8), (-1, HOUR_MS))], False),
        ("settle", [Item(9, "done", (7, 8), (-1, HOUR_MS))], True),
    ]  # fmt: skip
    begin = [("ensure", True, "0"), ("publish", 0, [1, 2], 0, False)]
    _compare(both, begin, steps)


def test_a_business_key_step_by_step(both: Both) -> None:
    """What random steps seldom reach: every standing, in a log and in a work queue."""
    for of_logs in (True, False):
        begin = [("ensure", of_logs, "0")]
        begin += (
            [("publish", 0, [1, 2, 3], 0, False)]
            if of_logs
            else [("enqueue", [1, 2, 2], -1, False, 0)]
        )
        steps = [
            ("fetch", of_logs, "h:1:a", 3, False),
            ("reserve", "a", [0, 1], "run1", True, 0),
            ("token", 0),
            ("reserve", "a", [0], "run2", True, 0),
            ("settle", [Item(0, "park_now", becomes="u")], False),
            ("reserve", "a", [0, 1], "run1", True, 0),
            ("fetch", of_logs, "h:1:b", 1, False),
            ("token", 0),
            ("token", 3),
            ("settle", [Item(3, "dead", becomes="u")], False),
            ("reserve", "a", [1], "run2", False, 0),
            ("requeue", of_logs, 1),
            ("fetch", of_logs, "h:1:b", 1, False),
            ("reserve", "a", [4], "run1", False, 0),
            ("settle", [Item(4, "done", becomes="d")], False),
            ("reserve", "a", [2], "run1", True, HOUR_MS),
            ("reclaim", of_logs, "h:1:a", True, 3),
            ("reserve", "a", [2], "run1", True, HOUR_MS),
            ("token", 2),
        ]
        _compare(both, begin, steps)


def test_what_scripts_refuse_is_worded_alike(both: Both) -> None:
    namespace = f"played{next(_numbers)}"
    said = []
    for link in both:
        player = Player(link, namespace)
        log = Keys(namespace).log("alike.cause", "0")
        link.send("SET", log.entries, "no stream")
        link.send("SET", log.ids, "no hash")
        call = scripts.publish(log, HOUR_MS, [(b"0123456789abcdef", b"{}")])
        replies = [
            player.play(("publish", 0, [1], 0, False)),
            player._send("EVALSHA", "0" * 40, 0),
            player._send("EVAL", call.script.text, 9),
            player._send("EVAL", call.script.text, 0, 1),
            player._send("EVAL", "return {1, 'a', false, {2, nil, 3}, 3.9, -3.9, true}", 0),
            player._send("EVAL", "return redis.status_reply('FINE')", 0),
            player._send("EVAL", "return redis.error_reply('MINE so')", 0),
            player._send("EVAL", "local reply = redis.call('GET', 'x', 'y') return reply", 0),
            player._send("EVAL", "return redis.pcall('NO-SUCH').err ~= nil", 0),
            player._send("EVAL", "return cjson.encode({{}, {1, '\"/\\n'}, {a = 1.5}, 1e15})", 0),
            player._send("EVAL", 'return cjson.decode(\'[[], [1, "x"], {"a": 2}]\')', 0),
            player._send("EVAL", "return {tostring(1e15), tostring(12345678901234567890)}", 0),
            player._send("EVAL", "return redis.sha1hex('x')", 0),
            player._send("EVAL", "redis.sha1hex('nothing is returned')", 0),
            player._send("EVAL", "return 1, 2", 0),
            player._send(
                "EVAL", "#!lua flags=no-writes\nlocal reply = redis.call('SET', 'x', 1)", 0
            ),
            player._send("EVAL", "#!lua flags=none-such\nreturn 1", 0),
            player._send("EVAL", "return (", 0),
            player._send("EVAL", "unknown_thing = 1", 0),
            player._send("EVAL", "return unknown_thing", 0),
            player._send("EVAL", "error('own words')", 0),
            player._send("EVAL", "error({err = 'MINE in a table'})", 0),
        ]
        said.append(Normal()(replies))
        player.clear()
    for server, twin in zip(*said, strict=True):
        assert server == twin
