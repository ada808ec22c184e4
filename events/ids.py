"""Ids of events: time-ordered for what enters, derived for what follows from something else.

A first-hand event gets a UUIDv7 (RFC 9562): 48 bits of Unix milliseconds, then a 12-bit counter,
then 62 random bits. The counter (RFC 9562, 6.2, method 1) makes the ids of one process strictly
increasing: it starts at a random value below 2**11 in each new millisecond and counts up within
it. When it runs over, or when the clock steps back, the generator keeps its own last millisecond
and moves that on, so that order survives both.

An emitted event gets an id derived from its cause (`emit_id`), so that a handler which runs twice
emits the same ids twice, and the publish dedupe drops the second.

After a fork the child starts a new random sequence: the parent's buffered randomness is dropped.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from hashlib import sha1
from threading import Lock
from typing import Final
from uuid import UUID, SafeUUID

__all__ = ["UuidV7", "emit_id", "new_id"]

#: Nanoseconds in a millisecond.
_NS_PER_MS: Final = 1_000_000
#: Largest value of the 48-bit timestamp, in milliseconds.
_MAX_MS: Final = (1 << 48) - 1
#: Largest value of the 12-bit counter.
_MAX_COUNTER: Final = (1 << 12) - 1
#: Bytes of randomness an id takes: 11 bits seed the counter, 62 bits are the tail.
_BYTES_PER_ID: Final = 10
#: Ids served by one call for randomness: a system call each would be half of an id's cost.
_IDS_PER_REFILL: Final = 128
#: Version 7 in bits 76-79.
_VERSION_7: Final = 7 << 76
#: Version 5 in bits 76-79.
_VERSION_5: Final = 5 << 76
#: Variant `10` of RFC 9562 in bits 62-63.
_VARIANT: Final = 2 << 62
#: The low 62 bits.
_TAIL: Final = (1 << 62) - 1
#: The upper 48 bits and the 12 bits after the version: what a name-based id keeps of its hash.
_HASH_BITS: Final = (((1 << 48) - 1) << 80) | (((1 << 12) - 1) << 64) | _TAIL

_new = object.__new__
_set = object.__setattr__
_UNKNOWN = SafeUUID.unknown


def _uuid(value: int) -> UUID:
    """Build a UUID from 128 bits without `UUID.__init__`, whose checks cost more than the id."""
    made = _new(UUID)
    _set(made, "int", value)
    _set(made, "is_safe", _UNKNOWN)
    return made


class UuidV7:
    """Makes UUIDv7 ids that strictly increase; safe to call from any thread.

    Parameters:
      clock_ns: Returns the wall clock in nanoseconds since 1970, UTC.
      random_bytes: Returns that many random bytes.
    """

    def __init__(
        self,
        clock_ns: Callable[[], int] = time.time_ns,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._clock_ns = clock_ns
        self._random_bytes = random_bytes
        self._lock = Lock()
        self._last_ms = -1
        self._counter = 0
        self._pool = b""
        self._used = 0

    def __call__(self) -> UUID:
        """Return the next id: greater than every one before it from this generator."""
        with self._lock:
            if self._used >= len(self._pool):
                self._pool = self._random_bytes(_BYTES_PER_ID * _IDS_PER_REFILL)
                self._used = 0
            start = self._used
            self._used = start + _BYTES_PER_ID
            noise = int.from_bytes(self._pool[start : self._used], "big")
            now_ms = self._clock_ns() // _NS_PER_MS
            if now_ms > self._last_ms:
                self._last_ms = now_ms
                self._counter = noise >> 69
            elif self._counter < _MAX_COUNTER:
                self._counter += 1
            else:
                self._last_ms += 1
                self._counter = noise >> 69
            stamp, counter = self._last_ms, self._counter
        return _uuid(
            (stamp & _MAX_MS) << 80 | _VERSION_7 | counter << 64 | _VARIANT | noise & _TAIL
        )

    def reseed(self) -> None:
        """Forget lock and buffered randomness: what a forked child must do before its first id."""
        self._lock = Lock()
        self._pool = b""
        self._used = 0


#: The process's own generator: `new_id()` returns the next UUIDv7.
new_id: Final = UuidV7()

os.register_at_fork(after_in_child=new_id.reseed)


def emit_id(cause: UUID, subscription: str, ordinal: int) -> UUID:
    """Return the id of an event that a handler emits; the same arguments give the same id.

    It equals `uuid.uuid5(cause, f"{subscription}:{ordinal}")`.

    Parameters:
      cause: Id of the event being handled.
      subscription: Name of the subscription that handles it.
      ordinal: Place among the events emitted by this handling, from 0.
    """
    name = f"{subscription}:{ordinal}".encode()
    digest = sha1(cause.bytes + name, usedforsecurity=False).digest()
    value = int.from_bytes(digest[:16], "big")
    return _uuid(value & _HASH_BITS | _VERSION_5 | _VARIANT)
