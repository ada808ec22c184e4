"""Standing schedules: those that the settings ask for, kept up by whoever leads.

They are schedules like any other (listed, paused, run now, with a history), but their names are
taken, and the settings of the process that leads say what they are.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import InvalidSchedule
from ..settings import Settings
from .definition import Schedule
from .durations import milliseconds
from .scripts import Change

__all__ = ["CHECKPOINTS", "changes", "is_standing", "refuse_standing"]

#: Names that begin so are not given to others.
PREFIX = "streamatiq."
#: Takes checkpoints.
CHECKPOINTS = f"{PREFIX}checkpoint"
#: All that this release or an earlier one has made.
OURS = (CHECKPOINTS,)


def is_standing(name: str) -> bool:
    """Whether the scheduler itself keeps a schedule of this name."""
    return name.startswith(PREFIX)


def refuse_standing(name: str) -> None:
    """Raises InvalidSchedule where `name` is one of the scheduler's own."""
    if is_standing(name):
        raise InvalidSchedule(
            f"Schedule {name!r}: names that begin with {PREFIX!r} are the scheduler's own. How "
            "often checkpoints are taken is processor.checkpoint_interval of the settings; it may "
            "be paused here, or run at once."
        )


def changes(settings: Settings, stored: Mapping[str, str]) -> list[Change]:
    """What has to change for the standing schedules to be as the settings say.

    Parameters:
      stored: All definitions, by name.
    """
    wanted = {one.name: one for one in _wanted(settings)}
    found = [
        Change(name, stored[name], None) for name in OURS if name in stored and name not in wanted
    ]
    for name, schedule in wanted.items():
        if stored.get(name) != schedule.to_json():
            found.append(Change(name, stored.get(name, ""), schedule.to_json(), schedule.timing))
    return found


def _wanted(settings: Settings) -> list[Schedule]:
    interval_s = settings.processor.checkpoint_interval
    if interval_s is None:
        return []
    return [
        Schedule(
            name=CHECKPOINTS,
            every=f"{milliseconds(interval_s)}ms",
            kind="checkpoint",
            parameters={"reason": "interval"},
            missed="once",
            description="processor.checkpoint_interval of the settings",
        )
    ]
