"""Contract: `dramatiq --watch`: an edit restarts the workers; nothing is lost or run twice."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import dramatiq
import redis
from tests.integration.contract.kit import MakeBroker
from tests.support import dramatiq_workers, wait_until

HANDLERS = """
import os, time

import dramatiq
import redis

from streamatiq import RedisStreamsBroker

broker = RedisStreamsBroker(os.environ["TEST_URL"], namespace=os.environ["TEST_NAMESPACE"])
dramatiq.set_broker(broker)
notes = redis.Redis.from_url(os.environ["TEST_URL"], protocol=2)


def tell(text):
    notes.rpush(os.environ["TEST_NAMESPACE"] + ":notes", text)


@dramatiq.actor(queue_name="watched")
def work(number, seconds):
    tell(f"begun {number} EDITION")
    time.sleep(seconds)
    tell(f"ended {number} EDITION")
"""


def test_a_changed_file_restarts_the_workers_and_nothing_is_lost_or_run_twice(
    make_broker: MakeBroker, client: redis.Redis, redis_url: str, namespace: str, tmp_path: Path
) -> None:
    broker = make_broker()
    broker.declare_queue("watched")
    module = tmp_path / "watched_handlers.py"
    module.write_text(HANDLERS.replace("EDITION", "one"))
    env = {
        "TEST_URL": redis_url,
        "TEST_NAMESPACE": namespace,
        "dramatiq_worker_timeout": "50",
    }

    def send(*numbers: int, seconds: float) -> None:
        for number in numbers:
            broker.enqueue(
                dramatiq.Message(
                    queue_name="watched",
                    actor_name="work",
                    args=(number, seconds),
                    kwargs={},
                    options={},
                )
            )

    def notes() -> list[str]:
        told: Any = client.lrange(f"{namespace}:notes", 0, -1)
        return [one.decode() for one in told]

    watch = ("--watch", str(tmp_path))
    with dramatiq_workers(
        "watched_handlers", threads=2, env=env, cwd=tmp_path, args=watch
    ) as workers:
        send(*range(10), seconds=0)
        broker.join("watched", timeout=10_000)
        send(10, 11, seconds=1.0)  # these run when the file is changed
        send(*range(12, 40), seconds=0.01)  # these wait behind them
        wait_until(lambda: {"begun 10 one", "begun 11 one"} <= set(notes()))
        # In one step, as editors do: for each of several changes Dramatiq sends the workers another
        # signal, and the second one ends them whatever they do.
        edited = tmp_path.parent / f"{namespace}.edited"
        # Of another length: else, in the same second, Python would take the old bytecode.
        edited.write_text(HANDLERS.replace("EDITION", "second"))
        edited.replace(module)
        workers.wait_for_log("Detected changes to .*watched_handlers.py")
        send(*range(40, 50), seconds=0)  # while they restart
        wait_until(lambda: any(one.endswith(" second") for one in notes()), 15)
        broker.join("watched", timeout=10_000)
        assert len(workers.worker_pids) == 2
    numbers = [one.split() for one in notes()]
    begun = Counter(int(number) for what, number, _ in numbers if what == "begun")
    ended = Counter(int(number) for what, number, _ in numbers if what == "ended")
    assert begun == ended == Counter(range(50))
    # What ran was ended by the old edition; what came later is the new one's.
    assert {"ended 10 one", "ended 11 one", "ended 49 second"} <= set(notes())
