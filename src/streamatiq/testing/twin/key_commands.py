"""Commands on keys of any kind, and strings."""

from __future__ import annotations

from fnmatch import fnmatchcase

from .commands import SYNTAX, Args, command
from .replies import OK, CommandError, Reply, Status
from .store import Store


@command("type", exact=1)
def _type(store: Store, args: Args) -> Reply:
    return Status(store.kind(args.take()))


@command("exists")
def _exists(store: Store, args: Args) -> Reply:
    return sum(store.value(key) is not None for key in args.rest())


@command("del", writes=True)
@command("unlink", writes=True)
def _delete(store: Store, args: Args) -> Reply:
    return sum(store.value(key) is not None and store.delete(key) for key in args.rest())


@command("rename", exact=2, writes=True)
def _rename(store: Store, args: Args) -> Reply:
    old, new = args.take(), args.take()
    value = store.value(old)
    if value is None:
        raise CommandError("ERR no such key")
    expires_ms = store.expires_ms(old)
    store.delete(old)
    store.put(new, value, expires_ms)
    return OK


def _expire_in(store: Store, args: Args, unit_ms: int) -> Reply:
    key, amount = args.take(), args.integer()
    mode = args.option(b"NX", b"XX", b"GT", b"LT")
    args.end()
    if store.value(key) is None:
        return 0
    due_ms, before = store.now_ms + amount * unit_ms, store.expires_ms(key)
    refused = {
        b"NX": before is not None,
        b"XX": before is None,
        b"GT": before is None or due_ms <= before,
        b"LT": before is not None and due_ms >= before,
    }
    if mode is not None and refused[mode]:
        return 0
    store.expire(key, due_ms)
    return 1


@command("expire", least=2, writes=True)
def _expire(store: Store, args: Args) -> Reply:
    return _expire_in(store, args, 1000)


@command("pexpire", least=2, writes=True)
def _pexpire(store: Store, args: Args) -> Reply:
    return _expire_in(store, args, 1)


@command("persist", exact=1, writes=True)
def _persist(store: Store, args: Args) -> Reply:
    key = args.take()
    if store.value(key) is None or store.expires_ms(key) is None:
        return 0
    store.expire(key, None)
    return 1


@command("pttl", exact=1)
def _pttl(store: Store, args: Args) -> Reply:
    key = args.take()
    if store.value(key) is None:
        return -2
    expires_ms = store.expires_ms(key)
    return -1 if expires_ms is None else expires_ms - store.now_ms


@command("ttl", exact=1)
def _ttl(store: Store, args: Args) -> Reply:
    left_ms = _pttl(store, args)
    return left_ms if left_ms < 0 else (left_ms + 500) // 1000


def _matching(store: Store, pattern: bytes) -> list[bytes]:
    # As text of one byte a character; [^a] is written [!a] there.
    wanted = pattern.decode("latin-1").replace("[^", "[!")
    return [key for key in store.all_keys() if fnmatchcase(key.decode("latin-1"), wanted)]


@command("keys", exact=1)
def _keys(store: Store, args: Args) -> Reply:
    return _matching(store, args.take())


@command("scan")
def _scan(store: Store, args: Args) -> Reply:
    args.integer("ERR invalid cursor")
    pattern, kind = b"*", None
    while option := args.option(b"MATCH", b"COUNT", b"TYPE"):
        word = args.take()
        if option == b"MATCH":
            pattern = word
        elif option == b"TYPE":
            kind = word.lower()
    args.end()
    found = _matching(store, pattern)
    return [b"0", [key for key in found if kind is None or store.kind(key) == kind]]


@command("dbsize", exact=0)
def _dbsize(store: Store, args: Args) -> Reply:
    return len(store.all_keys())


@command("flushdb", least=0, writes=True)
@command("flushall", least=0, writes=True)
def _flush(store: Store, args: Args) -> Reply:
    store.clear()
    return OK


# -- strings -----------------------------------------------------------------------------------


@command("get", exact=1)
def _get(store: Store, args: Args) -> Reply:
    return store.find(args.take(), bytes)


@command("mget")
def _mget(store: Store, args: Args) -> Reply:
    values = [store.value(key) for key in args.rest()]
    return [value if isinstance(value, bytes) else None for value in values]


@command("set", least=2, grows=True)
def _set(store: Store, args: Args) -> Reply:
    key, value = args.take(), args.take()
    condition: bytes | None = None
    expires_ms: int | None = None
    keep = want_old = False
    while args.left:
        if (found := args.option(b"NX", b"XX")) and condition is None:
            condition = found
        elif args.option(b"GET"):
            want_old = True
        elif args.option(b"KEEPTTL"):
            keep = True
        elif found := args.option(b"EX", b"PX", b"EXAT", b"PXAT"):
            amount = args.integer() * (1000 if found.startswith(b"EX") else 1)
            if amount <= 0:
                raise CommandError("ERR invalid expire time in 'set' command")
            expires_ms = amount if found.endswith(b"AT") else store.now_ms + amount
        else:
            raise CommandError(SYNTAX)
    present = store.value(key) is not None
    old = store.find(key, bytes) if want_old else None
    if (condition == b"NX" and present) or (condition == b"XX" and not present):
        return old
    store.put(key, value, store.expires_ms(key) if keep else expires_ms)
    return old if want_old else OK


@command("strlen", exact=1)
def _strlen(store: Store, args: Args) -> Reply:
    return len(store.find(args.take(), bytes) or b"")


@command("incr", exact=1, grows=True)
def _incr(store: Store, args: Args) -> Reply:
    return _add(store, args.take(), 1)


@command("incrby", exact=2, grows=True)
def _incrby(store: Store, args: Args) -> Reply:
    return _add(store, args.take(), args.integer())


@command("decr", exact=1, grows=True)
def _decr(store: Store, args: Args) -> Reply:
    return _add(store, args.take(), -1)


def _add(store: Store, key: bytes, amount: int) -> int:
    old = Args([store.find(key, bytes) or b"0"])
    total = old.integer() + amount
    store.put(key, b"%d" % total, store.expires_ms(key))
    return total


@command("time", exact=0)
def _time(store: Store, args: Args) -> Reply:
    return [b"%d" % part for part in divmod(store.now_us, 1_000_000)]
