"""Two servers that must answer alike: the twin and a real one, and how their replies are compared.

Ids and times that a server chooses itself differ; they are replaced by their order of appearance,
or by a word.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

import redis

from streamatiq.broker.connections import Link

__all__ = ["Normal", "answers", "pending_ages", "same"]

Answers = list[Any]

#: An entry id of now: 13 digits of milliseconds.
_ID = re.compile(rb"\d{13}-\d+")
#: A time of now, in ms, us or ns.
_TIME = re.compile(rb"(?<!\d)1[5-9]\d{11}(?:\d{6}|\d{3})?(?:\.\d+)?(?!\d)")


def answers(link: Link, commands: Sequence[Sequence[Any]]) -> Answers:
    """The replies of one server; a refusal as its kind and text."""
    return [
        (type(reply).__name__, str(reply)) if isinstance(reply, redis.ResponseError) else reply
        for reply in link.send_many(commands)
    ]


#: Servers differ in whether they name the script by its digest.
_SHA = re.compile(rb"( script: )[0-9a-f]{40}, (?=on )")


class Normal:
    """Replaces what a server chooses itself. One object for all that one server says."""

    def __init__(self) -> None:
        self._ids: dict[bytes, bytes] = {}

    def __call__(self, value: Any) -> Any:
        if isinstance(value, bytes):
            if value[:2] == b'{"':
                # In whatever order Lua walks through a table.
                value = json.dumps(json.loads(value), sort_keys=True).encode()
            value = _SHA.sub(rb"\1", value)
            return _TIME.sub(b"TIME", _ID.sub(self._number, value))
        if isinstance(value, str):
            return self(value.encode()).decode()
        if isinstance(value, int) and value > 1_500_000_000_000:
            return "TIME"
        if isinstance(value, list | tuple):
            return [self(one) for one in value]
        return value

    def _number(self, found: re.Match[bytes]) -> bytes:
        return self._ids.setdefault(found[0], b"ID%d" % len(self._ids))


def pending_ages(reply: Any) -> Any:
    """XPENDING's rows without the time since the delivery."""
    if isinstance(reply, list) and reply and isinstance(reply[0], list):
        return [[one[0], one[1], "AGE", one[3]] for one in reply]
    return reply


def same(
    commands: Sequence[Any], one: Answers, other: Answers, normal: Callable[[Any, Any], Any]
) -> None:
    """Every reply of `one` is `other`'s, after `normal(command, reply)`; says which is not."""
    for at, (command, *replies) in enumerate(zip(commands, one, other, strict=True)):
        left, right = (normal(command, reply) for reply in replies)
        assert left == right, f"command {at}: {command}\n  server: {left!r}\n  twin:   {right!r}"
