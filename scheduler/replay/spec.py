"""What is to be replayed: checked once, stored as JSON, never changed afterwards."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Self

from ...errors import InvalidReplay
from ...events import Event, event_class, to_ns
from ...events.times import MAX_TIME_NS

__all__ = [
    "FLAT_OUT",
    "SUBSCRIPTION",
    "ReplaySpec",
    "Speed",
    "TimeBasis",
    "checked_speed",
    "moment_ns",
]

#: Which time counts: when the server appended an event, or when the event says it happened.
TimeBasis = Literal["log", "event"]
#: Recorded seconds per second, or "max".
Speed = float | Literal["max"]
#: The speed "max" as a number.
FLAT_OUT = math.inf
#: How a target begins that is one subscription.
SUBSCRIPTION = "subscription:"


@dataclass(frozen=True, slots=True)
class ReplaySpec:
    """A range of logs, how fast to read it, and where to. Made by `ReplaySpec.of`.

    Parameters:
      types: Names of event types, sorted.
      keys: Only events of these keys, sorted; None: of all.
      start_ns: From this time on, ns since 1970 UTC, by `time_basis`; None: from the beginning.
      end_ns: Up to this time, which is not in the range; None: up to the logs' end.
      time_basis: `log`: the server's clock at the append; `event`: `ts_event`.
      speed: Recorded seconds per second; infinite: flat out.
      max_rate: Events per second at most; None: no limit.
      target: `isolated`, `subscription:NAME`, `live`; None: nobody but the one that iterates.
    """

    types: tuple[str, ...]
    keys: tuple[str, ...] | None
    start_ns: int | None
    end_ns: int | None
    time_basis: TimeBasis
    speed: float
    max_rate: float | None
    target: str | None

    @classmethod
    def of(
        cls,
        types: Iterable[type[Event] | str] | type[Event] | str,
        *,
        keys: Iterable[str] | None = None,
        start: datetime | int | None = None,
        end: datetime | int | None = None,
        time_basis: TimeBasis = "log",
        speed: Speed = "max",
        max_rate: float | None = None,
        target: str | None = None,
    ) -> Self:
        """Checks what is asked.

        Parameters:
          types: Event classes or type names; at least one.
          start, end: Aware datetimes, or ns since 1970 UTC.

        Raises:
          InvalidReplay: A value makes no sense; it is named.
          UnknownEventType: No class of that type name was imported.
        """
        several = [types] if isinstance(types, str | type) else list(types)
        if not several:
            raise InvalidReplay("A replay without event types: name at least one.")
        names = {_type_name(one) for one in several}
        if isinstance(keys, str):
            raise InvalidReplay(f"keys is {keys!r}; give a list of keys: [{keys!r}].")
        chosen = None if keys is None else sorted(set(keys))
        if chosen is not None and not chosen:
            raise InvalidReplay("keys is empty, so nothing would be replayed; give keys, or None.")
        start_ns, end_ns = moment_ns("start", start), moment_ns("end", end)
        if start_ns is not None and end_ns is not None and end_ns <= start_ns:
            raise InvalidReplay(
                f"end ({end}) is not after start ({start}), so the range is empty. The start is "
                "in the range, the end is not."
            )
        if time_basis not in ("log", "event"):
            raise InvalidReplay(f"time_basis is {time_basis!r}; use 'log' or 'event'.")
        if max_rate is not None and not (_is_number(max_rate) and 0 < max_rate < math.inf):
            raise InvalidReplay(
                f"max_rate is {max_rate!r}; it must be a number of events per second above 0, or "
                "None."
            )
        return cls(
            tuple(sorted(names)),
            None if chosen is None else tuple(chosen),
            start_ns,
            end_ns,
            time_basis,
            checked_speed(speed),
            None if max_rate is None else float(max_rate),
            _target(target),
        )

    @property
    def classes(self) -> list[type[Event]]:
        """The event classes.

        Raises:
          UnknownEventType: One is not imported in this process.
        """
        return [event_class(name) for name in self.types]

    @property
    def subscription(self) -> str | None:
        """The one subscription that it is for."""
        if self.target is None or not self.target.startswith(SUBSCRIPTION):
            return None
        return self.target.removeprefix(SUBSCRIPTION)

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "types": list(self.types),
            "keys": None if self.keys is None else list(self.keys),
            "start_ns": self.start_ns,
            "end_ns": self.end_ns,
            "time_basis": self.time_basis,
            "speed": "max" if self.speed == FLAT_OUT else self.speed,
            "max_rate": self.max_rate,
            "target": self.target,
        }

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Self:
        """What `to_dict` gave. The types need not be known in this process."""
        return cls(
            tuple(fields["types"]),
            None if fields["keys"] is None else tuple(fields["keys"]),
            fields["start_ns"],
            fields["end_ns"],
            fields["time_basis"],
            checked_speed(fields["speed"]),
            fields["max_rate"],
            fields["target"],
        )

    def to_json(self) -> str:
        """The text that is stored."""
        return json.dumps(self.to_dict(), separators=(",", ":"))


def checked_speed(speed: Any) -> float:
    """A speed as a number; infinity for "max".

    Raises:
      InvalidReplay: It is neither "max" nor a finite number above 0.
    """
    if speed == "max":
        return FLAT_OUT
    if not _is_number(speed) or not 0 < speed < math.inf:
        raise InvalidReplay(f"speed is {speed!r}; it must be 'max' or a number above 0.")
    return float(speed)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _type_name(one: Any) -> str:
    if isinstance(one, str):
        return event_class(str(one)).event_type
    if isinstance(one, type) and issubclass(one, Event) and one.event_type:
        return one.event_type
    raise InvalidReplay(f"{one!r:.80} is neither an event class with a log nor a type name.")


def moment_ns(name: str, moment: Any) -> int | None:
    """A moment as ns since 1970 UTC.

    Parameters:
      name: What it is called in errors.
      moment: An aware datetime, ns since 1970, or None.

    Raises:
      InvalidReplay: It is something else, or a naive datetime.
    """
    if moment is None:
        return None
    if isinstance(moment, datetime):
        try:
            moment = to_ns(moment)
        except ValueError as error:
            raise InvalidReplay(f"{name}: {error}.") from None
    if type(moment) is not int:
        raise InvalidReplay(
            f"{name} is {moment!r:.80}; give an aware datetime, or ns since 1970 as an int."
        )
    if not 0 <= moment <= MAX_TIME_NS:
        raise InvalidReplay(f"{name} is {moment}; it lies outside of 1970 to 2262.")
    return moment


def _target(target: Any) -> str | None:
    if target is None or target in ("isolated", "live"):
        return target  # type: ignore[no-any-return]  # one of the three
    if isinstance(target, str) and target.startswith(SUBSCRIPTION) and target != SUBSCRIPTION:
        return target
    raise InvalidReplay(
        f"target is {target!r:.80}; use 'isolated', 'subscription:NAME', 'live', or None."
    )
