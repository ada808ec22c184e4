"""Does what schedules ask for, as long as this process leads: plans, begins, runs, ends.

For each schedule that has something to come there is one wake-up with the timer. `fire` is what it
calls, in a thread of APScheduler's pool: it plans, begins a run on the server, sets the next
wake-up, does the run, and looks again, until nothing is due. What a run leaves behind when its
process dies is its record on the server; the next leader finds it there and does it again (or ends
it, where its kind cannot be repeated). A begin whose reply was lost is found the same way.

`_lock` guards `_schedules` and `_active`. Planning of one schedule is done by one
thread at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from dramatiq.logging import get_logger

from ..broker import RedisStreamsBroker
from ..errors import BrokerConnectionError, LeadershipLost, StreamatiqError
from . import scripts
from .definition import Schedule
from .doing import RunDoer
from .fencing import FencedLinks
from .metrics import SchedulerMetrics
from .planning import Fire, Plan, delay_by_name, plan
from .store import RunRecord, State, read_state

__all__ = ["Runner", "Timer"]


class Timer(Protocol):
    """Calls `Runner.fire` at a time."""

    def wake(self, name: str, at_ms: int) -> None:
        """Fires schedule `name` at `at_ms`, the server's clock, in place of an earlier wish."""

    def forget(self, name: str) -> None:
        """Fires it no more."""


@dataclass(frozen=True, slots=True)
class _Run:
    schedule: Schedule
    record: RunRecord


@dataclass(slots=True)
class _Known:
    """A schedule in this process."""

    schedule: Schedule
    definition: str
    #: Held while it is planned.
    planning: threading.Lock = field(default_factory=threading.Lock)


class Runner:
    """The runs of one term of leadership. Thread-safe.

    Parameters:
      broker: Of this process.
      links: Of this term.
      who: Epoch and name, as on the server.
      timer: See `Timer`.
      now_ms: The server's clock, ms since 1970 UTC.
      metrics: Counts runs.
      history: Entries that a schedule's history keeps.
      stopping: Set when no run is to begin any more.
    """

    def __init__(
        self,
        broker: RedisStreamsBroker,
        links: FencedLinks,
        who: str,
        timer: Timer,
        *,
        now_ms: Callable[[], int],
        metrics: SchedulerMetrics,
        history: int,
        stopping: threading.Event,
    ) -> None:
        self.logger = get_logger(__name__, type(self))
        self._doer = RunDoer(
            broker, links, who, metrics=metrics, history=history, stopping=stopping
        )
        self._keys = broker.keys.scheduler
        self._links = links
        self._who = who
        self._timer = timer
        self._now_ms = now_ms
        self._metrics = metrics
        self._history = history
        self._stopping = stopping
        self._lock = threading.Lock()
        self._schedules: dict[str, _Known] = {}
        #: Runs that are being done: name and number.
        self._active: set[tuple[str, int]] = set()
        #: Set while no run is being done.
        self.idle = threading.Event()
        self.idle.set()

    # -- what there is -------------------------------------------------------------------------

    def load(self, definitions: Mapping[str, str]) -> None:
        """Takes over what is stored: all schedules. Those that changed are fired now, to plan.

        A definition that this program cannot read is left alone, and said.
        """
        for name in self.names - set(definitions):
            self._timer.forget(name)
            with self._lock:
                self._schedules.pop(name, None)
        for name, definition in definitions.items():
            known = self._known(name)
            if known is not None and known.definition == definition:
                continue
            try:
                schedule = Schedule.from_json(definition)
            except StreamatiqError as error:
                self.logger.error("Schedule %s cannot be read, and does not run: %s", name, error)
                continue
            with self._lock:
                self._schedules[name] = _Known(schedule, definition)
            self.look(name)

    def look(self, name: str) -> None:
        """Fires a schedule now: it is planned anew."""
        self._timer.wake(name, 0)

    def look_at_all(self) -> None:
        """Fires all of them: after a loss of the connection, or when the clock was set."""
        for name in self.names:
            self.look(name)

    @property
    def names(self) -> set[str]:
        """Of the schedules in this process."""
        with self._lock:
            return set(self._schedules)

    @property
    def active(self) -> int:
        """How many runs are being done."""
        with self._lock:
            return len(self._active)

    def _known(self, name: str) -> _Known | None:
        with self._lock:
            return self._schedules.get(name)

    # -- firing --------------------------------------------------------------------------------

    def fire(self, name: str) -> None:
        """Does all that is due of one schedule. Raises nothing."""
        try:
            while not self._stopping.is_set():
                run = self._next(name)
                if run is None:
                    return
                self._do(run)
        except LeadershipLost as error:
            self.logger.warning("Schedule %s: %s", name, error)
            self._links.ended.set()
        except BrokerConnectionError as error:
            # The term is over, or the process stops: whoever leads next looks at everything.
            self.logger.debug("Schedule %s: %s", name, error)
        except Exception:
            self.logger.exception("Schedule %s could not be planned; trying again soon.", name)
            self._timer.wake(name, self._now_ms() + 60_000)

    def _next(self, name: str) -> _Run | None:
        """Begins what is due next; None if nothing is, and then the next wake-up is set."""
        known = self._known(name)
        if known is None:
            return None
        with known.planning:
            before: State | None = None
            while not self._stopping.is_set():
                if self._known(name) is not known:
                    return None  # changed or removed: whoever did that has it looked at
                state = self._links.call(lambda link: read_state(link, self._keys, name))
                if state == before:
                    return None  # it was defined anew: that will be looked at when it is loaded
                left = self._left_behind(known, state)
                if left is not None:
                    return left
                now = self._now_ms()
                planned, asked = self._plan(known.schedule, state, now)
                if planned.run is None and planned.cursor == state.cursor:
                    self._wake(name, planned)
                    return None
                begun = self._begin(known, state, planned, asked)
                if begun.what in ("begun", "noted"):
                    self._metrics.missed(planned.missed)
                if begun.what == "begun" and planned.run is not None:
                    self._metrics.began(planned.run.begin, begun.now_ms, asked=bool(asked))
                    record = RunRecord(
                        begun.number, planned.run.time, begun.now_ms, 1, bool(asked), self._who
                    )
                    if not self._take(name, begun.number):
                        continue  # found on the server by a thread that planned a newer definition
                    if known.schedule.max_running > 1:
                        self.look(name)  # what comes next need not wait for this run
                    return _Run(known.schedule, record)
                if begun.what == "busy":
                    return None  # whoever ends a run looks again
                before = state if begun.what == "stale" else None
        return None

    def _plan(self, schedule: Schedule, state: State, now: int) -> tuple[Plan, str]:
        if state.asked:
            asked_ms = int(state.asked.partition(" ")[0])
            return Plan(Fire(asked_ms, asked_ms), state.cursor), state.asked
        if state.paused:
            return Plan(None, state.cursor), ""
        if state.cursor == 0:
            return Plan(None, now), ""  # its state was lost: it counts from now
        planned = plan(
            schedule.fire_times,
            missed=schedule.missed,
            deadline_ms=schedule.deadline_ms,
            delay=delay_by_name(schedule.name, schedule.jitter),
            cursor=state.cursor,
            now=now,
        )
        if planned.run is not None and len(state.runs) >= schedule.max_running:
            # It waits until a run ends, and what is missed by then is decided then.
            return Plan(None, state.cursor), ""
        return planned, ""

    def _wake(self, name: str, planned: Plan) -> None:
        if planned.upcoming is not None:
            self._timer.wake(name, planned.upcoming.begin)
        else:
            self._timer.forget(name)

    def _begin(self, known: _Known, state: State, planned: Plan, asked: str) -> scripts.Begun:
        call = scripts.begin(
            self._keys,
            known.schedule.name,
            definition=known.definition,
            cursor=state.cursor,
            plan=planned,
            asked=asked,
            max_running=known.schedule.max_running,
            who=self._who,
            history=self._history,
        )
        return self._links.call(lambda link: link.run(call))

    def _left_behind(self, known: _Known, state: State) -> _Run | None:
        """A run that has begun and that nobody does: its leader is gone, or a reply was lost."""
        name = known.schedule.name
        for record in state.runs:
            if self._take(name, record.number):
                return _Run(known.schedule, record)
        return None

    def _take(self, name: str, number: int) -> bool:
        """This thread does this run; False if another one does."""
        with self._lock:
            if (name, number) in self._active:
                return False
            self._active.add((name, number))
            self.idle.clear()
            return True

    def _leave(self, name: str, number: int) -> None:
        with self._lock:
            self._active.discard((name, number))
            if not self._active:
                self.idle.set()

    def _do(self, run: _Run) -> None:
        try:
            self._doer.do(run.schedule, run.record)
        finally:
            self._leave(run.schedule.name, run.record.number)
