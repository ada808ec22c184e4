"""All that a server holds of one namespace, read in one go and in a form that can be compared."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import redis
from pydantic_core import from_json
from tests.integration.state_machine.shapes import Layout

from streamatiq.broker.keys import LogKeys
from streamatiq.broker.sources import Source

#: Runs read-only commands (number of arguments, arguments, ...); returns {number, reply} of those
#: that found something. EACH is a command of ours: key, fields, ... of all hashes of a pattern. One
#: call, because a snapshot is taken after each step.
_READ = """#!lua flags=no-writes,allow-oom
local replies, a, n = {}, 1, 0
while a <= #ARGV do
  local count = tonumber(ARGV[a])
  local command = {}
  for i = 1, count do command[i] = ARGV[a + i] end
  a, n = a + 1 + count, n + 1
  local reply = {}
  if command[1] == 'EACH' then
    for _, key in ipairs(redis.call('KEYS', command[2])) do
      reply[#reply + 1] = key
      reply[#reply + 1] = redis.call('HKEYS', key)
    end
  else
    reply = redis.pcall(unpack(command)) -- of another type: as if it were not there
  end
  if reply and (type(reply) ~= 'table' or #reply > 0) then replies[#replies + 1] = {n, reply} end
end
return replies
"""

#: Commands that are asked of each source.
ASKED = 12

__all__ = ["Observed", "Snapshot", "entry_order", "payload"]


@dataclass(slots=True)
class Observed:
    """What one source shows."""

    unread: list[bytes]
    #: Entry id -> (owner, deliveries).
    pending: dict[bytes, tuple[str, int]]
    parked: dict[bytes, float]
    options: dict[bytes, bytes]
    suspects: set[bytes]
    running: bytes
    marks: tuple[set[bytes], set[bytes]]
    #: Business keys, young and old ones: what stands there.
    keys: tuple[dict[str, str], dict[str, str]]
    owner: str
    epoch: int
    token: int


@dataclass(slots=True)
class Snapshot:
    """Everything, by key; sources by (entries key, group)."""

    now_ms: float = 0.0
    #: (entry id, payload), in order.
    streams: dict[str, list[tuple[bytes, bytes]]] = field(default_factory=dict)
    ids: dict[str, tuple[set[bytes], set[bytes]]] = field(default_factory=dict)
    sources: dict[tuple[str, str], Observed] = field(default_factory=dict)
    #: Queue -> member -> (due, message).
    delayed: dict[str, dict[str, tuple[float, bytes]]] = field(default_factory=dict)
    cancelled: dict[str, set[str]] = field(default_factory=dict)
    #: (entry id, cause), in order.
    dead: dict[str, list[tuple[bytes, str]]] = field(default_factory=dict)
    #: (consumer, batch number, entries), in order.
    audit: dict[str, list[tuple[str, int, int]]] = field(default_factory=dict)
    alive: set[str] = field(default_factory=set)
    reads: dict[str, set[str]] = field(default_factory=dict)
    lease: str = ""
    fences: set[str] = field(default_factory=set)
    #: Group -> consumers.
    claimants: dict[str, set[str]] = field(default_factory=dict)

    @classmethod
    def take(cls, client: redis.Redis, layout: Layout, logs: dict[str, LogKeys]) -> Snapshot:
        """Reads all. `logs`: the logs' streams by their entries key."""
        seen = cls()
        members = layout.keys.members
        sources = [one for group in layout.groups for one in layout.sources[group]]
        streams = list(dict.fromkeys(one.keys.entries for one in sources))
        read = _Reader()
        read.ask("TIME")
        read.ask("HKEYS", members.alive)
        read.ask("GET", members.lease)
        read.ask("EACH", members.reads("*"))
        read.ask("KEYS", f"{{{layout.keys.namespace}:*:fence:*")
        owned = sorted(layout.owned)
        for group in owned:
            read.ask("HKEYS", members.claimants(group))
        for key in streams:
            read.ask("XRANGE", key, "-", "+")
            read.ask("XINFO", "GROUPS", key)
        for log in logs.values():
            read.ask("HKEYS", log.ids)
            read.ask("HKEYS", log.ids_old)
        for source in sources:
            _ask_source(read, source)
        for work in layout.work.values():
            read.ask("ZRANGE", work.keys.delayed, "0", "-1", "WITHSCORES")
            read.ask("HGETALL", work.keys.delayed_messages)
            read.ask("ZRANGE", work.keys.cancelled, "0", "-1")
        dead = list(dict.fromkeys(one.keys.dead for one in sources))
        audit = list(dict.fromkeys(one.keys.audit for one in sources if one.is_log))
        for key in dead + audit:
            read.ask("XRANGE", key, "-", "+")
        replies = iter(read.run(client))

        seconds, microseconds = next(replies)
        seen.now_ms = int(seconds) * 1000 + int(microseconds) / 1000
        seen.alive = {one.decode() for one in next(replies)}
        seen.lease = (next(replies) or b"").decode()
        prefix = members.reads("")
        seen.reads = {
            key.decode().removeprefix(prefix): {one.decode() for one in fields}
            for key, fields in _pairs(next(replies)).items()
        }
        seen.fences = {one.decode() for one in next(replies)}
        seen.claimants = {group: {one.decode() for one in next(replies)} for group in owned}
        groups: dict[str, dict[str, bytes]] = {}
        for key in streams:
            seen.streams[key] = [(one, payload(fields)) for one, fields in next(replies)]
            infos = [_pairs(one) for one in next(replies)]
            groups[key] = {one[b"name"].decode(): one[b"last-delivered-id"] for one in infos}
        for key in logs:
            seen.ids[key] = (set(next(replies)), set(next(replies)))
        for source in sources:
            key = source.keys.entries
            last = groups[key].get(source.group, b"0-0")
            entries = [one for one, _ in seen.streams[key]]
            seen.sources[key, source.group] = _source(list(islice(replies, ASKED)), entries, last)
        for name in layout.work:
            dues, messages = _pairs(next(replies)), _pairs(next(replies))
            seen.delayed[name] = {
                one.decode(): (float(dues.get(one, -1)), messages.get(one, b""))
                for one in dues.keys() | messages.keys()
            }
            seen.cancelled[name] = {one.decode() for one in next(replies)}
        for key in dead:
            letters = [_pairs(fields) for _, fields in next(replies)]
            seen.dead[key] = [(one[b"entry"], one[b"cause"].decode()) for one in letters]
        for key in audit:
            records = [from_json(_pairs(fields)[b"r"]) for _, fields in next(replies)]
            seen.audit[key] = [(one["writer"], one["batch"], one["n"]) for one in records]
        return seen


class _Reader:
    """Commands to run in one call."""

    def __init__(self) -> None:
        self._args: list[str] = []
        self._count = 0

    def ask(self, *command: str) -> None:
        self._args += (str(len(command)), *command)
        self._count += 1

    def run(self, client: redis.Redis) -> list[Any]:
        """Their replies; an empty list where there is nothing."""
        replies: list[Any] = [[] for _ in range(self._count)]
        found: Any = client.eval(_READ, 0, *self._args)
        for number, reply in found:
            replies[number - 1] = reply
        return replies


def _pairs(flat: list[Any]) -> dict[bytes, Any]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def payload(fields: Any) -> bytes:
    """What an entry carries: its field `d` or `m`; of one that is not ours, all."""
    pairs = (
        fields if isinstance(fields, dict) else dict(zip(fields[::2], fields[1::2], strict=True))
    )
    for name in (b"d", b"m"):
        if name in pairs:
            return bytes(pairs[name])
    return b" ".join(part for pair in pairs.items() for part in pair)


def _ask_source(read: _Reader, source: Source) -> None:
    keys = source.keys
    read.ask("XPENDING", keys.entries, source.group, "-", "+", "10000")
    read.ask("ZRANGE", keys.parked, "0", "-1", "WITHSCORES")
    read.ask("HGETALL", keys.options)
    read.ask("ZRANGE", keys.suspects, "0", "-1")
    read.ask("GET", keys.suspect)
    read.ask("HKEYS", keys.done)
    read.ask("HKEYS", keys.done_old)
    read.ask("HGETALL", keys.keys)
    read.ask("HGETALL", keys.keys_old)
    for key in (keys.owner, keys.epoch, keys.token):
        read.ask("GET", key)


def _source(replies: list[Any], entries: list[bytes], last: bytes) -> Observed:
    pending, parked, options, suspects, running, young, old, *more = replies
    keys, keys_old, owner, epoch, token = more
    return Observed(
        unread=[one for one in entries if entry_order(one) > entry_order(last)],
        pending={entry: (owner.decode(), count) for entry, owner, _, count in pending},
        parked={one: float(due) for one, due in _pairs(parked).items()},
        options=_pairs(options),
        suspects=set(suspects),
        running=running or b"",
        marks=(set(young), set(old)),
        keys=(_standings(keys), _standings(keys_old)),
        owner=(owner or b"").decode(),
        epoch=int(epoch or 0),
        token=int(token or 0),
    )


def _standings(fields: Any) -> dict[str, str]:
    """Business keys. Which entry has done one is noted for restoring alone."""
    return {key: "d" if stood.startswith("d ") else stood for key, stood in _texts(fields).items()}


def _texts(flat: list[Any]) -> dict[str, str]:
    return {name.decode(): text.decode() for name, text in _pairs(flat).items()}


def entry_order(entry_id: bytes) -> tuple[int, int]:
    """What entry ids are compared by."""
    ms, _, sequence = entry_id.partition(b"-")
    return int(ms), int(sequence)
