"""All of it at once: `python -m trading` starts a server and workers, runs the feed, checks.

    server -> two worker processes for trading, one for the watch -> feed -> all handled -> check

The exchange is down for three orders, slow for one, and kills one of the two trading workers at the
worst moment; the other one takes over. Exit code 0: everything agrees.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from streamatiq import EmbeddedServer, default_broker

from .folder import data_folder

TRADING = ("trading.strategy", "trading.risk", "trading.venue")
WATCH = ("trading.watch",)
#: Where they are found.
HERE = Path(__file__).resolve().parent.parent
#: Where the workers write.
LOG = "workers.log"
#: What each of them says once it reads.
READY = b"Worker process is ready for action."
#: Seconds that the workers may take to start, or to handle the last events; and to stop.
WAIT_S, STOP_S = 30.0, 20.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m trading")
    parser.add_argument("--seconds", type=float, default=8, help="how long the feed runs")
    parser.add_argument("--rate", type=float, default=400, help="market data events a second")
    parser.add_argument("--folder", type=Path, help="keep everything there; it must be new")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="trading-") as temporary:
        folder = (options.folder or Path(temporary)).resolve()
        with EmbeddedServer.ensure(folder / "server") as server:
            os.environ["STREAMATIQ_REDIS__URL"] = server.url
            os.environ["TRADING_DATA"] = str(folder)
            return _run(options.seconds, options.rate)


def _run(seconds: float, rate: float) -> int:
    # Here, since what they import declares handlers on the broker of the settings.
    from . import risk, strategy, venue, watch
    from .check import check
    from .exchange import Exchange
    from .feed import run_feed

    exchange = Exchange()
    exchange.misbehave("down", 3)
    exchange.misbehave("slow", 1, 0.3)
    exchange.misbehave("die", 1)
    upstream_first = (
        watch.watch_feed,
        watch.watch_clock,
        strategy.find_signal,
        risk.check_risk,
        venue.send_order,
        venue.cancel_order,
        risk.keep_position,
    )
    _say("Starting three worker processes ...")
    with _workers((TRADING, 4), (TRADING, 4), (WATCH, 1)) as (*_, watching):
        _wait(lambda: _ready() == 3, watching, "ready workers")
        _say(f"The feed runs for {seconds:g} s ...")
        run_feed(seconds, rate)
        _say("Handling the last events ...")
        # What an event leads to is in its log before the event counts as handled. So a subscription
        # that has nothing left when all upstream of it had nothing left has ended.
        for handler in upstream_first:
            _wait(partial(_is_done, handler.queue_name), watching, f"end of {handler.queue_name}")
    report = check()
    _say(str(report))
    return int(bool(report.problems))


@contextmanager
def _workers(
    *wanted: tuple[tuple[str, ...], int],
) -> Iterator[list[subprocess.Popen[bytes]]]:
    """A worker process for each (modules, threads), until the end of the block. One that is killed
    has no successor here: the others take over."""
    # Threads look for the end of their work more often than each second: it stops sooner.
    env = {**os.environ, "dramatiq_worker_timeout": "200"}
    processes = []
    try:
        with (data_folder() / LOG).open("ab") as log:
            for modules, threads in wanted:
                command = ["dramatiq", *modules, "-p", "1", "-t", str(threads)]
                processes.append(
                    subprocess.Popen(
                        [sys.executable, "-m", *command], cwd=HERE, env=env, stdout=log, stderr=log
                    )
                )
        yield processes
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(STOP_S)


def _ready() -> int:
    return (data_folder() / LOG).read_bytes().count(READY)


def _is_done(subscription: str) -> bool:
    return default_broker().backlog(subscription) == 0


def _wait(so: Callable[[], bool], watching: subprocess.Popen[bytes], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not so():
        if time.monotonic() > deadline or watching.poll() is not None:
            raise SystemExit(f"No {what} in time; {data_folder() / LOG} may tell why.")
        threading.Event().wait(0.05)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
