"""The ways in which a producer process sends; see `producer` for its modes.

Message number n is `make_tick(n)`; what is known of its times before it is sent is noted in the
ledger.
"""

from __future__ import annotations

import gc
import random
import time

from .apps.base import BULK_CALL, Producer
from .ledger import Ledger
from .load import due_times_ns, send_paced, use_fine_timers
from .ticks import make_tick

__all__ = [
    "BULK",
    "DELAY_MS",
    "WARM_UP",
    "WINDOW",
    "delayed",
    "enqueue",
    "fill",
    "flood",
    "paced",
    "steady",
    "together",
    "warm_up",
]

#: Messages in one bulk call.
BULK = 100

#: Messages sent before a load, to see that the workers are up.
WARM_UP = 50

#: Shortest and longest delay of a message in `delayed`, ms.
DELAY_MS = (500, 1500)

#: Messages that wait at most in `steady`.
WINDOW = 2_000

#: Messages in one bulk call of `fill` and `together`.
_FILL = 500

#: Delay of what `fill` sends, ms.
_DAY_MS = 86_400_000

#: Seconds of start, and messages a second, that `together` counts on; without a bulk call fewer.
_TOGETHER_START_S, _TOGETHER_BULK_PER_S, _TOGETHER_PER_S = 1.0, 8_000, 2_500

#: Seconds between two looks at the ledger in `steady` and `warm_up`.
_POLL_S = 0.001


def enqueue(producer: Producer, messages: int, bulk: bool) -> float:
    """Send messages 0 to `messages` - 1; return the seconds it took."""
    started = time.perf_counter()
    if bulk:
        for low in range(0, messages, BULK):
            producer.send_many([make_tick(n) for n in range(low, min(low + BULK, messages))])
    else:
        for n in range(messages):
            producer.send(make_tick(n))
    return time.perf_counter() - started


def warm_up(producer: Producer, ledger: Ledger, timeout_s: float) -> None:
    """Prepare, send messages 0 to WARM_UP - 1, and wait until they are handled."""
    producer.prepare()
    for n in range(WARM_UP):
        producer.send(make_tick(n))
    deadline = time.monotonic() + timeout_s
    while ledger.handled_count(0, WARM_UP) < WARM_UP:
        if time.monotonic() > deadline:
            raise SystemExit("the warm-up messages were not handled in time")
        time.sleep(_POLL_S)


def paced(producer: Producer, ledger: Ledger, first: int, messages: int, rate_per_s: float) -> None:
    """Send `messages` on schedule, numbered from `first` on."""

    def note(k: int, scheduled_ns: int, sent_ns: int) -> None:
        ledger.scheduled[first + k] = scheduled_ns
        ledger.sent[first + k] = sent_ns

    _quieten()
    send_paced(
        due_times_ns(messages, rate_per_s),
        lambda k: producer.send(make_tick(first + k)),
        note,
        start_ns=time.monotonic_ns() + 10_000_000,
    )


def delayed(
    producer: Producer, ledger: Ledger, first: int, messages: int, rate_per_s: float
) -> None:
    """Send `messages` on schedule, each delayed by a random time; note when each is due."""
    chooser = random.Random(2)  # not for secrets: the same delays for every system
    delays_ms = [chooser.randint(*DELAY_MS) for _ in range(messages)]

    def note(k: int, scheduled_ns: int, sent_ns: int) -> None:
        ledger.scheduled[first + k] = sent_ns + delays_ms[k] * 1_000_000
        ledger.sent[first + k] = sent_ns

    _quieten()
    send_paced(
        due_times_ns(messages, rate_per_s),
        lambda k: producer.send_delayed([make_tick(first + k)], delays_ms[k]),
        note,
        start_ns=time.monotonic_ns() + 10_000_000,
    )


def fill(producer: Producer, first: int, messages: int) -> float:
    """Send messages that are due in a day; return the seconds it took."""
    started = time.perf_counter()
    for low in range(first, first + messages, _FILL):
        high = min(low + _FILL, first + messages)
        producer.send_delayed([make_tick(n) for n in range(low, high)], _DAY_MS)
    return time.perf_counter() - started


def together(producer: Producer, ledger: Ledger, first: int, messages: int) -> None:
    """Send messages that are all due at one moment, some seconds from now; note it.

    Raises:
        SystemExit: not all were sent before that moment.
    """
    bulk = BULK_CALL in producer.abilities
    per_s = _TOGETHER_BULK_PER_S if bulk else _TOGETHER_PER_S
    due_ns = time.monotonic_ns() + round((_TOGETHER_START_S + messages / per_s) * 1e9)
    size = _FILL if bulk else 1
    for low in range(first, first + messages, size):
        high = min(low + size, first + messages)
        ticks = [make_tick(n) for n in range(low, high)]
        for n in range(low, high):
            ledger.scheduled[n] = due_ns
        delay_ms = (due_ns - time.monotonic_ns()) // 1_000_000
        if delay_ms <= 0:
            raise SystemExit("the messages that should be due at once took too long to send")
        producer.send_delayed(ticks, delay_ms)


def steady(producer: Producer, ledger: Ledger, first: int, messages: int) -> None:
    """Send messages in bulk, as fast as they are handled: at most `WINDOW` are waiting."""
    oldest = low = first  # below `oldest` all are handled
    while low < first + messages:
        seen = bytes(ledger.runs[oldest:low])
        if seen.count(0) + BULK > WINDOW:
            time.sleep(_POLL_S)
            continue
        unhandled = seen.find(0)
        oldest = low if unhandled < 0 else oldest + unhandled
        high = min(low + BULK, first + messages)
        producer.send_many([make_tick(n) for n in range(low, high)])
        low = high


def flood(producer: Producer, ledger: Ledger, first: int, messages: int) -> None:
    """Send messages in bulk as fast as they are taken, until killed.

    Raises:
        SystemExit: the ledger has no more cells.
    """
    for low in range(first, first + messages - BULK, BULK):
        producer.send_many([make_tick(n) for n in range(low, low + BULK)])
        now = time.monotonic_ns()
        for n in range(low, low + BULK):
            ledger.sent[n] = now
    raise SystemExit(f"more than {messages} messages were taken; the ledger is too small")


def _quieten() -> None:
    """Keep timers and garbage collection from making the generator late."""
    use_fine_timers()
    gc.collect()
    gc.freeze()
    gc.disable()
