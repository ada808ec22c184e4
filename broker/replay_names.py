"""Names of replays, and of the namespaces that they publish into.

A replay of namespace `NS` has one of its own, `NS.replay.ID`: a valid namespace like any other, so
that every tool works there (`STREAMATIQ_NAMESPACE=NS.replay.ID streamatiq dead`). Workers know by
this name alone that what they handle is a replay.
"""

from __future__ import annotations

import os
import re

from ..errors import InvalidReplay

__all__ = ["checked_id", "dry_namespace", "new_id", "replay_namespace", "replay_of"]

#: Longest namespace, as the settings have it, characters.
MAX_NAMESPACE = 64

_ID = re.compile(r"[A-Za-z0-9_-]{1,32}")
_NAMESPACE = re.compile(r".+\.replay\.([A-Za-z0-9_-]{1,32})")


def new_id() -> str:
    """A random id."""
    return f"r-{os.urandom(4).hex()}"


def checked_id(replay_id: str) -> str:
    """The id, if it can be one.

    Raises:
      InvalidReplay: It cannot.
    """
    if not isinstance(replay_id, str) or not _ID.fullmatch(replay_id):
        raise InvalidReplay(
            f"{replay_id!r:.80} cannot be the id of a replay: use letters, digits, '_' and '-', at "
            "most 32."
        )
    return replay_id


def replay_namespace(namespace: str, replay_id: str) -> str:
    """The namespace of a replay's own.

    Raises:
      InvalidReplay: It would be too long, or `namespace` is a replay's itself.
    """
    if replay_of(namespace) is not None:
        raise InvalidReplay(
            f"Namespace {namespace!r} belongs to a replay. A replay of a replay is not made: "
            "replay the original range again, or iterate over this one without a target."
        )
    own = f"{namespace}.replay.{checked_id(replay_id)}"
    if len(own) + len(".dry") > MAX_NAMESPACE:
        raise InvalidReplay(
            f"The replay's namespace {own!r} would be too long: with '.dry' it may have "
            f"{MAX_NAMESPACE} characters. Give it a shorter id."
        )
    return own


def dry_namespace(namespace: str, replay_id: str) -> str:
    """Where dry runs of a replay leave what they would have emitted."""
    return f"{namespace}.replay.{replay_id}.dry"


def replay_of(namespace: str) -> str | None:
    """The id of the replay that a namespace belongs to; None: it is no replay's."""
    found = _NAMESPACE.fullmatch(namespace)
    return found[1] if found else None
