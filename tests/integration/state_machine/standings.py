"""Business keys: what stands at each, told a second time, from the headers of the scripts."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from streamatiq.broker.reservations import Standing
from streamatiq.broker.settlements import Action, BusinessKey, DeadLetter, Ended

__all__ = ["Standings", "Wanting"]


@dataclass(frozen=True, slots=True)
class Wanting:
    """A delivery that wants a key."""

    key: str
    #: The entry, with its lane in a queue.
    entry: str
    run: str
    name: str
    takes: bool


@dataclass(slots=True)
class Standings:
    """A window of keys. `aged`: the next use rotates it."""

    young: dict[str, str] = field(default_factory=dict)
    old: dict[str, str] = field(default_factory=dict)
    aged: bool = False

    def rotate(self) -> None:
        """Before each use."""
        if self.aged and self.young:
            self.old, self.young = self.young, {}
        self.aged = False

    def stands(self, key: str) -> str:
        """What stands there; empty if nothing does."""
        return self.young.get(key) or self.old.get(key, "")

    def look(self, business: BusinessKey) -> str:
        """What stands at a key that a settle names."""
        self.rotate()
        return self.stands(business.key)

    def reserve(self, want: Wanting, busy: set[str]) -> tuple[Standing, str]:
        """`busy`: entries (with their lanes) that are pending."""
        stood = self.stands(want.key)
        mine = f"r {want.entry} {want.run}"
        kind, *rest = stood.split(" ")
        if not stood:
            self.young[want.key] = mine
            return Standing.NEW, ""
        if kind == "d":
            return Standing.DONE, stood
        for mark, standing in (
            ("", Standing.NEW),
            ("?", Standing.UNCERTAIN),
            ("!", Standing.REQUEUED),
        ):
            if stood == mine + mark:
                return standing, stood
        if kind == "r" and rest[0] == want.entry:
            return Standing.OURS, stood
        if kind == "r" and rest[0] in busy:
            return Standing.BUSY, stood
        if kind == "u" and want.name in rest:
            self.young[want.key] = mine + "!"
            return Standing.REQUEUED, stood
        if want.takes:
            self.young[want.key] = mine + "?"
        return Standing.UNCERTAIN, stood

    def end(self, business: BusinessKey, action: Action) -> None:
        """A delivery that had the key, or may have had it, has come to an end."""
        stood = self.stands(business.key)
        kept = not isinstance(action, Ended | DeadLetter)
        if stood == "d" or (business.becomes != "f" and kept):
            return
        if business.becomes == "d":
            if isinstance(action, Ended):
                self.young[business.key] = "d"
        elif business.becomes == "u":
            name = business.name.decode()
            names = stood.split(" ")[1:] if stood.startswith("u ") else []
            names = [*(one for one in names if one != name), name][-20:]
            self.young[business.key] = " ".join(["u", *names])
        elif re.fullmatch(r"r \S+ " + re.escape(business.run) + r"[?!]?", stood):
            self.young.pop(business.key, None)
            self.old.pop(business.key, None)
