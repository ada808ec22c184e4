"""Taking, storing, comparing, verifying and pruning checkpoints."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import redis
from tests.integration.logs.harness import Bench, Echo, Note, Spread, Urgent, note

from streamatiq import checkpointed
from streamatiq.broker import Subscription
from streamatiq.broker.groups import groups_maker
from streamatiq.errors import (
    CheckpointDamaged,
    CheckpointNotFound,
    CheckpointsBusy,
)
from streamatiq.scheduler import exclusive
from streamatiq.scheduler.checkpoints import Checkpoints, PrunePolicy, jobs
from streamatiq.scheduler.checkpoints.model import CheckpointInfo, checksum
from streamatiq.scheduler.checkpoints.pruning import kept
from streamatiq.testing import TestBroker
from streamatiq.workers import on

OpenBench = Callable[..., Bench]


@pytest.fixture
def checkpoints(bench: Bench) -> Checkpoints:
    return Checkpoints(bench.broker)


def test_a_checkpoint_says_where_everybody_stands(
    bench: Bench, checkpoints: Checkpoints, client: redis.Redis
) -> None:
    state = checkpointed("sum")

    @bench.on(Note, name="plain")
    def plain(event: Note) -> Echo | None:
        if event.text == "later":
            raise RuntimeError("later")
        return Echo(ts_event=1, text=event.text)

    @bench.on(Note, name="keeps", ordered=True, state=state)
    def keeps(event: Note) -> None:
        state.set((state.get() or b"") + event.text.encode())

    @bench.on(Urgent, Spread, name="other")
    def other(event: Any) -> None: ...

    plain.options["min_backoff"] = 60_000
    bench.start()
    receipts = bench.logs.publish_many([note("a"), note("later"), note("c")])
    bench.settled("keeps")
    first = checkpoints.create("  first ", by="me")
    bench.broker.halt("plain", reason="stop")
    bench.broker.open_breaker("venue", reason="down")
    while (
        bench.broker.logs.links.call(
            lambda link: link.send("XPENDING", bench.logs.stream(Note, "0").entries, "plain")
        )[0]
        != 1
    ):
        pass
    second = checkpoints.create("second")

    found = checkpoints.show(second.id)
    assert (found.reason, found.parent, found.namespace) == ("second", first.id, bench.namespace)
    assert (checkpoints.show(first.id).reason, first.by) == ("first", "me")
    place = found.subscriptions["plain"]["test.note:0"]
    assert place.last == receipts[2].entry_id
    assert place.pending == (receipts[1].entry_id,)
    assert place.need == receipts[1].entry_id
    assert (place.exact, place.read) == (True, 3)
    assert place.safe < receipts[1].entry_id
    kept_state = found.subscriptions["keeps"]["test.note:0"].state_bytes()
    assert {name: value[8:] for name, value in kept_state.items()} == {"sum": b"alaterc"}
    assert set(found.subscriptions["other"]) == {
        "test.urgent:high", "test.urgent:normal", "test.urgent:low",
        "test.spread:0", "test.spread:1", "test.spread:2", "test.spread:3",
    }  # fmt: skip
    assert found.logs["test.note:0"].added == 3
    assert found.logs["test.echo:0"].length == 2
    assert found.layouts["test.urgent"] == "laned"
    assert found.schemas["test.note"] == 1
    assert found.halts["sub plain"]["reason"] == "stop"
    assert found.breakers["venue"]["state"] == "open"
    assert found.settings["event_bus.idempotency_window"] == 300.0
    assert [one.id for one in checkpoints.list()] == [first.id, second.id]
    assert checkpoints.show().id == second.id
    assert checkpoints.list()[1] == second
    assert second.states == 1
    assert client.hlen(bench.keys.checkpoints.index) == 2


def test_an_empty_namespace_has_checkpoints_too(checkpoints: Checkpoints) -> None:
    taken = checkpoints.create("nothing yet")
    assert (taken.subscriptions, taken.streams, taken.parent) == (0, 0, None)
    assert checkpoints.verify().is_good
    assert checkpoints.restore() == ()
    with pytest.raises(ValueError, match="reason is required"):
        checkpoints.create(" ")


def test_what_differs(bench: Bench, checkpoints: Checkpoints) -> None:
    state = checkpointed("n")

    @bench.on(Note, name="moves", ordered=True, state=state)
    def moves(event: Note) -> None:
        state.set(b"x")

    bench.start()
    first = checkpoints.create("first")
    bench.logs.publish_many([note(n) for n in range(5)])
    bench.settled("moves")
    bench.broker.halt(key="K", reason="why not")
    second = checkpoints.create("second")
    found = checkpoints.diff(first.id)
    assert [(one.what, one.name, one.entries) for one in found] == [
        ("position", "moves test.note:0", 5),
        ("state", "moves test.note:0 n", None),
        ("log", "test.note:0", 5),
        ("halt", "key K", None),
    ]
    assert "why not" in str(found[3])
    assert "(+5 entries)" in str(found[0])
    assert checkpoints.diff(second.id, second.id) == ()


def test_one_that_was_changed_is_found(
    bench: Bench, checkpoints: Checkpoints, client: redis.Redis
) -> None:
    bodies = bench.keys.checkpoints.bodies
    taken = checkpoints.create("good")
    good: Any = client.hget(bodies, taken.id)
    stored = json.loads(good)
    stored["body"]["reason"] = "other"
    later = {"body": {**json.loads(good)["body"], "v": 2}, "checksum": ""}
    later["checksum"] = checksum(later["body"])
    for bad, what in (
        (json.dumps(stored), "was changed"),
        ("{", "cannot be read"),
        ("[]", "cannot be read"),
        ('{"body": 1, "checksum": ""}', "cannot be read"),
        (json.dumps({"body": {"v": 1}, "checksum": checksum({"v": 1})}), "is none"),
        (json.dumps(later), "a later one"),
    ):
        client.hset(bodies, taken.id, bad)
        with pytest.raises(CheckpointDamaged, match=what):
            checkpoints.show(taken.id)
        with pytest.raises(CheckpointDamaged, match=what):
            checkpoints.restore(taken.id)
        assert not checkpoints.verify(taken.id).is_good
    client.hset(bodies, "other", good)
    with pytest.raises(CheckpointDamaged, match="is stored as checkpoint other"):
        checkpoints.show("other")
    for call in (checkpoints.show, checkpoints.verify, checkpoints.restore, checkpoints.diff):
        with pytest.raises(CheckpointNotFound, match="no checkpoint 'x'"):
            call("x")
    client.delete(bench.keys.checkpoints.index, bodies)
    with pytest.raises(CheckpointNotFound, match="no checkpoint yet"):
        checkpoints.show()


def test_logs_that_do_not_hold_it_any_more(
    bench: Bench, checkpoints: Checkpoints, client: redis.Redis
) -> None:
    subscription = Subscription("s", (Note,), "earliest")
    bench.broker.declare_subscription(subscription)
    bench.logs.links.call(groups_maker(bench.broker._sources("s"), "0"))
    receipts = bench.logs.publish_many([note(n) for n in range(10)])
    entries = bench.logs.stream(Note, "0").entries
    client.xgroup_setid(entries, "s", receipts[3].entry_id, entries_read=4)
    unread = checkpoints.create("4 of 10 read")
    client.xgroup_setid(entries, "s", receipts[9].entry_id, entries_read=10)
    all_read = checkpoints.create("all read")
    for _ in range(2):
        bench.logs.publish(note("more"))

    client.xtrim(entries, minid=receipts[4].entry_id, approximate=False)
    assert checkpoints.verify(unread.id).is_good
    client.xtrim(entries, minid=receipts[5].entry_id, approximate=False)
    (why,) = checkpoints.verify(unread.id).problems
    assert f"entry {receipts[4].entry_id} is needed" in why
    client.xtrim(entries, maxlen=2, approximate=False)
    assert checkpoints.verify(all_read.id).is_good
    client.xtrim(entries, maxlen=1, approximate=False)
    (why,) = checkpoints.verify(all_read.id).problems
    assert "trimmed beyond" in why
    client.delete(entries)
    assert "the log is gone" in checkpoints.verify(all_read.id).problems[0]
    bench.logs.publish(note("anew"))
    assert "made anew" in checkpoints.verify(all_read.id).problems[0]


def test_pruning(bench: Bench, checkpoints: Checkpoints, client: redis.Redis) -> None:
    ids = [checkpoints.create(f"{n}").id for n in range(5)]
    assert checkpoints.prune(PrunePolicy(2), dry_run=True) == tuple(ids[:3])
    assert len(checkpoints.list()) == 5
    # The newest two are damaged: the newest good one stays as well.
    for one in ids[3:]:
        client.hset(bench.keys.checkpoints.bodies, one, "{")
    assert checkpoints.prune(PrunePolicy(1)) == (ids[0], ids[1], ids[3])
    assert [one.id for one in checkpoints.list()] == [ids[2], ids[4]]
    client.hset(bench.keys.checkpoints.bodies, ids[2], "{")
    assert checkpoints.prune(PrunePolicy(0)) == ()
    assert checkpoints.create("good again").parent == ids[4]
    assert checkpoints.prune(PrunePolicy(0)) == (ids[2], ids[4])
    assert checkpoints.prune() == ()
    with pytest.raises(ValueError, match="keep_daily is -1"):
        PrunePolicy(keep_daily=-1)


def _info(day: int, hour: int, minute: int) -> CheckpointInfo:
    at_us = ((day * 24 + hour) * 60 + minute) * 60_000_000
    return CheckpointInfo(
        id=f"{day:03}{hour:02}{minute:02}", at_us=at_us, reason="", by="", parent=None,
        subscriptions=0, streams=0, states=0, size=0, checksum="",
    )  # fmt: skip


def test_which_ones_a_policy_keeps() -> None:
    infos = [_info(d, h, m) for d in range(4) for h in (0, 1, 23) for m in (0, 30, 59)]
    assert kept(PrunePolicy(2), infos) == {"0032359", "0032330"}
    assert kept(PrunePolicy(0, keep_hourly=4), infos) == {
        "0032359", "0030159", "0030059", "0022359",
    }  # fmt: skip
    assert kept(PrunePolicy(1, keep_daily=3), infos) == {"0032359", "0022359", "0012359"}
    assert kept(PrunePolicy(0), infos) == set()


def test_one_at_a_time(
    bench: Bench, checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch, client: redis.Redis
) -> None:
    keys = bench.keys.checkpoints
    with exclusive.turn(bench.logs.links, keys, "testing") as mine:
        with (
            pytest.raises(CheckpointsBusy, match=r"\(testing\) is at it"),
            exclusive.turn(bench.logs.links, keys, "too", wait_s=0.1),
        ):
            pass
        mine.renew()
        client.set(keys.busy, "0123456789abcdef other")
        with pytest.raises(CheckpointsBusy, match="stood still"):
            mine.renew()
    assert client.get(keys.busy) == b"0123456789abcdef other"
    client.delete(keys.busy)
    checkpoints.create("free again")
    assert not client.exists(keys.busy)


def test_jobs(bench: Bench, checkpoints: Checkpoints) -> None:
    first = jobs.run(bench.broker)
    for _ in range(10):
        jobs.on_shutdown(bench.broker)
    assert len(checkpoints.list()) == 10
    assert first not in [one.id for one in checkpoints.list()]
    live = checkpoints.show(jobs.before_live_replay(bench.broker, "replay 7"))
    assert live.reason == "before a live replay: replay 7"
    assert len(checkpoints.list()) == 11


def test_on_the_twin() -> None:
    state = checkpointed("all")
    with TestBroker() as broker:
        runs: list[str] = []

        @on(Note, name="twin", ordered=True, state=state, broker=broker)
        def twin(event: Note) -> Echo:
            runs.append(event.text)
            after = (state.get() or b"").decode() + event.text
            state.set(after.encode())
            return Echo(ts_event=1, text=after)

        checkpoints = Checkpoints(broker)
        broker.publish(note("a"))
        broker.run_until_idle()
        checkpoints.create("one")
        broker.publish(note("b"), note("c"))
        broker.run_until_idle()
        (would,) = checkpoints.restore(dry_run=True)
        assert (would.to_run, would.again, would.done) == (2, 2, False)
        broker.run_until_idle()
        assert runs == ["a", "b", "c"]
        (did,) = checkpoints.restore()
        assert did.done
        broker.run_until_idle()
        assert runs == ["a", "b", "c", "b", "c"]
        assert [event.text for event in broker.published(Echo)] == ["a", "ab", "abc"]
