"""Replays on the server: what they are, how they stand, who runs them, and how to talk to that one.

One process at a time runs a replay: it has the lease, and the number of its run fences what an
earlier one might still save. Progress is saved every second and whenever somebody changes
something; a process that dies leaves a lease that runs out, and progress that is at most a second
old. What it delivered in that second is delivered again, and recognised by the target.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from ...broker.connections import Link, LinkPool
from ...broker.keys import Keys
from ...broker.replay_names import checked_id, dry_namespace, replay_namespace
from ...broker.replay_scripts import save, take
from ...errors import ReplayError, ReplayExists, ReplayNotFound, ReplayNotRunning, ReplayTaken
from .progress import Progress
from .ranges import entry_id
from .records import Definition, Record, Standing
from .spec import FLAT_OUT

__all__ = ["LEASE_MS", "ReplayStore"]

#: How long a process has a replay without a sign of life, ms.
LEASE_MS = 5_000
#: How long an answer to a command is waited for, ms.
ANSWER_MS = 5_000
#: Commands and answers that are kept.
MAX_CONTROL = 1_000
#: Keys that are deleted at a time.
PAGE = 500


class ReplayStore:
    """The replays of one namespace. Thread-safe.

    Parameters:
      keys: The namespace.
      links: Connections.
    """

    def __init__(self, keys: Keys, links: LinkPool) -> None:
        self.keys = keys
        self.links = links

    # -- making, listing, removing -------------------------------------------------------------

    def create(self, definition: Definition) -> None:
        """Stores a new replay.

        Raises:
          ReplayExists: Its id is taken.
          BrokerError: The server cannot be reached or refused.
        """
        replay_id = definition.replay_id
        made = self._call("SET", self.keys.replay(replay_id).spec, definition.to_json(), "NX")
        if made is None and self._definition(replay_id) != definition:
            raise ReplayExists(
                f"There is a replay {replay_id!r} already. Give the new one another id, or remove "
                f"that one: streamatiq replay remove {replay_id}"
            )
        self._call("ZADD", self.keys.replays, definition.created_ms, replay_id)

    def get(self, replay_id: str) -> Record:
        """One replay.

        Raises:
          ReplayNotFound: There is none of this id.
        """
        definition = self._definition(checked_id(replay_id))
        if definition is None:
            known = ", ".join(self.ids()) or "none"
            raise ReplayNotFound(
                f"There is no replay {replay_id!r} in namespace {self.keys.namespace!r}; "
                f"there are: {known}."
            )
        keys = self.keys.replay(replay_id)
        flat, held = self.links.call(lambda link: _both(link, keys.state, keys.lease))
        state = dict(zip(flat[::2], flat[1::2], strict=True))
        standing = Standing(state.get(b"status", b"new").decode())
        if standing.is_live and not held:
            standing = Standing.INTERRUPTED
        progress = state.get(b"progress")
        speed = state.get(b"speed")
        return Record(
            definition,
            standing,
            Progress() if progress is None else Progress.from_json(progress),
            definition.spec.speed if speed is None else float(speed),
            int(state.get(b"saved_ms", 0)),
            state.get(b"error", b"").decode("utf-8", "replace"),
            state.get(b"output", b"").decode(),
        )

    def ids(self) -> list[str]:
        """The ids of all replays, oldest first."""
        return [one.decode() for one in self._call("ZRANGE", self.keys.replays, 0, -1)]

    def all(self) -> list[Record]:
        """All replays, oldest first."""
        found = []
        for replay_id in self.ids():
            try:
                found.append(self.get(replay_id))
            except ReplayNotFound:
                continue  # removed meanwhile
        return found

    def needed(self) -> dict[str, str]:
        """What retention must keep: for each stream, `TYPE/PART`, the last entry that some replay
        which has not ended has delivered; "" where it has delivered none. An entry at or behind it
        is still needed."""
        found: dict[str, str] = {}
        for record in self.all():
            if record.standing.has_ended:
                continue
            for name in record.definition.ends:
                position = record.progress.positions.get(name)
                at = "" if position is None else position.entry_id
                known = found.get(name)
                if known is None or not at or (known and entry_id(at) < entry_id(known)):
                    found[name] = at
        return found

    def remove(self, replay_id: str) -> int:
        """Deletes a replay that nobody runs, and all that it published into a namespace of its own.

        What it put into live logs, or gave to a subscription, stays. Harmless to repeat.

        Returns:
          How many keys were deleted.

        Raises:
          ReplayNotFound: There is none of this id.
          ReplayTaken: A process runs it.
        """
        record = self.get(replay_id)
        if record.standing.is_live:
            raise ReplayTaken(
                f"A process runs replay {replay_id!r}. Cancel it first: "
                f"streamatiq replay cancel {replay_id}"
            )
        deleted = 0
        if record.definition.spec.target == "isolated":
            deleted += self._delete_namespace(replay_namespace(self.keys.namespace, replay_id))
        deleted += self._delete_namespace(dry_namespace(self.keys.namespace, replay_id))
        keys = self.keys.replay(replay_id)
        self._call("ZREM", self.keys.replays, replay_id)
        return deleted + int(self._call("UNLINK", keys.spec, keys.state, keys.control, keys.lease))

    def _delete_namespace(self, namespace: str) -> int:
        deleted = 0
        for pattern in (f"{{{namespace}:*", f"{namespace}:*"):
            for keys in self._scan(pattern):
                for key in keys:  # one by one: they lie in different slots of a cluster
                    deleted += int(self._call("UNLINK", key))
        return deleted

    def _scan(self, pattern: str) -> Iterator[list[bytes]]:
        cursor: Any = 0
        while True:
            cursor, found = self._call("SCAN", cursor, "MATCH", pattern, "COUNT", PAGE)
            yield found
            if int(cursor) == 0:
                return

    # -- running -------------------------------------------------------------------------------

    def take(self, replay_id: str, token: str) -> int:
        """Makes `token` the one that runs a replay; returns the number of its run.

        Raises:
          ReplayTaken: Another process runs it; its `ms_left` says how long that is certain.
        """
        keys = self.keys.replay(replay_id)
        run = self.links.call(lambda link: link.run(take(keys, token, LEASE_MS)))
        if run < 0:
            raise ReplayTaken(
                f"Another process runs replay {replay_id!r}, or has died less than "
                f"{LEASE_MS / 1000:g} s ago. Control it from here (pause, resume, step, seek, "
                "speed, cancel), or try again when it has ended."
            )
        return run

    def save(
        self, replay_id: str, token: str, run: int, fields: Mapping[str, Any], *, keep: bool
    ) -> None:
        """Saves state, and keeps the lease or gives it up.

        Raises:
          ReplayTaken: Another process has taken the replay over; nothing was saved.
        """
        keys = self.keys.replay(replay_id)
        call = save(keys, token, run, LEASE_MS if keep else 0, fields)
        if not self.links.call(lambda link: link.run(call)):
            raise ReplayTaken(
                f"Replay {replay_id!r} was taken over by another process, because this one did "
                f"not say for {LEASE_MS / 1000:g} s that it lives. It stops here."
            )

    # -- talking to the one that runs it -------------------------------------------------------

    def control_end(self, replay_id: str) -> str:
        """Where the commands end that were given before."""
        found = self._call("XREVRANGE", self.keys.replay(replay_id).control, "+", "-", "COUNT", 1)
        return found[0][0].decode() if found else "0-0"

    def say(self, replay_id: str, fields: Mapping[str, str]) -> str:
        """Adds to the control stream, perhaps twice if a reply is lost; returns the entry's id."""
        flat = [text for pair in fields.items() for text in pair]
        key = self.keys.replay(replay_id).control
        return str(self._call("XADD", key, "MAXLEN", "~", MAX_CONTROL, "*", *flat).decode())

    def hear(
        self, link: Link, replay_id: str, after: str, block_ms: int
    ) -> list[tuple[str, dict[str, str]]]:
        """Entries of the control stream behind `after`; waits for one at most so long.

        Parameters:
          link: One of its own, with a longer time limit.
        """
        key = self.keys.replay(replay_id).control
        reply = link.send("XREAD", "COUNT", 100, "BLOCK", block_ms, "STREAMS", key, after)
        return [
            (
                entry.decode(),
                {
                    name.decode(): value.decode()
                    for name, value in zip(flat[::2], flat[1::2], strict=True)
                },
            )
            for entry, flat in (reply[0][1] if reply else ())
        ]

    def command(self, replay_id: str, name: str, argument: str = "") -> None:
        """Tells the process that runs a replay to do something, and waits until it has.

        Raises:
          ReplayNotFound: There is none of this id.
          ReplayNotRunning: No process runs it.
          ReplayError: That process refused, and says why; or it does not answer.
        """
        record = self.get(replay_id)
        if name == "cancel" and (record.standing.has_ended or not record.standing.is_live):
            if not record.standing.has_ended:
                self._cancel_idle(replay_id)
            return
        if not record.standing.is_live:
            raise ReplayNotRunning(
                f"No process runs replay {replay_id!r}: it is {record.standing}."
                + (
                    ""
                    if record.standing.has_ended
                    else f" Go on: streamatiq replay resume {replay_id}"
                )
            )
        asked = self.say(replay_id, {"c": name, "v": argument})
        after = asked
        with self.links.borrow() as link:
            while heard := self.hear(link, replay_id, after, ANSWER_MS):
                after = heard[-1][0]
                for _, fields in heard:
                    if fields.get("a") == asked:
                        if fields["r"]:
                            raise ReplayError(fields["r"])
                        return
        raise ReplayNotRunning(
            f"The process that runs replay {replay_id!r} did not answer within "
            f"{ANSWER_MS / 1000:g} s. It may still do what was asked, or it has died: look with "
            f"streamatiq replay show {replay_id}"
        )

    def _cancel_idle(self, replay_id: str) -> None:
        """Ends a replay that nobody runs."""
        token = os.urandom(8).hex()
        run = self.take(replay_id, token)
        self.save(replay_id, token, run, {"status": Standing.CANCELLED.value}, keep=False)

    # -- parts ---------------------------------------------------------------------------------

    def _definition(self, replay_id: str) -> Definition | None:
        text = self._call("GET", self.keys.replay(replay_id).spec)
        return None if text is None else Definition.from_json(text)

    def _call(self, *command: Any) -> Any:
        return self.links.call(lambda link: link.send(*command))

    @staticmethod
    def fields(standing: Standing, progress: Progress, speed: float) -> dict[str, Any]:
        """What is saved of a running replay."""
        return {
            "status": standing.value,
            "progress": progress.to_json(),
            "speed": "inf" if speed == FLAT_OUT else repr(speed),
        }


def _both(link: Link, state: str, lease: str) -> tuple[Any, Any]:
    return link.send("HGETALL", state), link.send("EXISTS", lease)
