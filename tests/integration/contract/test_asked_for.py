"""What users of other brokers have asked for; each test names the issue of Dramatiq's tracker."""

from __future__ import annotations

import re
import time
from importlib.resources import files
from typing import Any

import dramatiq
import redis
from tests.conftest import OwnServer
from tests.integration.contract.kit import MakeBroker, StartWorker
from tests.integration.faults.servers import PrivateServer
from tests.support import wait_until

from streamatiq import RedisStreamsBroker


def test_527_delayed_messages_run_on_time_after_a_restart_of_the_server(
    own_server: OwnServer, make_broker: MakeBroker, start_worker: StartWorker
) -> None:
    private = PrivateServer(own_server)
    broker = make_broker(private.url)
    ran_at: list[float] = []

    @dramatiq.actor(broker=broker)
    def later() -> None:
        ran_at.append(time.time())

    start_worker(broker)
    later.send()
    wait_until(lambda: len(ran_at) == 1)  # it is idle now, and waits
    later.send_with_options(delay=2_000)
    due_at = time.time() + 2.0
    private.kill()
    private.start()
    wait_until(lambda: len(ran_at) == 2)
    assert 0 <= ran_at[1] - due_at + 0.1 < 1.0


def test_682_scripts_search_no_keys() -> None:
    """Providers refuse KEYS and SCAN in scripts, and keys that were not declared."""
    scripts = [one for one in files("streamatiq.broker.lua").iterdir() if one.name.endswith(".lua")]
    assert len(scripts) > 10
    for one in scripts:
        found = re.findall(r"redis\.p?call\(\s*'(\w+)'", one.read_text())
        assert not {"KEYS", "SCAN", "RANDOMKEY"} & {name.upper() for name in found}, one.name


def test_433_many_messages_that_are_due_at_once(
    broker: RedisStreamsBroker, start_worker: StartWorker
) -> None:
    """More than a script may unpack onto the stack at once."""
    runs: list[int] = []
    count = 9_000

    @dramatiq.actor(broker=broker)
    def many(number: int) -> None:
        runs.append(number)

    broker.enqueue_many([many.message(number) for number in range(count)], delay=1)
    start_worker(broker, threads=4)
    broker.join("default", timeout=20_000)
    assert sorted(runs) == list(range(count))


def test_883_connections_do_not_multiply(
    broker: RedisStreamsBroker, start_worker: StartWorker, client: redis.Redis
) -> None:
    """One a queue, and four a process: committer, heartbeat, arrivals, control; threads need
    none."""
    before: list[Any] = client.client_list()
    for name in ("a", "b", "c", "d"):
        dramatiq.actor(broker=broker, actor_name=name, queue_name=name)(lambda: None)
    start_worker(broker, threads=16)
    for name in ("a", "b", "c", "d"):
        broker.get_actor(name).send()
        broker.join(name, timeout=10_000)
    known = {one["id"] for one in before}
    after: list[Any] = [one for one in client.client_list() if one["id"] not in known]
    intakes = [one for one in after if one["name"].startswith("streamatiq-intake")]
    assert len(intakes) == 4
    # And one from which this thread sends.
    assert len(after) <= 4 + 4 + 1
