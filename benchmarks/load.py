"""Open-loop load: when each message is due is fixed before the first one is sent.

A closed loop (send, wait, sleep) slows down with the system it measures and so leaves out the
very moments in which the system was slow (coordinated omission). Here the due times lie on an
absolute clock. A late generator does not skip or stretch: it sends at once, and the latency
counted from the *scheduled* time contains the delay; the latency counted from the actual send is
kept beside it.

Due times are jittered within their interval, from a fixed seed and so the same for all systems: a
strict grid could fall into step with a consumer that polls, and show its best or its worst phase
only.
"""

from __future__ import annotations

import ctypes
import random
import sys
import time
from collections.abc import Callable, Iterator

__all__ = ["due_times_ns", "percentile", "send_paced", "use_fine_timers"]

#: prctl(2): how far, in ns, the kernel may delay the wake-up of a sleeper.
_PR_SET_TIMERSLACK = 29


def due_times_ns(count: int, rate_per_s: float, seed: int = 1) -> Iterator[int]:
    """Yield `count` due times in ns after the start, in order, `rate_per_s` of them a second."""
    interval_ns = 1e9 / rate_per_s
    jitter = random.Random(seed)  # not for secrets: the same load for every system
    for k in range(count):
        yield int((k + jitter.random()) * interval_ns)


def send_paced(
    due_ns: Iterator[int],
    send: Callable[[int], None],
    note: Callable[[int, int, int], None],
    *,
    start_ns: int,
    now_ns: Callable[[], int] = time.monotonic_ns,
    sleep_s: Callable[[float], None] = time.sleep,
) -> None:
    """Send one message at each due time, as late as need be but never left out.

    Args:
        due_ns: due times in ns after `start_ns`, ascending.
        send: sends message k (0, 1, ...).
        note: called just before as `note(k, scheduled_ns, sent_ns)`, on the clock of `now_ns`.
        start_ns: the moment that due times count from.
        now_ns, sleep_s: clock and sleep, injected for tests.
    """
    for k, offset_ns in enumerate(due_ns):
        scheduled_ns = start_ns + offset_ns
        while (now := now_ns()) < scheduled_ns:
            sleep_s((scheduled_ns - now) / 1e9)
        note(k, scheduled_ns, now)
        send(k)


def use_fine_timers() -> None:
    """Ask Linux to wake this thread's sleeps within 1 ns, not 50,000; elsewhere do nothing."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)


def percentile(ascending: list[float], share: float) -> float:
    """Return the nearest-rank percentile of sorted values; `share` is from 0 to 1.

    Raises:
        ValueError: there are no values.
    """
    if not ascending:
        raise ValueError("no values to take a percentile of")
    rank = max(1, -int(-share * len(ascending) // 1))
    return ascending[min(rank, len(ascending)) - 1]
