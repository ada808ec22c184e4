"""Is the work being done? What a process records of itself, and what is wrong with it.

Healthy is: a handler that runs for hours, a queue that is idle for days, a worker that is paused, a
server that is down (nothing can be done here then, and everything goes on once it answers).

Not healthy is a thread that has died, or anything that could go on and does not: an intake with
room that completes no read, a consumer thread that asks for nothing, deliveries that wait while a
worker thread is free, settlements that make no progress while heartbeats do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

from pydantic import TypeAdapter

from .wording import counted

__all__ = [
    "MAX_SILENCE_S",
    "SILENT_S",
    "HealthReport",
    "Problem",
    "ProcessHealth",
    "QueueHealth",
    "QueueWork",
    "State",
    "decode_record",
    "encode_record",
    "problems_of",
]

#: Seconds without progress after which something that could go on is stuck. A lost connection is
#: noticed within 13 s (a read may block for 8, and its reply may take 5 more), and looks are 3 s
#: apart.
MAX_SILENCE_S = 20.0
#: Seconds without a heartbeat (they come every 3 s) after which a process is reported.
SILENT_S = 6.5


class State(Enum):
    """What an intake does."""

    #: It has not been asked for anything yet.
    NEW = "new"
    #: It has room: it reads, or waits for entries.
    READING = "reading"
    #: It holds what the handlers can run, and waits for room.
    FULL = "full"
    #: Nobody asks it for anything.
    PAUSED = "paused"


@dataclass(frozen=True, slots=True)
class QueueHealth:
    """One queue or subscription in one process. Times are seconds, 0 where all is well."""

    name: str
    state: State
    #: Entries that were claimed: waiting in this process, or handed out.
    held: int
    #: Of those, with Dramatiq: waiting for a thread, running, or being settled.
    handed_out: int
    #: For how long it has had room and completed no read.
    unread_s: float
    #: For how long it has had room and found no entry.
    idle_s: float
    #: For how long Dramatiq's consumer thread, which is not paused, has asked for nothing.
    unasked_s: float
    #: Whether the intake's thread lives, if it was started.
    intake: bool
    #: Whether Dramatiq's consumer thread lives, if there is one.
    consumer: bool
    #: Why it could not read, the last time.
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class ProcessHealth:
    """One worker process. Times are seconds."""

    #: `host:pid:token`
    consumer: str
    queues: list[QueueHealth] = field(default_factory=list)
    #: Dramatiq's worker threads; 0 where deliveries are taken by other means.
    threads: int = 0
    threads_alive: int = 0
    #: Deliveries whose handlers have begun and which are not settled.
    running: int = 0
    #: For how long the oldest of them runs, and what it is.
    running_s: float = 0.0
    running_what: str = ""
    #: For how long deliveries have been handed out, a thread been free, and none begun.
    unstarted_s: float = 0.0
    #: Outcomes that wait for the server, and for how long none was taken.
    unsettled: int = 0
    unsettled_s: float = 0.0
    #: Whether the committer's thread lives.
    committer: bool = True
    #: Since its last heartbeat.
    silent_s: float = 0.0
    #: Whether it has sent a record that we can read: without one only its heartbeat is known.
    recorded: bool = True

    @property
    def host(self) -> str:
        return self.consumer.rsplit(":", 2)[0]

    @property
    def pid(self) -> int:
        return int(self.consumer.rsplit(":", 2)[1])

    @property
    def shown(self) -> str:
        """Host and process, as messages name it."""
        return f"process {self.pid} on {self.host}"


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that does not go on by itself."""

    #: Who has it: `process PID on HOST`, or empty where none has. With an empty queue too it
    #: concerns the server, or the namespace.
    process: str
    #: The queue or subscription; empty where it concerns all of the process.
    queue: str
    #: For how long, seconds, as far as was seen; None where that is not known.
    since_s: float | None
    #: What is wrong.
    what: str
    #: What to do next.
    advice: str

    def __str__(self) -> str:
        where = ", ".join(part for part in (self.process, self.queue and f"{self.queue!r}") if part)
        since = "" if self.since_s is None else f" for {self.since_s:.0f} s"
        return f"{where}{': ' if where else ''}{self.what}{since}. {self.advice}"


@dataclass(frozen=True, slots=True)
class QueueWork:
    """What waits in a queue or subscription on the server."""

    name: str
    #: Processes that read it.
    readers: int
    #: Entries that nobody has taken; at least 1 a stream where the server cannot count them.
    unread: int
    #: Entries in the hands of processes, or put aside for a retry.
    pending: int
    #: For how long the oldest entry has been ready that nobody has taken; 0: there is none.
    ready_s: float


@dataclass(frozen=True, slots=True)
class HealthReport:
    """What was found. Healthy means: no problems."""

    processes: list[ProcessHealth]
    problems: list[Problem]
    #: What waits on the server; empty where it was not asked.
    queues: list[QueueWork] = field(default_factory=list)
    #: What somebody should know, and what is no problem: what is halted, and open breakers.
    notes: list[str] = field(default_factory=list)

    @property
    def healthy(self) -> bool:
        return not self.problems


_record = TypeAdapter(ProcessHealth)

RESTART = "Restart it; what it held runs elsewhere. A stack dump (py-spy) shows where it stands."


def encode_record(health: ProcessHealth) -> bytes:
    """The record that goes with a heartbeat."""
    return _record.dump_json(health)


def decode_record(record: bytes) -> ProcessHealth:
    """Reads a record.

    Raises:
      ValueError: It is none, for example another version's.
    """
    return _record.validate_json(record)


def problems_of(
    health: ProcessHealth,
    *,
    max_silence_s: float = MAX_SILENCE_S,
    max_running_s: float | None = None,
    own: bool = False,
) -> list[Problem]:
    """What is wrong with one process.

    Parameters:
      max_silence_s: How long something may make no progress though it could.
      max_running_s: How long a handler may run; None: for ever.
      own: It is this process: that it is not heard means that the server does not answer it.
    """
    found: list[Problem] = []

    def add(what: str, since_s: float | None = None, queue: str = "", advice: str = "") -> None:
        found.append(Problem(health.shown, queue, since_s, what, advice or RESTART))

    outage = health.silent_s > SILENT_S
    if outage and not own:
        add(
            "no heartbeat",
            health.silent_s,
            advice="It is stopped, cut off from the server, or dead; what it holds runs elsewhere "
            "once another process finds it dead. Look at the process.",
        )
        return found  # the rest of its record is old
    if not health.committer:
        add("its committer thread has died: nothing is settled")
    elif health.unsettled_s > max_silence_s and not outage:
        outcomes = counted(health.unsettled, "outcome is", "outcomes are")
        add(f"{outcomes} not settled", health.unsettled_s)
    if health.threads_alive < health.threads:
        dead = health.threads - health.threads_alive
        have = "has" if dead == 1 else "have"
        add(f"{dead} of {counted(health.threads, 'worker thread')} {have} died")
    if health.unstarted_s > max_silence_s:
        add("deliveries wait though a worker thread is free", health.unstarted_s)
    if max_running_s is not None and health.running_s > max_running_s:
        queue = health.running_what.partition(": ")[0]
        add(
            f"{health.running_what.rpartition(': ')[2]} runs",
            health.running_s,
            queue,
            f"Longer than {max_running_s:g} s: look what it waits for.",
        )
    for one in health.queues:
        found += _queue_problems(health, one, max_silence_s, outage)
    return found


def _queue_problems(
    health: ProcessHealth, queue: QueueHealth, max_silence_s: float, outage: bool
) -> Sequence[Problem]:
    def problem(what: str, since_s: float | None = None, advice: str = RESTART) -> list[Problem]:
        return [Problem(health.shown, queue.name, since_s, what, advice)]

    if not queue.intake:
        return problem("its intake thread has died: nothing is read")
    if not queue.consumer:
        return problem("Dramatiq's consumer thread has died: nothing is handed out")
    if queue.unread_s > max_silence_s and not outage:
        if queue.trouble:
            return problem("cannot read", queue.unread_s, queue.trouble)
        return problem("there is room, and no read has ended", queue.unread_s)
    if queue.unasked_s > max_silence_s:
        return problem("Dramatiq's consumer thread asks for nothing", queue.unasked_s)
    return []
