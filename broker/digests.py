"""Digests of failures: the same bug has the same digest, wherever and whenever it strikes.

A digest is made of the error's class, the functions that its traceback went through, and the text
of the line that raised, and likewise of what caused it. Line numbers, the error's text, the depth
of a recursion, and the frames of Dramatiq and of this package that lead to the handler do not
count: they change while the bug stays.
"""

from __future__ import annotations

import hashlib
import linecache
from types import TracebackType

__all__ = ["DIGEST_LENGTH", "digest_of", "digest_without_error"]

#: Hex digits of a digest.
DIGEST_LENGTH = 10
#: How many causes of an error are followed.
MAX_CAUSES = 5
#: Frames of one traceback that are looked at, from where it was raised.
MAX_FRAMES = 500
#: Packages whose frames lead to a handler.
MACHINERY = ("dramatiq", "streamatiq")


def digest_of(error: BaseException) -> str:
    """The digest of an error that was raised."""
    parts: list[str] = []
    seen: set[int] = set()
    at: BaseException | None = error
    while at is not None and id(at) not in seen and len(seen) < MAX_CAUSES:
        seen.add(id(at))
        kind = type(at)
        parts.append(f"{kind.__module__}.{kind.__qualname__}")
        parts += _frames(at.__traceback__)
        at = at.__cause__ or (None if at.__suppress_context__ else at.__context__)
    return _hashed(parts)


def digest_without_error(cause: str, error: str) -> str:
    """The digest of a dead letter for which no error was at hand.

    Parameters:
      cause: The dead letter's.
      error: Its error, as `Type: text`; only the type counts.
    """
    return _hashed([cause] if cause == "killed_worker" else [cause, error.partition(":")[0]])


def _frames(trace: TracebackType | None) -> list[str]:
    frames = []
    while trace is not None:
        frames.append((trace.tb_frame, trace.tb_lineno))
        trace = trace.tb_next
    if not frames:
        return []
    named = [
        (str(frame.f_globals.get("__name__", "")), frame.f_code.co_qualname)
        for frame, _ in frames[-MAX_FRAMES:]
    ]
    theirs = [(name, function) for name, function in named if not _is_machinery(name)]
    last, line = frames[-1]
    text = linecache.getline(last.f_code.co_filename, line, last.f_globals).strip()
    # Each once: a recursion is the same bug at any depth.
    return [f"{name}:{function}" for name, function in dict.fromkeys(theirs or named)] + [text]


def _is_machinery(module: str) -> bool:
    return module.partition(".")[0] in MACHINERY


def _hashed(parts: list[str]) -> str:
    text = "\0".join(parts).encode("utf-8", "backslashreplace")
    return hashlib.blake2b(text, digest_size=16).hexdigest()[:DIGEST_LENGTH]
