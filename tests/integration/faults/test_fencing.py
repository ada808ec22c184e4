"""A consumer that is declared dead while it lives: nothing of it is committed, and it goes on."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
import redis
from tests.integration.logs.harness import Bench, Echo, Note, Spread, note, texts
from tests.support import CuttingProxy, wait_until

from streamatiq.broker import current_delivery, scripts
from streamatiq.broker.connections import Endpoint, Link
from streamatiq.broker.groups import ensure_groups
from streamatiq.broker.identity import Identity
from streamatiq.broker.members import reads_of
from streamatiq.broker.reclaimer import Reclaimer
from streamatiq.errors import BrokerConnectionError


def _consumer() -> str:
    delivery = current_delivery.get()
    assert delivery is not None
    return delivery.consumer


def _consumers(client: redis.Redis, key: str) -> Any:
    return client.xinfo_consumers(key, "idle")


def test_a_fenced_consumer_commits_nothing_and_goes_on_under_a_new_name(bench: Bench) -> None:
    runs: list[tuple[str, str]] = []
    first_run, go_on = threading.Event(), threading.Event()

    @bench.on(Note, name="fenced")
    def fenced(event: Note) -> Echo:
        runs.append((event.text, _consumer()))
        if len(runs) == 1:
            first_run.set()
            assert go_on.wait(10)
        return Echo(ts_event=2, text=f"{event.text} by {_consumer()}")

    bench.start(threads=1)
    bench.logs.publish(note("a"))
    assert first_run.wait(10)
    old = runs[0][1]
    bench.broker.fence("fenced", old)
    go_on.set()
    found = bench.echoes(1, timeout_s=15)
    new = next(who for text, who in runs if who != old)
    assert found == [f"a by {new}"]
    bench.logs.publish(note("b"))
    assert bench.echoes(2)[1] == f"b by {new}"
    bench.settled("fenced")
    assert Counter(text for text, _ in runs) == {"a": 2, "b": 1}


def test_every_cause_has_one_effect_when_consumers_are_fenced_under_load(bench: Bench) -> None:
    seen: list[str] = []

    @bench.on(Note, name="loaded")
    def loaded(event: Note) -> Echo:
        seen.append(_consumer())
        return Echo(ts_event=2, text=event.text)

    bench.start(threads=4)
    for block in range(5):
        bench.logs.publish_many([note(f"{block} {n}") for n in range(100)])
        wait_until(lambda block=block: len(seen) > block * 100)
        bench.broker.fence("loaded", seen[-1])
    found = bench.echoes(500, timeout_s=20)
    bench.settled("loaded")
    assert sorted(found) == sorted(texts(bench.read(Note)))
    assert len(set(seen)) > 1


def test_an_entry_that_a_blocked_read_took_under_the_old_name_is_not_stuck(
    open_bench: Callable[..., Bench], client: redis.Redis
) -> None:
    """One process, two subscriptions. All of it is fenced; one queue notices and the process is
    renamed, while the other is still blocked in a read under the old name."""
    leader = open_bench()  # another process has the reclaimer's lease
    leader.broker.declare_queue("other")
    leader.start(threads=1)
    wait_until(lambda: client.exists(leader.keys.members.lease))
    bench = open_bench()
    busy: list[str] = []
    idle: list[str] = []

    @bench.on(Note, name="busy")
    def handles_notes(event: Note) -> None:
        busy.append(_consumer())

    @bench.on(Spread, name="idle")
    def handles_spreads(event: Spread) -> Echo:
        idle.append(_consumer())
        return Echo(ts_event=2, text=event.text)

    bench.start(threads=1)
    bench.logs.publish_many([note(""), Spread(ts_event=1, text="warm")])
    wait_until(lambda: busy and idle)
    bench.settled("busy", "idle")
    old = busy[0]
    # As the reclaimer does it: every stream that the process reads.
    bench.broker.fence("busy", old)
    bench.broker.fence("idle", old)
    bench.logs.publish(note("notice"))
    wait_until(lambda: busy[-1] != old, 15, lambda: f"a new name, {busy}")
    # The old name was reclaimed: its consumer is gone from the group.
    part = bench.logs.part_of(Spread(ts_event=1))
    key = bench.keys.log("test.spread", part).entries
    wait_until(lambda: all(c["name"] != old.encode() for c in _consumers(client, key)))
    bench.logs.publish(Spread(ts_event=1, text="late"))
    assert bench.echoes(2, timeout_s=12)[1] == "late"
    bench.settled("idle")
    assert texts(bench.read(Echo)) == ["warm", "late"]


def test_who_was_declared_dead_while_it_idled_notices_with_its_next_heartbeat(
    bench: Bench, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is in a blocked read under the old name, and nobody wakes it."""
    monkeypatch.setattr("streamatiq.broker.heartbeat.BEAT_S", 0.1)
    runs: list[str] = []

    @bench.on(Note, name="idle")
    def idle(event: Note) -> None:
        runs.append(_consumer())

    bench.start(threads=1)
    bench.logs.publish(note("a"))
    wait_until(lambda: runs)
    (old,) = runs
    bench.settled("idle")
    bench.broker.fence("idle", old)
    client.hdel(bench.keys.members.alive, old)
    alive = bench.keys.members.alive

    def renamed() -> bool:
        names: Any = client.hkeys(alive)
        return bool(names) and old.encode() not in names

    wait_until(renamed)
    bench.logs.publish(note("b"))
    wait_until(lambda: len(runs) > 1)
    bench.settled("idle")
    assert runs[1:] == [runs[1]]
    assert runs[1] != old


def test_what_a_lost_name_held_is_taken_also_if_the_connection_is_lost_meanwhile(
    bench: Bench, proxy: CuttingProxy
) -> None:
    members = bench.keys.members
    bench.logs.publish(note("a"))

    @bench.on(Note, name="kept", start="earliest")
    def kept(event: Note) -> None: ...

    sources = bench.broker._sources("kept")
    identity = Identity()
    old = identity.consumer
    with closing(Link(Endpoint(proxy.url))) as link:
        ensure_groups(link, sources, "0")
        keys = [source.keys for source in sources]
        link.run(scripts.fetch(keys, None, group="kept", consumer=old, room=1))
        identity.fenced(old)
        reclaimer = Reclaimer(members, identity, lambda: reads_of(sources), max_deliveries=5)
        beat = scripts.Heartbeat(False, 1, {})
        proxy.cut_reply(b"EVALSHA")
        with pytest.raises(BrokerConnectionError):
            reclaimer.told(link, beat, None)
        link.close()
        reclaimer.told(link, beat, None)
        pending = link.send("XPENDING", keys[0].entries, "kept", "-", "+", 9)
    assert [entry[1] for entry in pending] == [b"__free__"]
    assert identity.take_lost() == []
