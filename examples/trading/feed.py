"""A simulated feed with the faults of real ones, and the list of them, so that they can be checked.

    gap     trades of BRAVO are lost
    stale   quotes of CHARLIE stop for a while (its trades go on)
    late    a quote of ALPHA comes with an event time of half a second ago

And as on many a real feed, the receiver's clock runs behind the exchange's: every latency is
negative, and nothing is late for that.

Run it by `python -m trading.feed --seconds 10` while the workers run.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from streamatiq import Event, MarketDataEvent, Trade, now_ns, publish_many
from streamatiq.sources import MarketSimulator

from .events import ClockTick
from .folder import data_folder

__all__ = ["INJECTED", "INSTRUMENTS", "Feed", "run_feed"]

INSTRUMENTS = ("SIM:ALPHA", "SIM:BRAVO", "SIM:CHARLIE", "SIM:DELTA")
#: File with a line of JSON for each fault.
INJECTED = "injected.jsonl"
#: How far the receiver's clock is behind the exchange's, ns.
BEHIND_NS = 1_270_000_000
#: Time between two clock ticks, and between two batches, seconds.
TICK_S, BATCH_S = 0.1, 0.01
#: Numbers of the trades of BRAVO that are lost.
LOST = range(11, 14)
#: When CHARLIE's quotes stop and go on, ns after the first event. Longer than the watch allows.
SILENT_NS = range(500_000_000, 1_500_000_000)
#: When ALPHA's quote comes late, ns after the first event, and how late it is.
LATE_AT_NS, LATE_BY_NS = 800_000_000, 500_000_000


class Feed:
    """An endless iterator of market data, some of it missing. Not thread-safe.

    Parameters:
      seed: Decides all but times and ids.
      clock_ns: The receiver's clock.
    """

    def __init__(self, seed: int = 1, clock_ns: Callable[[], int] = now_ns) -> None:
        self._clock_ns = clock_ns
        self._market = MarketSimulator(seed, INSTRUMENTS, clock_ns=clock_ns)
        self._began_ns: int | None = None
        #: The faults so far, each as the watch has to report it.
        self.injected: list[dict[str, Any]] = []
        self._is_late_due = True
        self._is_silence_due = True
        self._lost: set[int] = set()

    def __iter__(self) -> Iterator[MarketDataEvent]:
        return self

    def __next__(self) -> MarketDataEvent:
        while True:
            event = next(self._market)
            received_ns = event.ts_event
            if self._began_ns is None:
                self._began_ns = received_ns
            since_ns = received_ns - self._began_ns
            if self._is_lost(event, since_ns):
                continue
            late_ns = 0
            if self._is_late_due and since_ns >= LATE_AT_NS and _is(event, "ALPHA", "quote"):
                self._is_late_due = False
                self._note("late", event)
                late_ns = LATE_BY_NS
            return MarketDataEvent(
                id=event.id,
                ts_event=received_ns + BEHIND_NS - late_ns,
                ts_recv=received_ns,
                source=event.source,
                key=event.key,
                data=event.data,
            )

    def _is_lost(self, event: MarketDataEvent, since_ns: int) -> bool:
        if _is(event, "CHARLIE", "quote") and since_ns in SILENT_NS:
            if self._is_silence_due:
                self._is_silence_due = False
                self._note("stale", event)
            return True
        if _is(event, "BRAVO", "trade") and isinstance(event.data, Trade):
            number = int(event.data.trade_id or 0)
            if number in LOST:
                self._lost.add(number)
                return True
            if self._lost:  # only the trade after a gap tells of it
                self._note("gap", event, first_number=min(self._lost), last_number=max(self._lost))
                self._lost.clear()
        return False

    def _note(self, kind: str, event: MarketDataEvent, **what: int) -> None:
        self.injected.append({"kind": kind, "feed": f"{event.key} {event.data.kind}"} | what)


def _is(event: MarketDataEvent, symbol: str, kind: str) -> bool:
    return event.symbol == symbol and event.data.kind == kind


def run_feed(
    seconds: float,
    rate: float,
    publish: Callable[[Sequence[Event]], object] = publish_many,
    *,
    seed: int = 1,
) -> int:
    """Publishes market data and clock ticks, and writes down what was injected.

    Parameters:
      seconds: For how long.
      rate: Events a second.
      publish: Publishes a batch.

    Returns:
      How many market data events were published.
    """
    feed, never = Feed(seed), threading.Event()
    began = time.monotonic()
    published, ticks, elapsed = 0, 0, 0.0
    while elapsed < seconds:
        elapsed = time.monotonic() - began
        batch: list[Event] = [next(feed) for _ in range(int(elapsed * rate) - published)]
        published += len(batch)
        if elapsed >= ticks * TICK_S:
            ticks += 1
            batch.append(ClockTick(ts_event=now_ns(), key="clock"))
        if batch:
            publish(batch)
        never.wait(BATCH_S)
    lines = [json.dumps(fault) + "\n" for fault in feed.injected]
    (data_folder() / INJECTED).write_text("".join(lines))
    return published


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m trading.feed", description=__doc__)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rate", type=float, default=400, help="events a second")
    options = parser.parse_args()
    run_feed(options.seconds, options.rate)


if __name__ == "__main__":
    main()
