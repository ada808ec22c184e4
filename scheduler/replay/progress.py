"""What a replay has done so far: counts, digest, range, durations, how late events were."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from .digest import EMPTY, chained_items
from .items import Place, Replayed
from .lateness import Lateness
from .streams import StreamPosition

__all__ = ["Progress"]


@dataclass(slots=True)
class Progress:
    """How far a replay has come. Survives its process as JSON. For one thread at a time.

    Parameters:
      count: Events delivered.
      counts: The same by type.
      digest: Of the ordered output; see `digest`.
      positions: Where to go on, by `StreamRange.name`.
      epoch: How often it was sent to another place.
      first_ns, last_ns: Recorded times of the first and the last event delivered; 0: none.
      last_place: Where the last one stands.
      running_ns: For how long it has run, pauses included, by the clock.
      lateness: How late events were; those that had a due time.
      late_ns: How late the last one was.
    """

    count: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    digest: bytes = EMPTY
    positions: dict[str, StreamPosition] = field(default_factory=dict)
    epoch: int = 0
    first_ns: int = 0
    last_ns: int = 0
    last_place: str = ""
    running_ns: int = 0
    lateness: Lateness = field(default_factory=Lateness)
    late_ns: int = 0

    def add(self, items: Sequence[Replayed], *, moves: bool = True) -> None:
        """Counts events that were delivered, in order.

        Parameters:
          moves: Whether the replay goes on behind them; not if it was sent elsewhere meanwhile.
        """
        self.digest = chained_items(self.digest, list(items))
        last: dict[tuple[str, str], Replayed] = {}
        for item in items:
            last[item.place[:2]] = item
        self.counts.update(item.place.type for item in items)
        if moves:
            for (name, part), item in last.items():
                position = StreamPosition(item.place.entry_id, item.time_ns)
                self.positions[f"{name}/{part}"] = position
        if items:
            self.first_ns = self.first_ns or items[0].time_ns
            self.last_ns = items[-1].time_ns
            self.last_place = str(items[-1].place)
        self.count += len(items)

    def moved(self, positions: Mapping[str, StreamPosition]) -> None:
        """The replay was sent elsewhere."""
        self.epoch += 1
        self.positions = dict(positions)

    @property
    def place(self) -> Place | None:
        """Where the last event stands."""
        return Place(*self.last_place.split("/")) if self.last_place else None

    def to_json(self) -> str:
        """The text that is stored."""
        return json.dumps(
            {
                "count": self.count,
                "counts": dict(sorted(self.counts.items())),
                "digest": self.digest.hex(),
                "positions": {
                    name: [one.entry_id, one.time_ns] for name, one in self.positions.items()
                },
                "epoch": self.epoch,
                "first_ns": self.first_ns,
                "last_ns": self.last_ns,
                "last_place": self.last_place,
                "running_ns": self.running_ns,
                "late_ns": self.late_ns,
                "lateness": [
                    self.lateness.saved(),
                    self.lateness.most_ns,
                    self.lateness.sum_ns,
                ],
            },
            separators=(",", ":"),
        )

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """What `to_json` gave."""
        fields: dict[str, Any] = json.loads(text)
        return cls(
            count=fields["count"],
            counts=Counter(fields["counts"]),
            digest=bytes.fromhex(fields["digest"]),
            positions={name: StreamPosition(*pair) for name, pair in fields["positions"].items()},
            epoch=fields["epoch"],
            first_ns=fields["first_ns"],
            last_ns=fields["last_ns"],
            last_place=fields["last_place"],
            running_ns=fields["running_ns"],
            late_ns=fields["late_ns"],
            lateness=Lateness(*fields["lateness"]),
        )
