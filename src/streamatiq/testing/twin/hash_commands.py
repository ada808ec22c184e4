"""Commands on hashes."""

from __future__ import annotations

from .commands import Args, command
from .replies import OK, CommandError, Reply
from .store import Hash, Store


def _find(store: Store, args: Args) -> Hash:
    """The hash named by the next argument; an empty one if there is none."""
    return store.find(args.take(), Hash) or Hash()


def _pairs(args: Args, name: str) -> list[tuple[bytes, bytes]]:
    words = args.rest()
    if not words or len(words) % 2:
        raise CommandError(f"ERR wrong number of arguments for '{name}' command")
    return list(zip(words[::2], words[1::2], strict=True))


@command("hset", least=3, grows=True)
def _hset(store: Store, args: Args) -> Reply:
    key, pairs = args.take(), _pairs(args, "hset")
    fields = store.make(key, Hash)
    before = len(fields)
    fields.update(pairs)
    return len(fields) - before


@command("hmset", least=3, grows=True)
def _hmset(store: Store, args: Args) -> Reply:
    _hset(store, args)
    return OK


@command("hsetnx", exact=3, grows=True)
def _hsetnx(store: Store, args: Args) -> Reply:
    fields = store.make(args.take(), Hash)
    name, value = args.take(), args.take()
    if name in fields:
        return 0
    fields[name] = value
    return 1


@command("hincrby", exact=3, grows=True)
def _hincrby(store: Store, args: Args) -> Reply:
    key, name, amount = args.take(), args.take(), args.integer()
    found = store.find(key, Hash) or Hash()
    total = Args([found.get(name, b"0")]).integer("ERR hash value is not an integer") + amount
    store.make(key, Hash)[name] = b"%d" % total
    return total


@command("hget", exact=2)
def _hget(store: Store, args: Args) -> Reply:
    return _find(store, args).get(args.take())


@command("hmget", least=2)
def _hmget(store: Store, args: Args) -> Reply:
    fields = _find(store, args)
    return [fields.get(name) for name in args.rest()]


@command("hgetall", exact=1)
def _hgetall(store: Store, args: Args) -> Reply:
    return [part for pair in _find(store, args).items() for part in pair]


@command("hkeys", exact=1)
def _hkeys(store: Store, args: Args) -> Reply:
    return list(_find(store, args))


@command("hvals", exact=1)
def _hvals(store: Store, args: Args) -> Reply:
    return list(_find(store, args).values())


@command("hlen", exact=1)
def _hlen(store: Store, args: Args) -> Reply:
    return len(_find(store, args))


@command("hexists", exact=2)
def _hexists(store: Store, args: Args) -> Reply:
    fields = _find(store, args)
    return int(args.take() in fields)


@command("hscan", least=2)
def _hscan(store: Store, args: Args) -> Reply:
    return [b"0", [part for pair in _find(store, args).items() for part in pair]]


@command("hdel", least=2, writes=True)
def _hdel(store: Store, args: Args) -> Reply:
    key = args.take()
    fields = store.find(key, Hash) or Hash()
    gone = sum(fields.pop(name, None) is not None for name in args.rest())
    store.drop_if_empty(key)
    return gone
