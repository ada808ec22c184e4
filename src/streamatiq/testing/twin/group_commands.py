"""Commands of consumer groups: what one does with pending entries."""

from __future__ import annotations

from .commands import SYNTAX, Args, command
from .entry_ids import bound, parsed, shown
from .replies import OK, CommandError, Reply
from .store import Store
from .stream import MAX_ID, ZERO, Group, Id, Pending, Stream
from .stream_commands import entry

__all__ = ["no_group"]

KEY_NEEDED = (
    "ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use "
    "the MKSTREAM option to create an empty stream automatically."
)


def no_group(key: bytes, group: bytes, where: str = "") -> CommandError:
    """What is said of a group that is not there."""
    return CommandError(
        b"NOGROUP No such key '%s' or consumer group '%s'%s" % (key, group, where.encode())
    )


def _found(store: Store, key: bytes, name: bytes) -> tuple[Stream, Group]:
    """The stream and its group.

    Raises:
      CommandError: NOGROUP, WRONGTYPE.
    """
    stream = store.find(key, Stream)
    group = stream.groups.get(name) if stream else None
    if stream is None or group is None:
        raise no_group(key, name)
    return stream, group


def _position(word: bytes, stream: Stream) -> Id:
    return stream.last_id if word == b"$" else parsed(word)


@command("xgroup", least=1, grows=True)
def _xgroup(store: Store, args: Args) -> Reply:
    action = args.option(b"CREATE", b"SETID", b"DESTROY", b"CREATECONSUMER", b"DELCONSUMER")
    if action is None:
        raise CommandError(f"ERR unknown subcommand '{args.take().decode()}'. Try XGROUP HELP.")
    key, name = args.take(), args.take()
    stream = store.find(key, Stream)
    if action == b"CREATE":
        return _create(store, args, key, name)
    if stream is None:
        raise CommandError(KEY_NEEDED)
    if action == b"DESTROY":
        return int(stream.groups.pop(name, None) is not None)
    group = stream.groups.get(name)
    if group is None:
        raise CommandError(b"NOGROUP No such consumer group '%s' for key name '%s'" % (name, key))
    if action == b"SETID":
        group.last_id = _position(args.take(), stream)
        group.entries_read = args.integer() if args.option(b"ENTRIESREAD") else None
        return OK
    consumer = args.take()
    if action == b"CREATECONSUMER":
        created = consumer not in group.consumers
        group.consumer(consumer, store.now_ms)
        return int(created)
    gone = group.consumers.pop(consumer, None)
    if gone is None:
        return 0
    held = [entry_id for entry_id, _ in gone.pending.range(ZERO, MAX_ID)]
    for entry_id in held:
        group.pending.pop(entry_id)
    return len(held)


def _create(store: Store, args: Args, key: bytes, name: bytes) -> Reply:
    start = args.take()
    make, read = False, None
    while option := args.option(b"MKSTREAM", b"ENTRIESREAD"):
        if option == b"MKSTREAM":
            make = True
        else:
            count = args.integer()
            if count < -1:
                raise CommandError("ERR value for ENTRIESREAD must be positive or -1")
            read = None if count < 0 else count
    args.end()
    stream = store.find(key, Stream)
    if stream is None and not make:
        raise CommandError(KEY_NEEDED)
    position = _position(start, stream or Stream())
    stream = store.make(key, Stream)
    if name in stream.groups:
        raise CommandError("BUSYGROUP Consumer Group name already exists")
    stream.groups[name] = Group(position, read)
    return OK


@command("xack", least=3, writes=True)
def _xack(store: Store, args: Args) -> Reply:
    stream, name = store.find(args.take(), Stream), args.take()
    ids = [parsed(word) for word in args.rest()]
    group = stream.groups.get(name) if stream else None
    return sum(group.forget(entry_id) for entry_id in ids) if group else 0


@command("xpending", least=2)
def _xpending(store: Store, args: Args) -> Reply:
    key, name = args.take(), args.take()
    if not args.left:
        return _summary(_found(store, key, name)[1])
    idle_ms = args.integer() if args.option(b"IDLE") else 0
    low, high = bound(args.take(), low=True), bound(args.take(), low=False)
    count = args.integer()
    consumer = args.take() if args.left else None
    args.end()
    _, group = _found(store, key, name)
    held = group.pending
    if consumer is not None:
        if consumer not in group.consumers:
            return []
        held = group.consumers[consumer].pending
    found: list[Reply] = []
    for entry_id, pending in held.range(low, high):
        if len(found) >= count:
            break
        age_ms = max(0, store.now_ms - pending.delivered_ms)
        if age_ms >= idle_ms:
            found.append([shown(entry_id), pending.consumer.name, age_ms, pending.count])
    return found


def _summary(group: Group) -> Reply:
    first, last = group.pending.first, group.pending.last
    if first is None or last is None:
        return [0, None, None, None]
    holders: list[Reply] = [
        [name, b"%d" % len(consumer.pending)]
        for name, consumer in sorted(group.consumers.items())
        if consumer.pending
    ]
    return [len(group.pending), shown(first), shown(last), holders]


class _Claim:
    """The options of XCLAIM."""

    def __init__(self, args: Args, now_ms: int) -> None:
        self.delivered_ms = now_ms
        self.count: int | None = None
        self.force = self.just_id = False
        self.last_id: Id | None = None
        while args.left:
            if args.option(b"FORCE"):
                self.force = True
            elif args.option(b"JUSTID"):
                self.just_id = True
            elif args.option(b"IDLE"):
                self.delivered_ms = min(now_ms, now_ms - args.integer())
            elif args.option(b"TIME"):
                self.delivered_ms = min(now_ms, args.integer())
            elif args.option(b"RETRYCOUNT"):
                self.count = args.integer()
            elif args.option(b"LASTID"):
                self.last_id = parsed(args.take())
            else:
                raise CommandError(b"ERR Unrecognized XCLAIM option '%s'" % args.take())

    def counted(self, before: int) -> int:
        if self.count is not None:
            return self.count
        return before if self.just_id else before + 1


@command("xclaim", least=5, grows=True)
def _xclaim(store: Store, args: Args) -> Reply:
    key, name, owner = args.take(), args.take(), args.take()
    stream, group = _found(store, key, name)
    min_idle_ms = args.integer("ERR Invalid min-idle-time argument for XCLAIM")
    words = args.rest()
    ids: list[Id] = []
    for word in words:
        if not word[:1].isdigit():
            break
        ids.append(parsed(word))
    now_ms = store.now_ms
    options = _Claim(Args(words[len(ids) :]), now_ms)
    if options.last_id is not None:
        group.last_id = max(group.last_id, options.last_id)
    consumer = group.consumer(owner, now_ms)
    reply: list[Reply] = []
    for entry_id in ids:
        fields = stream.entries.get(entry_id)
        pending = group.pending.get(entry_id)
        if fields is None:
            group.forget(entry_id)  # it was deleted meanwhile
            continue
        if pending is None:
            if not options.force:
                continue
            pending = Pending(consumer, now_ms, 0)
        elif now_ms - pending.delivered_ms < min_idle_ms:
            continue
        group.deliver(entry_id, consumer, options.delivered_ms, options.counted(pending.count))
        consumer.active_ms = now_ms
        reply.append(shown(entry_id) if options.just_id else entry(entry_id, fields))
    return reply


@command("xautoclaim", least=5, grows=True)
def _xautoclaim(store: Store, args: Args) -> Reply:
    key, name, owner = args.take(), args.take(), args.take()
    min_idle_ms, first = args.integer(), bound(args.take(), low=True)
    count, just_id = 100, False
    while option := args.option(b"COUNT", b"JUSTID"):
        if option == b"COUNT":
            count = args.integer()
        else:
            just_id = True
    args.end()
    stream, group = _found(store, key, name)
    now_ms = store.now_ms
    consumer = group.consumer(owner, now_ms)
    claimed: list[Reply] = []
    deleted: list[Reply] = []
    cursor = ZERO
    for looked, (entry_id, pending) in enumerate(group.pending.range(first, MAX_ID)):
        if looked == 10 * count or len(claimed) + len(deleted) == count:
            cursor = entry_id
            break
        fields = stream.entries.get(entry_id)
        if fields is None:
            group.forget(entry_id)
            deleted.append(shown(entry_id))
        elif now_ms - pending.delivered_ms >= min_idle_ms:
            group.deliver(entry_id, consumer, now_ms, pending.count + (0 if just_id else 1))
            consumer.active_ms = now_ms
            claimed.append(shown(entry_id) if just_id else entry(entry_id, fields))
    return [shown(cursor), claimed, deleted]


@command("xinfo", least=2)
def _xinfo(store: Store, args: Args) -> Reply:
    what = args.option(b"STREAM", b"GROUPS", b"CONSUMERS")
    if what is None:
        raise CommandError(SYNTAX)
    key = args.take()
    stream = store.find(key, Stream)
    if stream is None:
        raise CommandError("ERR no such key")
    if what == b"GROUPS":
        return [_group_info(stream, *one) for one in sorted(stream.groups.items())]
    if what == b"STREAM":
        return _stream_info(stream)
    name = args.take()
    group = stream.groups.get(name)
    if group is None:
        raise CommandError(b"NOGROUP No such consumer group '%s' for key name '%s'" % (name, key))
    now_ms = store.now_ms
    return [
        [
            b"name", consumer.name, b"pending", len(consumer.pending),
            b"idle", max(0, now_ms - consumer.seen_ms),
            b"inactive", -1 if consumer.active_ms < 0 else max(0, now_ms - consumer.active_ms),
        ]
        for _, consumer in sorted(group.consumers.items())
    ]  # fmt: skip


def _group_info(stream: Stream, name: bytes, group: Group) -> Reply:
    return [
        b"name", name, b"consumers", len(group.consumers), b"pending", len(group.pending),
        b"last-delivered-id", shown(group.last_id), b"entries-read", group.entries_read,
        b"lag", stream.lag(group),
    ]  # fmt: skip


def _stream_info(stream: Stream) -> Reply:
    first, last = stream.entries.first, stream.entries.last
    return [
        b"length", len(stream.entries), b"radix-tree-keys", 1, b"radix-tree-nodes", 2,
        b"last-generated-id", shown(stream.last_id),
        b"max-deleted-entry-id", shown(stream.max_deleted),
        b"entries-added", stream.added,
        b"recorded-first-entry-id", shown(first or ZERO), b"groups", len(stream.groups),
        b"first-entry", entry(first, stream.entries.get(first)) if first else None,
        b"last-entry", entry(last, stream.entries.get(last)) if last else None,
    ]  # fmt: skip
