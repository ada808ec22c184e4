"""Commands on sorted sets."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right

from .commands import SYNTAX, Args, command, integer, number
from .replies import CommandError, Reply
from .sorted_set import SortedSet
from .store import Store

NOT_A_BOUND = "ERR min or max is not a float"


def _find(store: Store, args: Args) -> SortedSet:
    """The set named by the next argument; an empty one if there is none."""
    return store.find(args.take(), SortedSet) or SortedSet()


def _shown(score: float) -> bytes:
    """A score as the server writes it: the shortest text that means the same."""
    if math.isinf(score):
        return b"inf" if score > 0 else b"-inf"
    if score == int(score) and abs(score) < 1e17:
        return b"%d" % int(score)
    return repr(score).encode()


@command("zadd", least=3, grows=True)
def _zadd(store: Store, args: Args) -> Reply:
    key = args.take()
    options: set[bytes] = set()
    while option := args.option(b"NX", b"XX", b"GT", b"LT", b"CH"):
        options.add(option)
    words = args.rest()
    if not words or len(words) % 2:
        raise CommandError(SYNTAX)
    if options >= {b"NX", b"XX"}:
        raise CommandError("ERR XX and NX options at the same time are not compatible")
    if len(options & {b"NX", b"GT", b"LT"}) > 1:
        raise CommandError("ERR GT, LT, and/or NX options at the same time are not compatible")
    pairs = [(number(score), member) for score, member in zip(words[::2], words[1::2], strict=True)]
    members = store.make(key, SortedSet)
    added = changed = 0
    for score, member in pairs:
        old = members.scores.get(member)
        if old is None:
            if b"XX" not in options:
                members.set(member, score)
                added += 1
        elif not (
            b"NX" in options
            or (b"GT" in options and score <= old)
            or (b"LT" in options and score >= old)
            or score == old
        ):
            members.set(member, score)
            changed += 1
    store.drop_if_empty(key)
    return added + changed if b"CH" in options else added


@command("zincrby", exact=3, grows=True)
def _zincrby(store: Store, args: Args) -> Reply:
    key, amount, member = args.take(), number(args.take()), args.take()
    members = store.make(key, SortedSet)
    total = members.scores.get(member, 0.0) + amount
    members.set(member, total)
    return _shown(total)


@command("zrem", least=2, writes=True)
def _zrem(store: Store, args: Args) -> Reply:
    key = args.take()
    members = store.find(key, SortedSet) or SortedSet()
    gone = sum(members.remove(member) for member in args.rest())
    store.drop_if_empty(key)
    return gone


@command("zcard", exact=1)
def _zcard(store: Store, args: Args) -> Reply:
    return len(_find(store, args))


@command("zscore", exact=2)
def _zscore(store: Store, args: Args) -> Reply:
    score = _find(store, args).scores.get(args.take())
    return None if score is None else _shown(score)


@command("zmscore", least=2)
def _zmscore(store: Store, args: Args) -> Reply:
    scores = _find(store, args).scores
    return [_shown(scores[member]) if member in scores else None for member in args.rest()]


@command("zrank", least=2)
def _zrank(store: Store, args: Args) -> Reply:
    members, member = _find(store, args), args.take()
    score = members.scores.get(member)
    return None if score is None else bisect_left(members.order, (score, member))


def _place(members: SortedSet, bound: bytes, *, low: bool) -> int:
    """Where a bound of scores, as in `(1.5`, cuts the order."""
    excluded = bound[:1] == b"("
    score = number(bound[1:] if excluded else bound, NOT_A_BOUND)
    scores = [one for one, _ in members.order]
    return (bisect_right if excluded == low else bisect_left)(scores, score)


def _by_score(members: SortedSet, low: bytes, high: bytes) -> list[tuple[float, bytes]]:
    first, last = _place(members, low, low=True), _place(members, high, low=False)
    return members.order[first:last]


def _by_rank(
    order: list[tuple[float, bytes]], first: bytes, last: bytes
) -> list[tuple[float, bytes]]:
    size = len(order)
    start, stop = integer(first), integer(last)
    start = max(0, start + size if start < 0 else start)
    stop = stop + size if stop < 0 else stop
    return order[start : stop + 1]


def _answer(found: list[tuple[float, bytes]], with_scores: bool) -> Reply:
    if not with_scores:
        return [member for _, member in found]
    return [part for score, member in found for part in (member, _shown(score))]


def _range(store: Store, args: Args, *, by_score: bool = False, backwards: bool = False) -> Reply:
    members, first, last = _find(store, args), args.take(), args.take()
    limit: tuple[int, int] | None = None
    with_scores = False
    while args.left:
        if args.option(b"BYSCORE"):
            by_score = True
        elif args.option(b"REV"):
            backwards = True
        elif args.option(b"WITHSCORES"):
            with_scores = True
        elif args.option(b"LIMIT"):
            limit = args.integer(), args.integer()
        else:
            raise CommandError(SYNTAX)
    if not by_score:
        if limit is not None:
            raise CommandError(
                "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or "
                "BYLEX"
            )
        order = members.order[::-1] if backwards else members.order
        return _answer(_by_rank(order, first, last), with_scores)
    low, high = (last, first) if backwards else (first, last)
    found = _by_score(members, low, high)
    if backwards:
        found.reverse()
    if limit is not None:
        offset, count = limit
        found = found[offset:] if count < 0 else found[offset : offset + count]
    return _answer(found, with_scores)


@command("zrange", least=3)
def _zrange(store: Store, args: Args) -> Reply:
    return _range(store, args)


@command("zrevrange", least=3)
def _zrevrange(store: Store, args: Args) -> Reply:
    return _range(store, args, backwards=True)


@command("zrangebyscore", least=3)
def _zrangebyscore(store: Store, args: Args) -> Reply:
    return _range(store, args, by_score=True)


@command("zrevrangebyscore", least=3)
def _zrevrangebyscore(store: Store, args: Args) -> Reply:
    return _range(store, args, by_score=True, backwards=True)


@command("zcount", exact=3)
def _zcount(store: Store, args: Args) -> Reply:
    members = _find(store, args)
    return len(_by_score(members, args.take(), args.take()))


def _remove(store: Store, args: Args, *, by_score: bool) -> Reply:
    key = args.take()
    members = store.find(key, SortedSet) or SortedSet()
    first, last = args.take(), args.take()
    found = _by_score(members, first, last) if by_score else _by_rank(members.order, first, last)
    for _, member in found:
        members.remove(member)
    store.drop_if_empty(key)
    return len(found)


@command("zremrangebyscore", exact=3, writes=True)
def _zremrangebyscore(store: Store, args: Args) -> Reply:
    return _remove(store, args, by_score=True)


@command("zremrangebyrank", exact=3, writes=True)
def _zremrangebyrank(store: Store, args: Args) -> Reply:
    return _remove(store, args, by_score=False)


def _pop(store: Store, args: Args, *, highest: bool) -> Reply:
    key = args.take()
    count = args.integer() if args.left else 1
    members = store.find(key, SortedSet) or SortedSet()
    found = (members.order[::-1] if highest else members.order)[:count]
    for _, member in found:
        members.remove(member)
    store.drop_if_empty(key)
    return _answer(found, True)


@command("zpopmin", writes=True)
def _zpopmin(store: Store, args: Args) -> Reply:
    return _pop(store, args, highest=False)


@command("zpopmax", writes=True)
def _zpopmax(store: Store, args: Args) -> Reply:
    return _pop(store, args, highest=True)
