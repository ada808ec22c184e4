"""Runs the server's scripts: real Lua 5.1, with commands that go to the store.

`prelude.lua` builds what scripts see. Numbers, nil and tables turn into replies and back as the
server does it: nil is false in a script and null on the wire, a table ends at its first nil.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from ...errors import ConfigurationError
from . import json_text
from .commands import known
from .replies import NULL_ARRAY, CommandError, Reply, Status
from .store import Store

try:
    from lupa import lua51  # type: ignore[import-untyped]
except ImportError:
    lua51 = None

__all__ = ["Scripts"]

_FLAGS = {"no-writes", "allow-oom", "allow-stale", "no-cluster", "allow-cross-slot-keys"}
#: What only a client may call.
_NOT_IN_SCRIPTS = (b"EVAL", b"EVALSHA", b"SCRIPT", b"MULTI", b"EXEC", b"DISCARD", b"CLIENT")

_SHEBANG = re.compile(rb"^#!([^\n]*)")


@dataclass(frozen=True, slots=True)
class _Script:
    function: Any
    sha: str
    reads_only: bool
    may_grow: bool


class Scripts:
    """The scripts that a server knows. For one thread.

    Parameters:
      store: What their commands work on.

    Raises:
      ConfigurationError: Lua is not installed.
    """

    def __init__(self, store: Store) -> None:
        if lua51 is None:
            raise ConfigurationError(
                "The in-memory twin runs the broker's scripts in Lua, which is not installed. "
                "Run: pip install 'streamatiq[testing]'"
            )
        self._store = store
        self._known: dict[str, _Script] = {}
        self._running: _Script | None = None
        #: Whether memory is full: what grows is refused.
        self.full = False
        self._lua = lua51.LuaRuntime(encoding=None, register_eval=False, register_builtins=False)
        self._null = self._lua.execute(b"return newproxy()")
        self._load = self._lua.eval(b"loadstring")
        self._is_table = self._lua.eval(b"function(value) return type(value) == 'table' end")
        prelude = (files(__package__) / "prelude.lua").read_bytes()
        make = self._lua.execute(b"return function(...) " + prelude + b"\nend")
        self._run = make(self._dispatch, self._encode, self._decode, self._null, _sha1)

    # -- scripts -------------------------------------------------------------------------------

    def load(self, text: bytes) -> str:
        """Compiles a script; returns its SHA-1.

        Raises:
          CommandError: It cannot be compiled, or its first line asks for what is not known.
        """
        sha = hashlib.sha1(text, usedforsecurity=False).hexdigest()
        if sha in self._known:
            return sha
        flags: list[str] = []
        first = _SHEBANG.match(text)
        if first:
            engine, *words = first[1].decode().split()
            if engine != "lua":
                raise CommandError(f"ERR Could not find scripting engine '{engine}'")
            for word in words:
                if not word.startswith("flags="):
                    raise CommandError(f"ERR Unknown lua shebang option: {word}")
                flags = word.removeprefix("flags=").split(",")
            unknown = set(flags) - _FLAGS
            if unknown:
                raise CommandError(f"ERR Unexpected flag in script shebang: {unknown.pop()}")
        body = _SHEBANG.sub(b"", text)
        function = self._load(body, b"@user_script")
        if isinstance(function, tuple):
            raise CommandError(
                b"ERR Error compiling script (new function): " + function[1].replace(b"\n", b" ")
            )
        reads_only, may_grow = "no-writes" in flags, not first or "allow-oom" in flags
        self._known[sha] = _Script(function, sha, reads_only, may_grow)
        return sha

    def knows(self, sha: str) -> bool:
        return sha in self._known

    def forget(self) -> None:
        """Drops all scripts, as a restart does."""
        self._known.clear()

    def run(self, sha: str, keys: Sequence[bytes], argv: Sequence[bytes]) -> Reply:
        """Runs a script that was loaded.

        Raises:
          CommandError: It ended with an error; what it did before stays done.
        """
        script = self._known.get(sha.lower())
        if script is None:
            raise CommandError("NOSCRIPT No matching script.")
        if self.full and not script.may_grow and not script.reads_only:
            raise CommandError("OOM command not allowed when used memory > 'maxmemory'.")
        self._running = script
        try:
            done, result = self._run(
                script.function, self._lua.table_from(keys), self._lua.table_from(argv)
            )
        finally:
            self._running = None
        if done:
            return self._reply(result)
        where = b" script: %s, on @user_script:%d." % (script.sha.encode(), result[b"line"])
        raise CommandError(result[b"err"] + where)

    # -- what scripts call ---------------------------------------------------------------------

    def _dispatch(self, *words: bytes) -> Any:
        script = self._running
        assert script is not None
        try:
            if words[0].upper() in _NOT_IN_SCRIPTS:
                raise CommandError("ERR This Redis command is not allowed from script")
            wanted = known(words[0])
            if wanted.writes and script.reads_only:
                raise CommandError("ERR Write commands are not allowed from read-only scripts.")
            if not wanted.takes(len(words) - 1):
                raise CommandError("ERR Wrong number of args calling command from script")
            return self._to_lua(wanted(self._store, list(words[1:])))
        except CommandError as error:
            return self._lua.table_from({b"err": error.text})

    def _encode(self, value: Any) -> bytes:
        return json_text.encoded(value, self._items, self._null)

    def _decode(self, text: bytes) -> Any:
        return self._from_json(json_text.decoded(text))

    # -- values --------------------------------------------------------------------------------

    def _items(self, value: Any) -> dict[Any, Any] | None:
        return dict(value.items()) if self._is_table(value) else None

    def _from_json(self, value: Any) -> Any:
        if value is None:
            return self._null
        if isinstance(value, list):
            return self._lua.table_from([self._from_json(one) for one in value])
        if isinstance(value, dict):
            return self._lua.table_from({key: self._from_json(one) for key, one in value.items()})
        return value

    def _to_lua(self, reply: Reply) -> Any:
        if reply is None or reply is NULL_ARRAY:
            return False
        if isinstance(reply, list):
            return self._lua.table_from([self._to_lua(one) for one in reply])
        if isinstance(reply, Status):
            return self._lua.table_from({b"ok": bytes(reply)})
        return reply

    def _reply(self, value: Any) -> Reply:
        """What a script returns, as a reply."""
        if value is None or value is False:
            return None
        if value is True:
            return 1
        if isinstance(value, bytes):
            return value
        if isinstance(value, int | float):
            return int(value)
        if not self._is_table(value):
            return None
        if (error := value[b"err"]) is not None:
            return CommandError(error)
        if (status := value[b"ok"]) is not None:
            return Status(status)
        found: list[Reply] = []
        while (one := value[len(found) + 1]) is not None:
            found.append(self._reply(one))
        return found


def _sha1(text: bytes) -> bytes:
    return hashlib.sha1(text, usedforsecurity=False).hexdigest().encode()
