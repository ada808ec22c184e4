"""Puts subscriptions back to where they stood at a checkpoint.

A subscription goes back to what it had settled then, and to its handler's states of that moment:
everything else runs again, in its order, as if for the first time. What that means for each thing
that is kept of an event:

- Position and pending entries: as at the checkpoint. Retries begin anew, delivery counts are 0.
- Done marks of the events that run again go: otherwise they would be skipped.
- Dead letters of events that run again go.
- Business keys stay: they stand for what was done in the outside world, which is not put back.
  A handler does not run again for a key that is done, unless `free_keys` asks for it.
- Emitted events stay in their logs; emitted again they have the same ids, and are stored once for
  as long as ids are remembered.
- Logs, halts, breakers and work queues are not touched.

On one stream all of it happens in one step (`rewind.lua`), in which the server looks once more that
nobody has claimed anything. Over the streams of a subscription, and over subscriptions, it is not
atomic: after an error, restore again, which is harmless.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from ...broker import checkpoint_scripts as scripts
from ...broker.checkpoint_scripts import StreamPosition
from ...broker.connections import LinkPool
from ...broker.keys import Keys, SourceKeys
from ...errors import CheckpointUnusable, RestoreRefused
from ..exclusive import Turn, run
from ..readers import Readers, find_readers
from .forgetting import drop_letters, forget
from .model import Checkpoint, Position
from .restore_plan import Range, Restored, StreamRestore, letters_in, pages_behind, settled_keys_in
from .restore_warnings import warnings_of
from .taking import read_positions
from .verifying import split_place, unusable

__all__ = ["Restorer"]

_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9._-]{0,127}")


class Restorer:
    """Restores from one checkpoint. For one thread.

    Parameters:
      links: Connections; every call is harmless to repeat.
      keys: The namespace.
      checkpoint: It is undamaged.
      window_s: How long ids of events are remembered, seconds.
      idle: This process's consumer name, if it has one and reads nothing.
    """

    def __init__(
        self,
        links: LinkPool,
        keys: Keys,
        checkpoint: Checkpoint,
        *,
        window_s: float,
        idle: Callable[[], str | None],
    ) -> None:
        self._links = links
        self._keys = keys
        self._checkpoint = checkpoint
        self._window_s = window_s
        self._idle = idle
        self._now: dict[str, StreamPosition | None] = {}
        self._now_us = 0
        self._readers: dict[str, Readers] = {}

    def plan(self, subscription: str | None, as_name: str | None) -> list[Restored]:
        """What restoring does; changes nothing.

        Raises:
          RestoreRefused: It cannot be done.
          CheckpointUnusable: A log does not hold any more what is needed.
        """
        checkpoint = self._checkpoint
        if checkpoint.namespace != self._keys.namespace:
            raise RestoreRefused(
                f"Checkpoint {checkpoint.id} is of namespace {checkpoint.namespace!r}, and this is "
                f"{self._keys.namespace!r}."
            )
        names = self._chosen(subscription, as_name)
        places = sorted({place for name in names for place in checkpoint.subscriptions[name]})
        moments, self._now = read_positions(
            self._links,
            self._keys,
            [split_place(place) for place in places],
            with_pending=False,
        )
        self._now_us = max((one.at_us for one in moments), default=checkpoint.at_us)
        self._refuse_lost(names)
        self._refuse_readers_now(names if as_name is None else [as_name])
        if as_name is not None:
            self._refuse_existing(as_name)
        return [self._plan(name, as_name or name) for name in names]

    def do(self, planned: Restored, turn: Turn, *, by: str, free_keys: bool) -> Restored:
        """Does what was planned.

        Raises:
          RestoreRefused: Somebody has begun to read meanwhile; streams that came before are
            restored.
        """
        positions = self._checkpoint.subscriptions[planned.subscription]
        for stream in planned.streams:
            turn.renew()
            self._refuse_readers_now([planned.name])
            keys = self._source(stream.stream, planned.name)
            position = positions[stream.stream]
            chosen = Range.of(position)
            is_new = self._is_new(stream.stream, planned.name)
            if planned.name == planned.subscription:
                now = self._now[stream.stream]
                last = "+" if now is None else now.last
                forget(self._links, keys, chosen, last, free_keys=free_keys)
            self._rewind(planned, keys, stream.stream, position, chosen, is_new=is_new, by=by)
            if planned.name == planned.subscription:
                drop_letters(self._links, planned.name, keys, chosen, by)
        return replace(planned, done=True)

    # -- what refuses --------------------------------------------------------------------------

    def _chosen(self, subscription: str | None, as_name: str | None) -> list[str]:
        known = self._checkpoint.subscriptions
        if subscription is None:
            if as_name is not None:
                raise RestoreRefused(
                    f"A new name ({as_name!r}) is for one subscription: say which one."
                )
            return list(known)
        if subscription not in known:
            raise RestoreRefused(
                f"Checkpoint {self._checkpoint.id} holds no subscription {subscription!r}; it "
                f"holds {', '.join(known) or 'none'}."
            )
        if as_name == subscription:
            raise RestoreRefused(f"{as_name!r} is the subscription itself; leave the name out.")
        if as_name is not None and not _NAME.fullmatch(as_name):
            raise RestoreRefused(
                f"{as_name!r} cannot be the name of a subscription: use a letter or _ and then "
                "letters, digits, '.', '_' and '-', at most 128."
            )
        return [subscription]

    def _refuse_lost(self, names: Sequence[str]) -> None:
        for name in names:
            for place, position in self._checkpoint.subscriptions[name].items():
                why = unusable(self._now.get(place), self._checkpoint.logs[place], position)
                if why:
                    raise CheckpointUnusable(
                        f"Checkpoint {self._checkpoint.id} cannot be restored: subscription "
                        f"{name!r} on {place}: {why}. Nothing was changed. Restore a later "
                        "checkpoint, or the other subscriptions one by one; `streamatiq checkpoint "
                        "verify` tells which are good."
                    )

    def _refuse_readers_now(self, names: Sequence[str]) -> None:
        idle = self._idle()
        self._readers = self._links.call(lambda link: find_readers(link, self._keys, idle))
        busy = {name: self._readers[name] for name in names if name in self._readers}
        shown = [f"{name!r} by {readers}" for name, readers in busy.items() if readers.alive]
        if shown:
            raise RestoreRefused(
                f"Worker processes read what is to be restored: {'; '.join(shown)}. Nothing was "
                "changed. Stop them and restore again, or restore one subscription under a new "
                "name. (Behind each name: when it was last heard of. One that was killed is listed "
                "until it has been silent for 10 s.)"
            )

    def _refuse_existing(self, as_name: str) -> None:
        for place, now in self._now.items():
            if now is not None and as_name in now.groups:
                raise RestoreRefused(
                    f"A subscription {as_name!r} exists on {place} already. Choose a name that "
                    "nobody has."
                )

    # -- planning ------------------------------------------------------------------------------

    def _plan(self, name: str, as_name: str) -> Restored:
        streams = tuple(
            self._plan_stream(place, position, name, as_name)
            for place, position in self._checkpoint.subscriptions[name].items()
            if self._now.get(place) is not None
        )
        planned = Restored(self._checkpoint.id, name, as_name, streams, ())
        return replace(
            planned,
            warnings=warnings_of(
                self._checkpoint,
                name,
                as_name,
                streams,
                window_s=self._window_s,
                age_s=(self._now_us - self._checkpoint.at_us) / 1e6,
                now=self._now,
            ),
        )

    def _plan_stream(
        self, place: str, position: Position, name: str, as_name: str
    ) -> StreamRestore:
        now = self._now[place]
        assert now is not None
        keys = self._source(place, as_name)
        chosen = Range.of(position)

        def walk(behind: str) -> int:
            pages = pages_behind(self._links, keys.entries, behind, now.last)
            return sum(len(page) for page in pages)

        to_run = chosen.count(position, now, walk)
        again = 0
        group = now.groups.get(as_name)
        if name == as_name and group is not None:
            unread = walk(group.last) if group.read is None else now.added - group.read
            again = max(0, to_run - group.pending - unread)
        in_place = name == as_name
        return StreamRestore(
            stream=place,
            behind=chosen.behind,
            pending=len(chosen.pending),
            to_run=to_run,
            again=again,
            states=tuple(position.states),
            letters=len(letters_in(self._links, keys, chosen)) if in_place else 0,
            done_keys=len(settled_keys_in(self._links, keys, chosen)) if in_place else 0,
        )

    # -- doing ---------------------------------------------------------------------------------

    def _source(self, place: str, name: str) -> SourceKeys:
        return self._keys.log(*split_place(place)).subscription(name)

    def _is_new(self, place: str, name: str) -> bool:
        now = self._now[place]
        return now is None or name not in now.groups

    def _rewind(
        self,
        planned: Restored,
        keys: SourceKeys,
        place: str,
        position: Position,
        chosen: Range,
        *,
        is_new: bool,
        by: str,
    ) -> None:
        readers = self._readers.get(planned.name)
        said = run(
            self._links,
            scripts.rewind(
                keys,
                planned.name,
                by=by,
                checkpoint=self._checkpoint.id,
                is_new=is_new,
                last=chosen.behind,
                read=position.read if position.exact else None,
                pending=chosen.pending,
                states=position.state_bytes(),
                dead=readers.dead if readers else (),
            ),
        )
        if said == "exists" and is_new:
            return  # our own call, whose reply was lost; nobody else has this name
        if said != "ok":
            raise RestoreRefused(
                f"{planned.name!r} on {place} was not restored: {_explained(said)}. Streams before "
                "it, in the order of names, are. Restore again."
            )


def _explained(said: str) -> str:
    what, _, who = said.partition(" ")
    return {
        "gone": "the log was deleted a moment ago",
        "no_group": "the subscription was deleted a moment ago",
        "held": f"{who} has just claimed entries of it; stop that process",
        "owned": f"{who} owns the partition; stop that process",
    }.get(what, said)
