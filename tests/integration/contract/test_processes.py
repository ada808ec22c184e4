"""Contract: what concerns worker processes of the real `dramatiq` command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dramatiq
import pytest
import redis
from tests.integration.contract.kit import MakeBroker
from tests.support import dramatiq_workers, wait_until

from streamatiq import Lane, RedisStreamsBroker

HANDLERS = """
import os
import time

import dramatiq
import redis
from dramatiq.middleware import Shutdown, TimeLimitExceeded

from streamatiq import RedisStreamsBroker, Settings
from streamatiq.settings import RedisSettings

broker = RedisStreamsBroker(
    os.environ["TEST_URL"],
    namespace=os.environ["TEST_NAMESPACE"],
    settings=Settings(redis=RedisSettings(max_retries=0)),
)
dramatiq.set_broker(broker)
notes = redis.Redis.from_url(os.environ["TEST_URL"], protocol=2)


def tell(text):
    notes.rpush(os.environ["TEST_NAMESPACE"] + ":notes", text)


@dramatiq.actor(queue_name="one")
def one(number):
    tell(f"one {number}")


@dramatiq.actor(queue_name="two")
def two(number):
    tell(f"two {number}")


@dramatiq.actor(queue_name="pids")
def pid(pause_s):
    tell(f"pid {os.getpid()}")
    time.sleep(pause_s)


@dramatiq.actor(queue_name="limits", time_limit=300, throws=(TimeLimitExceeded,))
def endless():
    tell("endless")
    while True:
        time.sleep(0.01)


@dramatiq.actor(queue_name="stops", notify_shutdown=True, min_backoff=0, max_backoff=0)
def stopping(retries_seen):
    tell("stopping")
    try:
        while True:
            time.sleep(0.01)
    except Shutdown:
        tell("shutdown")
        raise


@dramatiq.actor(queue_name="stops")
def slow(seconds):
    tell("slow")
    time.sleep(seconds)
    tell("slow ended")
"""


class Notes:
    """What the handlers of the child processes have told."""

    def __init__(self, client: redis.Redis, namespace: str) -> None:
        self._client = client
        self._key = f"{namespace}:notes"

    def __call__(self) -> list[str]:
        told: Any = self._client.lrange(self._key, 0, -1)
        return [one.decode() for one in told]


@pytest.fixture
def notes(client: redis.Redis, namespace: str) -> Notes:
    return Notes(client, namespace)


@pytest.fixture
def sender(make_broker: MakeBroker) -> RedisStreamsBroker:
    """The same queues, for sending from here."""
    broker = make_broker()
    for queue in ("one", "two", "pids", "limits", "stops"):
        broker.declare_queue(queue)
    return broker


@pytest.fixture
def started(tmp_path: Path, redis_url: str, namespace: str) -> dict[str, Any]:
    """How to start workers: arguments of `dramatiq_workers`."""
    (tmp_path / "contract_handlers.py").write_text(HANDLERS)
    return {
        "modules": "contract_handlers",
        "cwd": tmp_path,
        "env": {
            "TEST_URL": redis_url,
            "TEST_NAMESPACE": namespace,
            "dramatiq_worker_timeout": "100",  # ms; idle threads see a stop sooner
        },
    }


def _send(broker: RedisStreamsBroker, queue: str, actor: str, *args: object) -> None:
    broker.enqueue(
        dramatiq.Message(queue_name=queue, actor_name=actor, args=args, kwargs={}, options={})
    )


def test_queues_given_to_the_command_are_the_ones_read(
    sender: RedisStreamsBroker, client: redis.Redis, notes: Notes, started: dict[str, Any]
) -> None:
    for queue in ("two", "one", "pids"):
        _send(sender, queue, *(("pid", 0) if queue == "pids" else (queue, 1)))
    with dramatiq_workers(**started, args=("--queues", "one", "pids", "--")) as workers:
        for queue in ("one", "pids"):
            sender.join(queue, timeout=10_000)
        assert sorted(notes()) == ["one 1", f"pid {workers.worker_pids[0]}"]
        # Neither run nor claimed.
        assert sender.backlog("two") == 1
        assert client.exists(sender.keys.queue("two").wake) == 0


def test_time_limit_interrupts_a_handler(
    sender: RedisStreamsBroker, notes: Notes, started: dict[str, Any]
) -> None:
    _send(sender, "limits", "endless")
    _send(sender, "one", "one", 1)
    with dramatiq_workers(**started, threads=1):
        for queue in ("limits", "one"):
            sender.join(queue, timeout=10_000)
    assert sorted(notes()) == ["endless", "one 1"]
    (letter,) = sender.dead_letters("limits")
    assert letter.cause == "failed"
    assert letter.error.startswith("TimeLimitExceeded")


def test_shutdown_notifications_interrupt_a_handler_and_its_retry_is_kept(
    sender: RedisStreamsBroker, notes: Notes, started: dict[str, Any]
) -> None:
    _send(sender, "stops", "stopping", 0)
    with dramatiq_workers(**started, threads=1) as workers:
        wait_until(lambda: notes() == ["stopping"])
        workers.stop()
    assert notes() == ["stopping", "shutdown"]
    assert sender.backlog("stops") == 1
    retry = next(sender.consume("stops", prefetch=1, timeout=5_000))
    assert retry is not None
    assert (retry.args, retry.options["retries"]) == ((0,), 1)


def test_a_stopping_process_ends_what_runs_and_hands_back_the_rest(
    sender: RedisStreamsBroker, client: redis.Redis, notes: Notes, started: dict[str, Any]
) -> None:
    with dramatiq_workers(**started, threads=1) as workers:
        _send(sender, "stops", "slow", 1.0)
        wait_until(lambda: notes() == ["slow"])
        for _ in range(5):
            _send(sender, "stops", "slow", 0)
        assert workers.stop() == 0
    assert notes() == ["slow", "slow ended"]
    assert sender.backlog("stops") == 5
    entries = sender.keys.queue("stops").entries(Lane.NORMAL)
    infos: Any = client.xinfo_consumers(entries, "stops")
    held = {info["name"].decode(): info["pending"] for info in infos if info["pending"]}
    assert set(held) <= {"__free__"}  # where handed back entries are
    consumer = sender.consume("stops", prefetch=5, timeout=5_000)
    rest: list[Any] = [next(consumer) for _ in range(5)]
    assert [(one.args, one.options) for one in rest] == [((0,), {})] * 5


def test_consumer_names_are_chosen_after_the_fork(
    sender: RedisStreamsBroker, client: redis.Redis, notes: Notes, started: dict[str, Any]
) -> None:
    with dramatiq_workers(**started, processes=2, threads=1) as workers:
        # Until each has run one.
        for _ in range(20):
            _send(sender, "pids", "pid", 0.05)
        wait_until(lambda: len(set(notes())) == 2)
        pids = set(workers.worker_pids)
        assert {int(note.removeprefix("pid ")) for note in notes()} == pids
        entries = sender.keys.queue("pids").entries(Lane.NORMAL)
        infos: Any = client.xinfo_consumers(entries, "pids")
        names = [info["name"].decode() for info in infos if info["name"] != b"__free__"]
        assert sorted(int(name.split(":")[1]) for name in names) == sorted(pids)


def test_prefetch_of_the_environment_is_kept(
    sender: RedisStreamsBroker, notes: Notes, started: dict[str, Any]
) -> None:
    started["env"]["dramatiq_queue_prefetch"] = "1"
    with dramatiq_workers(**started, threads=4):
        for _ in range(10):
            _send(sender, "stops", "slow", 0.02)
        sender.join("stops", timeout=10_000)
    # One by one, though there are threads for four.
    assert notes() == ["slow", "slow ended"] * 10


def test_the_command_ends_with_one_clear_line_where_no_server_is(
    started: dict[str, Any],
) -> None:
    started["env"]["TEST_URL"] = "redis://127.0.0.1:1/0"
    with (
        pytest.raises(AssertionError, match="ended before its workers were ready") as raised,
        dramatiq_workers(**started),
    ):
        pass
    log = str(raised.value)
    assert "exit status 3" in log
    assert "No connection to redis://127.0.0.1:1/0" in log
    assert "Traceback" not in log
