"""One run of the demo, from start to closing report.

    server -> worker processes ready (their consumer groups exist) -> source -> drained -> worker
    processes stopped -> report from the server -> server stopped

An `ExitStack` undoes these in the opposite order, whatever happens in between. Nothing interrupts
it: signals only set a flag (`stop`), except where the run waits in somebody else's code. What a
killed demo leaves behind ends by itself (`lifeline`, and the embedded server's own means).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from random import Random
from uuid import UUID

import redis
from rich.console import Console

from ..broker import RedisStreamsBroker
from ..broker.connections import Link
from ..broker.server import check_server
from ..errors import StreamatiqError
from ..events import FillEvent, MarketDataEvent, OrderEvent, SignalEvent
from ..settings import Settings
from ..sources.simulator import MarketSimulator
from .meter import Meter
from .place import Directory, remove_abandoned, remove_namespace, server_url
from .report import Report, SourceReport
from .screen import Screen
from .source import Source
from .stop import EXIT_INTERRUPTED, Stop
from .verify import check_logs
from .workers import WorkerProcesses, WorkersFailed

__all__ = ["Options", "run_demo"]

#: The logs, each after those that lead to it; `_drain` relies on this.
LOGS = (MarketDataEvent, SignalEvent, OrderEvent, FillEvent)
#: What is traded.
INSTRUMENTS = ("SIM:ALPHA", "SIM:BRAVO", "SIM:CHARLIE", "SIM:DELTA")
#: Seconds between two readings.
LOOK_S = 0.5
#: Seconds between two readings while the last events are handled.
DRAIN_LOOK_S = 0.1
#: Seconds that worker processes may take to start.
READY_S = 30.0
#: Seconds without progress after which draining is given up.
STUCK_S = 15.0
#: Seconds for which done marks outlast the source: the report reads them.
MARKS_AFTER_S = 600.0


@dataclass(frozen=True, slots=True)
class Options:
    """What to run.

    Attributes:
      seconds: How long the source publishes.
      rate: Market data events a second.
      workers: Worker processes.
      threads: Threads in each.
      seed: Of the simulated market.
      redis_url: An existing server; None starts an embedded one.
      data_dir: Where the embedded server keeps its data for good; None: only until the end.
      keep: Whether an existing server keeps the run's keys.
    """

    seconds: float = 20.0
    rate: float = 1000.0
    workers: int = 2
    threads: int = 4
    seed: int = 1
    redis_url: str | None = None
    data_dir: Path | None = None
    keep: bool = False


def run_demo(options: Options, console: Console, stop: Stop) -> int:
    """Runs the demo.

    Parameters:
      options: What to run.
      console: Where everything is shown.
      stop: What may stop it.

    Returns:
      The exit code: 0 if every event was handled and orders and fills agree, 1 if not, 130 if it
      was stopped.

    Raises:
      StreamatiqError: The server cannot be used, or processes died. All is stopped by then.
    """
    remove_abandoned()
    with ExitStack() as stack:
        directory = Directory.make()
        stack.callback(directory.close)
        try:
            return _run(_Run(options, console, stop, directory, stack))
        except WorkersFailed as error:
            directory.keep_log = True
            console.print("The last lines of the worker processes:", style="bold red")
            for line in error.tail:
                console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)
            raise
        except KeyboardInterrupt:  # from `Stop.interrupting` only
            console.print("Stopped.")
            return EXIT_INTERRUPTED


@dataclass(frozen=True, slots=True)
class _Run:
    options: Options
    console: Console
    stop: Stop
    directory: Directory
    stack: ExitStack

    def say(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


def _run(run: _Run) -> int:
    began_s = time.monotonic()
    broker = _start_server(run)
    client = run.stack.enter_context(closing(broker.client()))
    meter = Meter(client, broker.endpoint.shown, broker.keys, LOGS)
    workers = None if run.stop.requested else _start_workers(run, broker.settings)
    if workers is None:
        run.say("Stopped before anything was published.")
        return EXIT_INTERRUPTED
    run.say(f"Ready after {time.monotonic() - began_s:.1f} s. Ctrl-C stops the demo.")

    source = _source(run, broker)
    source_began_s = time.monotonic()
    failure = _watch(run, meter, workers, source)
    source.stop()
    total_s = time.monotonic() - source_began_s
    interrupted = run.stop.requested
    again = "; Ctrl-C again does not wait for them." if interrupted else " ..."
    run.say(f"Stopping the worker processes{again}")
    workers.stop(lambda: run.stop.urgent)
    if run.stop.urgent:
        return EXIT_INTERRUPTED
    with run.stop.interrupting():
        report = Report(
            accounts=check_logs(client, broker.endpoint.shown, broker.keys, broker.logs, LOGS),
            reading=meter.read(),
            source=SourceReport(
                source.published, source.elapsed_s, run.options.rate, source.kept_up
            ),
            total_s=total_s,
            interrupted=interrupted,
        )
    report.print(run.console)
    if run.options.data_dir is not None or run.options.keep:
        run.say(f"All of it is kept, under namespace {broker.keys.namespace}.")
    if failure is not None:
        raise failure
    return EXIT_INTERRUPTED if interrupted else int(bool(report.problems))


def _start_server(run: _Run) -> RedisStreamsBroker:
    """Starts the server, or checks the one that is there; makes the demo's own broker on it."""
    options = run.options
    run.say(
        "Starting an embedded server ..." if options.redis_url is None else "Asking the server ..."
    )
    url = run.stack.enter_context(
        server_url(options.redis_url, options.data_dir or run.directory.data)
    )
    settings = Settings(
        namespace=f"demo-{os.urandom(4).hex()}",
        redis={"url": url, "max_retries": 1, "retry_delay": 0.5},
        event_bus={
            "idempotency_window": options.seconds + MARKS_AFTER_S,
            "when_full": "block",  # where the machine is too slow the source is, too
        },
        workers={"handlers": ["streamatiq.demo.lifeline", "streamatiq.demo.handlers"]},
        audit={"level": "counts"},
    )
    broker = RedisStreamsBroker(settings=settings, middleware=[])
    run.stack.callback(broker.close)
    with run.stop.interrupting(), closing(Link(broker.endpoint)) as link:
        check_server(link)
    if options.redis_url is not None and not options.keep:
        run.stack.callback(_clean, run, broker)
    return broker


def _clean(run: _Run, broker: RedisStreamsBroker) -> None:
    """Takes this run's keys off a server that is not ours."""
    with broker.client() as client:
        try:
            removed = remove_namespace(client, broker.keys.namespace)
        except redis.RedisError as error:
            run.say(f"The keys of namespace {broker.keys.namespace} could not be removed: {error}")
        else:
            run.say(f"Removed the {removed:,} keys of this run from the server.")


def _start_workers(run: _Run, settings: Settings) -> WorkerProcesses | None:
    """Starts worker processes and waits until they read; None if a stop came first."""
    options = run.options
    command = " ".join(WorkerProcesses.command(options.workers, options.threads))
    run.say(f"Starting worker processes: {command} ...")
    workers = WorkerProcesses.start(
        settings, run.directory.path, run.directory.lifeline, options.workers, options.threads
    )
    # Nothing is under way that would have to be settled, unless `_run` came to stop them itself.
    run.stack.callback(workers.stop, lambda: True)
    return workers if workers.wait_ready(run.stop.wait, READY_S) else None


def _source(run: _Run, broker: RedisStreamsBroker) -> Source:
    options = run.options
    source = Source(
        broker.logs.publish_many,
        MarketSimulator(options.seed, INSTRUMENTS, ids=_ids(options.seed)),
        rate=options.rate,
        seconds=options.seconds,
    )
    run.stack.callback(source.stop)
    source.start()
    return source


def _ids(seed: int) -> Callable[[], UUID]:
    """Event ids from a seed. What follows from an event is named after it, so the same seed also
    gives the same orders, and the same refusals by the venue."""
    draw = Random(f"ids:{seed}").getrandbits
    return lambda: UUID(int=draw(128), version=4)


def _watch(
    run: _Run, meter: Meter, workers: WorkerProcesses, source: Source
) -> StreamatiqError | None:
    """Shows the pipeline until all is handled, a stop is requested or something fails.

    Returns:
      What failed, where a report can still be made.
    """
    with Screen(run.console) as screen:
        while source.is_alive():
            title = f"{source.elapsed_s:.0f} of {run.options.seconds:g} s"
            screen.show(meter.read(), title)
            try:
                workers.check()
            except WorkersFailed as error:
                return error
            if run.stop.wait(LOOK_S):
                return None
        if source.error is not None:
            return source.error
        return _drain(run, meter, workers, screen)


def _drain(
    run: _Run, meter: Meter, workers: WorkerProcesses, screen: Screen
) -> StreamatiqError | None:
    """Waits until no subscription has anything left.

    A reading takes the logs one after the other, each after those that lead to it. What an event
    led to is in its log before the event counts as settled, so a reading without lag is the end.
    """
    lag, since_s = -1, time.monotonic()
    while True:
        reading = meter.read()
        screen.show(reading, "Published; the last events are being handled")
        if reading.lag == 0:
            return None
        if reading.lag != lag:
            lag, since_s = reading.lag, time.monotonic()
        elif time.monotonic() - since_s > STUCK_S:
            return None
        try:
            workers.check()
        except WorkersFailed as error:
            return error
        if run.stop.wait(DRAIN_LOOK_S):
            return None
