"""Any history of one subscription, a checkpoint in the middle, a restore: against a model.

The model is two sets: what is in the log, and what was settled when the checkpoint was taken. After
the restore everything else is delivered once, and the state is the one of then.
"""

from __future__ import annotations

import itertools
import os
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.integration.logs.harness import Note, note

from streamatiq import RedisStreamsBroker, Settings
from streamatiq.broker import scripts
from streamatiq.broker.connections import Endpoint, Link
from streamatiq.broker.settlements import (
    DONE,
    HAND_BACK,
    DeadLetter,
    Park,
    Settlement,
    StateWrite,
    settle,
)
from streamatiq.broker.sources import AuditLevel, Source
from streamatiq.broker.subscriptions import Subscription
from streamatiq.scheduler.checkpoints import Checkpoints

_numbers = itertools.count(1)
HOUR_MS = 3_600_000
ENDS = {
    "done": DONE,
    "park": Park(HOUR_MS, b"{}"),
    "back": HAND_BACK,
    "dead": DeadLetter(["data", "x"]),
}

STEP = st.one_of(
    st.tuples(st.just("publish"), st.integers(1, 5)),
    st.tuples(st.just("fetch"), st.integers(1, 4)),
    st.tuples(st.just("fetch"), st.integers(1, 4)),
    st.tuples(
        st.just("settle"),
        st.lists(
            st.tuples(st.integers(0, 9), st.sampled_from(["done", "done", *ENDS])),
            min_size=1,
            max_size=3,
        ),
    ),
)


class World:
    """One subscription, played through the scripts."""

    def __init__(self, url: str) -> None:
        self.broker = RedisStreamsBroker(
            url, namespace=f"model{next(_numbers)}", settings=Settings(), middleware=[]
        )
        self.link = Link(Endpoint(url))
        self.source: Source = Subscription("s", (Note,), "earliest", ordered=True).sources(
            self.broker.keys, {}, AuditLevel.COUNTS
        )[0]
        self.broker.logs.check_layout(Note)
        self.link.run(scripts.ensure("s", [(self.source.keys.entries, "0")]))
        self.consumer = "h:1:x"
        self.batch = 0
        self.published: list[str] = []
        self.settled: set[str] = set()
        self.claimed: dict[str, bytes] = {}
        self.token, self.state = b"", b""

    def publish(self, count: int) -> None:
        receipts = self.broker.logs.publish_many([note(n) for n in range(count)])
        self.published += [receipt.entry_id for receipt in receipts]

    def fetch(self, room: int) -> list[str]:
        call = scripts.fetch([self.source.keys], None, group="s", consumer=self.consumer, room=room)
        fetched = self.link.run(call)
        taken = []
        for block in fetched.blocks:
            for entry_id, fields in block.entries:
                self.claimed[entry_id.decode()] = fields[1]
                taken.append(entry_id.decode())
        return taken

    def settle(self, items: list[tuple[int, str]]) -> None:
        for pick, end in items:
            if not self.claimed:
                return
            entry = sorted(self.claimed)[pick % len(self.claimed)]
            event_id = Note.model_validate_json(self.claimed.pop(entry)).id.bytes
            states: tuple[StateWrite, ...] = ()
            if end == "done":
                after, token = self.state + f"{entry} ".encode(), os.urandom(8)
                states = (StateWrite("s all", self.token, token + after),)
                self.token, self.state = token, after
            self.batch += 1
            one = Settlement(
                self.source, self.consumer, entry.encode(), event_id, ENDS[end], states=states
            )
            said = self.link.run(settle("writer", self.batch, HOUR_MS, [one]))
            assert (said.fenced, said.problems) == ([], [])
            if end in ("done", "dead"):
                self.settled.add(entry)

    def drain(self) -> list[str]:
        """All that is delivered from now on, everything parked being due."""
        ids = self.link.send("ZRANGE", self.source.keys.parked, 0, -1)
        for one in ids:
            self.link.send("ZADD", self.source.keys.parked, "XX", 1, one)
        found: list[str] = []
        while taken := self.fetch(3):
            found += taken
        return found

    def close(self) -> None:
        keys: Any = self.link.send("KEYS", f"*{self.broker.keys.namespace}:*")
        self.link.send("UNLINK", *keys)
        self.link.close()
        self.broker.close()


@pytest.fixture(scope="module")
def url(server: Any) -> str:
    return str(server.url)


@settings(deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(st.lists(STEP, max_size=15), st.lists(STEP, max_size=15), st.booleans())
def test_a_restore_brings_back_what_was_settled_then(
    url: str, before: list[Any], after: list[Any], twice: bool
) -> None:
    world = World(url)
    try:
        for name, argument in before:
            getattr(world, name)(argument)
        checkpoints = Checkpoints(world.broker)
        taken = checkpoints.create("the middle")
        settled, state = set(world.settled), world.state
        for name, argument in after:
            getattr(world, name)(argument)
        # Its process is dead: what it has claimed is given back by the restore.
        members = world.broker.keys.members
        world.link.send("HSET", members.alive, world.consumer, "1 - 0 ")
        world.link.send("HSET", members.reads(world.consumer), "s", "[]")
        expected = [one for one in world.published if one not in settled]
        (would,) = checkpoints.restore(taken.id, dry_run=True)
        assert would.to_run == len(expected)
        assert would.again == len(world.settled - settled)
        for _ in range(2 if twice else 1):
            checkpoints.restore(taken.id)
        old = world.consumer
        world.consumer = "h:1:y"
        assert world.drain() == expected
        held = world.link.send("HGET", world.source.keys.state, "s all") or b""
        assert held[8:] == state
        marks = world.link.send("HKEYS", world.source.keys.done)
        assert len(marks) == len(settled)
        # And all of it can be settled; what the dead process still sends is not.
        world.token, world.state = held[:8], held[8:]
        world.settle([(0, "done")] * len(expected))
        assert world.link.send("XPENDING", world.source.keys.entries, "s")[0] == 0
        late = Settlement(world.source, old, b"1-1", b"0" * 16, DONE)
        assert world.link.run(settle("late", 1, HOUR_MS, [late])).fenced
    finally:
        world.close()
