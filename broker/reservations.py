"""Business keys: reserved before a handler runs, so that a second event of the same key does not.

The key's life is told in reserve.lua; settle.lua ends a reservation. A reservation names the run
that took it: a worker that dies leaves one that no later run takes for its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any, NamedTuple, Protocol, TypeVar

from ..errors import BrokerConnectionError, BrokerError
from .calls import Call, script
from .connections import Link
from .keys import SourceKeys

__all__ = [
    "Answer",
    "Ask",
    "Calls",
    "Reservation",
    "Standing",
    "Want",
    "letter_name",
    "next_token",
    "reserve",
    "reserve_all",
]


T = TypeVar("T")


class Reservation(NamedTuple):
    """A business key that a run has, or may have, if the reply was lost."""

    key: str
    #: How long it is remembered at least, ms; 0: for ever.
    window_ms: int
    #: Random: names the run.
    run: str


class Standing(StrEnum):
    """What a business key is to a delivery; see reserve.lua."""

    NEW = "new"
    DONE = "done"
    OURS = "ours"
    UNCERTAIN = "uncertain"
    REQUEUED = "requeued"
    BUSY = "busy"
    GONE = "gone"
    #: The consumer was declared dead.
    FENCED = "fenced"


class Want(NamedTuple):
    """A delivery that wants to reserve its key."""

    key: str
    entry_id: bytes
    run: str
    #: By what name its dead letter would be known.
    name: bytes
    #: Whether it takes the key also where nobody knows what became of it.
    takes: bool


class Answer(NamedTuple):
    """What became of it."""

    standing: Standing
    #: Where it is busy: when to ask again, ms.
    delay_ms: int = 0
    #: What stood at the key.
    stood: str = ""


class Ask(NamedTuple):
    """What one thread wants to reserve; see `reserve`."""

    own: SourceKeys
    others: tuple[SourceKeys, ...]
    group: str
    consumer: str
    window_ms: int
    wants: Sequence[Want]


def letter_name(message_id: str) -> bytes:
    """The name of a message's dead letter: one word, whatever its id is."""
    return "_".join(message_id.split()).encode("utf-8", "backslashreplace") or b"-"


def reserve(
    own: SourceKeys,
    others: Sequence[SourceKeys],
    *,
    group: str,
    consumer: str,
    window_ms: int,
    wants: Sequence[Want],
) -> Call[list[Answer]]:
    """Reserves the keys of deliveries of one stream, in their order. Atomic. Harmless to repeat.

    Parameters:
      own: Of the stream that they come from.
      others: Of the other streams whose entries may hold these keys: a work queue's other lanes.
      window_ms: How long the keys are kept at least; 0: for ever.
      wants: At most some hundred.
    """
    keys = [own.keys, own.keys_old, own.fence(consumer)]
    for one in (own, *others):
        keys += (one.entries, one.parked)
    args: list[Any] = [group, consumer, window_ms]
    for want in wants:
        args += (*want[:4], int(want.takes))

    def parse(reply: Any) -> list[Answer]:
        if reply[0] == b"FENCED":
            return [Answer(Standing.FENCED)] * len(wants)
        return [
            Answer(Standing(outcome.decode()), delay_ms, stood.decode("utf-8", "replace"))
            for outcome, delay_ms, stood in reply
        ]

    return Call(script("reserve"), keys, args, parse)


class Calls(Protocol):
    """What calls the server. `LinkPool` is one."""

    def call(self, action: Callable[[Link], T]) -> T:
        """See `LinkPool.call`."""
        ...


def reserve_all(links: Calls, asks: Sequence[Ask]) -> list[list[Answer] | Exception]:
    """Reserves for several threads in one round trip: one call for those with the same stream,
    consumer and window. Harmless to repeat.

    Parameters:
      asks: At most some hundred deliveries in all.

    Returns:
      For each its answers, or the error of those for whose stream the server refuses.

    Raises:
      BrokerConnectionError: The server cannot be reached.
    """
    joined: dict[tuple[str, str, int], list[int]] = {}
    for at, ask in enumerate(asks):
        joined.setdefault((ask.own.keys, ask.consumer, ask.window_ms), []).append(at)
    several = list(joined.values())
    calls = [_joined([asks[at] for at in places]) for places in several]
    found: list[list[Answer] | Exception] = [[] for _ in asks]
    try:
        replies: list[list[Answer]] = links.call(lambda link: link.run_many(calls))
    except BrokerConnectionError:
        raise
    except BrokerError as error:
        if len(asks) == 1:
            return [error]
        # Whose fault it is shows where each is alone.
        return [one for ask in asks for one in reserve_all(links, [ask])]
    for places, answers in zip(several, replies, strict=True):
        rest = iter(answers)
        for at in places:
            found[at] = [next(rest) for _ in asks[at].wants]
    return found


def _joined(asks: Sequence[Ask]) -> Call[list[Answer]]:
    first = asks[0]
    return reserve(
        first.own,
        first.others,
        group=first.group,
        consumer=first.consumer,
        window_ms=first.window_ms,
        wants=[want for ask in asks for want in ask.wants],
    )


def next_token(own: SourceKeys, *, group: str, consumer: str, entry_id: bytes) -> Call[int | str]:
    """A fencing token for who runs an entry; or `FENCED`, or `GONE`: it is not its any more."""
    keys = (own.entries, own.fence(consumer), own.token)
    args = (group, consumer, entry_id)
    return Call(
        script("token"), keys, args, lambda said: said if isinstance(said, int) else said.decode()
    )
