"""Restoring: what runs again, what is put back, and what refuses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import redis
from tests.integration.logs.harness import Bench, Echo, Note, Spread, note, texts
from tests.support import wait_until

from streamatiq import checkpointed
from streamatiq.errors import CheckpointUnusable, RestoreRefused
from streamatiq.scheduler.checkpoints import Checkpoints, taking

OpenBench = Callable[..., Bench]


class Runs:
    """A handler's runs, over several workers one after the other."""

    def __init__(self, open_bench: OpenBench, name: str, **options: Any) -> None:
        self._open = open_bench
        self._name = name
        self._options = {"start": "earliest", **options}
        self.texts: list[str] = []
        self.fails: set[str] = set()

    def start(self) -> Bench:
        bench = self._open()

        @bench.on(Note, name=self._name, **self._options)
        def handler(event: Note) -> Echo:
            self.texts.append(event.text)
            if event.text in self.fails:
                raise RuntimeError("fails")
            return Echo(ts_event=1, text=event.text)

        bench.start(threads=1)  # one by one
        return bench

    def work(self) -> None:
        """Run what there is, and stop."""
        bench = self.start()
        bench.settled(self._name)
        bench.stop()


@pytest.fixture
def looking(open_bench: OpenBench) -> Bench:
    """A broker that only publishes and looks."""
    return open_bench()


def held(client: redis.Redis, namespace: str) -> dict[bytes, Any]:
    """All that the logs' subscriptions hold on the server."""
    found: dict[bytes, Any] = {}
    for key in client.scan_iter(match=f"{{{namespace}:log:*", count=1000):
        kind = client.type(key)
        if kind == b"stream":
            found[key] = (client.xrange(key), client.xinfo_groups(key))
        elif kind == b"hash":
            found[key] = client.hgetall(key)
        elif kind == b"zset":
            found[key] = client.zrange(key, 0, -1, withscores=True)
        else:
            found[key] = client.get(key)
    return found


def test_what_was_settled_since_runs_again(open_bench: OpenBench, looking: Bench) -> None:
    runs = Runs(open_bench, "again")
    checkpoints = Checkpoints(looking.broker)
    looking.logs.publish_many([note("a"), note("b")])
    runs.work()
    taken = checkpoints.create("two done")
    looking.logs.publish_many([note("c"), note("d")])
    runs.work()
    looking.logs.publish(note("e"))

    (would,) = checkpoints.restore(taken.id, "again", dry_run=True)
    assert (would.to_run, would.again, would.warnings, would.done) == (3, 2, (), False)
    runs.work()
    assert runs.texts == list("abcde")
    (did,) = checkpoints.restore(taken.id, "again")
    assert (did.to_run, did.again, did.done) == (3, 3, True)
    runs.work()
    assert runs.texts == [*"abcde", *"cde"]
    # What they emit has the ids that it had.
    assert texts(looking.read(Echo)) == list("abcde")
    # Harmless to repeat; and an older one than where it stands now is no different.
    checkpoints.restore(taken.id)
    checkpoints.restore(taken.id)
    runs.work()
    assert runs.texts[8:] == list("cde")
    looking.logs.publish(note("f"))
    runs.work()
    assert runs.texts[11:] == ["f"]
    assert looking.broker.backlog("again") == 0


def test_retries_and_dead_letters_begin_anew(
    open_bench: OpenBench, looking: Bench, client: redis.Redis
) -> None:
    runs = Runs(open_bench, "fails", max_retries=1)
    checkpoints = Checkpoints(looking.broker)
    runs.fails = {"b", "e"}
    looking.logs.publish_many([note("a"), note("e")])
    runs.work()  # "e" is a dead letter before the checkpoint
    slow = Runs(open_bench, "fails", min_backoff=3_600_000, max_backoff=3_600_000, max_retries=3)
    slow.fails = {"b"}
    looking.logs.publish_many([note("b"), note("c")])
    bench = slow.start()
    keys = looking.keys.log("test.note", "0").subscription("fails")
    wait_until(lambda: client.hlen(keys.options) == 1)
    wait_until(lambda: len(texts(looking.read(Echo))) == 2)
    bench.stop()
    taken = checkpoints.create("b waits for its retry; c is done")
    client.zadd(keys.parked, dict.fromkeys(client.zrange(keys.parked, 0, -1), 1))
    looking.logs.publish(note("d"))
    runs.fails = {"b", "d", "e"}
    runs.work()
    letters = [letter.body() for letter in looking.broker.dead_letters("fails")]
    assert [body["text"] for body in letters if body] == ["e", "b", "d"] or len(letters) == 3

    (would,) = checkpoints.restore(taken.id, dry_run=True)
    assert [(one.pending, one.to_run, one.again, one.letters) for one in would.streams] == [
        (1, 2, 2, 2)
    ]
    checkpoints.restore(taken.id)
    assert client.hgetall(keys.options) == {}
    assert [letter.body()["text"] for letter in looking.broker.dead_letters("fails")] == ["e"]  # type: ignore[index]
    runs.texts.clear()
    runs.fails = {"b"}
    runs.work()
    assert Counter(runs.texts) == {"b": 2, "d": 1}  # a whole budget of retries
    assert texts(looking.read(Echo)) == ["a", "c", "d"]
    assert len(list(looking.broker.dead_letters("fails"))) == 2


def test_a_new_name_leaves_the_old_one_alone(open_bench: OpenBench, looking: Bench) -> None:
    runs, other = Runs(open_bench, "old"), Runs(open_bench, "new")
    checkpoints = Checkpoints(looking.broker)
    looking.logs.publish(note("a"))
    runs.work()
    taken = checkpoints.create("a done")
    looking.logs.publish_many([note("b"), note("c")])
    bench = runs.start()  # and runs on
    bench.settled("old")
    (did,) = checkpoints.restore(taken.id, "old", as_name="new")
    assert (did.name, did.to_run, did.again) == ("new", 2, 0)
    assert "gets other ids" in did.warnings[0]
    other.work()
    assert (runs.texts, other.texts) == (["a", "b", "c"], ["b", "c"])
    assert sorted(texts(looking.read(Echo))) == ["a", "b", "b", "c", "c"]
    for wrong, match in (
        ({"as_name": "new"}, "'new' exists on test.note:0 already"),
        ({"as_name": "old"}, "is the subscription itself"),
        ({"as_name": "a b"}, "cannot be the name"),
    ):
        with pytest.raises(RestoreRefused, match=match):
            checkpoints.restore(taken.id, "old", **wrong)  # type: ignore[arg-type]
    with pytest.raises(RestoreRefused, match="say which one"):
        checkpoints.restore(taken.id, as_name="third")


def test_what_cannot_be_restored_changes_nothing(
    open_bench: OpenBench, looking: Bench, client: redis.Redis
) -> None:
    runs = Runs(open_bench, "kept")
    checkpoints = Checkpoints(looking.broker)
    looking.logs.publish_many([note("a"), note("b")])
    bench = runs.start()
    bench.settled("kept")
    taken = checkpoints.create("two done")
    receipts = looking.logs.publish_many([note("c"), note("d")])
    bench.settled("kept")
    consumer = bench.broker._process.identity.consumer  # type: ignore[union-attr]
    before = held(client, looking.namespace)
    with pytest.raises(RestoreRefused, match=f"'kept' by {consumer}"):
        checkpoints.restore(taken.id)
    with pytest.raises(RestoreRefused, match="holds no subscription 'kep'; it holds kept"):
        checkpoints.restore(taken.id, "kep")
    assert held(client, looking.namespace) == before
    bench.stop()
    stopped = held(client, looking.namespace)
    client.xtrim(
        looking.logs.stream(Note, "0").entries, minid=receipts[1].entry_id, approximate=False
    )
    trimmed = held(client, looking.namespace)
    assert trimmed != stopped
    with pytest.raises(CheckpointUnusable, match=r"test\.note:0: the log was trimmed"):
        checkpoints.restore(taken.id)
    assert held(client, looking.namespace) == trimmed
    assert runs.texts == list("abcd")


def test_business_keys_stay_unless_they_are_freed(open_bench: OpenBench, looking: Bench) -> None:
    runs = Runs(
        open_bench, "orders", idempotency_key=lambda event: event.text, idempotency_ttl_s=None
    )
    checkpoints = Checkpoints(looking.broker)
    looking.logs.publish(note("a"))
    runs.work()
    taken = checkpoints.create("a done")
    looking.logs.publish_many([note("b"), note("c"), note("a")])
    runs.work()
    assert runs.texts == ["a", "b", "c"]
    (would,) = checkpoints.restore(taken.id, dry_run=True)
    assert would.streams[0].done_keys == 2
    assert would.warnings[0].startswith("2 business keys of these events are done")
    checkpoints.restore(taken.id)
    runs.work()
    assert runs.texts == ["a", "b", "c"]
    checkpoints.restore(taken.id, free_keys=True)
    runs.work()
    assert Counter(runs.texts) == {"a": 1, "b": 2, "c": 2}
    assert texts(looking.read(Echo)) == ["a", "b", "c"]


def test_what_a_dead_process_had_is_fenced(
    open_bench: OpenBench, looking: Bench, client: redis.Redis
) -> None:
    """It is listed, silent for long, and not reclaimed: nobody lives who could."""
    runs = Runs(open_bench, "dies")
    checkpoints = Checkpoints(looking.broker)
    runs.work()
    taken = checkpoints.create("nothing done")
    receipt = looking.logs.publish(note("a"))
    entries = looking.logs.stream(Note, "0").entries
    members, dead = looking.keys.members, "host:1:dead"
    client.hset(members.alive, dead, "1 - 0 ")
    client.hset(members.reads(dead), "dies", "[]")
    client.xreadgroup("dies", dead, {entries: ">"})
    source = looking.keys.log("test.note", "0").subscription("dies")
    checkpoints.restore(taken.id)
    assert client.get(source.fence(dead)) == b"1"
    assert client.xpending(entries, "dies")["pending"] == 0
    # Somebody who is not listed at all has claimed it: the script sees that.
    client.xreadgroup("dies", "host:2:unknown", {entries: ">"})
    with pytest.raises(RestoreRefused, match="host:2:unknown has just claimed entries"):
        checkpoints.restore(taken.id)
    client.xgroup_delconsumer(entries, "dies", "host:2:unknown")
    client.set(source.owner, "host:3:owner")
    with pytest.raises(RestoreRefused, match="host:3:owner owns the partition"):
        checkpoints.restore(taken.id)
    client.delete(source.owner)
    client.hdel(members.alive, dead)
    checkpoints.restore(taken.id)
    runs.work()
    assert runs.texts == ["a"]
    assert receipt.entry_id == looking.read(Note)[0].entry_id


def test_old_checkpoints_warn(open_bench: OpenBench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = open_bench(event_bus={"idempotency_window": 0.05})

    @bench.on(Note, name="old", start="earliest")
    def old(event: Note) -> None: ...

    checkpoints = Checkpoints(bench.broker)
    bench.start()
    bench.settled("old")
    taken = checkpoints.create("nothing done")
    bench.logs.publish(note("a"))
    bench.settled("old")
    bench.stop()
    looking = open_bench(event_bus={"idempotency_window": 0.05})
    at_us = taken.at_us
    wait_until(lambda: looking.broker.server_time().timestamp() * 1e6 > at_us + 100_000)
    (would,) = Checkpoints(looking.broker).restore(taken.id, dry_run=True)
    assert would.again == 1
    assert "may be stored twice: ids of events are remembered for 0.05 s" in would.warnings[0]
    other = open_bench()
    assert "has changed since" in Checkpoints(other.broker).restore(dry_run=True)[0].warnings[0]


def test_more_pending_entries_than_a_checkpoint_names(
    open_bench: OpenBench, looking: Bench, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = Runs(open_bench, "many")
    runs.work()
    receipts = looking.logs.publish_many([note(n) for n in range(6)])
    entries = looking.logs.stream(Note, "0").entries
    client.xreadgroup("many", "__free__", {entries: ">"}, count=5)
    client.xack(entries, "many", receipts[0].entry_id, receipts[2].entry_id)
    monkeypatch.setattr(taking, "PENDING_OF_ONE", 2)
    checkpoints = Checkpoints(looking.broker)
    taken = checkpoints.create("1, 3 and 4 pending")
    (position,) = checkpoints.show().subscriptions["many"].values()
    assert not position.exact
    (would,) = checkpoints.restore(taken.id, dry_run=True)
    assert (would.to_run, would.streams[0].pending) == (5, 0)
    assert "more entries were pending" in would.warnings[0]
    checkpoints.restore(taken.id)
    runs.work()
    assert runs.texts == list("12345")


def test_states_are_put_back_on_every_stream(open_bench: OpenBench, looking: Bench) -> None:
    state = checkpointed("all")
    emitted: list[str] = []

    def work() -> None:
        bench = open_bench()

        @bench.on(Spread, name="sums", ordered=True, state=state, start="earliest")
        def sums(event: Spread) -> Echo:
            after = (state.get() or b"").decode() + event.text
            state.set(after.encode())
            emitted.append(after)
            return Echo(ts_event=1, text=after)

        bench.start(threads=4)
        bench.settled("sums")
        bench.stop()

    def spread(texts: str) -> None:
        events = [Spread(ts_event=1, key=f"K{n}", text=one) for n, one in enumerate(texts)]
        looking.logs.publish_many(events)

    checkpoints = Checkpoints(looking.broker)
    spread("abcdefgh")
    work()
    taken = checkpoints.create("eight done")
    spread("ijklmnop")
    work()
    first = sorted(texts(looking.read(Echo)))
    for _ in range(2):
        emitted.clear()
        (did,) = checkpoints.restore(taken.id)
        assert did.again == 8
        assert {one.states for one in did.streams if one.pending + one.to_run} == {("all",)}
        work()
        assert len(emitted) == 8
        # The same states, step by step: what was emitted is emitted again, with the same ids.
        assert sorted(texts(looking.read(Echo))) == first
    (again,) = checkpoints.restore(taken.id, "sums", as_name="copy")
    assert again.to_run == 8
