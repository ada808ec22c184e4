"""When an event is due: against an absolute clock, so that time spent never adds up to drift.

An anchor ties a moment of recorded time to a moment of the clock; an event of recorded time `t` is
due at `clock + (t - recorded) / speed`. The anchor moves only when somebody changes the pace: at
the first event, on resume, at another speed, after a seek. Who falls behind catches up.

`max_rate` is a cap, not a pace: it holds however late the replay is.
"""

from __future__ import annotations

from .spec import FLAT_OUT

__all__ = ["Pace"]

#: Nanoseconds in a second.
_NS = 1_000_000_000
#: How much of its allowance a rate limit lets pass at once, ns.
_BURST_NS = 10_000_000


class Pace:
    """The timetable of one replay. Pure: the clock is told. Not thread-safe.

    Parameters:
      speed: Recorded seconds per second; infinite: everything is due.
      max_rate: Events per second at most.
    """

    def __init__(self, speed: float, max_rate: float | None = None) -> None:
        self.speed = speed
        self.paused = False
        #: The anchor. None before the first event.
        self._recorded_ns: int | None = None
        self._clock_ns = 0
        self._between_ns = 0 if max_rate is None else round(_NS / max_rate)
        #: Before this time of the clock the rate limit lets nothing pass.
        self._allowed_ns: int | None = None

    @property
    def is_limited(self) -> bool:
        """Whether events of the same time are due one after the other."""
        return self._between_ns > 0

    @property
    def counts(self) -> bool:
        """Whether `taken` means anything: to a timetable that goes by the clock it does not."""
        return self.paused or self.speed == FLAT_OUT or self.is_limited

    def position_ns(self, now_ns: int) -> int | None:
        """The recorded time that it is now; None before the first event. Flat out: of the last
        event that was delivered."""
        if self._recorded_ns is None or self.paused or self.speed == FLAT_OUT:
            return self._recorded_ns
        return self._recorded_ns + round((now_ns - self._clock_ns) * self.speed)

    def due_ns(self, recorded_ns: int, now_ns: int) -> int | None:
        """When an event is due, on the clock; None: at once, for there is no pace."""
        due: int | None = None
        if self.speed != FLAT_OUT:
            if self._recorded_ns is None:
                self._recorded_ns, self._clock_ns = recorded_ns, now_ns
            due = self._clock_ns + round((recorded_ns - self._recorded_ns) / self.speed)
        if self._allowed_ns is not None:
            due = self._allowed_ns if due is None else max(due, self._allowed_ns)
        return due

    def taken(self, recorded_ns: int, now_ns: int) -> None:
        """An event goes out now."""
        if self.paused:
            # A step: what comes behind it waits as long as it would behind it.
            self._recorded_ns = max(recorded_ns, self._recorded_ns or 0)
        elif self.speed == FLAT_OUT:
            self._recorded_ns = recorded_ns
        if self._between_ns:
            before = now_ns if self._allowed_ns is None else self._allowed_ns
            self._allowed_ns = max(before, now_ns - _BURST_NS) + self._between_ns

    def pause(self, now_ns: int) -> None:
        """Recorded time stands still. Idempotent."""
        self._recorded_ns = self.position_ns(now_ns)
        self.paused = True

    def resume(self, now_ns: int) -> None:
        """Recorded time goes on from where it stood. Idempotent."""
        if self.paused:
            self.paused = False
            self._clock_ns = now_ns

    def change(self, speed: float, now_ns: int) -> None:
        """Another speed from now on."""
        self._recorded_ns = self.position_ns(now_ns)
        self._clock_ns = now_ns
        self.speed = speed

    def jump(self, recorded_ns: int, now_ns: int) -> None:
        """It is `recorded_ns` now."""
        self._recorded_ns, self._clock_ns = recorded_ns, now_ns
