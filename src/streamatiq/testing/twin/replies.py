"""What a command gives back, and how it looks on the wire (protocol 2)."""

from __future__ import annotations

from typing import Any, Final

__all__ = ["NULL_ARRAY", "OK", "CommandError", "Reply", "Status", "encoded"]


class Status(bytes):
    """A simple string, such as OK."""


class _NullArray:
    """No array: a blocking read that ended with nothing."""


NULL_ARRAY: Final = _NullArray()
OK: Final = Status(b"OK")

#: int, bytes, None (a null string), `Status`, `NULL_ARRAY`, or a list of these.
Reply = Any


class CommandError(Exception):
    """A refusal, as the server words it: `CODE text`."""

    def __init__(self, text: str | bytes) -> None:
        self.text = text if isinstance(text, bytes) else text.encode()
        super().__init__(self.text.decode("utf-8", "replace"))


def encoded(reply: Reply) -> bytes:
    """`reply` on the wire.

    Raises:
      TypeError: It is of no kind that a reply may have.
    """
    parts: list[bytes] = []
    _encode(reply, parts)
    return b"".join(parts)


def _encode(reply: Reply, parts: list[bytes]) -> None:
    if isinstance(reply, Status):
        parts += (b"+", reply, b"\r\n")
    elif isinstance(reply, bytes):
        parts += (b"$%d\r\n" % len(reply), reply, b"\r\n")
    elif isinstance(reply, int) and not isinstance(reply, bool):
        parts.append(b":%d\r\n" % reply)
    elif reply is None:
        parts.append(b"$-1\r\n")
    elif reply is NULL_ARRAY:
        parts.append(b"*-1\r\n")
    elif isinstance(reply, CommandError):
        parts += (b"-", reply.text.replace(b"\r", b" ").replace(b"\n", b" "), b"\r\n")
    elif isinstance(reply, list):
        parts.append(b"*%d\r\n" % len(reply))
        for one in reply:
            _encode(one, parts)
    else:
        raise TypeError(f"A command replied {reply!r}, which has no form on the wire.")
