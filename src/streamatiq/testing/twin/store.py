"""The data of the twin: keys with their values and times to live, and the clock.

Only the twin's own thread uses it. The clock stands still while a command or a script runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from .replies import CommandError
from .sorted_set import SortedSet
from .stream import Stream

__all__ = ["Hash", "Store", "Value"]


class Hash(dict[bytes, bytes]):
    """Field to value."""


Value = bytes | Hash | SortedSet | Stream

V = TypeVar("V", Hash, SortedSet, Stream, bytes)

_NAMES: dict[type, bytes] = {
    bytes: b"string",
    Hash: b"hash",
    SortedSet: b"zset",
    Stream: b"stream",
}


class Store:
    """Keys and values.

    Parameters:
      clock_us: Wall clock, us; read once a command.
    """

    def __init__(self, clock_us: Callable[[], int]) -> None:
        self._clock_us = clock_us
        self._values: dict[bytes, Value] = {}
        self._expires_ms: dict[bytes, int] = {}
        self.now_us = clock_us()
        #: Commands that may write, so far; a read that found nothing is none.
        self.writes = 0

    @property
    def now_ms(self) -> int:
        """The time at which the running command began, ms."""
        return self.now_us // 1000

    def tick(self) -> None:
        """Lets the clock move on; called before each command."""
        self.now_us = self._clock_us()

    def find(self, key: bytes, kind: type[V]) -> V | None:
        """The value at `key`; None if there is none.

        Raises:
          CommandError: WRONGTYPE: it is of another kind.
        """
        value = self.value(key)
        if value is not None and not isinstance(value, kind):
            raise CommandError("WRONGTYPE Operation against a key holding the wrong kind of value")
        return value

    def make(self, key: bytes, kind: type[V]) -> V:
        """The value at `key`; a new, empty one if there is none.

        Raises:
          CommandError: WRONGTYPE.
        """
        value = self.find(key, kind)
        if value is None:
            value = self._values[key] = kind()
        return value

    def value(self, key: bytes) -> Value | None:
        """Whatever is at `key`, if its time is not over."""
        expires = self._expires_ms.get(key)
        if expires is not None and expires <= self.now_ms:
            self.delete(key)
        return self._values.get(key)

    def content(self, key: bytes) -> object:
        """What is at `key`, for comparing. Only strings are compared by what they hold; anything
        else counts as changed after any write."""
        value = self.value(key)
        return value if value is None or isinstance(value, bytes) else (id(value), self.writes)

    def kind(self, key: bytes) -> bytes:
        """What TYPE says."""
        value = self.value(key)
        return b"none" if value is None else _NAMES[type(value)]

    def put(self, key: bytes, value: Value, expires_ms: int | None = None) -> None:
        """Replaces what is at `key`, and its time to live.

        Parameters:
          expires_ms: The wall clock's time, ms, at which it goes; None: never.
        """
        self._values[key] = value
        self.expire(key, expires_ms)

    def expires_ms(self, key: bytes) -> int | None:
        """When `key` goes, ms; None if it stays."""
        return self._expires_ms.get(key)

    def expire(self, key: bytes, expires_ms: int | None) -> None:
        """Says when `key` goes; None: never."""
        if expires_ms is None:
            self._expires_ms.pop(key, None)
        else:
            self._expires_ms[key] = expires_ms

    def delete(self, key: bytes) -> bool:
        """Drops `key`; False if there was none."""
        self._expires_ms.pop(key, None)
        return self._values.pop(key, None) is not None

    def drop_if_empty(self, key: bytes) -> None:
        """A hash or sorted set without members is no key."""
        value = self._values.get(key)
        if isinstance(value, Hash | SortedSet) and not value:
            self.delete(key)

    def all_keys(self) -> list[bytes]:
        """All keys that have not expired."""
        return [key for key in list(self._values) if self.value(key) is not None]

    def clear(self) -> None:
        """Drops everything."""
        self._values.clear()
        self._expires_ms.clear()
