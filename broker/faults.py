"""Turns what redis-py raises into our typed errors: what failed, where, and what to do next.

Servers that cannot serve at the moment (loading, busy with a script, failing over, too few
replicas, disk trouble) count as lost connections: trying again is right for them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import redis.exceptions as raised

from ..errors import (
    AuthenticationFailed,
    BrokerConnectionError,
    BrokerError,
    CommandFailed,
    LeadershipLost,
    OutOfMemory,
    PermissionDenied,
    ReadOnlyServer,
    WrongKeyType,
)
from .calls import script_name

__all__ = ["fault", "translated"]

#: Error codes of a server that cannot serve now, but may soon.
NOT_NOW = ("BUSY", "NOREPLICAS", "MISCONF")
#: The same, where redis-py has taken the code from the text and made a class of it.
NOT_NOW_ERRORS = (
    raised.BusyLoadingError,
    raised.ClusterDownError,
    raised.MasterDownError,
    raised.TryAgainError,
)


def fault(error: raised.RedisError, where: str, command: Sequence[Any] = ()) -> BrokerError:
    """Our error for redis-py's `error`, met at server `where` by `command`."""
    text = (str(error) or type(error).__name__).rstrip(".")
    said = text if text.endswith(("?", "!")) else f"{text}."
    what = _shown(command)
    if isinstance(error, raised.AuthenticationError) or text.startswith(("NOAUTH", "WRONGPASS")):
        return AuthenticationFailed(
            f"{where} refused the login: {said} Check user and password in redis.url."
        )
    if text.startswith("NOTLEADER"):
        return LeadershipLost(f"{where}: {text.removeprefix('NOTLEADER').strip()}. Not written.")
    if isinstance(error, raised.NoPermissionError) or "ACL failure" in text:
        return PermissionDenied(
            f"{where} denies {what}: {said} Give this user the command and key in its ACL."
        )
    if isinstance(error, raised.OutOfMemoryError) or text.startswith("OOM"):
        return OutOfMemory(
            f"{where} is at maxmemory and refused {what}. Raise maxmemory, or let consumers catch "
            "up and retention trim; nothing was stored."
        )
    if isinstance(error, raised.ReadOnlyError) or text.startswith("READONLY"):
        return ReadOnlyServer(
            f"{where} is a read-only replica and refused {what}. Point redis.url at the primary."
        )
    if isinstance(error, NOT_NOW_ERRORS) or text.startswith(NOT_NOW):
        return BrokerConnectionError(f"{where} cannot serve now: {said}")
    if isinstance(error, raised.ConnectionError | raised.TimeoutError):
        return BrokerConnectionError(
            f"No connection to {where}: {said} Is the server running and redis.url right?"
        )
    if "WRONGTYPE" in text:
        return WrongKeyType(
            f"{where} refused {what}: {said} Another program uses our key: "
            "choose another namespace, or delete that key."
        )
    return CommandFailed(f"{where} refused {what}: {said}")


@contextmanager
def translated(where: str, command: Sequence[Any] = ()) -> Iterator[None]:
    """Raises redis-py's errors in the block as ours. An unknown script passes unchanged."""
    try:
        yield
    except raised.NoScriptError:
        raise
    except raised.RedisError as error:
        raise fault(error, where, command) from error


def _shown(command: Sequence[Any]) -> str:
    """The command's name and first argument, short: values may be large or secret."""
    if not command:
        return "a command"
    if len(command) > 1 and isinstance(command[1], str | bytes):
        name = script_name(command[1])
        if name is not None:
            return f"script {name}"
    words = [
        word.decode("utf-8", "replace") if isinstance(word, bytes) else str(word)
        for word in command[:2]
    ]
    return " ".join(words)[:80]
