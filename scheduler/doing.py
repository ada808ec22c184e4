"""Does one run that has begun, and records how it ended."""

from __future__ import annotations

import threading
import time

from dramatiq.logging import get_logger

from ..broker import RedisStreamsBroker
from ..errors import BrokerConnectionError, LeadershipLost, StreamatiqError
from . import scripts
from .context import RunContext
from .definition import Schedule
from .fencing import FencedLinks
from .kinds import kind_named
from .metrics import SchedulerMetrics
from .scripts import RunEnd
from .store import RunRecord

__all__ = ["RunDoer"]

#: How often a run is begun before it is given up: it may be what kills the process.
MOST_ATTEMPTS = 3
#: Longest text that is kept about a run, characters.
MOST_DETAIL = 500


class RunDoer:
    """Does runs, in whatever thread. Thread-safe.

    Parameters:
      broker: Of this process.
      links: Of this term.
      who: Epoch and name, as on the server.
      metrics: Counts runs.
      history: Entries that a schedule's history keeps.
      stopping: Set when runs should end soon.
    """

    def __init__(
        self,
        broker: RedisStreamsBroker,
        links: FencedLinks,
        who: str,
        *,
        metrics: SchedulerMetrics,
        history: int,
        stopping: threading.Event,
    ) -> None:
        self.logger = get_logger(__name__, type(self))
        self._broker = broker
        self._keys = broker.keys.scheduler
        self._links = links
        self._who = who
        self._metrics = metrics
        self._history = history
        self._stopping = stopping

    def do(self, schedule: Schedule, record: RunRecord) -> None:
        """Does a run to its end. What it raises, but for what follows, ends it as failed.

        Raises:
          LeadershipLost: Somebody else leads, and does it again.
          BrokerConnectionError: The term has ended while the server was away.
        """
        began_s = time.monotonic()
        done = self.outcome(schedule, record)
        if done is None:
            return
        end, recorded = done
        if not recorded:
            call = scripts.end(self._keys, end)
            self._links.call(lambda link: link.run(call))
        self._metrics.ended(schedule.kind, end.outcome, time.monotonic() - began_s)

    def outcome(self, schedule: Schedule, record: RunRecord) -> tuple[RunEnd, bool] | None:
        """Does a run; tells how it ended, and whether that is recorded. None: it had ended."""
        end = RunEnd(schedule.name, record.number, "done", "", self._history)
        attempt = record.attempts
        try:
            kind, parameters = kind_named(schedule)
            if record.by != self._who or attempt > 1:
                call = scripts.repeat(self._keys, schedule.name, record.number, self._who)
                attempt = self._links.call(lambda link: link.run(call))
                if attempt == 0:
                    return None
                if attempt > MOST_ATTEMPTS or not kind.repeatable:
                    detail = f"begun {attempt - 1} times, and no process lived to end it"
                    self.logger.error("Schedule %s: interrupted: %s", schedule.name, detail)
                    return end._replace(outcome="interrupted", detail=detail), False
            context = RunContext(
                self._broker,
                self._links,
                end,
                fired_ms=record.fired_ms,
                asked=record.asked,
                attempt=attempt,
                stopping=self._stopping,
            )
            said = kind.run(context, parameters) or ""
            return end._replace(detail=said[:MOST_DETAIL]), context.ended
        except LeadershipLost:
            raise
        except Exception as error:
            if isinstance(error, BrokerConnectionError) and self._links.ended.is_set():
                raise
            ours = isinstance(error, StreamatiqError)
            detail = str(error) if ours else f"{type(error).__name__}: {error}"
            self.logger.error(
                "Schedule %s: the run failed: %s", schedule.name, detail, exc_info=not ours
            )
            return end._replace(outcome="failed", detail=detail[:MOST_DETAIL]), False
