"""Every key of a replay is documented in `keys.py`, with its type."""

from __future__ import annotations

import re
from typing import Any

import redis
from tests.integration.logs.harness import Bench, Note, note

from streamatiq import replay
from streamatiq.broker import keys as module
from streamatiq.scheduler.replay import store_of

_LINE = re.compile(r"^((?:REPLAYS?|GIVEN):\S+)\s+(STREAM|ZSET|HASH|STRING)\s", re.MULTILINE)


def test_the_keys_of_replays(bench: Bench, client: redis.Redis) -> None:
    assert module.__doc__ is not None
    lines = module.__doc__[module.__doc__.index("\nReplays (") :]
    documented = dict(_LINE.findall(lines))

    @bench.on(Note, name="one")
    def one(event: Note) -> None:
        pass

    bench.start()
    bench.logs.publish(note("a"))
    bench.settled("one")
    run = replay(Note, broker=bench.broker, target="subscription:one", replay_id="r")
    iterator: Any = iter(run)
    next(iterator)  # its lease is there
    store_of(bench.broker).say("r", {"c": "pause", "v": ""})
    held = {key.decode() for key in client.scan_iter(match=f"*{bench.namespace}:*", count=1000)}
    tags = {
        "REPLAYS": f"{{{bench.namespace}:replays}}",
        "REPLAY": f"{{{bench.namespace}:replay:r}}",
        "GIVEN": f"{{{bench.namespace}:log:test.note:0}}:sub:one",
    }
    found: set[str] = set()
    for name, kind in documented.items():
        start, _, rest = name.partition(":")
        key = f"{tags[start]}:{rest.replace('ID', 'r')}"
        assert client.type(key).decode() == kind.lower(), key
        found.add(key)
    assert {one for one in held if "replay" in one} == found
    iterator.close()
