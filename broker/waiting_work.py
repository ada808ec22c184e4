"""What waits on the server, stream by stream: for metrics, so with few commands.

A look takes three round trips at most. Of a stream where nothing waits, and of which everything was
settled, it asks one command, whatever the number of its subscriptions; and one, for the whole
namespace, whether there is any dead letter or delayed message. It changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import redis

from ..errors import CommandFailed, WrongKeyType
from .connections import Link
from .faults import fault
from .keys import Keys
from .known_queues import known_queues
from .members import ReadSource

__all__ = ["Look", "StreamWork", "look_at_work"]

#: Commands a second and queue that idle queues may cost, beside what their readers ask.
A_QUEUE = 0.4
#: Longest time between two looks, seconds: many partitions cost more than that.
LONGEST_S = 60.0
#: Commands in one round trip.
PAGE = 500


@dataclass(slots=True)
class StreamWork:
    """What one subscription has to do on one stream, or a queue in one lane.

    Parameters:
      source: Which one.
      unread: Entries that nobody has claimed; 1 where the server cannot count them.
      pending: Claimed and not settled: running, waiting in a process, parked.
      parked: Of these: put aside for a retry, or handed back.
      oldest_unread_s: For how long the oldest unread one has been there, seconds; 0 if none is.
      oldest_pending_s: The same of the pending ones.
    """

    source: ReadSource
    unread: int = 0
    pending: int = 0
    parked: int = 0
    oldest_unread_s: float = 0.0
    oldest_pending_s: float = 0.0


@dataclass(slots=True)
class Look:
    """What one look has found.

    Parameters:
      streams: Every stream that a queue or subscription of the namespace reads, or once read.
      dead: Dead letters of each source that has any; those of a queue count for its first lane.
      delayed: Delayed messages of each work queue that has any.
      queues: How many queues and subscriptions there are.
      commands: How many commands were asked.
    """

    streams: list[StreamWork] = field(default_factory=list)
    dead: dict[str, tuple[ReadSource, int]] = field(default_factory=dict)
    delayed: dict[str, int] = field(default_factory=dict)
    queues: int = 0
    commands: int = 0

    def pause_s(self, every_s: float) -> float:
        """Seconds until the next look: `every_s`, or longer where nothing waits and a look asks
        more than idle queues may cost."""
        if any(one.unread or one.pending for one in self.streams) or not self.queues:
            return every_s
        return max(every_s, min(LONGEST_S, self.commands / (A_QUEUE * self.queues)))


def look_at_work(link: Link, keys: Keys) -> Look:
    """Looks at everything that was ever read in a namespace. Not one moment: the commands follow
    one another.

    Raises:
      BrokerError: The server cannot be reached or refuses.
    """
    known = known_queues(link, keys)
    look = Look(queues=len(known), commands=1)
    sources = [source for queue in known.values() for source in queue.sources]
    dead = {source.keys.dead: source for source in reversed(sources)}
    delayed = {
        keys.queue(queue.name).delayed: queue.name
        for queue in known.values()
        if not queue.is_subscription
    }
    streams = sorted({source.keys.entries for source in sources})
    if not sources:
        return look
    rounds = _Rounds(link, look)
    now_ms = 0
    count_rest = False

    def tell_time(reply: Any) -> None:
        nonlocal now_ms
        now_ms = int(reply[0]) * 1000 + int(reply[1]) // 1000

    def tell_rest(reply: Any) -> None:
        nonlocal count_rest
        count_rest = bool(reply)

    groups: dict[tuple[str, bytes], dict[bytes, Any]] = {}

    def tell_groups(stream: str) -> Callable[[Any], None]:
        def told(reply: Any) -> None:
            for fields in reply or ():
                info = dict(zip(fields[::2], fields[1::2], strict=True))
                groups[stream, info[b"name"]] = info

        return told

    rounds.ask(("TIME",), tell_time)
    rounds.ask(("EXISTS", *dead, *delayed), tell_rest)
    for stream in streams:
        rounds.ask(("XINFO", "GROUPS", stream), tell_groups(stream))
    rounds.go()
    for source in sources:
        work = StreamWork(source)
        look.streams.append(work)
        info = groups.get((source.keys.entries, source.group.encode()))
        if info is not None:
            _ask_more(rounds, work, info, now_ms)
    if count_rest:
        for key, source in dead.items():
            rounds.ask(("XLEN", key), _count_dead(look, source))
        for key, name in delayed.items():
            rounds.ask(("ZCARD", key), _count_delayed(look, name))
    rounds.go()
    rounds.go()
    return look


class _Rounds:
    """Commands of a round trip, and who is told their replies. Those may ask for the next one."""

    def __init__(self, link: Link, look: Look) -> None:
        self._link = link
        self._look = look
        self._asked: list[tuple[Sequence[Any], Callable[[Any], None]]] = []

    def ask(self, command: Sequence[Any], told: Callable[[Any], None]) -> None:
        self._asked.append((command, told))

    def go(self) -> None:
        """Tells None where the key or the group is not there, or is something else.

        Raises:
          BrokerError: The server cannot be reached, or does not allow it.
        """
        asked, self._asked = self._asked, []
        self._look.commands += len(asked)
        for page in _pages(asked):
            replies = self._link.send_many([command for command, _ in page])
            for (command, told), reply in zip(page, replies, strict=True):
                if isinstance(reply, redis.RedisError):
                    error = fault(reply, self._link.endpoint.shown, command)
                    if not isinstance(error, CommandFailed | WrongKeyType):
                        raise error from reply
                    told(None)
                else:
                    told(reply)


def _pages(asked: list[Any]) -> Iterator[list[Any]]:
    for at in range(0, len(asked), PAGE):
        yield asked[at : at + PAGE]


def _ask_more(rounds: _Rounds, work: StreamWork, info: dict[bytes, Any], now_ms: int) -> None:
    keys, group = work.source.keys, work.source.group
    work.pending = int(info[b"pending"])
    lag = info.get(b"lag")  # None where the server does not know it

    def tell_unread(reply: Any) -> None:
        if reply:  # else a lag that is too high: somebody has trimmed
            work.unread = max(1, int(lag or 0))
            work.oldest_unread_s = _age_s(reply[0], now_ms)

    def tell_parked(reply: Any) -> None:
        work.parked = int(reply or 0)

    def tell_oldest(reply: Any) -> None:
        if not reply:
            return
        entry_id = reply[0][0]

        def tell_entry(found: Any) -> None:
            work.oldest_pending_s = _age_s(found[0] if found else (entry_id, ()), now_ms)

        rounds.ask(("XRANGE", keys.entries, entry_id, entry_id), tell_entry)

    if lag != 0:
        after = b"(" + info[b"last-delivered-id"]
        rounds.ask(("XRANGE", keys.entries, after, "+", "COUNT", 1), tell_unread)
    if work.pending:
        rounds.ask(("ZCARD", keys.parked), tell_parked)
        rounds.ask(("XPENDING", keys.entries, group, "-", "+", 1), tell_oldest)


def _age_s(entry: Any, now_ms: int) -> float:
    """How long ago an entry was added, by the server's clock; its id tells less: it never steps
    back."""
    entry_id, values = entry
    added = dict(zip(values[::2], values[1::2], strict=True)).get(b"a", b"")
    at_ms = int(added) // 1000 if added.isdigit() else int(entry_id.partition(b"-")[0])
    return max(0.0, (now_ms - at_ms) / 1000)


def _count_dead(look: Look, source: ReadSource) -> Callable[[Any], None]:
    def told(reply: Any) -> None:
        if reply:
            look.dead[source.keys.dead] = (source, int(reply))

    return told


def _count_delayed(look: Look, name: str) -> Callable[[Any], None]:
    def told(reply: Any) -> None:
        if reply:
            look.delayed[name] = int(reply)

    return told
