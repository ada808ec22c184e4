"""The sending process: `python -m benchmarks.producer APP MODE ...`, one JSON line as the result.

    check      import the app and prepare it; shows whether the system can run at all
    enqueue    send messages one by one or in bulk, and time it
    warm       send the warm-up messages and wait until they are handled
    paced      send on the open-loop schedule
    delayed    send on the open-loop schedule, each delayed by a time of its own
    fill       send in bulk, all delayed by a day, and time it
    together   send in bulk, all of them due at one moment
    steady     send as fast as the workers handle: never more than so many are waiting
    flood      send in bulk, without an end, as fast as they are taken
    settled    wait until nothing is queued or unacknowledged

It runs apart from the bench so that a system's client is imported fresh, and its CPU is its own.
"""

from __future__ import annotations

import argparse
import json

from . import sending
from .apps.base import Producer, Target, connect
from .ledger import Ledger

__all__ = ["main"]

_MODES = (
    *("check", "enqueue", "warm", "paced", "delayed", "fill", "together", "steady"),
    *("flood", "settled"),
)


def main() -> None:
    """Run one mode and print its result."""
    parser = argparse.ArgumentParser()
    add = parser.add_argument
    add("app")
    add("mode", choices=_MODES)
    add("--first", type=int, default=0, help="number of the first message")
    add("--messages", type=int, default=0)
    add("--rate", type=float, default=0.0, help="messages a second")
    add("--bulk", action="store_true")
    add("--warm-up", action="store_true", help="as warm, before the load")
    add("--delayed", type=int, default=0, help="messages that may be left, in settled")
    add("--timeout", type=float, default=10.0, help="seconds to wait, in warm and settled")
    options = parser.parse_args()
    print(json.dumps(_run(connect(options.app), options)))


def _run(producer: Producer, options: argparse.Namespace) -> dict[str, object]:
    first, messages, rate = options.first, options.messages, options.rate
    if options.mode == "check":
        producer.prepare()
        return {"abilities": sorted(producer.abilities)}
    if options.mode == "enqueue":
        producer.prepare()
        return {"seconds": sending.enqueue(producer, messages, options.bulk)}
    if options.mode == "fill":
        return {"seconds": sending.fill(producer, first, messages)}
    if options.mode == "settled":
        return {"settled": producer.wait_settled(options.timeout, options.delayed)}
    ledger = Ledger(Target.from_env().ledger)
    if options.mode == "warm" or options.warm_up:
        sending.warm_up(producer, ledger, options.timeout)
    if options.mode == "paced":
        sending.paced(producer, ledger, first, messages, rate)
    elif options.mode == "delayed":
        sending.delayed(producer, ledger, first, messages, rate)
    elif options.mode == "together":
        sending.together(producer, ledger, first, messages)
    elif options.mode == "steady":
        sending.steady(producer, ledger, first, messages)
    elif options.mode == "flood":
        sending.flood(producer, ledger, first, messages)
    return {}


if __name__ == "__main__":
    main()
