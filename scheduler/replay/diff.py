"""Compares the outputs of two replays, event by event: today's code against yesterday's."""

from __future__ import annotations

import heapq
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ...broker.connections import LinkPool
from ...broker.keys import Keys
from ...errors import InvalidReplay
from .outputs import Output, sorted_outputs, stored_outputs
from .store import ReplayStore

__all__ = ["Difference", "ReplayDiff", "compare", "diff_replays"]


@dataclass(frozen=True, slots=True)
class Difference:
    """An event that one output has and the other has not, or has otherwise.

    Parameters:
      before: In A; None: only in B.
      after: In B; None: only in A.
    """

    before: Output | None
    after: Output | None

    @property
    def either(self) -> Output:
        """One of both."""
        one = self.before or self.after
        assert one is not None
        return one

    @property
    def ts_event(self) -> int:
        """When it happened, ns; 0 if that is left out of the comparison."""
        return int(json.loads(self.either.text).get("ts_event", 0))

    @property
    def kind(self) -> str:
        """`changed`, `only in A`, `only in B`."""
        if self.before is None:
            return "only in B"
        return "only in A" if self.after is None else "changed"

    def fields(self) -> list[tuple[str, Any, Any]]:
        """What differs, of an event that changed: (path, in A, in B)."""
        if self.before is None or self.after is None:
            return []
        return list(_fields("", json.loads(self.before.text), json.loads(self.after.text)))


_ABSENT = object()


def _fields(path: str, before: Any, after: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(before, dict) and isinstance(after, dict):
        for name in sorted({*before, *after}):
            one, other = before.get(name, _ABSENT), after.get(name, _ABSENT)
            yield from _fields(f"{path}.{name}" if path else name, one, other)
    elif before != after:
        yield (
            path,
            None if before is _ABSENT else before,
            None if after is _ABSENT else after,
        )


@dataclass(frozen=True, slots=True)
class ReplayDiff:
    """What differs between two outputs.

    Parameters:
      counts: Differences by (type, kind).
      events: Events of A, and of B.
      first: The first differences, by event time.
    """

    counts: Counter[tuple[str, str]]
    events: tuple[int, int]
    first: list[Difference]

    @property
    def same(self) -> bool:
        """Whether there are none."""
        return not self.counts


def diff_replays(
    store: ReplayStore,
    links: LinkPool,
    keys: Keys,
    one: str,
    other: str,
    *,
    ignore: Sequence[str] = (),
    show: int = 10,
) -> ReplayDiff:
    """Compares the outputs of two isolated replays of one namespace. Their handlers' code is not
    needed. Left out are `ts_published`, entry ids and append times.

    Parameters:
      one, other: Their ids: A and B.
      ignore: Names of more fields, at the top of events, to leave out.
      show: How many differences to keep.

    Raises:
      ReplayNotFound: One does not exist.
      InvalidReplay: One has no output of its own.
      BrokerError: The server cannot be reached or refuses.
    """
    for replay_id in (one, other):
        spec = store.get(replay_id).definition.spec
        if spec.target != "isolated":
            raise InvalidReplay(
                f"Replay {replay_id!r} went to {spec.target!r}, so it has no output of its own. "
                "Only isolated replays are compared."
            )
    with (
        sorted_outputs(stored_outputs(keys, one, links, ignore)) as before,
        sorted_outputs(stored_outputs(keys, other, links, ignore)) as after,
    ):
        return compare(before, after, show=show)


def compare(before: Iterable[Output], after: Iterable[Output], *, show: int = 10) -> ReplayDiff:
    """Compares two outputs in the canonical order, in one pass."""
    counts: Counter[tuple[str, str]] = Counter()
    events = [0, 0]
    #: The first by event time: a heap of the latest ones among them.
    kept: list[tuple[int, int, Difference]] = []
    for difference in _differences(iter(before), iter(after), events):
        counts[difference.either.type, difference.kind] += 1
        if show > 0:
            ranked = (-difference.ts_event, -counts.total(), difference)
            if len(kept) < show:
                heapq.heappush(kept, ranked)
            else:
                heapq.heappushpop(kept, ranked)
    first = [difference for _, _, difference in sorted(kept, key=lambda one: (-one[0], -one[1]))]
    return ReplayDiff(counts, (events[0], events[1]), first)


def _differences(
    before: Iterator[Output], after: Iterator[Output], events: list[int]
) -> Iterator[Difference]:
    one, other = next(before, None), next(after, None)
    while one is not None or other is not None:
        if other is None or (one is not None and one[:3] < other[:3]):
            yield Difference(one, None)
            events[0] += 1
            one = next(before, None)
        elif one is None or other[:3] < one[:3]:
            yield Difference(None, other)
            events[1] += 1
            other = next(after, None)
        else:
            if one.text != other.text:
                yield Difference(one, other)
            events[0] += 1
            events[1] += 1
            one, other = next(before, None), next(after, None)
