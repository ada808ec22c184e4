"""JSON as the server's cjson writes and reads it. Strings are bytes on both sides."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

__all__ = ["decoded", "encoded"]

_ESCAPED = re.compile(rb'[\x00-\x1f"\\/\x7f]')
_SHORT = {
    b'"': b'\\"', b"\\": b"\\\\", b"/": b"\\/", b"\b": b"\\b", b"\f": b"\\f", b"\n": b"\\n",
    b"\r": b"\\r", b"\t": b"\\t",
}  # fmt: skip

#: A Lua table as its items; None if the value is no table.
Items = Callable[[Any], dict[Any, Any] | None]


def encoded(value: Any, items: Items, null: object) -> bytes:
    """A Lua value as JSON: an empty table is an object, a list may have holes.

    Raises:
      ValueError: It has no form in JSON.
    """
    if value is None or value is null:
        return b"null"
    if isinstance(value, bool):
        return b"true" if value else b"false"
    if isinstance(value, int | float):
        return b"%.14g" % value
    if isinstance(value, bytes):
        return b'"' + _ESCAPED.sub(_escape, value) + b'"'
    table = items(value)
    if table is None:
        raise ValueError("Cannot serialise function: type not supported")
    if table and all(isinstance(key, int) and key > 0 for key in table):
        parts = [encoded(table.get(i), items, null) for i in range(1, max(table) + 1)]
        return b"[" + b",".join(parts) + b"]"
    pairs = [
        encoded(key if isinstance(key, bytes) else b"%.14g" % key, items, null)
        + b":"
        + encoded(one, items, null)
        for key, one in table.items()
    ]
    return b"{" + b",".join(pairs) + b"}"


def _escape(found: re.Match[bytes]) -> bytes:
    return _SHORT.get(found[0]) or b"\\u%04x" % found[0][0]


def decoded(text: bytes) -> Any:
    """JSON as Python values with strings as bytes.

    Raises:
      ValueError: It is no JSON.
    """
    return _as_bytes(json.loads(text.decode("utf-8", "surrogateescape")))


def _as_bytes(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    if isinstance(value, list):
        return [_as_bytes(one) for one in value]
    if isinstance(value, dict):
        return {_as_bytes(key): _as_bytes(one) for key, one in value.items()}
    return value
