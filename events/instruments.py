"""What is traded: `VENUE:SYMBOL`, the key of every trading event.

The venue belongs to it: the same symbol trades on several venues at several prices.
"""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import Field

from ..errors import InvalidEvent
from .event import Event
from .problems import shown

__all__ = ["InstrumentEvent", "instrument"]

#: Longest instrument key, in characters.
MAX_INSTRUMENT_CHARS: Final = 128

# The venue ends at the first colon; a symbol may hold further ones, as BTC/USDT:USDT does.
_KEY: Final = r"^[^:\s]+:\S+$"


def instrument(venue: str, symbol: str) -> str:
    """Return the key of an instrument: `venue:symbol`.

    Raises:
      InvalidEvent: A part is empty or holds white space, the venue holds a colon, or the key is
        longer than 128 characters.
    """
    key = f"{venue}:{symbol}"
    if ":" in venue or not re.fullmatch(_KEY, key) or len(key) > MAX_INSTRUMENT_CHARS:
        raise InvalidEvent(
            f"venue {shown(venue)} and symbol {shown(symbol)} make no instrument key: both are "
            f"non-empty without white space, the venue without a colon, at most "
            f"{MAX_INSTRUMENT_CHARS} characters in all"
        )
    return key


class InstrumentEvent(Event):
    """Abstract base of events about one instrument; `key` is required."""

    #: The instrument, `venue:symbol`; see `instrument`.
    key: Annotated[str, Field(pattern=_KEY, max_length=MAX_INSTRUMENT_CHARS)]

    @property
    def venue(self) -> str:
        """The venue: the key up to its first colon."""
        return self.key.partition(":")[0]

    @property
    def symbol(self) -> str:
        """The symbol: the key after its first colon."""
        return self.key.partition(":")[2]
