"""When: schedules, and the process that does what they ask for. See `docs/scheduler.md`."""

from __future__ import annotations

# The kinds of this package register themselves.
from . import (
    kind_checkpoint,
    kind_publish,
    kind_replay,
    kind_requeue,
    kind_retention,
    kind_send,
)
from .context import RunContext, run_id
from .definition import Schedule
from .kinds import JobKind, register_kind
from .process import SchedulerProcess
from .schedule_file import read_schedule_file
from .schedules import ScheduleChange, Schedules, ScheduleStatus
from .store import HistoryEntry, RunRecord, State

__all__ = [
    "HistoryEntry",
    "JobKind",
    "RunContext",
    "RunRecord",
    "Schedule",
    "ScheduleChange",
    "ScheduleStatus",
    "SchedulerProcess",
    "Schedules",
    "State",
    "kind_checkpoint",
    "kind_publish",
    "kind_replay",
    "kind_requeue",
    "kind_retention",
    "kind_send",
    "read_schedule_file",
    "register_kind",
    "run_id",
]
