"""Which logs there are in a namespace, whoever declares them: what `layout.lua` has stored."""

from __future__ import annotations

from ..events import Laned, Partitioned
from .connections import Link
from .keys import Keys
from .parts import parts

__all__ = ["known_logs", "layout_parts"]

#: Keys that one SCAN looks at.
PAGE = 1000


def known_logs(link: Link, keys: Keys) -> dict[str, str]:
    """The layout of each log by event type, sorted; looks at all keys of the server, page by page.

    Raises:
      BrokerError: The server cannot be reached or refuses.
    """
    prefix = keys.layout("")
    cursor, found = b"0", set[str]()
    while True:
        cursor, page = link.send("SCAN", cursor, "MATCH", f"{prefix}*", "COUNT", PAGE)
        found.update(key.decode() for key in page)
        if cursor == b"0":
            break
    names = sorted(found)
    layouts = link.send_many([("GET", name) for name in names]) if names else []
    return {
        name.removeprefix(prefix): layout.decode()
        for name, layout in zip(names, layouts, strict=True)
        if isinstance(layout, bytes)
    }


def layout_parts(layout: str) -> list[str]:
    """The parts of a log of this layout: partition numbers, or lanes; none if it is of a later
    release."""
    if layout == "laned":
        return parts(Laned())
    kind, _, number = layout.partition(":")
    return parts(Partitioned(int(number))) if kind == "partitioned" and number.isdigit() else []
