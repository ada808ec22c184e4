"""Managing dead letters: looking, putting back, deleting, and letting them expire.

Nothing here needs the code of the handlers: what there is, is recorded on the server
(`known_queues`).
"""

from __future__ import annotations

import getpass
import os
import socket
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from dramatiq.logging import get_logger

from ..errors import BrokerConnectionError, BrokerError, DeadLetterNotFound
from . import dead_letter_reading as reading
from . import dead_letter_scripts as scripts
from .calls import Call
from .connections import Link, LinkPool
from .dead_letter_entry import DeadLetterEntry
from .dead_letter_filter import EVERY, DeadLetterFilter
from .dead_letter_reading import DeadStream, dead_streams
from .dead_letter_summary import DeadLetterSummary, summarise
from .keys import Keys
from .known_queues import KnownQueue, known_queues
from .members import ReadSource

__all__ = ["DeadLetters", "OnOutcome", "expire_dead_letters", "operator_name"]

#: Letters put back or deleted in one call.
BATCH = 50
#: Letters that a summary looks at.
SUMMARY_LETTERS = 10_000
#: Letters that one call of `expire_dead_letters` deletes at most.
EXPIRE_LETTERS = 10_000
#: Letters deleted by one script call of it.
EXPIRE_PAGE = 200

#: Called with a letter's id and its outcome.
OnOutcome = Callable[[str, str], None]


class DeadLetters:
    """The dead letters of one namespace. Thread-safe.

    Parameters:
      links: Connections; every call is repeated after a lost one, which is harmless.
      keys: The namespace.
      declared: The sources of a queue, as this process's code declares it.
    """

    def __init__(
        self, links: LinkPool, keys: Keys, declared: Callable[[str], Sequence[ReadSource]]
    ) -> None:
        self._links = links
        self._keys = keys
        self._declared = declared

    def known(self) -> dict[str, KnownQueue]:
        """See `QueueBroker.known_queues`."""
        return self._links.call(lambda link: known_queues(link, self._keys))

    def read(
        self,
        queue: str,
        where: DeadLetterFilter = EVERY,
        *,
        after: str | None = None,
        limit: int | None = None,
        newest_first: bool = False,
    ) -> Iterator[DeadLetterEntry]:
        """See `QueueBroker.dead_letters`."""
        return reading.read(
            self._links,
            self._streams(queue),
            where,
            after=after,
            limit=limit,
            newest_first=newest_first,
        )

    def count(self, queue: str, where: DeadLetterFilter = EVERY) -> int:
        """See `QueueBroker.count_dead_letters`."""
        return reading.count(self._links, self._streams(queue), where)

    def get(self, queue: str, letter_id: str) -> DeadLetterEntry:
        """See `QueueBroker.dead_letter`."""
        for letter in self.read(queue, DeadLetterFilter(ids=[letter_id])):
            return letter
        raise DeadLetterNotFound(
            f"{queue!r} has no dead letter {letter_id}: it was requeued, purged or has expired, or "
            f"it belongs to another queue. `streamatiq dead list {queue}` shows those there are."
        )

    def summary(self, queue: str) -> DeadLetterSummary:
        """See `QueueBroker.dead_letter_summary`."""
        oldest = next(self.read(queue, limit=1), None)
        return summarise(
            queue,
            self.count(queue),
            None if oldest is None else oldest.died_ms,
            self.read(queue, newest_first=True, limit=SUMMARY_LETTERS),
        )

    def requeue(
        self,
        queue: str,
        where: DeadLetterFilter,
        *,
        by: str | None = None,
        on_outcome: OnOutcome | None = None,
    ) -> Counter[str]:
        """See `QueueBroker.requeue_dead_letters`."""
        who = by or operator_name()

        def call(stream: DeadStream, letters: Sequence[DeadLetterEntry]) -> Call[list[str]]:
            source = stream.source
            if source.is_log:
                return scripts.requeue_events(source.keys, source.group, who, letters)
            return scripts.requeue_messages(source.keys, who, letters)

        return self._each(queue, where, call, on_outcome)

    def purge(
        self,
        queue: str,
        where: DeadLetterFilter,
        *,
        by: str | None = None,
        on_outcome: OnOutcome | None = None,
    ) -> Counter[str]:
        """See `QueueBroker.purge_dead_letters`."""
        who = by or operator_name()
        return self._each(
            queue,
            where,
            lambda stream, letters: scripts.purge(stream.source.keys, who, letters),
            on_outcome,
        )

    def expire_by(self, ttl_s: float | None) -> Callable[[Link, str], object]:
        """What deletes letters older than `ttl_s` seconds, on a link and in somebody's name."""
        if ttl_s is None:
            return lambda _, name: None
        return lambda link, name: expire_dead_letters(link, self._keys, int(ttl_s * 1000), name)

    def _each(
        self,
        queue: str,
        where: DeadLetterFilter,
        call: Callable[[DeadStream, Sequence[DeadLetterEntry]], Call[list[str]]],
        on_outcome: OnOutcome | None,
    ) -> Counter[str]:
        """Does something with the letters that are there now and match, oldest first."""
        tally: Counter[str] = Counter()
        streams = self._streams(queue)

        def tell(letter_id: str, outcome: str) -> None:
            tally[outcome] += 1
            if on_outcome is not None:
                on_outcome(letter_id, outcome)

        def act(stream: DeadStream, letters: list[DeadLetterEntry]) -> None:
            once = call(stream, letters)  # the same call for all attempts: it has a token
            outcomes = self._links.call(lambda link: link.run(once))
            for letter, outcome in zip(letters, outcomes, strict=True):
                tell(letter.id, outcome)

        if where.ids:
            where = replace(where, ids=list(dict.fromkeys(where.ids)))
            there = reading.read(self._links, streams, DeadLetterFilter(ids=where.ids))
            found = {part for letter in there for part in (letter.id, letter.dead_id)}
            for letter_id in where.ids:
                if letter_id not in found:
                    tell(letter_id, "gone")
        # What is requeued may fail and be a new letter before we are through: not those.
        newest = {one.key: reading.last_id(self._links, one) for one in streams}
        up_to = {key: last for key, last in newest.items() if last is not None}
        by_source = {stream.place: stream for stream in streams}
        waiting: dict[str, list[DeadLetterEntry]] = {}
        for letter in reading.read(self._links, streams, where, up_to=up_to):
            place = letter.id.rpartition("/")[0]
            batch = waiting.setdefault(place, [])
            batch.append(letter)
            if len(batch) == BATCH:
                act(by_source[place], waiting.pop(place))
        for place, batch in waiting.items():
            act(by_source[place], batch)
        return tally

    def _streams(self, queue: str) -> list[DeadStream]:
        """Those that this process's code declares, and those that are recorded on the server."""
        known = self.known().get(queue)
        sources = [*self._declared(queue), *(known.sources if known else ())]
        if known is not None and known.is_subscription:
            # What has no code here looks like a work queue.
            sources = [one for one in sources if one.is_log]
        return dead_streams(sources)


def operator_name() -> str:
    """Who runs this process, as user@host."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a user without a name, as in some containers
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def expire_dead_letters(link: Link, keys: Keys, ttl_ms: int, by: str) -> int:
    """Deletes dead letters that are older than `ttl_ms`, by the server's clock; returns how many.

    At most `EXPIRE_LETTERS` a call, the oldest first, streams by turns; the next call goes on.
    Harmless to repeat. A stream that cannot be cleaned is logged and keeps none of the others.

    Parameters:
      by: Who does it, for the audit.

    Raises:
      BrokerConnectionError: The server cannot be reached. Nothing else: who calls it must live on.
    """
    logger = get_logger(__name__)
    try:
        known = known_queues(link, keys)
    except BrokerConnectionError:
        raise
    except BrokerError as error:
        logger.error("Dead letters do not expire: %s", error)
        return 0
    left = [stream for queue in known.values() for stream in dead_streams(queue.sources)]
    expired: Counter[str] = Counter()
    while left and expired.total() < EXPIRE_LETTERS:
        for stream in list(left):
            if expired.total() >= EXPIRE_LETTERS:
                break
            try:
                page = min(EXPIRE_PAGE, EXPIRE_LETTERS - expired.total())
                gone = link.run(scripts.expire(stream.source.keys, by, ttl_ms, page))
            except BrokerConnectionError:
                raise
            except BrokerError as error:
                logger.error("Dead letters of %s do not expire: %s", stream.queue, error)
                gone = 0
            expired[stream.queue] += gone
            if gone < EXPIRE_PAGE:
                left.remove(stream)
    for queue, letters in expired.items():
        if letters:
            logger.warning(
                "%s: %d dead letters were older than %d s and have been deleted.",
                queue,
                letters,
                ttl_ms // 1000,
            )
    return expired.total()
