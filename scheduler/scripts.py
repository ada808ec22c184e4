"""One typed function a script of the scheduler. What a script does stands in its header."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from ..broker.calls import Call, script
from ..broker.keys import SchedulerKeys
from ..broker.scripts import Added, Appended
from .planning import Plan

__all__ = [
    "Action",
    "Begun",
    "Change",
    "Lead",
    "RunEnd",
    "abdicate",
    "act",
    "apply",
    "begin",
    "end",
    "enqueue",
    "lead",
    "leads",
    "publish",
    "repeat",
]

#: What may be asked of one schedule.
Action = Literal["pause", "resume", "run"]


class Lead(NamedTuple):
    """What a process that wants to lead was told."""

    #: 0 if somebody else leads.
    epoch: int
    #: The server's clock, ms.
    now_ms: int
    #: How long the lease holds, ms.
    left_ms: int
    #: Who leads.
    holder: str
    #: Of the stream of changes: its newest entry.
    newest: str


def lead(keys: SchedulerKeys, name: str, lease_ms: int, forget_ms: int) -> Call[Lead]:
    """Takes or renews the lease, if nobody else has it. Harmless to repeat."""
    return Call(
        script("lead"),
        (keys.lease, keys.leader, keys.members, keys.changes),
        (name, lease_ms, forget_ms),
        lambda reply: Lead(reply[0], reply[1], reply[2], reply[3].decode(), reply[4].decode()),
    )


def leads(keys: SchedulerKeys) -> Call[int]:
    """The epoch. On a leader's connections: fails unless it leads still."""
    return Call(script("leads"), (keys.leader,), (), int)


def abdicate(keys: SchedulerKeys, name: str) -> Call[int]:
    """Gives the lease up, if the process has it. Harmless to repeat."""
    return Call(script("abdicate"), (keys.lease, keys.members, keys.changes), (name,), int)


class Change(NamedTuple):
    """One schedule to define, or to remove."""

    name: str
    #: What must be stored now; empty for nothing, None for anything.
    expected: str | None
    #: What is stored from now on; None removes it.
    definition: str | None
    timing: str = ""


def apply(keys: SchedulerKeys, who: str, most: int, changes: Sequence[Change]) -> Call[list[str]]:
    """Does all of the changes, or none; tells what became of each, or why nothing was done."""
    names = [keys.schedules, keys.changes]
    args: list[Any] = [who, most]
    for name, expected, definition, timing in changes:
        names += (keys.state(name), keys.runs(name), keys.history(name))
        action = "drop" if definition is None else "put"
        args += (action, name, "*" if expected is None else expected, definition or "", timing)
    return Call(
        script("schedule_apply"), names, args, lambda reply: [one.decode() for one in reply]
    )


def act(keys: SchedulerKeys, name: str, action: Action, who: str) -> Call[str]:
    """Pauses, resumes or asks for a run: `done`, `same` or `unknown`."""
    return Call(
        script("schedule_act"),
        (keys.schedules, keys.state(name), keys.changes),
        (name, action, who),
        lambda reply: bytes(reply).decode(),
    )


class Begun(NamedTuple):
    """What became of a plan."""

    #: `begun`, `noted`, `busy` or `stale`.
    what: str
    number: int = 0
    #: The server's clock, ms.
    now_ms: int = 0


def begin(
    keys: SchedulerKeys,
    name: str,
    *,
    definition: str,
    cursor: int,
    plan: Plan,
    asked: str,
    max_running: int,
    who: str,
    history: int,
) -> Call[Begun]:
    """Begins the run of a plan, or notes what it found missed. By itself not harmless to repeat:
    once done it is `stale`.

    Parameters:
      cursor: What was planned with.
      asked: The wish that the run fulfils; empty if it is one of the schedule's own.
      history: How many entries the history keeps.
    """
    return Call(
        script("run_begin"),
        (keys.schedules, keys.state(name), keys.runs(name), keys.history(name)),
        (
            name,
            definition,
            cursor,
            plan.cursor,
            "" if plan.run is None else plan.run.time,
            asked,
            plan.missed,
            plan.first_missed,
            plan.last_missed,
            max_running,
            who,
            history,
        ),
        lambda reply: Begun(reply[0].decode(), *reply[1:]),
    )


def repeat(keys: SchedulerKeys, name: str, number: int, who: str) -> Call[int]:
    """Counts one more attempt of a run; 0 if it has ended."""
    return Call(script("run_repeat"), (keys.runs(name),), (number, who), int)


class RunEnd(NamedTuple):
    """The end of one run."""

    name: str
    number: int
    outcome: str
    detail: str
    #: How many entries the history keeps.
    history: int

    def keys(self, keys: SchedulerKeys) -> tuple[str, ...]:
        return (
            keys.schedules,
            keys.state(self.name),
            keys.runs(self.name),
            keys.history(self.name),
        )


def end(keys: SchedulerKeys, run: RunEnd) -> Call[int]:
    """Records how a run ended; 0 if it had ended before. Harmless to repeat."""
    args = (run.name, run.number, run.outcome, run.detail, run.history)
    return Call(script("run_end"), run.keys(keys), args, int)


def publish(keys: SchedulerKeys, run: RunEnd, event: Call[list[Appended]]) -> Call[Appended | None]:
    """Publishes one event and ends the run as done; None if it had ended before. If the event is
    refused, the run goes on. Harmless to repeat.

    Parameters:
      event: The call that would publish it alone.
    """

    def parse(reply: Any) -> Appended | None:
        return None if reply == b"" else event.parse([reply])[0]

    args = (run.name, run.number, run.detail, run.history, *event.args)
    return Call(script("run_publish"), (*run.keys(keys), *event.keys), args, parse)


def enqueue(keys: SchedulerKeys, run: RunEnd, message: Call[Added]) -> Call[Added]:
    """Enqueues one message and ends the run as done; `accepted` is -1 if it had ended before, 0 if
    there is no room: the run goes on. Harmless to repeat.

    Parameters:
      message: The call that would enqueue it alone.
    """
    args = (run.name, run.number, run.detail, run.history, *message.args)
    return Call(script("run_enqueue"), (*run.keys(keys), *message.keys), args, message.parse)
