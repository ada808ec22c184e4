"""Retention: takes out of the logs what nobody needs any more.

A stream is trimmed from its beginning, down to `redis.stream_max_length` entries, and only below

- what any of its subscriptions has not read or not settled (looked at in the step that trims);
- what any kept checkpoint needs;
- what any replay that runs needs.

Nothing is trimmed for a subscription's being old: one that nobody reads is reported, and given up
only after `retention.abandoned_after`. Work queues and dead letters are none of its business.
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import methodcaller

from dramatiq.logging import get_logger

from ..broker import RedisStreamsBroker
from ..broker import retention_scripts as scripts
from ..broker.checkpoint_scripts import StreamPosition
from ..broker.connections import LinkPool
from ..broker.dead_letter_admin import operator_name
from ..broker.entry_ids import id_key
from ..broker.known_logs import known_logs
from ..broker.retention_scripts import FLOOR
from ..errors import CheckpointDamaged, CheckpointNotFound
from .checkpoints.store import CheckpointStore, audit_record
from .checkpoints.taking import read_positions, streams_of
from .checkpoints.verifying import lowest_needed, split_place
from .exclusive import Turn, run, turn
from .readers import find_readers
from .replay.store import ReplayStore
from .retention_pins import pins
from .retention_report import Floor, RetentionReport, StreamReport, Unread

__all__ = ["KIND", "Retention"]

#: What schedules call this kind of runs.
KIND = "retention"
#: Entries that one script call looks at: some two milliseconds of the server's time.
PAGE = 2_000


class Retention:
    """Trims the logs of a broker's namespace. Thread-safe.

    None of the handlers' code is needed. One run at a time, over all processes, and none while a
    checkpoint is taken or restored.

    Parameters:
      broker: Any broker of the namespace.
      links: Connections to use; default: the broker's.
    """

    def __init__(self, broker: RedisStreamsBroker, *, links: LinkPool | None = None) -> None:
        self.logger = get_logger(__name__, type(self))
        self._keys = broker.keys
        self._aim = broker.settings.redis.stream_max_length
        self._abandoned_after_s = broker.settings.retention.abandoned_after
        self._links = links or broker.logs.links
        self._idle = broker.idle_consumer
        self._store = CheckpointStore(self._links, self._keys.checkpoints)

    def run(self, *, by: str | None = None) -> RetentionReport:
        """Gives up what is abandoned by the settings, then trims. Audited, if anything went.

        Harmless to repeat. Each page of a stream is one step; an error leaves what was done.

        Parameters:
          by: Who; default: user@host.

        Raises:
          CheckpointsBusy: A checkpoint is taken or restored, and was not done in time.
          BrokerError: The server cannot be reached or refuses.
        """
        who = by or operator_name()
        with turn(self._links, self._keys.checkpoints, "retention") as mine:
            streams = self._streams()
            unread = self._unread(streams, who, dry_run=False, mine=mine)
            floors, notes = self._floors()
            reports = tuple(
                self._trim(place, floors.get(place), mine)
                for place, stream in streams.items()
                if stream is not None
            )
            report = RetentionReport(reports, unread, notes)
            gone = {one.stream: one.trimmed for one in reports if one.trimmed}
            given_up = [one.subscription for one in unread if one.given_up]
            if gone or given_up:
                record = audit_record("retention", who, trimmed=gone, given_up=given_up)
                self._store.note(record)
            return report

    def show(self) -> RetentionReport:
        """What there is to trim, who holds it back, and what nobody reads; changes nothing. What
        could be trimmed at once has a surplus that nobody holds.

        Raises:
          BrokerError: The server cannot be reached or refuses.
        """
        streams = self._streams()
        unread = self._unread(streams, "", dry_run=True)
        floors, notes = self._floors()
        reports = tuple(
            self._look(place, floors.get(place))
            for place, stream in streams.items()
            if stream is not None
        )
        return RetentionReport(reports, unread, notes)

    # -- parts ---------------------------------------------------------------------------------

    def _streams(self) -> dict[str, StreamPosition | None]:
        layouts = self._links.call(lambda link: known_logs(link, self._keys))
        places = streams_of(layouts)
        return read_positions(self._links, self._keys, places, with_pending=False)[1]

    def _floors(self) -> tuple[dict[str, Floor], tuple[str, ...]]:
        """What checkpoints and replays need, by stream."""
        floors: dict[str, Floor] = {}
        notes: list[str] = []

        def needs(place: str, lowest: str, by: str) -> None:
            there = floors.get(place)
            if there is None or id_key(lowest) < id_key(there.lowest):
                floors[place] = Floor(lowest, by)

        for checkpoint_id in self._store.ids():
            try:
                checkpoint = self._store.get(checkpoint_id)
            except (CheckpointDamaged, CheckpointNotFound) as error:
                notes.append(f"{error} It holds nothing back.")
                continue
            for positions in checkpoint.subscriptions.values():
                for place, position in positions.items():
                    lowest = lowest_needed(checkpoint.logs[place], position)
                    needs(place, lowest, f"checkpoint {checkpoint_id}")
        for replay, streams in pins(self._links, self._keys).items():
            for place, lowest in streams.items():
                needs(place, lowest, f"replay {replay}")
        # And those that are stored and have not ended, whether a process runs them or not.
        for name, at in ReplayStore(self._keys, self._links).needed().items():
            needs(name.replace("/", ":"), at or "0-0", "a replay that has not ended")
        return floors, tuple(notes)

    def _call(self, place: str, floor: Floor | None, *, trim: bool) -> scripts.Trimmed:
        call = scripts.retain(
            self._keys.log(*split_place(place)),
            aim=self._aim,
            floor=floor.lowest if floor else "",
            page=PAGE,
            trim=trim,
        )
        return run(self._links, call)

    def _trim(self, place: str, floor: Floor | None, mine: Turn) -> StreamReport:
        trimmed = 0
        while True:
            mine.renew()
            page = self._call(place, floor, trim=True)
            trimmed += page.trimmed
            if not page.trimmed or page.held_by or page.surplus <= 0:
                return _report(place, page, floor, trimmed)

    def _look(self, place: str, floor: Floor | None) -> StreamReport:
        return _report(place, self._call(place, floor, trim=False), floor, 0)

    def _unread(
        self,
        streams: Mapping[str, StreamPosition | None],
        who: str,
        *,
        dry_run: bool,
        mine: Turn | None = None,
    ) -> tuple[Unread, ...]:
        """Who is read by nobody; gives up those that are abandoned."""
        waiting = _waiting(streams)
        idle = self._idle()
        readers = self._links.call(lambda link: find_readers(link, self._keys, idle))
        read = sorted(name for name in waiting if name in readers and readers[name].alive)
        others = sorted(set(waiting) - set(read))
        if dry_run:
            now_ms, since = self._seen()
        else:
            now_ms, since = run(self._links, scripts.seen(self._keys.checkpoints, read, others))
        found: list[Unread] = []
        for name in others:
            silent_s = max(0.0, (now_ms - since.get(name, now_ms)) / 1000)
            after_s = self._abandoned_after_s
            given_up = after_s is not None and silent_s > after_s
            if given_up and mine is not None:
                mine.renew()
                self._give_up(name, streams, who, silent_s)
            found.append(Unread(name, silent_s, waiting[name], given_up))
        return tuple(sorted(found, key=lambda one: (-one.silent_s, one.subscription)))

    def _seen(self) -> tuple[int, dict[str, int]]:
        flat = self._links.call(methodcaller("send", "HGETALL", self._keys.checkpoints.seen))
        seconds, micros = self._links.call(methodcaller("send", "TIME"))
        pairs = zip(flat[::2], flat[1::2], strict=True)
        since = {name.decode(): int(at) for name, at in pairs}
        return int(seconds) * 1000 + int(micros) // 1000, since

    def _give_up(
        self, name: str, streams: Mapping[str, StreamPosition | None], who: str, silent_s: float
    ) -> None:
        why = f"nobody has read it for {silent_s:.0f} s (retention.abandoned_after)"
        left = 0
        for place, stream in streams.items():
            if stream is not None and name in stream.groups:
                keys = self._keys.log(*split_place(place)).subscription(name)
                left += run(self._links, scripts.abandon(keys, name, by=who, why=why))[1]
        self.logger.warning(
            "Subscription %s is given up: %s. It had %d events left to handle.", name, why, left
        )


def _waiting(streams: Mapping[str, StreamPosition | None]) -> dict[str, int]:
    """Unread and unsettled entries of each subscription, at least."""
    found: dict[str, int] = {}
    for stream in streams.values():
        for name, group in stream.groups.items() if stream else ():
            unread = 0
            if group.unread and stream is not None:
                unread = 1 if group.read is None else stream.added - group.read
            found[name] = found.get(name, 0) + group.pending + unread
    return found


def _report(place: str, page: scripts.Trimmed, floor: Floor | None, trimmed: int) -> StreamReport:
    held_by = page.held_by and f"subscription {page.held_by}"
    if page.held_by == FLOOR and floor is not None and page.lowest == floor.lowest:
        held_by = floor.by
    return StreamReport(place, page.length, trimmed, max(0, page.surplus), held_by, page.lowest)
