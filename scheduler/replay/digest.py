"""The digest of an ordered output: a chain of SHA-256, so that it goes on after a crash.

`d0` is 32 zero bytes, and `dn = SHA-256(dn-1 + item n)`; an item's bytes are its place, a zero
byte, and the event as it is stored. Two outputs have the same digest if, and only if, they are
the same events of the same places in the same order (but for a collision of SHA-256). hashlib
cannot save a running hash; a link of a chain is 32 bytes.
"""

from __future__ import annotations

from hashlib import sha256

from .items import Replayed

__all__ = ["EMPTY", "chained", "chained_items"]

#: The digest of nothing.
EMPTY = bytes(32)


def chained(digest: bytes, data: bytes) -> bytes:
    """The digest with one more record."""
    return sha256(digest + data).digest()


def chained_items(digest: bytes, items: list[Replayed]) -> bytes:
    """The digest with these items, in order."""
    for item in items:
        digest = sha256(b"%b%b\0%b" % (digest, "/".join(item.place).encode(), item.data)).digest()
    return digest
