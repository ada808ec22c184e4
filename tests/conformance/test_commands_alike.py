"""Any sequence of commands: the twin answers as the server does, byte for byte, errors too.

Ids are given, so nothing but ages has to be left out of the comparison.
"""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.conformance.alike import answers, pending_ages, same
from tests.conformance.conftest import Both

Command = tuple[Any, ...]

_numbers = itertools.count(1)

#: @ stands for the example's own prefix: what follows it is a key.
KEYS = st.sampled_from([f"@:{number}" for number in range(2)])
#: Keys of all kinds at once: commands meet values of another kind.
ANY_KEY = st.sampled_from(["@:zset", "@:hash", "@:text", "@:0"])
#: The key of a kind, and now and then another.
ZSET = st.one_of(*[st.just("@:zset")] * 5, ANY_KEY)
HASH = st.one_of(*[st.just("@:hash")] * 5, ANY_KEY)
TEXT = st.one_of(*[st.just("@:text")] * 5, ANY_KEY)
GROUP = st.sampled_from(["g", "h"])
CONSUMER = st.sampled_from(["a", "b", "__free__"])
ID = st.builds("{}-{}".format, st.integers(0, 4), st.integers(0, 2))
IDS = st.lists(ID, min_size=1, max_size=3)
EDGE = st.one_of(ID, ID.map("({}".format), st.sampled_from(["-", "+", "2", "(2"]))
COUNT = st.integers(1, 4)
SCORE = st.sampled_from(["1", "2", "2.5", "1700000000000.000244", "-inf", "1e20", "0.1"])
SCORE_EDGE = st.one_of(SCORE, SCORE.map("({}".format), st.just("+inf"))
MEMBER = st.sampled_from(["x", "y", "z"])
RANK = st.integers(-3, 3)


def _maybe(*words: Any) -> st.SearchStrategy[tuple[Any, ...]]:
    """An option with its words, or nothing."""
    made = [word if isinstance(word, st.SearchStrategy) else st.just(word) for word in words]
    return st.one_of(st.just(()), st.tuples(*made))


def _command(*parts: Any) -> st.SearchStrategy[Command]:
    """A command: words, strategies of words, and strategies of tuples or lists of words."""
    made = [part if isinstance(part, st.SearchStrategy) else st.just(part) for part in parts]

    def flat(words: tuple[Any, ...]) -> Command:
        return tuple(
            one for word in words for one in (word if isinstance(word, tuple | list) else (word,))
        )

    return st.tuples(*made).map(flat)


STREAMS = st.one_of(
    _command("XADD", KEYS, ID, "f", MEMBER),
    _command("XADD", KEYS, _maybe("NOMKSTREAM"), _maybe("MAXLEN", COUNT), ID, "f", "v", "g", "w"),
    _command("XADD", KEYS, st.sampled_from(["3-*", "9", "x", "5-5-5"]), "f", "v"),
    _command("XDEL", KEYS, IDS),
    _command("XTRIM", KEYS, st.sampled_from(["MAXLEN", "MINID"]), COUNT),
    _command("XRANGE", KEYS, EDGE, EDGE, _maybe("COUNT", COUNT)),
    _command("XREVRANGE", KEYS, EDGE, EDGE, _maybe("COUNT", COUNT)),
    _command("XLEN", KEYS),
    _command("XREAD", _maybe("COUNT", COUNT), "STREAMS", KEYS, ID),
)
GROUPS = st.one_of(
    _command(
        "XGROUP", "CREATE", KEYS, GROUP, st.one_of(ID, st.just("$")), _maybe("MKSTREAM"),
        _maybe("ENTRIESREAD", COUNT),
    ),
    _command("XREADGROUP", "GROUP", GROUP, CONSUMER, "COUNT", COUNT, "STREAMS", KEYS, ">"),
    _command("XREADGROUP", "GROUP", GROUP, CONSUMER, "STREAMS", KEYS, ID),
    _command("XREADGROUP", "GROUP", "g", CONSUMER, "STREAMS", "@:0", "@:1", ">", ">"),
    _command("XACK", KEYS, GROUP, IDS),
    _command("XPENDING", KEYS, GROUP),
    _command("XPENDING", KEYS, GROUP, "-", "+", COUNT, _maybe(CONSUMER)),
    _command("XPENDING", KEYS, GROUP, ID, ID, 1, CONSUMER),
    _command(
        "XCLAIM", KEYS, GROUP, CONSUMER, st.sampled_from([0, 3_600_000]), IDS,
        _maybe("RETRYCOUNT", st.integers(0, 3)), _maybe("FORCE"), _maybe("JUSTID"),
        _maybe("LASTID", ID),
    ),
    _command("XAUTOCLAIM", KEYS, GROUP, CONSUMER, 0, ID, "COUNT", COUNT, _maybe("JUSTID")),
    _command("XGROUP", "SETID", KEYS, GROUP, ID, _maybe("ENTRIESREAD", COUNT)),
    _command("XGROUP", "DESTROY", KEYS, GROUP),
    _command("XGROUP", "CREATECONSUMER", KEYS, GROUP, CONSUMER),
    _command("XGROUP", "DELCONSUMER", KEYS, GROUP, CONSUMER),
    _command("XINFO", "GROUPS", KEYS),
    _command("XINFO", "CONSUMERS", KEYS, GROUP),
    _command("XINFO", "STREAM", KEYS),
)  # fmt: skip
#: What moves a group along a stream with holes; ids are 5-0 to 5-N, in the order of the XADDs.
PLACE = st.builds("5-{}".format, st.integers(0, 8))
PROGRESS = st.one_of(
    _command("XADD", "@:0", "5-*", "f", "v"),
    _command("XADD", "@:0", "5-*", "f", "v"),
    _command("XDEL", "@:0", PLACE),
    _command("XTRIM", "@:0", "MAXLEN", st.integers(0, 3)),
    _command("XREADGROUP", "GROUP", "g", "a", "COUNT", COUNT, "STREAMS", "@:0", ">"),
    _command("XGROUP", "CREATE", "@:0", "h", PLACE, _maybe("ENTRIESREAD", COUNT)),
    _command("XREADGROUP", "GROUP", "h", "a", "COUNT", COUNT, "STREAMS", "@:0", ">"),
    _command("XGROUP", "SETID", "@:0", "g", PLACE, _maybe("ENTRIESREAD", COUNT)),
)
OTHERS = st.one_of(
    _command("ZADD", ZSET, st.lists(st.sampled_from(["NX", "XX", "GT", "LT", "CH"]), max_size=2),
             SCORE, MEMBER, SCORE, MEMBER),
    _command("ZREM", ZSET, MEMBER),
    _command("ZRANGE", ZSET, RANK, RANK, _maybe("REV"), _maybe("WITHSCORES")),
    _command("ZRANGE", ZSET, SCORE_EDGE, SCORE_EDGE, "BYSCORE", _maybe("REV"),
             _maybe("LIMIT", st.integers(0, 2), st.integers(-1, 2)), _maybe("WITHSCORES")),
    _command("ZRANGEBYSCORE", ZSET, SCORE_EDGE, SCORE_EDGE, _maybe("WITHSCORES")),
    _command("ZREMRANGEBYSCORE", ZSET, SCORE_EDGE, SCORE_EDGE),
    _command("ZCOUNT", ZSET, SCORE_EDGE, SCORE_EDGE),
    _command("ZPOPMIN", ZSET, _maybe(COUNT)),
    _command("ZMSCORE", ZSET, MEMBER, MEMBER),
    _command("ZSCORE", ZSET, MEMBER),
    _command("ZCARD", ZSET),
    _command("HSET", HASH, MEMBER, SCORE, MEMBER, "v"),
    _command("HSETNX", HASH, MEMBER, "w"),
    _command("HGET", HASH, MEMBER),
    _command("HMGET", HASH, MEMBER, MEMBER),
    _command("HGETALL", HASH),
    _command("HDEL", HASH, MEMBER, MEMBER),
    _command("HEXISTS", HASH, MEMBER),
    _command("HLEN", HASH),
    _command("HINCRBY", HASH, MEMBER, COUNT),
    _command("SET", TEXT, MEMBER, _maybe(st.sampled_from(["NX", "XX"])), _maybe("GET"),
             st.sampled_from([(), ("KEEPTTL",), ("EX", 100), ("PX", 100_000), ("EX", 0)])),
    _command("GET", TEXT),
    _command("INCRBY", TEXT, COUNT),
    _command("EXPIRE", ANY_KEY, st.sampled_from([100, -1])),
    _command("PEXPIRE", ANY_KEY, 100_000, _maybe(st.sampled_from(["NX", "XX", "GT", "LT"]))),
    _command("PERSIST", ANY_KEY),
    _command("PTTL", ANY_KEY),
    _command("TTL", ANY_KEY),
    _command("RENAME", ANY_KEY, ANY_KEY),
    _command("TYPE", ANY_KEY),
    _command("EXISTS", ANY_KEY, ANY_KEY),
    _command(st.sampled_from(["DEL", "UNLINK"]), ANY_KEY),
    # A stream's key where another kind is asked for, and the other way round.
    _command("XADD", ANY_KEY, ID, "f", "v"),
    _command("XREADGROUP", "GROUP", "g", "a", "STREAMS", ANY_KEY, ">"),
    _command("XACK", ANY_KEY, "g", ID),
    # Mistakes.
    _command(st.sampled_from(["GET", "HSET", "XADD", "XACK", "ZADD", "XRANGE", "SET"]), "@:9"),
    _command("HSET", "@:9", "a", "b", "c"),
    _command("ZADD", "@:9", "x", "y"),
    _command("SET", "@:9", "v", "EX", "x"),
    _command("XRANGE", "@:9", "x", "+"),
)  # fmt: skip


def _normal(command: Command, reply: Any) -> Any:
    if command[0] == "XPENDING":
        return pending_ages(reply)
    if command[0] in ("PTTL", "TTL") and isinstance(reply, int) and reply > 0:
        return "SOME TIME"
    if command[0] == "XINFO" and isinstance(reply, list) and command[1] != "GROUPS":
        infos = [reply] if command[1] == "STREAM" else reply
        found = [dict(zip(info[::2], info[1::2], strict=True)) for info in infos]
        for info in found:
            # Ages, and how the server keeps it in memory.
            for name in (b"idle", b"radix-tree-keys", b"radix-tree-nodes"):
                info.pop(name, None)
            if b"inactive" in info:
                info[b"inactive"] = info[b"inactive"] < 0
        return found
    return reply


def _compare(both: Both, commands: list[Command]) -> None:
    name = f"alike{next(_numbers)}"
    ready = [
        tuple(word.replace("@", name) if isinstance(word, str) else word for word in command)
        for command in commands
    ]
    real, ours = answers(both.server, ready), answers(both.twin, ready)
    both.server.send("UNLINK", *[f"{name}:{word}" for word in ("0", "1", "zset", "hash", "text")])
    same(ready, real, ours, _normal)


EXAMPLES = settings(deadline=None, suppress_health_check=list(HealthCheck), database=None)


@EXAMPLES
@given(st.lists(st.one_of(STREAMS, GROUPS), min_size=5, max_size=40))
def test_streams_and_groups(both: Both, commands: list[Command]) -> None:
    # Something to read and a group to begin with, so that what follows seldom finds nothing.
    begin: list[Command] = [("XADD", "@:0", f"{ms}-0", "f", "v") for ms in (1, 2, 3)]
    begin.append(("XGROUP", "CREATE", "@:0", "g", "0"))
    _compare(both, begin + commands)


@EXAMPLES
@given(st.lists(PROGRESS, min_size=5, max_size=40))
def test_how_far_groups_have_read(both: Both, commands: list[Command]) -> None:
    begin: list[Command] = [("XADD", "@:0", f"5-{number}", "f", "v") for number in range(4)]
    begin.append(("XGROUP", "CREATE", "@:0", "g", "0"))
    looks: list[Command] = [("XINFO", "GROUPS", "@:0"), ("XINFO", "STREAM", "@:0")]
    _compare(both, begin + [one for command in commands for one in (command, *looks)])


@EXAMPLES
@given(st.lists(OTHERS, min_size=5, max_size=40))
def test_other_kinds_of_keys(both: Both, commands: list[Command]) -> None:
    begin: list[Command] = [("ZADD", "@:zset", score, score) for score in ("1", "2", "2.5", "1e20")]
    begin += [("HSET", "@:hash", "x", "1", "y", "2"), ("SET", "@:text", "7")]
    _compare(both, begin + commands)
