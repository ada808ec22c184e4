"""The health of all processes of a namespace, read from the server.

Processes record what they do with their heartbeats; here that is put beside what waits on the
server. It takes a few commands for each process and each known stream, and changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..errors import CommandFailed, UnsafeServer, UnsupportedServer
from .connections import Link
from .guard_state import BreakerState, Halt
from .health import (
    MAX_SILENCE_S,
    SILENT_S,
    HealthReport,
    Problem,
    ProcessHealth,
    QueueWork,
    State,
    decode_record,
    problems_of,
)
from .keys import Keys
from .known_queues import KnownQueue, known_queues
from .scripts import Alive
from .server import check_server
from .wording import counted

__all__ = ["read_health", "server_problem"]


def server_problem(link: Link) -> Problem | None:
    """Why workers would refuse to start on this server; None: they would not.

    Raises:
      BrokerError: The server cannot be reached, or refuses INFO for another reason than its ACL.
    """
    try:
        check_server(link)
    except (UnsafeServer, UnsupportedServer) as error:
        what, _, advice = str(error).partition(". ")
        return Problem("", "", None, what, advice)
    return None


def read_health(
    link: Link,
    keys: Keys,
    *,
    hosts: Collection[str] = (),
    pids: Collection[int] = (),
    queues: Collection[str] = (),
    max_silence_s: float = MAX_SILENCE_S,
    max_running_s: float | None = None,
) -> HealthReport:
    """What the processes of a namespace do, and what is wrong with them.

    With `hosts` or `pids` only those processes are judged, and that there are none is a problem;
    without them also what nobody reads.

    Parameters:
      hosts, pids: Processes to look at; empty: all.
      queues: Queues and subscriptions to look at; empty: all that are known.
      max_silence_s: How long something may make no progress though it could, seconds.
      max_running_s: How long a handler may run, seconds; None: for ever.

    Raises:
      BrokerError: The server cannot be reached or refuses.
    """
    seconds, micros = link.send("TIME")
    now_ms = int(seconds) * 1000 + int(micros) // 1000
    flat = link.send("HGETALL", keys.members.alive)
    everybody = [
        _process(consumer.decode(), Alive.parse(text), now_ms)
        for consumer, text in sorted(zip(flat[::2], flat[1::2], strict=True))
    ]
    chosen = [
        one
        for one in everybody
        if (not hosts or one.host in hosts) and (not pids or one.pid in pids)
    ]
    readers = _readers(link, keys, [one for one in everybody if one.silent_s <= SILENT_S])
    work = {
        name: _work(link, keys, queue, readers[name], now_ms)
        for name, queue in known_queues(link, keys).items()
        if not queues or name in queues
    }
    problems: list[Problem] = []
    for one in chosen:
        found = problems_of(one, max_silence_s=max_silence_s, max_running_s=max_running_s)
        problems += [two for two in found if not queues or two.queue in (*queues, "")]
        problems += _starving(one, work, max_silence_s)
    if hosts or pids:
        problems += _missing(chosen, hosts, pids)
    else:
        problems += [_unread(one) for one in work.values() if _is_unread(one, queues)]
    problems += [
        Problem("", name, None, "no process has ever read it", "Is its name right?")
        for name in queues
        if name not in work
    ]
    return HealthReport(chosen, problems, list(work.values()), _notes(link, keys))


def _notes(link: Link, keys: Keys) -> list[str]:
    """What is halted or open waits because somebody, or a rule, wants it so: no problem."""
    # Plain commands, as all the others here: whoever looks may not be allowed to run scripts.
    halts, breakers = (
        sorted((name.decode(), text) for name, text in zip(flat[::2], flat[1::2], strict=True))
        for flat in (
            link.send("HGETALL", keys.guards.halts),
            link.send("HGETALL", keys.guards.breakers),
        )
    )
    states = [BreakerState.parse(name, text) for name, text in breakers]
    return [
        *(str(Halt.parse(scope, text)) for scope, text in halts),
        *(str(state) for state in states if state.state != "closed"),
    ]


def _process(consumer: str, alive: Alive, now_ms: int) -> ProcessHealth:
    try:
        health = decode_record(alive.record)
    except ValueError:
        # It has not sent one yet, or is of another release: that it lives is all that is known.
        health = ProcessHealth(consumer, recorded=False)
    return replace(health, consumer=consumer, silent_s=max(0, now_ms - alive.beat_ms) / 1000)


def _readers(link: Link, keys: Keys, processes: Sequence[ProcessHealth]) -> Counter[str]:
    """How many processes read each queue. They say so before they begin."""
    commands = [("HKEYS", keys.members.reads(one.consumer)) for one in processes]
    replies = link.send_many(commands) if commands else []
    return Counter(name.decode() for names in replies for name in names)


def _work(link: Link, keys: Keys, queue: KnownQueue, readers: int, now_ms: int) -> QueueWork:
    unread = pending = 0
    since: list[int] = []
    for source in queue.sources:
        more, held, first_ms = _unread_entries(link, source.keys.entries, source.group)
        unread += more
        pending += held
        since += [at for at in (first_ms, _first_due(link, source.keys.parked)) if at]
    if not queue.is_subscription:
        delayed = _first_due(link, keys.queue(queue.name).delayed)
        since += [delayed] if delayed else []
    ready_ms = min((at for at in since if at <= now_ms), default=None)
    return QueueWork(
        name=queue.name,
        readers=readers,
        unread=unread,
        pending=pending,
        ready_s=0.0 if ready_ms is None else (now_ms - ready_ms) / 1000,
    )


def _unread_entries(link: Link, entries: str, group: str) -> tuple[int, int, int | None]:
    """Unread (1 where the server cannot count them) and pending entries, and the server's clock
    when the first unread one was added, ms."""
    try:
        groups: list[list[Any]] = link.send("XINFO", "GROUPS", entries)
    except CommandFailed:
        return 0, 0, None  # no such stream
    for fields in groups:
        info = dict(zip(fields[::2], fields[1::2], strict=True))
        if info[b"name"] != group.encode():
            continue
        after = b"(" + info[b"last-delivered-id"]
        first = link.send("XRANGE", entries, after, "+", "COUNT", 1)
        if not first:
            return 0, int(info[b"pending"]), None
        entry_id, values = first[0]
        added = dict(zip(values[::2], values[1::2], strict=True)).get(b"a", b"")
        at_ms = int(added) // 1000 if added.isdigit() else int(entry_id.partition(b"-")[0])
        return max(1, int(info.get(b"lag") or 0)), int(info[b"pending"]), at_ms
    return 0, 0, None


def _first_due(link: Link, key: str) -> int | None:
    first = link.send("ZRANGE", key, 0, 0, "WITHSCORES")
    return int(float(first[1])) if first else None


def _starving(
    process: ProcessHealth, work: Mapping[str, QueueWork], max_silence_s: float
) -> list[Problem]:
    """Queues in which entries are ready, and of which this process could take some."""
    found: list[Problem] = []
    for queue in process.queues:
        waits = work.get(queue.name)
        if waits is None or process.silent_s > SILENT_S or queue.state is not State.READING:
            continue
        since_s = min(waits.ready_s, queue.idle_s)
        if since_s > max_silence_s and queue.unread_s <= max_silence_s:
            what = "entries are ready, there is room, and none is taken"
            found.append(Problem(process.shown, queue.name, since_s, what, "Restart it."))
    return found


def _missing(
    chosen: Sequence[ProcessHealth], hosts: Collection[str], pids: Collection[int]
) -> list[Problem]:
    absent = [f"process {pid}" for pid in pids if all(one.pid != pid for one in chosen)]
    if not pids:
        absent = [f"host {host}" for host in hosts if all(one.host != host for one in chosen)]
    return [
        Problem(
            name,
            "",
            None,
            "no such worker process is recorded",
            "It has not begun to read, has ended, or was found dead: look whether it runs.",
        )
        for name in absent
    ]


def _is_unread(work: QueueWork, queues: Collection[str]) -> bool:
    waits = bool(work.unread or work.pending or work.ready_s)
    return work.readers == 0 and (waits or work.name in queues)


def _unread(work: QueueWork) -> Problem:
    waiting = work.unread + work.pending
    return Problem(
        "",
        work.name,
        work.ready_s or None,
        f"nobody reads it, and {counted(waiting, 'entry waits', 'entries wait')}"
        if waiting
        else "nobody reads it",
        "Start a worker that declares it.",
    )
