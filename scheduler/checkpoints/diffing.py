"""What differs between two checkpoints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .model import Checkpoint, Position

__all__ = ["Difference", "diff"]


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that differs.

    Parameters:
      what: `position`, `state`, `log`, `layout`, `breaker`, `halt`, `schema` or `setting`.
      name: Whose: `SUBSCRIPTION TYPE:PART` (and the state's name), or what it is called.
      before, after: In the first and the second checkpoint; empty: it is not there. Of a state its
        token, in hexadecimal.
      entries: By how many entries a position or a log's end has moved on, if that is known.
    """

    what: str
    name: str
    before: str
    after: str
    entries: int | None = None

    def __str__(self) -> str:
        moved = "" if self.entries is None else f" ({self.entries:+,} entries)"
        before, after = self.before or "nothing", self.after or "nothing"
        return f"{self.what} {self.name}: {before} -> {after}{moved}"


def diff(first: Checkpoint, second: Checkpoint) -> list[Difference]:
    """What differs, subscriptions first, each kind in the order of names."""
    return [
        *_positions(first, second),
        *_ends(first, second),
        *_named("layout", first.layouts, second.layouts),
        *_named("breaker", first.breakers, second.breakers),
        *_named("halt", first.halts, second.halts),
        *_named("schema", first.schemas, second.schemas),
        *_named("setting", first.settings, second.settings),
    ]


def _positions(first: Checkpoint, second: Checkpoint) -> Iterator[Difference]:
    for name in sorted({*first.subscriptions, *second.subscriptions}):
        before = first.subscriptions.get(name, {})
        after = second.subscriptions.get(name, {})
        for place in sorted({*before, *after}):
            one, two = before.get(place), after.get(place)
            if _shown(one) != _shown(two):
                moved = None
                if one and two and one.read is not None and two.read is not None:
                    settled = two.read - len(two.pending) - (one.read - len(one.pending))
                    moved = settled if one.exact and two.exact else None
                yield Difference("position", f"{name} {place}", _shown(one), _shown(two), moved)
            yield from _states(f"{name} {place}", one, two)


def _shown(position: Position | None) -> str:
    if position is None:
        return ""
    pending = f" with {len(position.pending)} pending" if position.pending else ""
    return f"{position.last}{pending}" if position.exact else f"behind {position.safe}"


def _states(where: str, one: Position | None, two: Position | None) -> Iterator[Difference]:
    before = {} if one is None else one.state_bytes()
    after = {} if two is None else two.state_bytes()
    for name in sorted({*before, *after}):
        old, new = before.get(name, b""), after.get(name, b"")
        if old != new:
            yield Difference("state", f"{where} {name}", old[:8].hex(), new[:8].hex())


def _ends(first: Checkpoint, second: Checkpoint) -> Iterator[Difference]:
    for place in sorted({*first.logs, *second.logs}):
        one, two = first.logs.get(place), second.logs.get(place)
        if one != two:
            moved = two.added - one.added if one and two else None
            yield Difference("log", place, one.last if one else "", two.last if two else "", moved)


def _named(what: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Difference]:
    for name in sorted({*before, *after}):
        if before.get(name) != after.get(name):
            yield Difference(what, name, _text(before.get(name)), _text(after.get(name)))


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, dict):
        return ", ".join(f"{name} {one}" for name, one in value.items() if one != "")
    return str(value)
