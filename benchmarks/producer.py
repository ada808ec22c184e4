"""The sending process: `python -m benchmarks.producer APP MODE ...`, one JSON line as the result.

    check      import the app and prepare it; shows whether the system can run at all
    enqueue    send messages one by one or in bulk, and time it
    paced      wait until a worker is warm, then send on the open-loop schedule
    settled    wait until nothing is queued or unacknowledged

It runs apart from the bench so that a system's client is imported fresh, and its CPU is its own.
"""

from __future__ import annotations

import argparse
import gc
import json
import time

from .apps.base import Producer, Target, connect
from .ledger import Ledger
from .load import due_times_ns, send_paced, use_fine_timers
from .ticks import make_tick

__all__ = ["BULK", "WARM_UP", "main"]

#: Messages in one bulk call.
BULK = 100

#: Messages sent before a paced load, to see that the workers are up.
WARM_UP = 50


def main() -> None:
    """Run one mode and print its result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("app")
    parser.add_argument("mode", choices=["check", "enqueue", "paced", "settled"])
    parser.add_argument("--messages", type=int, default=0)
    parser.add_argument("--rate", type=float, default=0.0, help="messages a second")
    parser.add_argument("--bulk", action="store_true")
    parser.add_argument(
        "--timeout", type=float, default=10.0, help="seconds to wait, in paced and settled"
    )
    options = parser.parse_args()
    producer = connect(options.app)
    result: dict[str, object] = {}
    if options.mode == "check":
        producer.prepare()
        result = {"has_bulk": producer.has_bulk}
    elif options.mode == "enqueue":
        producer.prepare()
        result = {"seconds": _enqueue(producer, options.messages, options.bulk)}
    elif options.mode == "paced":
        ledger = Ledger(Target.from_env().ledger)
        _warm_up(producer, ledger, options.timeout)
        _paced(producer, ledger, options.messages, options.rate)
    else:
        result = {"settled": producer.wait_settled(options.timeout)}
    print(json.dumps(result))


def _enqueue(producer: Producer, messages: int, bulk: bool) -> float:
    """Send messages 0 to `messages` - 1; return the seconds it took."""
    started = time.perf_counter()
    if bulk:
        for first in range(0, messages, BULK):
            producer.send_many([make_tick(n) for n in range(first, min(first + BULK, messages))])
    else:
        for n in range(messages):
            producer.send(make_tick(n))
    return time.perf_counter() - started


def _warm_up(producer: Producer, ledger: Ledger, timeout_s: float) -> None:
    """Send messages 0 to WARM_UP - 1 and wait until they are handled."""
    for n in range(WARM_UP):
        producer.send(make_tick(n))
    deadline = time.monotonic() + timeout_s
    while ledger.handled_count(0, WARM_UP) < WARM_UP:
        if time.monotonic() > deadline:
            raise SystemExit("the warm-up messages were not handled in time")
        time.sleep(0.01)


def _paced(producer: Producer, ledger: Ledger, messages: int, rate_per_s: float) -> None:
    """Send `messages` on schedule, numbered from WARM_UP on."""
    use_fine_timers()
    gc.collect()
    gc.freeze()
    gc.disable()

    def note(k: int, scheduled_ns: int, sent_ns: int) -> None:
        ledger.scheduled[WARM_UP + k] = scheduled_ns
        ledger.sent[WARM_UP + k] = sent_ns

    send_paced(
        due_times_ns(messages, rate_per_s),
        lambda k: producer.send(make_tick(WARM_UP + k)),
        note,
        start_ns=time.monotonic_ns() + 10_000_000,
    )


if __name__ == "__main__":
    main()
