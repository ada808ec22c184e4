"""Is there a scheduler process that does its work? For `streamatiq health`; starts nothing."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from itertools import islice

from ..broker.connections import Link
from ..broker.health import SILENT_S, Problem
from ..broker.keys import SchedulerKeys
from ..broker.wording import counted
from ..errors import InvalidSchedule
from .definition import Schedule
from .planning import delay_by_name
from .store import read_definitions, read_state

__all__ = ["SchedulerHealth", "SchedulerMember", "read_scheduler_health"]

#: Most schedules that are looked at, whether they are late.
MOST_LOOKED_AT = 1000
#: In the place of a process, where the problem is no process's.
NO_PROCESS = ""


@dataclass(frozen=True, slots=True)
class SchedulerMember:
    """One scheduler process."""

    #: `host:pid:token`
    name: str
    #: Since it was last heard of, seconds.
    silent_s: float
    leads: bool

    @property
    def host(self) -> str:
        return self.name.rsplit(":", 2)[0]

    @property
    def pid(self) -> int:
        return int(self.name.rsplit(":", 2)[1])


@dataclass(frozen=True, slots=True)
class SchedulerHealth:
    """The scheduler processes of a namespace."""

    members: list[SchedulerMember] = field(default_factory=list)
    #: How many schedules are defined.
    schedules: int = 0
    problems: list[Problem] = field(default_factory=list)


def read_scheduler_health(
    link: Link,
    keys: SchedulerKeys,
    *,
    max_silence_s: float,
    hosts: Collection[str] = (),
    pids: Collection[int] = (),
    wanted: bool = False,
) -> SchedulerHealth:
    """Looks at the scheduler processes, and whether schedules fire.

    Parameters:
      max_silence_s: How late a fire time may be, seconds.
      hosts, pids: Only those processes; the schedules are not looked at then.
      wanted: That there is no such process is a problem, also without schedules.

    Raises:
      BrokerError: The server cannot be reached or refused.
    """
    seconds, micros = link.send("TIME")
    now_ms = int(seconds) * 1000 + int(micros) // 1000
    holder = (link.send("GET", keys.lease) or b"").decode()
    heard = link.send("HGETALL", keys.members)
    members = [
        SchedulerMember(name.decode(), max(0.0, (now_ms - int(ms)) / 1000), name.decode() == holder)
        for name, ms in zip(heard[::2], heard[1::2], strict=True)
    ]
    narrowed = bool(hosts or pids)
    members = [
        one for one in members if (not hosts or one.host in hosts) and (not pids or one.pid in pids)
    ]
    living = [one for one in members if one.silent_s <= SILENT_S]
    definitions = read_definitions(link, keys)
    problems: list[Problem] = []
    if wanted and not living:
        problems.append(
            Problem(
                NO_PROCESS,
                "",
                None,
                "No scheduler process was heard of" + (" there" if narrowed else ""),
                "Start one: streamatiq scheduler.",
            )
        )
    elif not narrowed and definitions and not holder:
        count = counted(len(definitions), "schedule is defined", "schedules are defined")
        problems.append(
            Problem(
                NO_PROCESS,
                "",
                None,
                f"{count}, and no scheduler process leads",
                "Start one: streamatiq scheduler.",
            )
        )
    elif not narrowed:
        problems += _late(link, keys, definitions, now_ms, max_silence_s)
    members.sort(key=lambda one: (not one.leads, one.name))
    return SchedulerHealth(members, len(definitions), problems)


def _late(
    link: Link, keys: SchedulerKeys, definitions: dict[str, str], now_ms: int, max_s: float
) -> list[Problem]:
    problems = []
    for name, text in islice(definitions.items(), MOST_LOOKED_AT):
        try:
            schedule = Schedule.from_json(text)
        except InvalidSchedule as error:
            what = f"schedule {name!r} cannot be read here and perhaps not there: {error}"
            problems.append(Problem(NO_PROCESS, "", None, what, "Define it anew."))
            continue
        state = read_state(link, keys, name)
        if state.paused or not state.cursor or len(state.runs) >= schedule.max_running:
            continue
        upcoming = schedule.fire_times(state.cursor)
        if upcoming is None:
            continue
        late_s = (now_ms - upcoming - delay_by_name(name, schedule.jitter)(upcoming)) / 1000
        if late_s > max_s:
            what = f"schedule {name!r} is due for {late_s:.0f} s and does not run"
            advice = "Restart the scheduler process that leads; see its log."
            problems.append(Problem(NO_PROCESS, "", late_s, what, advice))
    return problems
