"""XREAD and XREADGROUP: one look at the streams. Waiting is the server's part (`blocking`)."""

from __future__ import annotations

from dataclasses import dataclass

from .commands import SYNTAX, Args, command
from .entry_ids import parsed
from .group_commands import no_group
from .replies import NULL_ARRAY, CommandError, Reply
from .store import Store
from .stream import MAX_ID, ZERO, Group, Id, Stream
from .stream_commands import entry

__all__ = ["blocking_ms", "pinned"]


@dataclass(slots=True)
class _Read:
    """The arguments of a read."""

    group: bytes = b""
    consumer: bytes = b""
    count: int = -1
    block_ms: int | None = None
    no_ack: bool = False

    def take(self, args: Args) -> list[tuple[bytes, bytes]]:
        """Reads the options; returns (key, id) pairs."""
        while not args.option(b"STREAMS"):
            if args.option(b"GROUP"):
                self.group, self.consumer = args.take(), args.take()
            elif args.option(b"COUNT"):
                self.count = args.integer() or -1
            elif args.option(b"BLOCK"):
                self.block_ms = args.integer("ERR timeout is not an integer or out of range")
                if self.block_ms < 0:
                    raise CommandError("ERR timeout is negative")
            elif args.option(b"NOACK"):
                self.no_ack = True
            else:
                raise CommandError(SYNTAX)
        words = args.rest()
        half = len(words) // 2
        if not words or len(words) % 2:
            raise CommandError(
                "ERR Unbalanced 'xreadgroup' list of streams: for each stream key an ID, '>' or "
                "'$' must be specified."
            )
        return list(zip(words[:half], words[half:], strict=True))


def blocking_ms(words: list[bytes]) -> int | None:
    """How long a read may wait, ms; 0 = for ever, None = not at all.

    Parameters:
      words: The command with its arguments.
    """
    if words[0].upper() not in (b"XREAD", b"XREADGROUP"):
        return None
    read = _Read()
    read.take(Args(words[1:]))
    return read.block_ms


def pinned(words: list[bytes], store: Store) -> list[bytes]:
    """An XREAD that begins to wait: `$` means what it meant when it began."""
    if words[0].upper() != b"XREAD" or b"$" not in words:
        return words
    pairs = _Read().take(Args(words[1:]))
    pinned_ids = []
    for key, word in pairs:
        stream = store.find(key, Stream)
        last = stream.last_id if stream else (0, 0)
        pinned_ids.append(b"%d-%d" % last if word == b"$" else word)
    return [*words[: -len(pairs)], *pinned_ids]


@command("xread", least=3)
def _xread(store: Store, args: Args) -> Reply:
    read = _Read()
    found: list[Reply] = []
    for key, word in read.take(args):
        stream = store.find(key, Stream)
        if stream is None or word == b"$":
            continue
        entries = _after(stream, parsed(word), read.count)
        if entries:
            found.append([key, [entry(*one) for one in entries]])
    return found or NULL_ARRAY


@command("xreadgroup", least=6, writes=True)
def _xreadgroup(store: Store, args: Args) -> Reply:
    read = _Read()
    pairs = read.take(args)
    if not read.group:
        raise CommandError("ERR Missing GROUP option for XREADGROUP")
    streams: list[tuple[bytes, Stream, Group, Id | None]] = []
    for key, word in pairs:
        stream = store.find(key, Stream)
        group = stream.groups.get(read.group) if stream else None
        if stream is None or group is None:
            raise no_group(key, read.group, " in XREADGROUP with GROUP option")
        if word == b"$":
            raise CommandError(
                "ERR The $ ID is meaningless in the context of XREADGROUP: you want to read the "
                "history of this consumer by specifying a proper ID, or use the > ID to get new "
                "messages. The $ ID would just return an empty result set."
            )
        streams.append((key, stream, group, None if word == b">" else parsed(word)))
    found: list[Reply] = []
    for key, stream, group, after in streams:
        if after is not None:
            found.append([key, _history(store, group, read, stream, after)])
            continue
        entries = _unread(store, group, read, stream)
        if entries:
            found.append([key, entries])
    return found or NULL_ARRAY


def _after(stream: Stream, after: Id, count: int) -> list[tuple[Id, list[bytes]]]:
    first = (after[0], after[1] + 1)
    entries: list[tuple[Id, list[bytes]]] = []
    for one in stream.entries.range(first, MAX_ID):
        entries.append(one)
        if len(entries) == count:
            break
    return entries


def _unread(store: Store, group: Group, read: _Read, stream: Stream) -> list[Reply]:
    now_ms = store.now_ms
    consumer = group.consumer(read.consumer, now_ms)
    entries = _after(stream, group.last_id, read.count)
    for entry_id, _ in entries:
        first = stream.entries.first or ZERO
        whole = group.last_id >= first and not stream.has_holes(group.last_id)
        if group.entries_read is not None and whole:
            group.entries_read += 1
        else:
            group.entries_read = stream.position(entry_id)
        group.last_id = entry_id
        if not read.no_ack:
            group.deliver(entry_id, consumer, now_ms, 1)
        consumer.active_ms = now_ms
    return [entry(*one) for one in entries]


def _history(store: Store, group: Group, read: _Read, stream: Stream, after: Id) -> list[Reply]:
    """What the consumer itself has pending behind `after`; a deleted entry has no fields."""
    consumer = group.consumer(read.consumer, store.now_ms)
    found: list[Reply] = []
    for entry_id, pending in consumer.pending.range((after[0], after[1] + 1), MAX_ID):
        if len(found) == read.count:
            break
        fields = stream.entries.get(entry_id)
        if fields is not None:
            pending.delivered_ms = store.now_ms
            pending.count += 1
        found.append(entry(entry_id, fields))
    return found
