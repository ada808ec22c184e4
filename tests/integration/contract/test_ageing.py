"""No lane starves: one that was passed over for long gets a share of what is read."""

from __future__ import annotations

import threading
from contextlib import closing

import dramatiq
import redis
from tests.integration.contract.kit import StartWorker

from streamatiq import Lane, RedisStreamsBroker
from streamatiq.broker import scripts
from streamatiq.broker.connections import Link
from streamatiq.broker.groups import ensure_groups


def _aged(client: redis.Redis, broker: RedisStreamsBroker, lane: Lane) -> None:
    """As if the lane had been passed over for a while."""
    long_ago = int(client.time()[0]) * 1000 - 60_000
    client.set(broker.keys.queue("default").lane(lane).passed, long_ago)


def test_a_lane_that_was_passed_over_for_long_gets_a_share(
    broker: RedisStreamsBroker, client: redis.Redis
) -> None:
    """A quarter of the room, as long as there is something in it; the rest by rank."""
    act = _numbered(broker)
    for lane in Lane:
        broker.enqueue_many([act.message_with_options(args=(n,), priority=lane) for n in range(40)])
    assert _fetched(broker, 20) == {"high": 20}
    assert client.exists(broker.keys.queue("default").lane(Lane.NORMAL).passed) == 1
    _aged(client, broker, Lane.LOW)
    assert _fetched(broker, 8) == {"low": 2, "high": 6}
    _aged(client, broker, Lane.NORMAL)
    assert _fetched(broker, 8) == {"low": 2, "normal": 2, "high": 4}
    assert _fetched(broker, 200) == {"high": 10, "normal": 38, "low": 36}
    # It has been read to its end: no share any more.
    assert client.exists(broker.keys.queue("default").lane(Lane.LOW).passed) == 0


def test_a_lane_is_not_passed_over_where_there_was_room_for_it(
    broker: RedisStreamsBroker, client: redis.Redis
) -> None:
    act = _numbered(broker)
    broker.enqueue_many([act.message_with_options(args=(n,), priority="high") for n in range(5)])
    assert _fetched(broker, 20) == {"high": 5}
    keys = broker.keys.queue("default")
    assert client.exists(*(keys.lane(lane).passed for lane in Lane)) == 0


def test_with_room_for_one_an_aged_lane_gets_a_turn_now_and_then(
    broker: RedisStreamsBroker, client: redis.Redis
) -> None:
    act = _numbered(broker)
    for lane in (Lane.HIGH, Lane.LOW):
        broker.enqueue_many(
            [act.message_with_options(args=(n,), priority=lane) for n in range(200)]
        )
    _aged(client, broker, Lane.LOW)
    turns = [next(iter(_fetched(broker, 1))) for _ in range(120)]
    assert 5 <= turns.count("low") <= 60


def test_low_messages_run_during_a_flood_of_high_ones(
    broker: RedisStreamsBroker, client: redis.Redis, start_worker: StartWorker
) -> None:
    """Also past the local buffer and Dramatiq's own queue, which both prefer the higher lane."""
    ran: list[str] = []
    done = threading.Event()

    @dramatiq.actor(broker=broker)
    def flood(lane: str) -> None:
        ran.append(lane)
        if done.is_set():
            return
        if lane == "high":  # each is followed by another: the lane is never empty
            flood.send_with_options(args=("high",), priority="high")
        if ran.count("low") == 20 or len(ran) > 5_000:
            done.set()

    broker.enqueue_many(
        [flood.message_with_options(args=("low",), priority="low") for _ in range(20)]
        + [flood.message_with_options(args=("high",), priority="high") for _ in range(400)]
    )
    _aged(client, broker, Lane.LOW)
    start_worker(broker, threads=2)
    assert done.wait(20)
    assert ran.count("low") == 20
    assert ran.count("high") > 20


def _numbered(broker: RedisStreamsBroker) -> dramatiq.Actor[[int], None]:
    @dramatiq.actor(broker=broker)
    def act(number: int) -> None: ...

    return act


def _fetched(broker: RedisStreamsBroker, room: int) -> dict[str, int]:
    """How many entries one fetch takes of each lane."""
    sources = broker._sources("default")
    with closing(Link(broker.endpoint)) as link:
        ensure_groups(link, sources, "0")
        fetched = link.run(
            scripts.fetch(
                [source.keys for source in sources],
                broker._work_queue("default").delayed,
                group="default",
                consumer="me",
                room=room,
                lanes=True,
            )
        )
    taken: dict[str, int] = {}
    for block in fetched.blocks:
        lane = sources[block.source].name.rpartition(":")[2]
        taken[lane] = taken.get(lane, 0) + len(block.entries)
    return taken
