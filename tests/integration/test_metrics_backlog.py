"""Metrics of what waits on the server: a real server, real workers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dramatiq
import pytest
from tests.conftest import OwnServer
from tests.integration.logs.harness import FAST, Bench, Note, Spread, note
from tests.integration.test_metrics import Scrape
from tests.support import wait_until

from streamatiq import LatencyMetrics
from streamatiq.broker import waiting_work
from streamatiq.broker.connections import Link
from streamatiq.broker.keys import Keys
from streamatiq.broker.waiting_work import Look, StreamWork, look_at_work
from streamatiq.testing import TestBroker
from streamatiq.workers import metric_backlog, metric_folder

BLOCKED: dict[str, Any] = {"min_backoff": 60_000, "max_backoff": 60_000}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("STREAMATIQ_METRICS_DIR", raising=False)
    monkeypatch.setattr(metric_folder.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(waiting_work, "A_QUEUE", 1e6)  # idle ones are looked at as often
    return tmp_path


@pytest.fixture
def open_bench(redis_url: str, namespace: str) -> Iterator[Callable[..., Bench]]:
    opened: list[Bench] = []

    def open_one(url: str = redis_url, **options: Any) -> Bench:
        metrics = LatencyMetrics(every_s=0.02, backlog_every_s=0.02, **options)
        opened.append(Bench(url, namespace, middleware=[metrics]))
        return opened[-1]

    yield open_one
    for one in reversed(opened):
        one.stop()


def scrape(bench: Bench) -> Scrape:
    (metrics,) = [one for one in bench.broker.middleware if isinstance(one, LatencyMetrics)]
    return Scrape(metrics.exposition().decode())


def shown(found: Scrape, name: str) -> dict[tuple[str, ...], float]:
    """Samples by their labels."""
    return {
        tuple(one.labels[key] for key in ("queue", "type", "part") if key in one.labels): one.value
        for one in found.samples
        if one.name == f"streamatiq_{name}"
    }


def wait_shown(bench: Bench, name: str, wanted: dict[tuple[str, ...], float]) -> Scrape:
    return wait_until(
        lambda: found if shown(found := scrape(bench), name) == wanted else None,
        what=lambda: f"{name} {wanted}: {shown(scrape(bench), name)}",
    )


def test_what_waits_runs_failed_and_died_is_shown(open_bench: Callable[..., Bench]) -> None:
    bench = open_bench()
    gate = threading.Event()

    def handle(event: Note) -> None:
        if event.text == "hold":
            gate.wait(10)
        elif event.text != "well":
            raise ValueError(event.text)

    bench.on(Note, name="sub", **BLOCKED)(handle)
    bench.on(Note, name="idle")(lambda event: None)
    bench.on(Note, name="doomed", max_retries=0)(handle)
    job = dramatiq.actor(lambda: None, actor_name="job", broker=bench.broker)
    job.send_with_options(delay=600_000)
    job.send_with_options(delay=600_000)
    bench.start(threads=1)
    try:
        for text in ("well", "fail", "fail"):
            bench.logs.publish(note(text))
        lanes = [("default", "-", lane) for lane in ("high", "normal", "low")]
        subs = [(name, "test.note", "0") for name in ("sub", "idle", "doomed")]
        wanted = dict.fromkeys([*lanes, *subs], 0.0)
        wait_shown(bench, "parked", {**wanted, subs[0]: 2})
        wait_shown(bench, "backlog", {**wanted, subs[0]: 2})
        dead = {(name, "test.note"): 0.0 for name in ("sub", "idle")}
        wait_shown(bench, "dead_letters", {**dead, ("default", "-"): 0, ("doomed", "test.note"): 2})
        wait_shown(bench, "delayed", {("default",): 2})
        found = wait_shown(bench, "lag", wanted)
        assert 0 < shown(found, "oldest_pending_seconds")[subs[0]] < 20
        assert shown(found, "oldest_pending_seconds")[subs[1]] == 0
        # One thread holds; what one process takes ahead is pending, the rest is the lag.
        bench.logs.publish_many([note("hold") for _ in range(40)])

        def lags() -> bool:
            found = scrape(bench)
            lag, backlog = (shown(found, name)[subs[0]] for name in ("lag", "backlog"))
            oldest = shown(found, "oldest_unread_seconds")[subs[0]]
            return backlog == 42 and 0 < lag < 40 and oldest > 0

        wait_until(lags, what=lambda: scrape(bench).text)
    finally:
        gate.set()


def test_what_nobody_reads_any_more_is_shown(open_bench: Callable[..., Bench]) -> None:
    old = open_bench()
    old.on(Spread, name="old", start="earliest")(lambda event: None)
    old.start()
    old.stop()
    bench = open_bench()
    bench.on(Note, name="sub")(lambda event: None)
    bench.start()
    bench.logs.publish_many([Spread(ts_event=1, key=str(key)) for key in range(40)])
    found = wait_until(
        lambda: found if (found := scrape(bench))("streamatiq_lag", queue="old") == 40 else None
    )
    assert len([labels for labels in shown(found, "lag") if labels[0] == "old"]) == 4


def test_one_process_exports_and_another_takes_over(
    open_bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two brokers, as two processes would be."""
    links: list[Link] = []

    def counted(link: Link, keys: Keys) -> Look:
        links.append(link)
        return look_at_work(link, keys)

    monkeypatch.setattr(metric_backlog, "look_at_work", counted)
    first, second = open_bench(), open_bench()
    for bench in (first, second):
        bench.on(Note, name="sub", start="earliest")(lambda event: None)
        bench.start()
        wait_until(lambda: first.broker.leads)
    assert not second.broker.leads
    files = lambda: list(Path(metric_folder.metrics_folder()).glob("gauge_livemostrecent_*"))  # noqa: E731
    (before,) = wait_until(files)
    links.clear()
    wait_until(lambda: len(links) > 30)
    assert len({id(link) for link in links}) == 1
    first.stop()
    wait_until(lambda: second.broker.leads, 20)
    wait_until(lambda: (now := files()) and before not in now)
    assert len(files()) == 1


def test_numbers_go_while_the_server_is_away(
    own_server: OwnServer, open_bench: Callable[..., Bench]
) -> None:
    server = own_server()
    bench = open_bench(server.url)
    bench.on(Note, name="sub", **FAST)(lambda event: None)
    bench.start()
    wait_until(lambda: shown(scrape(bench), "backlog"))
    server.stop()
    wait_until(lambda: not shown(scrape(bench), "backlog"))
    assert scrape(bench)("streamatiq_workers") == 1
    own_server()
    wait_until(lambda: shown(scrape(bench), "backlog"), 20)


def test_labels_are_bounded(
    open_bench: Callable[..., Bench], caplog: pytest.LogCaptureFixture
) -> None:
    bench = open_bench(max_series=2)
    bench.on(Spread, name="sub", start="earliest")(lambda event: None)
    bench.on(Note, name="note", start="earliest")(lambda event: None)
    bench.start()
    wait_until(lambda: len(shown(scrape(bench), "backlog")) == 3)
    assert ("other", "other", "other") in shown(scrape(bench), "backlog")
    wait_until(lambda: shown(scrape(bench), "lag"))
    assert caplog.text.count("More than 2 streams are read") == 1


def test_what_is_not_allowed_is_said_once(
    own_server: OwnServer, open_bench: Callable[..., Bench], caplog: pytest.LogCaptureFixture
) -> None:
    server = own_server()
    bench = open_bench(server.url)
    bench.on(Note, name="sub", start="earliest")(lambda event: None)
    bench.start()
    wait_until(lambda: shown(scrape(bench), "backlog"))
    with bench.broker.client() as client:
        client.execute_command("ACL", "SETUSER", "default", "-xinfo")
    wait_until(lambda: not shown(scrape(bench), "backlog"))
    assert caplog.text.count("what waits on the server is not exported") == 1


def test_off_asks_nothing(open_bench: Callable[..., Bench]) -> None:
    metrics = LatencyMetrics(every_s=0.02, backlog_every_s=None)
    bench = open_bench()
    bench.broker.middleware = [
        metrics if isinstance(one, LatencyMetrics) else one for one in bench.broker.middleware
    ]
    bench.on(Note, name="sub")(lambda event: None)
    bench.start()
    wait_until(lambda: bench.broker.leads)
    names = {thread.name for thread in threading.enumerate()}
    assert "streamatiq-metrics" in names
    assert "streamatiq-metrics-backlog" not in names


def test_the_twin_is_looked_at_as_the_server_is() -> None:
    from streamatiq import on

    with TestBroker() as broker:
        on(Note, name="sub", max_retries=0)(lambda event: 1 / 0)
        job = dramatiq.actor(lambda: None, actor_name="job", broker=broker)
        broker.publish(note("x"))
        broker.run_until_idle()
        broker.publish(note("y"), note("z"))
        job.send()
        job.send_with_options(delay=60_000)
        link = Link(broker.endpoint)
        look = look_at_work(link, broker.keys)
        link.close()
    work = {one.source.name: (one.unread, one.pending, one.parked) for one in look.streams}
    assert work["log:test.note:0"] == (2, 0, 0)
    assert work["queue:default:normal"] == (1, 0, 0)
    assert look.delayed == {"default": 1}
    assert [count for _, count in look.dead.values()] == [1]


def test_idle_queues_are_looked_at_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting_work, "A_QUEUE", 0.4)
    source: Any = object()
    idle = Look(streams=[StreamWork(source)], queues=2, commands=40)
    assert idle.pause_s(5) == 50
    assert Look(streams=[StreamWork(source)], queues=1, commands=1000).pause_s(5) == 60
    assert Look(streams=[StreamWork(source)], queues=9, commands=10).pause_s(5) == 5
    busy = Look(streams=[StreamWork(source, pending=1)], queues=1, commands=1000)
    assert busy.pause_s(5) == 5
