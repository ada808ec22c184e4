"""Metrics: real workers of the `dramatiq` command, a real scrape, a real server."""

from __future__ import annotations

import os
import re
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dramatiq
import pytest
import redis
from prometheus_client.parser import text_string_to_metric_families
from tests.conftest import OwnServer
from tests.integration.logs.harness import Note, note
from tests.support import dramatiq_workers, wait_until

from streamatiq import LatencyMetrics, RedisStreamsBroker, Settings, on
from streamatiq.settings import RedisSettings
from streamatiq.workers import metric_folder

HANDLERS = """
import os

import dramatiq
from streamatiq import Event, LatencyMetrics, Partitioned, RedisStreamsBroker, on


class Note(Event, type="test.note", log=Partitioned(1)):
    text: str = ""


broker = RedisStreamsBroker(os.environ["TEST_URL"], namespace=os.environ["TEST_NAMESPACE"])
broker.add_middleware(LatencyMetrics(every_s=0.05))
dramatiq.set_broker(broker)


@on(Note, name="sub", start="earliest", min_backoff=0, max_backoff=0)
def handle(event):
    if event.text == "emit":
        return Note(ts_event=event.ts_event, text="emitted")
    if event.text == "fail" and not os.path.exists(os.environ["TEST_FAILED"]):
        open(os.environ["TEST_FAILED"], "w").close()
        raise RuntimeError("the first time")


@dramatiq.actor
def job():
    pass
"""


class Scrape:
    """The samples of a text, by name and labels."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.samples = [
            sample for family in text_string_to_metric_families(text) for sample in family.samples
        ]

    def __call__(self, name: str, **labels: str) -> float:
        """The sum of the samples that have these labels."""
        found = [
            one.value
            for one in self.samples
            if one.name == name and labels.items() <= one.labels.items()
        ]
        return sum(found)

    def outcomes(self, queue: str) -> dict[str, float]:
        return {
            one.labels["outcome"]: one.value
            for one in self.samples
            if one.name == "streamatiq_deliveries_total"
            and one.labels["queue"] == queue
            and one.value
        }


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands for the temporary directory; the metrics of this process are below."""
    monkeypatch.delenv("STREAMATIQ_METRICS_DIR", raising=False)
    monkeypatch.setattr(metric_folder.tempfile, "gettempdir", lambda: str(tmp_path))
    return tmp_path


@pytest.fixture
def started(tmp_path: Path, redis_url: str, namespace: str) -> dict[str, Any]:
    """Arguments of `dramatiq_workers`."""
    (tmp_path / "metric_handlers.py").write_text(HANDLERS)
    return {
        "modules": "metric_handlers",
        "cwd": tmp_path,
        "env": {
            "TEST_URL": redis_url,
            "TEST_NAMESPACE": namespace,
            "TEST_FAILED": str(tmp_path / "failed"),
            "TMPDIR": str(tmp_path),
            "STREAMATIQ_METRICS_PORT": "0",
        },
    }


@pytest.fixture
def producer(redis_url: str, namespace: str) -> Iterator[RedisStreamsBroker]:
    broker = RedisStreamsBroker(redis_url, namespace=namespace)
    on(Note, name="sub", broker=broker)(lambda event: None)
    dramatiq.actor(lambda: None, actor_name="job", broker=broker)
    yield broker
    broker.close()


def _fetch(log: str) -> Scrape:
    found = re.search(r"(http://\S+/metrics)", log)
    assert found is not None
    with urllib.request.urlopen(found[1], timeout=5) as reply:
        assert reply.headers["Content-Type"].startswith("text/plain")
        return Scrape(reply.read().decode())


def _send_jobs(broker: RedisStreamsBroker, count: int) -> None:
    job = broker.get_actor("job")
    broker.enqueue_many([job.message() for _ in range(count)])


@pytest.mark.soak
def test_a_scrape_adds_up_what_all_processes_have_handled(
    producer: RedisStreamsBroker, started: dict[str, Any], tmp_path: Path
) -> None:
    texts = ["plain"] * 300 + ["emit"] * 20 + ["fail"]
    producer.logs.publish_many([note(text) for text in texts])
    with dramatiq_workers(**started, processes=2) as workers:
        workers.wait_for_log(r"http://\S+/metrics")
        _send_jobs(producer, 200)
        for queue in ("sub", "default"):
            producer.join(queue, timeout=10_000)
        handled = len(texts) + 20
        scrape = wait_until(
            lambda: (
                found
                if (found := _fetch(workers.log)).outcomes("sub").get("done") == handled
                else None
            )
        )
        assert scrape is not None
        assert scrape.outcomes("sub") == {"done": handled, "parked": 1}
        assert scrape.outcomes("default") == {"done": 200}
        assert scrape("streamatiq_emitted_total", queue="sub", emitted="test.note") == 20
        counts = "streamatiq_stage_seconds_count"
        assert scrape(counts, queue="sub", stage="published_to_started") == handled
        assert scrape(counts, queue="sub", stage="started_to_done") == handled + 1
        assert scrape(counts, queue="default", stage="done_to_settled") == 200
        assert 1 <= scrape("streamatiq_settle_batches_total") <= handled + 201
        # `note` says that it happened in 2023.
        assert scrape("streamatiq_stage_time_seconds_total", stage="happened_to_published") > 1e6
        assert scrape("streamatiq_workers") == 2
        assert scrape("streamatiq_worker_resident_memory_bytes") > 2 * 10_000_000
        assert scrape("streamatiq_worker_cpu_seconds_total") > 0.2
        assert scrape("streamatiq_metrics_unreadable_files") == 0
        assert len(list((tmp_path).glob("streamatiq-metrics-*/*/histogram_*.db"))) == 2
        url = re.search(r"http://\S+/metrics", workers.log)
        assert url is not None
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(url[0] + "/else", timeout=5)
        assert workers.stop() == 0
    assert not list(tmp_path.glob("streamatiq-metrics-*/*/gauge_*.db"))


def test_a_scrape_after_kill_9_keeps_the_counts_of_the_dead(
    producer: RedisStreamsBroker, started: dict[str, Any], tmp_path: Path
) -> None:
    """Two commands with one folder: Dramatiq's would end with its worker."""
    started["env"]["STREAMATIQ_METRICS_DIR"] = str(tmp_path / "shared")
    silent = {**started, "env": {**started["env"], "STREAMATIQ_METRICS_PORT": "off"}}
    with dramatiq_workers(**started) as first, dramatiq_workers(**silent) as second:
        first.wait_for_log(r"http://\S+/metrics")
        wait_until(lambda: _fetch(first.log)("streamatiq_workers") == 2)

        def both_have_done_some() -> bool:
            _send_jobs(producer, 50)
            producer.join("default", timeout=10_000)
            done = [
                path.read_bytes().count(b"started_to_done") > 0
                for path in (tmp_path / "shared").glob("histogram_*.db")
            ]
            return sum(done) == 2

        wait_until(both_have_done_some)
        before = wait_until(lambda: _fetch(first.log).outcomes("default"))
        pid = second.kill_worker()
        after = _fetch(first.log)
        assert after.outcomes("default")["done"] >= before["done"]
        assert after("streamatiq_workers") == 1
        assert after("streamatiq_metrics_unreadable_files") == 0
        assert not list((tmp_path / "shared").glob(f"gauge_*_{pid}-*.db"))
        assert list((tmp_path / "shared").glob(f"counter_{pid}-*.db"))
        second.kill()


class Running:
    """A broker and a worker in this process, with metrics."""

    def __init__(self, url: str, namespace: str, **options: Any) -> None:
        settings = Settings(redis=RedisSettings(max_retries=0, retry_delay=0.05))
        self.broker = RedisStreamsBroker(url, namespace=namespace, settings=settings)
        self.metrics = LatencyMetrics(**options)
        self.broker.add_middleware(self.metrics)
        self.job = dramatiq.actor(lambda: None, actor_name="job", broker=self.broker)
        self.worker = dramatiq.Worker(self.broker, worker_threads=1, worker_timeout=50)

    def handle(self, count: int) -> None:
        self.broker.enqueue_many([self.job.message() for _ in range(count)])
        self.broker.join("default", timeout=10_000)

    def scrape(self) -> Scrape:
        return Scrape(self.metrics.exposition().decode())


@pytest.fixture
def run(namespace: str, folder: Path) -> Iterator[Callable[..., Running]]:
    """Starts workers in this process; stopped at the end."""
    started: list[Running] = []

    def start(url: str, **options: Any) -> Running:
        started.append(Running(url, namespace, **options))
        started[-1].worker.start()
        return started[-1]

    yield start
    for one in started:
        one.worker.stop(timeout=10_000)
        one.broker.close()


def _done(running: Running) -> float:
    return running.scrape().outcomes("default").get("done", 0)


def test_nothing_is_opened_before_a_worker_boots(redis_url: str, folder: Path) -> None:
    broker = RedisStreamsBroker(redis_url)
    broker.add_middleware(LatencyMetrics())
    dramatiq.actor(lambda: None, actor_name="job", broker=broker)
    assert not list(folder.iterdir())
    broker.close()


def test_a_program_without_the_command_asks_for_its_metrics(
    redis_url: str, run: Callable[..., Running]
) -> None:
    running = run(redis_url, every_s=0.02)
    running.handle(30)
    wait_until(lambda: _done(running) == 30)
    # The worker is stopped and another one is started: what was counted goes on.
    running.worker.stop(timeout=10_000)
    assert running.scrape()("streamatiq_workers") == 0
    assert _done(running) == 30
    running.worker = dramatiq.Worker(running.broker, worker_threads=1, worker_timeout=50)
    running.worker.start()
    running.handle(12)
    wait_until(lambda: _done(running) == 42)
    assert running.scrape()("streamatiq_workers") == 1


def test_lost_connections_are_counted(own_server: OwnServer, run: Callable[..., Running]) -> None:
    server = own_server()
    running = run(server.url, every_s=0.02)
    running.handle(1)
    with redis.Redis.from_url(server.url, protocol=2) as client:
        for one in client.client_list():
            if one["name"].startswith("streamatiq-") and int(one["id"]) != client.client_id():
                client.client_kill_filter(_id=one["id"])
    running.handle(1)

    def back(scrape: Scrape, name: str) -> bool:
        counts = [
            scrape(f"streamatiq_connection_{what}_total", connection=name)
            for what in ("losses", "reconnects")
        ]
        return counts == [1, 1] and scrape("streamatiq_connections_down", connection=name) == 0

    wait_until(
        lambda: all(back(running.scrape(), name) for name in ("intake", "committer", "heartbeat")),
        what=lambda: running.scrape().text,
    )


def test_what_is_in_flight_is_shown(redis_url: str, run: Callable[..., Running]) -> None:
    running = run(redis_url, every_s=0.02)
    gate = threading.Event()
    slow = dramatiq.actor(lambda: gate.wait(10), actor_name="slow", broker=running.broker)
    try:
        running.broker.enqueue_many([slow.message() for _ in range(2)])
        wait_until(
            lambda: (
                running.scrape()("streamatiq_handlers_running") == 1
                and running.scrape()("streamatiq_deliveries_held", queue="default") >= 1
                and running.scrape()("streamatiq_oldest_handler_seconds") > 0
            ),
            what=lambda: running.scrape().text,
        )
    finally:
        gate.set()
    wait_until(lambda: running.scrape()("streamatiq_deliveries_held", queue="default") == 0)


def test_looks_ask_the_server_nothing(
    own_server: OwnServer, run: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = own_server()
    running = run(server.url, every_s=0.002)
    running.handle(1)
    looks = 0
    outages = running.broker.outages

    def counted() -> Any:
        nonlocal looks
        looks += 1
        return outages()

    with redis.Redis.from_url(server.url, protocol=2) as client:

        def commands() -> int:
            stats: Any = client.info("commandstats")
            return sum(one["calls"] for name, one in stats.items() if name != "cmdstat_info")

        before = commands()
        monkeypatch.setattr(running.broker, "outages", counted)
        wait_until(lambda: looks >= 200)
        # Heartbeats and reads go on meanwhile, a handful a second.
        assert commands() - before < 50


def test_workers_run_without_metrics_where_no_file_can_be_made(
    redis_url: str,
    run: Callable[..., Running],
    folder: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (folder / f"streamatiq-metrics-{os.getuid()}").write_text("not a directory")
    running = run(redis_url)
    running.handle(5)
    assert caplog.text.count("No metrics of this process") == 1
