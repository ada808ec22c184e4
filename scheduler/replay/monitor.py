"""`EventMonitor`: replays as one awaitable call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime

from ...broker import RedisStreamsBroker
from ...events import Event, EventType
from .items import Replayed
from .making import replay
from .report import ReplayReport
from .spec import TimeBasis

__all__ = ["EventMonitor"]


class EventMonitor:
    """Looks at the events of one namespace again.

        monitor = EventMonitor()
        await monitor.replay_events(
            event_type=EventType.MARKET_DATA, start_time=start, speed_multiplier=10.0
        )

    Parameters:
      broker: Default: the global broker.
    """

    def __init__(self, broker: RedisStreamsBroker | None = None) -> None:
        self._broker = broker

    async def replay_events(
        self,
        event_type: EventType | str | type[Event],
        start_time: datetime | int | None = None,
        speed_multiplier: float | None = 1.0,
        *,
        end_time: datetime | int | None = None,
        keys: list[str] | None = None,
        time_basis: TimeBasis = "log",
        max_rate: float | None = None,
        target: str | None = None,
        on_event: Callable[[Replayed], object] | None = None,
    ) -> ReplayReport:
        """Replays one type of event to its end; the loop is free meanwhile.

        Parameters:
          event_type: A type name or class.
          start_time, end_time: The range; aware datetimes, or ns since 1970. The end is not in it.
          speed_multiplier: Recorded seconds per second; None: flat out.
          target: Default: `isolated`, a namespace of the replay's own; or, with `on_event`, none.
          on_event: Called with each item, in the loop's thread; awaited if it returns an awaitable.
          keys, time_basis, max_rate: See `replay`.

        Returns:
          The report: counts, range, durations, pacing errors, digest, and the replay's id.

        Raises:
          As `replay`, and `Replay.run`.
        """
        if target is None and on_event is None:
            target = "isolated"
        made = await asyncio.to_thread(
            replay,
            event_type,
            keys=keys,
            start=start_time,
            end=end_time,
            time_basis=time_basis,
            speed="max" if speed_multiplier is None else speed_multiplier,
            max_rate=max_rate,
            target=target,
            broker=self._broker,
        )
        return await made.arun(on_event)
