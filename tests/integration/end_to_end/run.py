"""One run: a private server, two worker processes, `streamatiq ingest`, until all is settled."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support import Child, DramatiqWorkers, dramatiq_workers, wait_until

from streamatiq import EmbeddedServer, RedisStreamsBroker
from streamatiq.broker import Subscription

from .evidence import AuditTail, Evidence, gather
from .pipeline.ledgers import LEDGERS
from .pipeline.subscriptions import SUBSCRIPTIONS
from .recording import REPOSITORY, recording, ticks

__all__ = ["Plan", "Run", "run"]

#: Column mapping of the recording.
MAPPING = REPOSITORY / "examples/ingest/binance_recording.yaml"
#: Where the worker processes start, so that they find `pipeline`.
HERE = Path(__file__).parent
NAMESPACE = "e2e"
#: Worker processes, and threads of each.
PROCESSES, THREADS = 2, 8
#: Seconds between two looks at what is left.
LOOK_EVERY_S = 0.1


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run.

    Parameters:
      name: For figures.
      limit: Rows of the recording; None takes all.
      speed: As `streamatiq ingest --speed`.
      timeout_s: For ingest, and then for settling what it published.
    """

    name: str
    limit: int | None
    speed: str
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Run:
    """A finished run.

    Parameters:
      ingest_s: From the start of the ingest process to its end.
      wall_s: From there to the last settle.
      ingest_report: What ingest printed.
    """

    plan: Plan
    evidence: Evidence
    ingest_s: float
    wall_s: float
    ingest_report: str


def run(plan: Plan, folder: Path) -> Run:
    """Runs it in an empty folder.

    Raises:
      AssertionError: A process failed, or it took too long; with their logs.
    """
    rows = ticks(plan.limit)
    ledgers = folder / "ledgers"
    ledgers.mkdir()
    with EmbeddedServer.ensure(folder / "server") as server, _asking(server.url) as broker:
        env = {
            "STREAMATIQ_REDIS__URL": server.url,
            "STREAMATIQ_NAMESPACE": NAMESPACE,
            "STREAMATIQ_WORKERS__HANDLERS": "pipeline.handlers",
            LEDGERS: str(ledgers),
        }
        with broker.client() as client:
            tail = AuditTail(broker, client)
            with dramatiq_workers(
                "streamatiq.workers", processes=PROCESSES, threads=THREADS, env=env, cwd=HERE
            ) as workers:
                started = time.monotonic()
                report = _ingest(plan, env, tail)
                ingested = time.monotonic()
                _settle(broker, workers, tail, plan.timeout_s)
                settled = time.monotonic()
                status = workers.stop()
                assert status == 0, f"dramatiq ended with {status}: {workers.log[-4000:]}"
            evidence = gather(broker, tail, rows=rows, ledgers=ledgers, worker_log=workers.log)
    return Run(plan, evidence, ingested - started, settled - started, report)


@contextmanager
def _asking(url: str) -> Iterator[RedisStreamsBroker]:
    """A broker that runs nothing, and knows the pipeline's subscriptions."""
    broker = RedisStreamsBroker(url, namespace=NAMESPACE, middleware=[])
    for name, classes in SUBSCRIPTIONS.items():
        broker.declare_subscription(Subscription(name, classes, "new"))
    try:
        yield broker
    finally:
        broker.close()


def _ingest(plan: Plan, env: dict[str, str], tail: AuditTail) -> str:
    """The recording by the real command; what it printed."""
    command = str(Path(sys.executable).with_name("streamatiq"))
    limit = [] if plan.limit is None else ["--limit", str(plan.limit)]
    options = ["--mapping", str(MAPPING), "--speed", plan.speed, *limit]
    with Child([command, "ingest", *options, str(recording())], env=env, cwd=HERE) as child:
        _until(tail, plan.timeout_s, lambda: child.process.poll() is not None, lambda: str(child))
        finished = child.wait()
        assert finished.returncode == 0, f"ingest failed: {child}"
        return finished.stdout


def _settle(
    broker: RedisStreamsBroker, workers: DramatiqWorkers, tail: AuditTail, timeout_s: float
) -> None:
    """Waits until no subscription holds anything.

    An event is emitted by the settle of its cause. So when a subscription is empty after all that
    are upstream of it were, it stays so.
    """
    left = list(SUBSCRIPTIONS)

    def settled() -> bool:
        assert workers.running, f"the workers ended early: {workers.log[-4000:]}"
        while left and broker.backlog(left[0]) == 0:
            left.pop(0)
        return not left

    _until(tail, timeout_s, settled, lambda: f"{left} have settled: {workers.log[-4000:]}")


def _until(
    tail: AuditTail, timeout_s: float, done: Callable[[], bool], what: Callable[[], str]
) -> None:
    """Waits, reads the audit along, and looks seldom, to leave the machine to what is measured."""
    next_look_s = 0.0

    def look() -> bool:
        nonlocal next_look_s
        if time.monotonic() < next_look_s:
            return False
        tail.read()
        next_look_s = time.monotonic() + LOOK_EVERY_S
        return done()

    wait_until(look, timeout_s, what)
