"""Commands on streams, but for those of consumer groups."""

from __future__ import annotations

from .commands import SYNTAX, Args, command
from .entry_ids import bound, parsed, shown
from .replies import NULL_ARRAY, CommandError, Reply
from .store import Store
from .stream import ZERO, Id, Stream

__all__ = ["entry"]

TOO_SMALL = "ERR The ID specified in XADD is equal or smaller than the target stream top item"


def entry(entry_id: Id, fields: list[bytes] | None) -> list[Reply]:
    """An entry as replies show it."""
    return [shown(entry_id), None if fields is None else list(fields)]


class _Trim:
    """What XADD and XTRIM say of trimming."""

    def __init__(self) -> None:
        self.maxlen: int | None = None
        self.minid: Id | None = None
        self.exact = True

    def take(self, args: Args, name: bytes) -> None:
        self.exact = args.option(b"=", b"~") != b"~"
        if name == b"MAXLEN":
            self.maxlen = args.integer()
            if self.maxlen < 0:
                raise CommandError("ERR The MAXLEN argument must be >= 0.")
        else:
            self.minid = parsed(args.take())
        if args.option(b"LIMIT"):
            args.integer()

    def apply(self, stream: Stream) -> int:
        if self.maxlen is None and self.minid is None:
            return 0
        return stream.trim(maxlen=self.maxlen, minid=self.minid, exact=self.exact)


@command("xadd", least=4, grows=True)
def _xadd(store: Store, args: Args) -> Reply:
    key, trim, create = args.take(), _Trim(), True
    while option := args.option(b"NOMKSTREAM", b"MAXLEN", b"MINID"):
        if option == b"NOMKSTREAM":
            create = False
        else:
            trim.take(args, option)
    asked, fields = args.take(), args.rest()
    if not fields or len(fields) % 2:
        raise CommandError("ERR wrong number of arguments for 'xadd' command")
    given = None if asked == b"*" or asked.endswith(b"-*") else parsed(asked)
    if given == ZERO:
        raise CommandError("ERR The ID specified in XADD must be greater than 0-0")
    stream = store.find(key, Stream)
    if stream is None and not create:
        return None
    last_id = stream.last_id if stream else ZERO
    if asked == b"*":
        entry_id = (stream or Stream()).next_id(store.now_ms)
    elif given is None:
        ms = parsed(asked[:-2])[0]
        entry_id = (ms, last_id[1] + 1 if ms == last_id[0] else 0)
    else:
        entry_id = given
    if entry_id <= last_id:
        raise CommandError(TOO_SMALL)
    stream = store.make(key, Stream)
    stream.add(entry_id, fields)
    trim.apply(stream)
    return shown(entry_id)


@command("xtrim", least=3, writes=True)
def _xtrim(store: Store, args: Args) -> Reply:
    stream, trim = store.find(args.take(), Stream), _Trim()
    option = args.option(b"MAXLEN", b"MINID")
    if option is None:
        raise CommandError(SYNTAX)
    trim.take(args, option)
    args.end()
    return trim.apply(stream) if stream else 0


@command("xlen", exact=1)
def _xlen(store: Store, args: Args) -> Reply:
    stream = store.find(args.take(), Stream)
    return len(stream.entries) if stream else 0


@command("xdel", least=2, writes=True)
def _xdel(store: Store, args: Args) -> Reply:
    stream = store.find(args.take(), Stream)
    ids = [parsed(word) for word in args.rest()]
    return sum(stream.delete(entry_id) for entry_id in ids) if stream else 0


def _range(store: Store, args: Args, *, backwards: bool) -> Reply:
    key, first, last = args.take(), args.take(), args.take()
    if backwards:
        first, last = last, first
    low, high = bound(first, low=True), bound(last, low=False)
    count = args.integer() if args.option(b"COUNT") else -1
    args.end()
    stream = store.find(key, Stream)
    if count == 0:
        return NULL_ARRAY
    found: list[Reply] = []
    for entry_id, fields in stream.entries.range(low, high, backwards=backwards) if stream else ():
        found.append(entry(entry_id, fields))
        if len(found) == count:
            break
    return found


@command("xrange", least=3)
def _xrange(store: Store, args: Args) -> Reply:
    return _range(store, args, backwards=False)


@command("xrevrange", least=3)
def _xrevrange(store: Store, args: Args) -> Reply:
    return _range(store, args, backwards=True)
