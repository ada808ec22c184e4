"""Plays steps of the broker's scripts against one server, and tells what the server said.

A step names no entry id: it picks among the entries that this server gave out. So the same steps
can be played against two servers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import redis

from streamatiq import Event, Partitioned
from streamatiq.broker import (
    Scope,
    checkpoint_scripts,
    dead_letter_scripts,
    guard_scripts,
    ownership_scripts,
    retention_scripts,
    scripts,
)
from streamatiq.broker.calls import Call
from streamatiq.broker.connections import Link
from streamatiq.broker.dead_letter_entry import letter_from
from streamatiq.broker.keys import Keys
from streamatiq.broker.reservations import Want, next_token, reserve
from streamatiq.broker.settlements import (
    DONE,
    HAND_BACK,
    Action,
    BusinessKey,
    DeadLetter,
    Emit,
    Enqueue,
    Park,
    Settlement,
    StateWrite,
    settle,
)
from streamatiq.broker.sources import AuditLevel, Source
from streamatiq.broker.subscriptions import Subscription
from streamatiq.broker.work_queues import WorkQueue

__all__ = ["Given", "Item", "Player"]

#: Long enough for nothing to expire or become due meanwhile.
HOUR_MS = 3_600_000
GROUP = "alike"


class Cause(Event, type="alike.cause", log=Partitioned(2)):
    """An event of the log that is read."""


class Effect(Event, type="alike.effect", log=Partitioned(1)):
    """An event that is emitted."""


class Item(NamedTuple):
    """What becomes of one entry of a settled batch.

    Parameters:
      pick: Which of the entries that were given out; also those that were settled since.
      action: done, park, park_now, back, dead.
      emits: Numbers of the events that are emitted.
      delays: A message each, with this delay, ms.
      becomes: What becomes of the business key `a`: d, f, u; or empty for none.
      state: What becomes of the handler's state: `w` written, `r` read, `x` written by one who had
        read another; or empty for none.
    """

    pick: int
    action: str
    emits: tuple[int, ...] = ()
    delays: tuple[int, ...] = ()
    becomes: str = ""
    state: str = ""


class Given(NamedTuple):
    """An entry that a fetch has given out."""

    source: Source
    consumer: str
    entry_id: bytes
    event_id: bytes


def _event_id(number: int) -> bytes:
    return b"event-%010d" % number


def _name(given: Given) -> bytes:
    return given.entry_id if given.source.is_log else b"message"


class Player:
    """One server's side of the comparison."""

    def __init__(self, link: Link, namespace: str) -> None:
        self._link = link
        self.keys = Keys(namespace)
        self._logs = Subscription(GROUP, [Cause], "earliest").sources(
            self.keys, {}, AuditLevel.FULL
        )
        self._queue = WorkQueue(self.keys, "work")
        self._given: list[Given] = []
        self._batch = 0
        self._sequence = 0
        self._last_ms = 0

    def play(self, step: Sequence[Any]) -> Any:
        """Does one step: the name of a method here, and its arguments."""
        return getattr(self, step[0])(*step[1:])

    # -- steps ---------------------------------------------------------------------------------

    def publish(self, part: int, events: Sequence[int], limit: int, shed: bool) -> Any:
        pairs = [(_event_id(number), b'{"n":%d}' % number) for number in events]
        log = self.keys.log("alike.cause", str(part))
        reply = self._run(scripts.publish(log, HOUR_MS, pairs, limit=limit, shed=shed))
        # It would expire after a second, which is a matter of how busy this machine is.
        self._send("PERSIST", log.filled)
        return reply

    def enqueue(self, lanes: Sequence[int], delay_ms: int, repeat: bool, limit: int) -> Any:
        self._sequence += 0 if repeat else 1
        messages = [
            (lane, delay_ms, f"{lane}{self._sequence:04}{i}:m{lane}{i}", b"message %d" % i)
            for i, lane in enumerate(lanes)
        ]
        return self._run(
            scripts.enqueue(
                [source.keys.entries for source in self._queue.sources],
                self._queue.delayed,
                self._queue.keys.wake,
                self._queue.keys.producer("slot"),
                self._sequence,
                messages,
                limit=limit,
            )
        )

    def ensure(self, of_logs: bool, start: str) -> Any:
        sources = self._sources(of_logs)
        streams = [(source.keys.entries, start) for source in sources]
        return self._run(scripts.ensure(sources[0].group, streams))

    def fetch(self, of_logs: bool, consumer: str, room: int, alone: bool) -> Any:
        sources = self._sources(of_logs)
        call = scripts.fetch(
            [source.keys for source in sources],
            None if of_logs else self._queue.delayed,
            group=sources[0].group,
            consumer=consumer,
            room=room,
            alone=alone,
            lanes=not of_logs,
        )
        reply = self._run(call)
        if isinstance(reply, list):
            self._gave(call, reply, sources, consumer, of_logs=of_logs)
        return reply

    def _gave(
        self,
        call: Call[scripts.Fetched],
        reply: Any,
        sources: Sequence[Source],
        consumer: str,
        *,
        of_logs: bool,
    ) -> None:
        for block in call.parse(reply).blocks:
            source = sources[block.source]
            for entry_id, fields in block.entries:
                event_id = _event_id(int(fields[1][5:-1])) if of_logs else b""
                self._given.append(Given(source, consumer, entry_id, event_id))

    def settle(self, items: Sequence[Item], repeat: bool) -> Any:
        if not self._given:
            return None
        self._batch += 0 if repeat and self._batch else 1
        batch = [self._settlement(item) for item in items]
        return self._run(settle("writer", self._batch, HOUR_MS, batch))

    def reserve(self, key: str, picks: Sequence[int], run: str, takes: bool, window_ms: int) -> Any:
        if not self._given:
            return None
        given = [self._given[pick % len(self._given)] for pick in picks]
        source, consumer = given[0].source, given[0].consumer
        others = [] if source.is_log else [one.keys for one in self._queue.sources]
        wants = [Want(key, one.entry_id, run, _name(one), takes) for one in given]
        reply = self._run(
            reserve(
                source.keys,
                [keys for keys in others if keys is not source.keys],
                group=source.group,
                consumer=consumer,
                window_ms=window_ms,
                wants=wants,
            )
        )
        if isinstance(reply, list) and reply[0] != b"FENCED":
            # How long to wait is a matter of milliseconds.
            return [[outcome, delay > 0, stood] for outcome, delay, stood in reply]
        return reply

    def token(self, pick: int) -> Any:
        if not self._given:
            return None
        one = self._given[pick % len(self._given)]
        return self._run(
            next_token(
                one.source.keys,
                group=one.source.group,
                consumer=one.consumer,
                entry_id=one.entry_id,
            )
        )

    def reclaim(self, of_logs: bool, consumer: str, fence: bool, max_deliveries: int) -> Any:
        return [
            self._run(
                scripts.reclaim(
                    source.keys,
                    name=source.name,
                    group=source.group,
                    consumer=consumer,
                    is_log=of_logs,
                    fence=fence,
                    max_deliveries=max_deliveries,
                    page=2,
                )
            )
            for source in self._sources(of_logs)
        ]

    def unfence(self, of_logs: bool, consumer: str) -> Any:
        keys = {source.keys.fence(consumer) for source in self._sources(of_logs)}
        return self._send("DEL", *sorted(keys))

    def cancel(self, message: str) -> Any:
        queue = self._queue
        lanes = [source.keys.entries for source in queue.sources]
        keys = queue.keys
        return self._run(scripts.cancel(keys.cancelled, keys.delayed, lanes, HOUR_MS, [message]))

    def look(self) -> Any:
        queue = self._queue
        lanes = [source.keys for source in queue.sources]
        due = self._run(scripts.peek(lanes, queue.delayed))
        return [
            self._run(scripts.backlog(queue.keys.delayed, lanes)),
            "LATER" if isinstance(due, int) and due > 1000 else due,
        ]

    def flush(self) -> Any:
        lanes = [source.keys for source in self._queue.sources]
        return self._run(scripts.flush(self._queue.delayed[:2], lanes, self._queue.name))

    def beat(self, consumer: str, believed_dead: str) -> Any:
        return self._run(
            scripts.heartbeat(
                self.keys.members, consumer, None, lease_ms=HOUR_MS, believed_dead=believed_dead
            )
        )

    def enlist(self, consumer: str) -> Any:
        return self._run(scripts.enlist(self.keys.members, consumer, "work", b"[]"))

    def own(self, part: int, consumer: str) -> Any:
        return self._run(ownership_scripts.own(self._logs[part].keys, GROUP, consumer))

    def disown(self, part: int, consumer: str) -> Any:
        return self._run(ownership_scripts.disown(self._logs[part].keys, consumer))

    def whereabouts(self, part: int, count: int) -> Any:
        ids = [one.entry_id for one in self._given if one.source is self._logs[part]][-count:]
        return self._run(ownership_scripts.whereabouts(self._logs[part].keys, GROUP, ids))

    def fetch_owned(self, part: int, consumer: str, room: int, nothing_new: bool) -> Any:
        source = self._logs[part]
        call = scripts.fetch(
            [source.keys],
            None,
            group=GROUP,
            consumer=consumer,
            room=room,
            owned=True,
            nothing_new=nothing_new,
        )
        reply = self._run(call)
        if isinstance(reply, list):
            self._gave(call, reply, [source], consumer, of_logs=True)
        return reply

    def claim_share(self, consumer: str) -> Any:
        members = self.keys.members
        return self._run(scripts.enlist(members, consumer, GROUP, b"[]", claims=True))

    def claimants(self) -> Any:
        return self._run(ownership_scripts.claimants(self.keys.members, GROUP))

    def resign(self, consumer: str) -> Any:
        return self._run(ownership_scripts.resign(self.keys.members, GROUP, consumer))

    def forget(self, consumer: str) -> Any:
        return self._run(scripts.forget(self.keys.members, consumer))

    def requeue(self, of_logs: bool, count: int) -> Any:
        found = []
        for source, letters in self._letters(of_logs, count):
            if of_logs:
                call = dead_letter_scripts.requeue_events(source.keys, GROUP, "me", letters)
            else:
                call = dead_letter_scripts.requeue_messages(source.keys, "me", letters)
            found.append(self._run(call))
        return found

    def purge(self, of_logs: bool, count: int) -> Any:
        return [
            self._run(dead_letter_scripts.purge(source.keys, "me", letters))
            for source, letters in self._letters(of_logs, count)
        ]

    def breaker_fails(self, breaker: str, run: str, reset_ms: int) -> Any:
        return self._run(
            guard_scripts.failed(
                self.keys.guards, breaker, run, threshold=2, reset_ms=reset_ms, why="é/w", by="me"
            )
        )

    def breaker_passes(self, breaker: str, run: str) -> Any:
        return self._run(guard_scripts.passed(self.keys.guards, breaker, run, by="me"))

    def breaker_probe(self, breaker: str, run: str, action: str, lease_ms: int) -> Any:
        # What is due after a millisecond is due: each call has one of its own.
        keys = self.keys.guards
        call = guard_scripts.probe(keys, breaker, run, action, lease_ms=lease_ms, by="me")
        return self._run(call)

    def breaker_set(self, breaker: str, to: str, reset_ms: int) -> Any:
        keys = self.keys.guards
        call = guard_scripts.set_breaker(keys, breaker, to, why="w", by="me", reset_ms=reset_ms)
        return self._run(replace(call, args=(*call.args[:-1], "token")))

    def breaker_forget(self, older_ms: int) -> Any:
        return self._run(guard_scripts.forget(self.keys.guards, older_ms, ["a", "b"]))

    def halt(self, key: str, token: str) -> Any:
        call = guard_scripts.halt(self.keys.guards, Scope(key=key), why="w", by="me")
        return self._run(replace(call, args=(*call.args[:-1], token)))

    def resume(self, key: str) -> Any:
        return self._run(guard_scripts.resume(self.keys.guards, Scope(key=key), why="", by="me"))

    def guarded(self) -> Any:
        return self._run(guard_scripts.read(self.keys.guards))

    def layout(self, declared: str) -> Any:
        return self._run(scripts.layout(self.keys.layout("alike.cause"), declared))

    # -- checkpoints and retention -------------------------------------------------------------

    def cut(self, of_one: int, in_all: int) -> Any:
        logs = [self.keys.log("alike.cause", str(part)) for part in range(3)]
        return self._run(checkpoint_scripts.positions(logs, of_one=of_one, in_all=in_all))

    def rewind(self, name: str, pick: int, picks: Sequence[int], dead: Sequence[str]) -> Any:
        if not self._given:
            return None
        given = [one for one in self._given if one.source is self._given[0].source]
        ids = sorted({given[n % len(given)].entry_id.decode() for n in picks})
        at = given[pick % len(given)].entry_id.decode()
        return self._run(
            checkpoint_scripts.rewind(
                self.keys.log("alike.cause", given[0].source.name[-1]).subscription(name),
                name,
                by="me",
                checkpoint="c",
                is_new=name != GROUP,
                last=max(at, *ids) if ids else at,
                read=None,
                pending=ids,
                states={"n": b"01234567bytes"},
                dead=dead,
            )
        )

    def unmark(self, number: int) -> Any:
        keys = self._logs[0].keys
        return self._run(checkpoint_scripts.unmark([keys.done, keys.done_old], [_event_id(number)]))

    def retain(self, aim: int, floor: str, trim: bool) -> Any:
        log = self.keys.log("alike.cause", "0")
        return self._run(retention_scripts.retain(log, aim=aim, floor=floor, page=2, trim=trim))

    def abandon(self) -> Any:
        keys = self._logs[0].keys
        return self._run(retention_scripts.abandon(keys, GROUP, by="me", why="w"))

    def busy(self, token: str, for_ms: int) -> Any:
        return self._run(
            checkpoint_scripts.exclusive(self.keys.checkpoints, token, f"who {token}", for_ms)
        )

    def store(self, name: str) -> Any:
        keys = self.keys.checkpoints
        return self._run(checkpoint_scripts.store(keys, name, b"{}", b"{}", b"{}"))

    def prune(self, stays: str, names: Sequence[str]) -> Any:
        return self._run(checkpoint_scripts.prune(self.keys.checkpoints, stays, b"{}", names))

    def note(self) -> Any:
        return self._run(checkpoint_scripts.note(self.keys.checkpoints, b"{}"))

    def seen(self, read: Sequence[str], others: Sequence[str]) -> Any:
        return self._run(retention_scripts.seen(self.keys.checkpoints, read, others))

    def pin(self, name: str, needs: bytes) -> Any:
        return self._run(retention_scripts.pin(self.keys.checkpoints, name, needs))

    # -- what is left --------------------------------------------------------------------------

    def held(self) -> list[Any]:
        """Every key with its type, content, and whether it expires."""
        found: list[Any] = []
        for key in sorted(self._send("KEYS", f"*{self.keys.namespace}*")):
            kind = self._send("TYPE", key)
            found.append((key, kind, self._send("PTTL", key) > 0, self._content(key, kind)))
        # The token of an operator's call is random.
        return sorted(
            ([key.rpartition(b":")[0] if b":operator:" in key else key, *rest])
            for key, *rest in found
        )

    def clear(self) -> None:
        """Deletes it all."""
        keys = self._send("KEYS", f"*{self.keys.namespace}*")
        if keys:
            self._send("UNLINK", *keys)

    # -- parts ---------------------------------------------------------------------------------

    def _content(self, key: bytes, kind: bytes) -> Any:
        if kind == b"stream":
            groups = self._send("XINFO", "GROUPS", key)
            names = [dict(zip(one[::2], one[1::2], strict=True))[b"name"] for one in groups]
            pending = [self._send("XPENDING", key, name, "-", "+", 100) for name in names]
            rows = [[[one[0], one[1], one[3]] for one in held] for held in pending]
            return [self._send("XRANGE", key, "-", "+"), groups, rows]
        read = {
            b"zset": ("ZRANGE", key, 0, -1, "WITHSCORES"),
            b"hash": ("HGETALL", key),
            b"string": ("GET", key),
        }
        content = self._send(*read[kind])
        if kind == b"hash":
            # In what order a server tells the fields depends on how it stores them.
            return sorted(zip(content[::2], content[1::2], strict=True))
        return content

    def _sources(self, of_logs: bool) -> list[Source]:
        return self._logs if of_logs else self._queue.sources

    def _letters(self, of_logs: bool, count: int) -> list[tuple[Source, list[Any]]]:
        sources = self._logs if of_logs else self._queue.sources[:1]
        found = []
        for source in sources:
            entries = self._send("XRANGE", source.keys.dead, "-", "+", "COUNT", count)
            letters = [letter_from(source.group, *one) for one in entries]
            if letters:
                found.append((source, letters))
        return found

    def _settlement(self, item: Item) -> Settlement:
        given = self._given[item.pick % len(self._given)]
        effects = self.keys.log("alike.effect", "0")
        target = self._queue.sources[1].lane_target
        assert target is not None
        return Settlement(
            source=given.source,
            consumer=given.consumer,
            entry_id=given.entry_id,
            event_id=given.event_id,
            action=self._action(item.action, given),
            emits=[Emit(effects, _event_id(one), b'{"n":%d}' % one) for one in item.emits],
            messages=[
                Enqueue(target, delay_ms, f"2{self._batch:04}{i}:m2{i}", b"follows")
                for i, delay_ms in enumerate(item.delays)
            ],
            has_options=item.action in ("done", "dead"),
            key=BusinessKey("a", 0, "run1", _name(given), item.becomes) if item.becomes else None,
            states=self._states(given.source, item.state) if given.source.is_log else (),
        )

    def _states(self, source: Source, state: str) -> tuple[StateWrite, ...]:
        if not state:
            return ()
        field = f"{GROUP} n"
        known = self._send("HGET", source.keys.state, field) or b""
        token = b"%08d" % (self._batch + 1)
        read_as = b"otherone" if state == "x" else known[:8]
        return (StateWrite(field, read_as, b"" if state == "r" else token + b"bytes"),)

    @staticmethod
    def _action(name: str, given: Given) -> Action:
        if name == "done":
            return DONE
        if name == "back":
            return HAND_BACK
        if name == "dead":
            fields = {"source": given.source.name, "entry": given.entry_id, "data": b"{}"}
            return DeadLetter([part for pair in fields.items() for part in pair])
        return Park(0 if name == "park_now" else HOUR_MS, b'{"retries":1}')

    def _run(self, call: Call[Any]) -> Any:
        # Each call in a millisecond of its own: which entry ids are equal does not depend on luck.
        while self._now_ms() == self._last_ms:
            pass
        reply = self._send(*call.evalsha())
        if isinstance(reply, tuple) and reply[0] == "NoScriptError":
            reply = self._send(*call.eval())
        self._last_ms = self._now_ms()
        return reply

    def _now_ms(self) -> int:
        seconds, us = self._send("TIME")
        return int(seconds) * 1000 + int(us) // 1000

    def _send(self, *args: Any) -> Any:
        """One reply; a refusal as its kind and text."""
        [reply] = self._link.send_many([args])
        if isinstance(reply, redis.ResponseError):
            return type(reply).__name__, str(reply)
        return reply
