"""The table of commands, and how their arguments are read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .replies import NULL_ARRAY, CommandError, Reply
from .store import Store

__all__ = ["SYNTAX", "Args", "Command", "Handler", "command", "integer", "known", "number"]

SYNTAX = "ERR syntax error"
NOT_AN_INTEGER = "ERR value is not an integer or out of range"
NOT_A_FLOAT = "ERR value is not a valid float"


class Args:
    """The arguments of one command, taken one after the other."""

    def __init__(self, words: list[bytes]) -> None:
        self._words = words
        self._at = 0

    @property
    def left(self) -> int:
        """How many were not taken yet."""
        return len(self._words) - self._at

    def take(self) -> bytes:
        """The next one.

        Raises:
          CommandError: There is none.
        """
        if not self.left:
            raise CommandError(SYNTAX)
        self._at += 1
        return self._words[self._at - 1]

    def rest(self) -> list[bytes]:
        """All that are left."""
        words = self._words[self._at :]
        self._at = len(self._words)
        return words

    def option(self, *names: bytes) -> bytes | None:
        """Takes the next one if it is one of `names`; returns that name."""
        if self.left:
            word = self._words[self._at].upper()
            if word in names:
                self._at += 1
                return word
        return None

    def integer(self, error: str = NOT_AN_INTEGER) -> int:
        """The next one as an integer."""
        return integer(self.take(), error)

    def end(self) -> None:
        """There must be no more.

        Raises:
          CommandError: There are.
        """
        if self.left:
            raise CommandError(SYNTAX)


def integer(word: bytes, error: str = NOT_AN_INTEGER) -> int:
    try:
        return int(word)
    except ValueError:
        raise CommandError(error) from None


def number(word: bytes, error: str = NOT_A_FLOAT) -> float:
    try:
        return float(word)
    except ValueError:
        raise CommandError(error) from None


Handler = Callable[[Store, Args], Reply]


@dataclass(frozen=True, slots=True)
class Command:
    """One command.

    Parameters:
      run: Does it.
      least: Fewest arguments, without its name.
      most: Most of them; None: any number.
      writes: It may change data.
      grows: It is refused when memory is full.
    """

    name: str
    run: Handler
    least: int
    most: int | None
    writes: bool
    grows: bool

    def takes(self, count: int) -> bool:
        """Whether it may have so many arguments."""
        return self.least <= count and (self.most is None or count <= self.most)

    def __call__(self, store: Store, words: list[bytes]) -> Reply:
        """Runs it with its arguments.

        Raises:
          CommandError: It was refused.
        """
        if not self.takes(len(words)):
            raise CommandError(f"ERR wrong number of arguments for '{self.name}' command")
        reply = self.run(store, Args(words))
        if self.writes and reply is not NULL_ARRAY:
            store.writes += 1
        return reply


_known: dict[bytes, Command] = {}


def command(
    name: str,
    *,
    least: int = 1,
    exact: int | None = None,
    writes: bool = False,
    grows: bool = False,
) -> Callable[[Handler], Handler]:
    """Enters a function into the table."""
    fewest = least if exact is None else exact

    def enter(run: Handler) -> Handler:
        _known[name.upper().encode()] = Command(name, run, fewest, exact, writes or grows, grows)
        return run

    return enter


def known(name: bytes) -> Command:
    """The command of this name, in any case.

    Raises:
      CommandError: The twin has none.
    """
    found = _known.get(name.upper())
    if found is None:
        shown = name.decode("utf-8", "replace")[:80]
        raise CommandError(f"ERR unknown command '{shown}' (in the in-memory twin)")
    return found
