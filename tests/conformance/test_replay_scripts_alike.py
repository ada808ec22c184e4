"""The scripts of replays: the twin replies as the server does."""

from __future__ import annotations

import itertools
from typing import Any

import redis
from tests.conformance.alike import Normal
from tests.conformance.conftest import Both

from streamatiq.broker import scripts
from streamatiq.broker.connections import Link
from streamatiq.broker.keys import Keys
from streamatiq.broker.replay_scripts import give_events, save, take
from streamatiq.errors import CommandFailed

_numbers = itertools.count(1)
IDS = [bytes([n]) * 16 for n in range(4)]


def _answers(link: Link, namespace: str) -> list[Any]:
    keys = Keys(namespace)
    replay, log = keys.replay("r"), keys.log("alike.cause", "0")
    sub = log.subscription("one")
    said: list[Any] = [
        link.run(take(replay, "a", 60_000)),
        link.run(take(replay, "a", 60_000)),
        link.run(take(replay, "b", 60_000)) < 0,
        link.run(save(replay, "a", 1, 60_000, {"status": "running"})),
        link.run(save(replay, "a", 1, 0, {"status": "interrupted"})),
        link.run(take(replay, "b", 60_000)),
        link.run(save(replay, "a", 1, 60_000, {"status": "done"})),
        link.send("HMGET", replay.state, "run", "status"),
    ]
    entries = [
        one.entry_id for one in link.run(scripts.publish(log, 0, [(event, b"{}") for event in IDS]))
    ]
    pairs = list(zip(entries, IDS, strict=True))
    try:
        link.run(give_events(sub, "one", "r", 0, b"{}", pairs))
    except (CommandFailed, redis.ResponseError) as error:
        said.append(type(error).__name__)
    link.run(scripts.ensure("one", [(log.entries, "0")]))
    link.send("XREADGROUP", "GROUP", "one", "c", "COUNT", 3, "STREAMS", log.entries, ">")
    link.send("XACK", log.entries, "one", *entries[:2])
    for epoch in (0, 0, 1):
        said.append(link.run(give_events(sub, "one", "r", epoch, b'{"replay":"r"}', pairs)))
    link.send("XACK", log.entries, "one", entries[0])
    link.send("XTRIM", log.entries, "MINID", entries[1])
    said.append(link.run(give_events(sub, "one", "r", 2, b"{}", pairs)))
    said += [
        link.send("ZRANGE", sub.parked, 0, -1),
        link.send("HGETALL", sub.options)[1::2],
        link.send("GET", sub.replay("one", "r")),
        link.send("XPENDING", log.entries, "one")[0],
    ]
    return said


def test_scripts_of_replays(both: Both) -> None:
    namespace = f"replayed{next(_numbers)}"
    server, twin = (_answers(link, namespace) for link in both)
    assert Normal()(server) == Normal()(twin)
    assert server[:8] == [1, 1, True, True, True, 2, False, [b"2", b"interrupted"]]
    assert server[9:13] == [
        ["given", "given", "pending", "unread"],
        ["known"] * 4,
        ["pending", "pending", "pending", "unread"],
        ["trimmed", "pending", "pending", "unread"],
    ]
