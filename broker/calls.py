"""Script calls as values: which script, keys, arguments, and how to read the reply.

The same `Call` runs on a blocking or an asyncio connection, alone or in a pipeline.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Generic, TypeVar

__all__ = ["Call", "Script", "named_script", "script", "script_name"]

#: Names of the scripts that were loaded, by what stands in EVAL and EVALSHA.
_names: dict[bytes | str, str] = {}

T = TypeVar("T")

_INCLUDE = re.compile(r"^--@include (\S+)$", re.MULTILINE)
_FUNCTION = re.compile(r"^--@function (\S+)$", re.MULTILINE)
_FLAGS = re.compile(r"^#!lua[^\n]*\n")


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script: its text with includes put in, and the name the server knows it by."""

    name: str
    text: bytes
    sha: str


@cache
def script(name: str) -> Script:
    """Loads `name`.lua from the package.

    `--@include FILE` puts a file there; `--@function NAME` makes another script a local function
    of its keys and arguments, so that both happen in one step.
    """
    return named_script(name, _FUNCTION.sub(_as_function, _text(name)))


def named_script(name: str, text: str) -> Script:
    """A script of this text; errors call it `name`."""
    data = text.encode()
    # Not a secret: SHA-1 is how EVALSHA names a script.
    sha = hashlib.sha1(data, usedforsecurity=False).hexdigest()
    _names[sha] = _names[data] = name
    return Script(name, data, sha)


def _as_function(found: re.Match[str]) -> str:
    return f"local function {found[1]}(KEYS, ARGV)\n{_FLAGS.sub('', _text(found[1]))}end"


def _text(name: str) -> str:
    folder = files(__package__) / "lua"
    text = (folder / f"{name}.lua").read_text(encoding="utf-8")
    return _INCLUDE.sub(lambda found: (folder / found[1]).read_text(encoding="utf-8"), text)


def script_name(argument: bytes | str) -> str | None:
    """The script that the first argument of EVAL or EVALSHA means, for messages."""
    return _names.get(argument)


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One call of a script."""

    script: Script
    keys: Sequence[str]
    args: Sequence[Any]
    parse: Callable[[Any], T]

    def evalsha(self) -> tuple[Any, ...]:
        return ("EVALSHA", self.script.sha, len(self.keys), *self.keys, *self.args)

    def eval(self) -> tuple[Any, ...]:
        return ("EVAL", self.script.text, len(self.keys), *self.keys, *self.args)
