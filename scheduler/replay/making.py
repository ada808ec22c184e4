"""Makes replays, stores them, and takes them up again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from datetime import datetime

from ...broker import RedisStreamsBroker
from ...broker.connections import Link, LinkPool
from ...broker.keys import Keys
from ...broker.replay_names import checked_id, dry_namespace, new_id, replay_namespace
from ...errors import InvalidReplay, ReplayError, ReplayExists
from ...events import Event, registered_types
from ...workers import default_broker
from ..exclusive import turn
from .access import links_of, replay_output, store_of
from .engine import Engine
from .job import ReplayJob
from .live_checkpoint import take_checkpoint
from .log_pages import LogPages, recorded_span
from .merge import Merge
from .pace import Pace
from .progress import Progress
from .ranges import StreamRange, check_layouts, check_whole, stream_ranges
from .records import Definition, Record
from .run import Replay
from .spec import ReplaySpec, Speed, TimeBasis
from .store import ReplayStore
from .targets import IsolatedTarget, LiveTarget, SubscriptionTarget, Target
from .workers import ReplayWorkers, WorkerOptions

__all__ = ["define_replay", "replay", "resume_replay"]

#: Takes a checkpoint of a broker for a reason, and returns its id.
Checkpoint = Callable[[RedisStreamsBroker, str], str]


def replay(
    types: Iterable[type[Event] | str] | type[Event] | str,
    *,
    keys: Iterable[str] | None = None,
    start: datetime | int | None = None,
    end: datetime | int | None = None,
    time_basis: TimeBasis = "log",
    speed: Speed = "max",
    max_rate: float | None = None,
    target: str | None = None,
    replay_id: str | None = None,
    paused: bool = False,
    workers: WorkerOptions | None = None,
    allow_live: bool = False,
    checkpoint: Checkpoint | None = None,
    broker: RedisStreamsBroker | None = None,
    clock_ns: Callable[[], int] = time.monotonic_ns,
) -> Replay:
    """Reads a range of logs again, in one deterministic order, at a chosen speed.

    What is in the logs now is replayed; what is published later is not. Without a target nothing is
    stored and no worker is needed: iterate over it, in a notebook or a backtest. With one, it is
    stored on the server, can be controlled from elsewhere, and goes on after a crash.

    Parameters:
      types: Event classes or type names.
      keys: Only events of these keys.
      start, end: The range, from `start` up to `end`, which is not in it: aware datetimes, or ns
        since 1970 UTC. None: all that is in the logs.
      time_basis: `log`: by the server's clock at the append; `event`: by `ts_event`. Within a
        stream the order is always the log's: one that is late by event time follows at once.
      speed: Recorded seconds per second, or "max".
      max_rate: Events per second at most.
      target: None; `isolated`: a namespace of its own; `subscription:NAME`: that one alone; `live`:
        the live logs, as new events.
      replay_id: Of a stored one; default: a random one.
      paused: Begin with a pause.
      workers: Worker processes for an isolated target.
      allow_live: Must be said for `live`.
      checkpoint: Takes one before a `live` replay; default: `Checkpoints.create`.
      broker: Default: the global broker.
      clock_ns: A clock that never steps back, for tests.

    Raises:
      InvalidReplay: A value makes no sense, or does not go with the others; nothing has changed.
      UnknownEventType: No class of a type was imported.
      ReplayRangeTrimmed: The logs do not have all of the range any more.
      ReplayExists: The id is taken, or its namespace is in use.
      NeedsCheckpoint: For `live`, no checkpoint could be taken.
      BrokerError: The server cannot be reached or refuses.
    """
    spec = ReplaySpec.of(
        types,
        keys=keys,
        start=start,
        end=end,
        time_basis=time_basis,
        speed=speed,
        max_rate=max_rate,
        target=target,
    )
    broker = broker or default_broker()
    if spec.target is None:
        if replay_id is not None or workers is not None:
            raise InvalidReplay(
                "replay_id and workers are for a replay with a target: give target='isolated'."
            )
        links = links_of(broker)
        ranges = links.call(lambda link: _ranges(link, spec, broker))
        return Replay(_engine(spec, ranges, links, None, clock_ns, paused=paused))
    definition = define_replay(
        spec,
        replay_id=replay_id,
        workers=workers,
        allow_live=allow_live,
        checkpoint=checkpoint,
        broker=broker,
    )
    return _stored(broker, definition, None, clock_ns, paused=paused)


def define_replay(
    spec: ReplaySpec,
    *,
    replay_id: str | None = None,
    workers: WorkerOptions | None = None,
    allow_live: bool = False,
    checkpoint: Checkpoint | None = None,
    broker: RedisStreamsBroker,
) -> Definition:
    """Checks a replay with a target, and stores it; `resume_replay` runs it, in any process.

    Raises:
      As `replay`.
    """
    replay_id = new_id() if replay_id is None else checked_id(replay_id)
    own = replay_namespace(broker.keys.namespace, replay_id)
    if spec.target is None:
        raise InvalidReplay("A replay without a target is not stored: give target='isolated'.")
    if workers is not None and spec.target != "isolated":
        raise InvalidReplay(
            f"Worker processes are for an isolated target, not for {spec.target!r}: there, the "
            "workers run already that handle the events."
        )
    if spec.target == "live" and not allow_live:
        raise InvalidReplay(
            "target='live' publishes into the live logs, where every subscription handles it. Say "
            "allow_live=True (--allow-live) if that is meant, or choose 'isolated'."
        )
    links = links_of(broker)
    store = ReplayStore(broker.keys, links)
    links.call(lambda link: _ranges(link, spec, broker))  # what is wrong is said first
    taken = None
    if spec.target == "live":
        taken = (checkpoint or take_checkpoint)(broker, f"replay {replay_id} into live")
    # From the look at what there is until it is stored: retention must not trim what was seen.
    with turn(links, broker.keys.checkpoints, f"beginning replay {replay_id}"):
        ranges = links.call(lambda link: _ranges(link, spec, broker))
        ends = {one.name: f"{one.last[0]}-{one.last[1]}" for one in ranges if one.last != (0, 0)}
        first_ns, last_ns = links.call(lambda link: recorded_span(link, spec, ranges))
        links.call(lambda link: _refuse_used(link, broker.keys, replay_id, own))
        _target(broker, links, spec, replay_id).prepare(ranges if spec.subscription else ())
        options = workers or WorkerOptions(processes=0)
        definition = Definition(
            replay_id,
            spec,
            ends,
            first_ns,
            last_ns,
            time.time_ns() // 1_000_000,
            options.processes,
            options.threads,
            tuple(options.handlers),
            taken,
        )
        store.create(definition)
    return definition


def resume_replay(
    replay_id: str,
    *,
    broker: RedisStreamsBroker | None = None,
    clock_ns: Callable[[], int] = time.monotonic_ns,
) -> Replay:
    """Takes up a stored replay that no process runs: a new one, or one that was interrupted.

    It goes on behind what was saved last. What had been delivered since is delivered again, and
    recognised: nothing is missing or double in the digest and the target.

    Raises:
      ReplayNotFound: There is none of this id.
      ReplayError: It has ended; or it is a live one, and it was interrupted so long ago that what
        it published last may not be recognised any more.
      ReplayTaken: (when it is run) Another process runs it, or has died a few seconds ago.
      ReplayRangeTrimmed: What is left of its range was trimmed.
      BrokerError: The server cannot be reached or refuses.
    """
    broker = broker or default_broker()
    record = store_of(broker).get(replay_id)
    if record.standing.has_ended:
        raise ReplayError(f"Replay {replay_id!r} is {record.standing}: it cannot go on.")
    _refuse_stale(broker, record)
    return _stored(broker, record.definition, record, clock_ns)


def _ranges(link: Link, spec: ReplaySpec, broker: RedisStreamsBroker) -> list[StreamRange]:
    check_layouts(broker.logs, link, spec, broker.keys)
    ends = check_whole(link, spec, stream_ranges(spec, broker.keys))
    return stream_ranges(spec, broker.keys, ends)


def _refuse_used(link: Link, keys: Keys, replay_id: str, own: str) -> None:
    if link.send("EXISTS", keys.replay(replay_id).spec):
        raise ReplayExists(
            f"There is a replay {replay_id!r} already. Give the new one another id, or remove "
            f"that one: streamatiq replay remove {replay_id}"
        )
    for namespace in (own, dry_namespace(keys.namespace, replay_id)):
        there = Keys(namespace)
        marks = [there.members.known, *(there.layout(name) for name in registered_types())]
        for key in marks:  # one by one: they lie in different slots of a cluster
            if link.send("EXISTS", key):
                raise ReplayExists(
                    f"Namespace {namespace!r}, which the replay would publish into, is in use "
                    f"({key}). Give the replay another id."
                )


def _refuse_stale(broker: RedisStreamsBroker, record: Record) -> None:
    """A live replay that was interrupted longer ago than ids are remembered."""
    if record.definition.spec.target != "live" or not record.saved_ms:
        return
    now_ms = round(broker.server_time().timestamp() * 1000)
    window_s = broker.settings.event_bus.idempotency_window
    if now_ms - record.saved_ms > window_s * 1000:
        raise ReplayError(
            f"Replay {record.definition.replay_id!r} was interrupted "
            f"{(now_ms - record.saved_ms) / 1000:.0f} s ago, longer than live logs remember ids "
            f"({window_s:g} s): what it published last might be published twice. Start a new one "
            f"behind {record.progress.last_place or 'its beginning'}."
        )


def _target(
    broker: RedisStreamsBroker, links: LinkPool, spec: ReplaySpec, replay_id: str
) -> Target:
    if spec.subscription is not None:
        return SubscriptionTarget(broker.keys, links, spec.subscription, replay_id)
    if spec.target == "live":
        return LiveTarget(broker.logs, replay_id)
    own = Keys(replay_namespace(broker.keys.namespace, replay_id))
    return IsolatedTarget(own, links, limit=broker.settings.event_bus.max_queue_size)


def _engine(
    spec: ReplaySpec,
    ranges: list[StreamRange],
    links: LinkPool,
    record: Record | None,
    clock_ns: Callable[[], int],
    *,
    paused: bool = False,
) -> Engine:
    progress = Progress() if record is None else record.progress
    pace = Pace(spec.speed if record is None else record.speed, spec.max_rate)
    if paused:
        pace.pause(clock_ns())
    merge = Merge(spec, ranges, LogPages(spec, links), positions=progress.positions)
    return Engine(merge, pace, progress=progress, clock_ns=clock_ns)


def _stored(
    broker: RedisStreamsBroker,
    definition: Definition,
    record: Record | None,
    clock_ns: Callable[[], int],
    *,
    paused: bool = False,
) -> Replay:
    spec, links = definition.spec, links_of(broker)
    ranges = stream_ranges(spec, broker.keys, definition.ends)
    target = _target(broker, links, spec, definition.replay_id)
    target.prepare(ranges)
    engine = _engine(spec, ranges, links, record, clock_ns, paused=paused)
    job = ReplayJob(ReplayStore(broker.keys, links), definition.replay_id, engine, target)
    if not definition.workers:
        return Replay(engine, job)
    options = WorkerOptions(definition.workers, definition.threads, definition.handlers)
    own = Keys(replay_namespace(broker.keys.namespace, definition.replay_id))
    return Replay(
        engine,
        job,
        workers=ReplayWorkers(own, broker.endpoint.resolved(), links, options),
        output=lambda: replay_output(broker, definition.replay_id)[0],
    )
