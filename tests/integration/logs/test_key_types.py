"""The table at the top of `keys.py`, against what a server holds after a run."""

from __future__ import annotations

import re
from typing import Any

import dramatiq
import pytest
import redis
from tests.integration.logs.harness import Bench, Echo, Note, note
from tests.support import wait_until

from streamatiq import Checkpoints, Lane, Retention, checkpointed, fencing_token
from streamatiq.broker import keys as module
from streamatiq.scheduler.retention_pins import pin

#: Where a line of the table stands: the pattern of its keys.
_PREFIXES = {
    ("TAG", "log"): r"\{NS:log:[^}]*\}",
    ("TAG", "queue"): r"\{NS:q:[^}]*\}",
    ("SUB", "log"): r"\{NS:log:[^}]*\}:sub:[^:]+",
    ("SUB", "queue"): r"\{NS:q:[^}]*\}:lane:(?:high|normal|low)",
    ("MEMBERS", ""): r"\{NS:members\}",
    ("GUARDS", ""): r"\{NS:guards\}",
    ("CHECKPOINTS", ""): r"\{NS:checkpoints\}",
    ("{NS:replays}", ""): r"\{NS:replays\}",
    ("LIMITS", ""): r"\{NS:limits\}",
    ("NS", ""): "NS",
}
_LINE = re.compile(
    r"^(?P<names>(?:TAG|SUB|MEMBERS|GUARDS|CHECKPOINTS|\{NS:replays\}|LIMITS|NS):\S+?"
    r"(?:, (?:TAG|SUB):\S+)*)\s+"
    r"(?:\((?P<where>[^)]*)\)\s+)?"
    r"(?P<type>STREAM|ZSET|HASH|STRING)\s",
    re.MULTILINE,
)
_WORDS = {
    "LANE": r"(?:high|normal|low)",
    "CONSUMER": r"\S+",
    "SLOT": r"[0-9a-f]+",
    "TOKEN": r"[0-9a-f]+",
    "TYPE": r"[\w.]+",
    "NAME": r"[\w.]+",
    "LIMIT": r".+",
}


def _documented(namespace: str) -> dict[str, tuple[str, str]]:
    """Patterns of the documented keys: their types, and how the table calls them."""
    assert module.__doc__ is not None
    found: dict[str, tuple[str, str]] = {}
    for line in _LINE.finditer(module.__doc__):
        where = line["where"] or ""
        for name in line["names"].split(", "):
            braced = name.startswith("{")
            start, _, rest = name.rpartition(":") if braced else name.partition(":")
            for word, pattern in _WORDS.items():
                rest = rest.replace(word, pattern)
            places = [start, where] if where in ("log", "queue") else [start, None]
            for (first, place), prefix in _PREFIXES.items():
                if first == places[0] and place in (places[1] or place, ""):
                    tag = prefix.replace("NS", re.escape(namespace))
                    found[f"{tag}:{rest}"] = (line["type"].lower(), name)
            if where.startswith("queue: "):
                other = where.removeprefix("queue: TAG:")
                tag = _PREFIXES["TAG", "queue"].replace("NS", re.escape(namespace))
                found[f"{tag}:{other}"] = (line["type"].lower(), name)
    return found


def test_every_key_is_documented_with_its_type(
    bench: Bench, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[str] = []

    @bench.on(Note, name="typed", max_retries=1)
    def typed(event: Note) -> Echo | None:
        runs.append(event.text)
        if event.text == "fails" or (event.text == "once" and runs.count("once") == 1):
            raise RuntimeError(event.text)
        return Echo(ts_event=2, text=event.text)

    @bench.on(Note, name="typed_in_order", ordered=True)
    def typed_in_order(event: Note) -> None: ...

    @dramatiq.actor(broker=bench.broker, max_retries=0)
    def plain(what: str) -> None:
        runs.append(what)
        if what == "fails":
            raise RuntimeError(what)

    @bench.on(Note, name="keyed", idempotency_key=lambda event: event.text)
    def keyed(event: Note) -> None:
        fencing_token()

    state = checkpointed("n")

    @bench.on(Note, name="lined", ordered=True, state=state)
    def lined(event: Note) -> None:
        state.set(b"x")

    @dramatiq.actor(broker=bench.broker, idempotency_key=lambda what: what)
    def keyed_too(what: str) -> None:
        fencing_token()

    bench.start()
    keyed_too.send("a")
    bench.logs.publish_many([note("a"), note("once"), note("fails")])
    plain.send("a")
    plain.send("fails")
    plain.send_with_options(args=("later",), delay=3_600_000)
    wait_until(lambda: len(runs) >= 7, what=lambda: f"all runs, had {runs}")
    bench.settled("typed", "keyed", "typed_in_order", "lined")
    bench.broker.fence("typed", "h:1:gone")
    # A consumer that has died twice with an entry leaves it a suspect; windows that were rotated.
    keys: Any = bench.keys.log("test.note", "0").subscription("typed")
    client.zadd(keys.suspects, {"1-1": 1})
    client.set(keys.suspect, "1-1")
    # Events that were shed; `filled` lives for a second only.
    log = bench.keys.log("test.note", "0")
    client.set(log.shed, 1)
    client.set(log.filled, 1)
    client.set(keys.passed, 1)
    client.set(keys.operator("0a1b"), 1)
    # A lane that was passed over; a message that was cancelled.
    client.set(bench.keys.queue("default").lane(Lane.LOW).passed, 1)
    bench.broker.cancel("default", "unknown")
    client.zadd(keys.parked, {"1-2": 9e15})
    bench.broker.halt("unknown", reason="x")
    bench.broker.open_breaker("unknown", reason="x")
    bench.broker.rate_limiter_backend().add("some:limit", 1, 60_000)
    client.hset(keys.options, "1-2", "{}")
    # A checkpoint, retention, a replay that runs, and a turn that somebody has.
    Checkpoints(bench.broker).create("x")
    Retention(bench.broker).run()
    pin(bench.broker, "7", {"test.note:0": "1-1"})
    client.set(bench.keys.checkpoints.busy, "x")

    documented = _documented(bench.namespace)
    assert len(documented) >= 25
    held = [one.decode() for one in client.scan_iter(match=f"*{bench.namespace}:*", count=1000)]
    # Namespaces of other tests may end alike.
    own = [one for one in held if re.match(rf"\{{?{re.escape(bench.namespace)}:", one)]
    seen: set[str] = set()
    for key in own:
        kinds = {named for pattern, named in documented.items() if re.fullmatch(pattern, key)}
        assert len(kinds) == 1, f"{key} is documented {len(kinds)} times: {kinds}"
        ((kind, name),) = kinds
        seen.add(name)
        assert client.type(key) == kind.encode(), key
    missing = {name for _, name in documented.values()} - seen
    assert missing <= {"TAG:ids.old", "SUB:done.old"}, f"documented, and not there: {missing}"
