"""Every Redis key that Streamatiq uses, with its type.

A key's hash tag (the part in braces) decides its Redis Cluster slot. Everything that settling an
entry touches lies under the tag of that entry's stream, so that one script can do it atomically:

    log        {NS:log:TYPE:PART}          PART is a partition number or a lane name
    queue      {NS:q:NAME}

Key                                        type    holds
-----------------------------------------  ------  --------------------------------------------
TAG:entries            (log)               STREAM  d = event as JSON, a = appended, us (server)
TAG:ids, TAG:ids.old   (log)               HASH    event id -> entry id: publish dedupe window
TAG:filled             (log)               STRING  backlog of the slowest subscription at most, + 1
TAG:shed               (log)               STRING  how many events were dropped for want of room
TAG:state              (log)               HASH    "SUBSCRIPTION NAME" -> a token of 8 bytes, and a
                                                   handler's state as it was last committed
TAG:entries.LANE       (queue)             STREAM  m = message, a = appended, us (server)
TAG:delayed            (queue)             ZSET    member -> due, ms
TAG:delayed.messages   (queue)             HASH    member -> message
TAG:producer:SLOT      (queue)             STRING  "N ACCEPTED": SLOT's last call, what it stored
TAG:cancelled          (queue)             ZSET    message id -> until when it is remembered, ms

Per subscription of a log (SUB = TAG:sub:NAME), or per lane of a queue (SUB = TAG:lane:LANE):
SUB:parked                                 ZSET    entry id -> due, ms (its own = handed back)
SUB:options                                HASH    entry id -> retry state of a parked entry, JSON
SUB:suspects                               ZSET    entry id -> its ms: may have killed its worker
SUB:suspect                                STRING  the one of them that runs now
SUB:passed                                 STRING  since when higher lanes left no room for it, ms
SUB:done, SUB:done.old                     HASH    event id -> 1: done marks
SUB:keys, SUB:keys.old (queue: TAG:keys)   HASH    business key -> "d" done ("d ENTRY" in a log),
                                                   "r ENTRY RUN" reserved,
                                                   "u NAME ..." nobody knows whether it was done
SUB:owner                                  STRING  the consumer that reads this partition in order
SUB:epoch                                  STRING  how often it had a new owner
SUB:token                                  STRING  the last fencing token that a handler was given
SUB:dead      (queue: TAG:dead)            STREAM  dead letters
SUB:audit     (queue: TAG:audit)           STREAM  one record a settled batch (newest 100,000)
SUB:wake      (queue: TAG:wake)            STREAM  wakes one blocked reader of the group

TAG:fence:CONSUMER                         STRING  the consumer is dead: nothing of it is committed
TAG:batch:CONSUMER                         STRING  number and outcome of its last settle batch
TAG:operator:TOKEN                         STRING  outcome of one call that managed dead letters

NS:layout:TYPE                             STRING  layout of a log, fixed when it is created

Who lives (MEMBERS = {NS:members}):
MEMBERS:alive                              HASH    consumer -> "MS RUN_ID CLIENT_ID RECORD": last
                                                   heartbeat (server's clock), its connection,
                                                   its health as JSON
MEMBERS:arrivals                           STREAM  c = consumer, at = its new connection (newest
                                                   1,000): read by the one that looks for dead ones
MEMBERS:reads:CONSUMER                     HASH    queue -> its sources, JSON
MEMBERS:lease                              STRING  the consumer that looks for dead ones
MEMBERS:known                              HASH    "QUEUE SOURCE" -> when somebody last began to
                                                   read it, ms; never shrinks
MEMBERS:claimants:NAME                     HASH    consumer -> since when, ms: they share the
                                                   partitions of NAME, an ordered subscription
MEMBERS:shift:NAME                         STREAM  wakes them all when partitions may change hands

What is stopped (GUARDS = {NS:guards}):
GUARDS:breakers                            HASH    breaker -> its state, JSON
GUARDS:halts                               HASH    scope -> why, by whom and since when, JSON
GUARDS:control                             STREAM  changes of both (newest 1,000), read by all
GUARDS:audit                               STREAM  a record each change (newest 100,000)

Checkpoints, and what holds back retention (CHECKPOINTS = {NS:checkpoints}):
CHECKPOINTS:index                          HASH    checkpoint -> what a list shows of it, JSON
CHECKPOINTS:bodies                         HASH    checkpoint -> all of it, JSON
CHECKPOINTS:audit                          STREAM  what was created, restored, pruned, trimmed or
                                                   given up, and by whom (newest 100,000)
CHECKPOINTS:busy                           STRING  who takes a checkpoint, restores, or trims: one
                                                   at a time
CHECKPOINTS:seen                           HASH    subscription -> when retention last saw a process
                                                   that reads it, ms
{NS:replays}:running                       HASH    replay -> {"streams": {TYPE:PART: lowest entry id
                                                   that it still needs}}, JSON

Counts of rate limiters (LIMITS = {NS:limits}):
LIMITS:LIMIT                               STRING  Dramatiq's: how much of LIMIT is in use

What is done when (SCHED = {NS:scheduler}):
SCHED:lease                                STRING  the scheduler process that leads; ends with it
SCHED:leader                               STRING  "EPOCH NAME" of the last one that led: all that
                                                   a leader writes is compared with it
SCHED:members                              HASH    scheduler process -> last heard of, ms
SCHED:schedules                            HASH    schedule -> its definition, JSON
SCHED:state:SCHEDULE                       HASH    cursor (last fire time dealt with, ms), number of
                                                   the last run, timing, paused, asked, totals
SCHED:runs:SCHEDULE                        HASH    number -> "FIRED BEGAN ATTEMPTS ASKED BY": runs
                                                   that have begun and not ended
SCHED:history:SCHEDULE                     STREAM  how runs ended, and what was missed
SCHED:changes                              STREAM  schedules that were changed, by whom (newest
                                                   1,000): wakes the leader and who stands by

Replays (REPLAYS = {NS:replays}, REPLAY = {NS:replay:ID}, GIVEN = TAG:sub:NAME of a log's stream):
REPLAYS:index                              ZSET    replay id -> when it was made, ms
REPLAY:spec                                STRING  what is replayed, JSON, never changed
REPLAY:state                               HASH    how far it has come: status, cursor, digest, ...
REPLAY:control                             STREAM  commands to the process that runs it, and its
                                                   answers (newest 1,000)
REPLAY:lease                               STRING  token of the process that runs it
GIVEN:replay:ID                            STRING  "EPOCH ENTRY": how far replay ID has come on this
                                                   stream for this subscription alone

What a replay publishes lies in a namespace of its own, NS.replay.ID, with all keys above; what its
dry runs would have emitted, in the logs of NS.replay.ID.dry.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..events import Lane

__all__ = [
    "LANES",
    "CheckpointKeys",
    "GuardKeys",
    "Keys",
    "LimitKeys",
    "LogKeys",
    "MemberKeys",
    "QueueKeys",
    "ReplayKeys",
    "SchedulerKeys",
    "SourceKeys",
]

#: Lanes in the order in which they are read.
LANES = (Lane.HIGH, Lane.NORMAL, Lane.LOW)


@dataclass(frozen=True, slots=True)
class SourceKeys:
    """The keys that reading and settling one stream for one group touch. All in one slot."""

    tag: str
    entries: str
    parked: str
    options: str
    done: str
    done_old: str
    dead: str
    audit: str
    wake: str
    suspects: str
    suspect: str
    passed: str
    keys: str
    keys_old: str
    owner: str
    epoch: str
    token: str
    #: Empty in records of older releases, which have none.
    state: str = ""

    def fence(self, consumer: str) -> str:
        """Set while `consumer` is declared dead."""
        return f"{self.tag}:fence:{consumer}"

    def batch(self, consumer: str) -> str:
        """Number and outcome of `consumer`'s last settle batch that began with this tag."""
        return f"{self.tag}:batch:{consumer}"

    def replay(self, subscription: str, replay_id: str) -> str:
        """How far a replay for `subscription` alone has come on this stream."""
        return f"{self.tag}:sub:{subscription}:replay:{replay_id}"

    def operator(self, token: str) -> str:
        """Outcome of the call `token` of an operator."""
        return f"{self.tag}:operator:{token}"


@dataclass(frozen=True, slots=True)
class LogKeys:
    """The keys of one stream of a log."""

    tag: str
    entries: str = field(init=False, compare=False)
    ids: str = field(init=False, compare=False)
    ids_old: str = field(init=False, compare=False)
    filled: str = field(init=False, compare=False)
    shed: str = field(init=False, compare=False)
    state: str = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "entries", f"{self.tag}:entries")
        object.__setattr__(self, "ids", f"{self.tag}:ids")
        object.__setattr__(self, "ids_old", f"{self.tag}:ids.old")
        object.__setattr__(self, "filled", f"{self.tag}:filled")
        object.__setattr__(self, "shed", f"{self.tag}:shed")
        object.__setattr__(self, "state", f"{self.tag}:state")

    def subscription(self, name: str) -> SourceKeys:
        """The keys of subscription `name` on this stream."""
        sub = f"{self.tag}:sub:{name}"
        return SourceKeys(
            tag=self.tag,
            entries=self.entries,
            parked=f"{sub}:parked",
            options=f"{sub}:options",
            done=f"{sub}:done",
            done_old=f"{sub}:done.old",
            dead=f"{sub}:dead",
            audit=f"{sub}:audit",
            wake=f"{sub}:wake",
            suspects=f"{sub}:suspects",
            suspect=f"{sub}:suspect",
            passed=f"{sub}:passed",
            keys=f"{sub}:keys",
            keys_old=f"{sub}:keys.old",
            owner=f"{sub}:owner",
            epoch=f"{sub}:epoch",
            token=f"{sub}:token",
            state=f"{self.tag}:state",
        )


@dataclass(frozen=True, slots=True)
class QueueKeys:
    """The keys of one work queue."""

    tag: str

    @property
    def delayed(self) -> str:
        return f"{self.tag}:delayed"

    @property
    def delayed_messages(self) -> str:
        return f"{self.tag}:delayed.messages"

    @property
    def cancelled(self) -> str:
        return f"{self.tag}:cancelled"

    @property
    def dead(self) -> str:
        return f"{self.tag}:dead"

    @property
    def wake(self) -> str:
        return f"{self.tag}:wake"

    def entries(self, lane: Lane) -> str:
        return f"{self.tag}:entries.{lane.value}"

    def producer(self, slot: str) -> str:
        """Sequence number of producer `slot`'s last call, and how many messages it stored."""
        return f"{self.tag}:producer:{slot}"

    def lane(self, lane: Lane) -> SourceKeys:
        """The keys of one lane, for the queue's one group."""
        sub = f"{self.tag}:lane:{lane.value}"
        return SourceKeys(
            tag=self.tag,
            entries=self.entries(lane),
            parked=f"{sub}:parked",
            options=f"{sub}:options",
            done=f"{sub}:done",
            done_old=f"{sub}:done.old",
            dead=self.dead,
            audit=f"{self.tag}:audit",
            wake=self.wake,
            suspects=f"{sub}:suspects",
            suspect=f"{sub}:suspect",
            passed=f"{sub}:passed",
            keys=f"{self.tag}:keys",
            keys_old=f"{self.tag}:keys.old",
            owner=f"{sub}:owner",
            epoch=f"{sub}:epoch",
            token=f"{sub}:token",
            state=f"{self.tag}:state",
        )


@dataclass(frozen=True, slots=True)
class MemberKeys:
    """Who lives, in one namespace."""

    tag: str

    @property
    def alive(self) -> str:
        return f"{self.tag}:alive"

    @property
    def lease(self) -> str:
        return f"{self.tag}:lease"

    @property
    def known(self) -> str:
        """Which queues and subscriptions there have ever been, and what they read."""
        return f"{self.tag}:known"

    @property
    def arrivals(self) -> str:
        """Who connected, in order."""
        return f"{self.tag}:arrivals"

    def reads(self, consumer: str) -> str:
        """What `consumer` reads."""
        return f"{self.tag}:reads:{consumer}"

    def claimants(self, subscription: str) -> str:
        """Who shares the partitions of an ordered subscription."""
        return f"{self.tag}:claimants:{subscription}"

    def shift(self, subscription: str) -> str:
        """Wakes all of them."""
        return f"{self.tag}:shift:{subscription}"


@dataclass(frozen=True, slots=True)
class GuardKeys:
    """What is stopped, in one namespace."""

    tag: str

    @property
    def breakers(self) -> str:
        return f"{self.tag}:breakers"

    @property
    def halts(self) -> str:
        return f"{self.tag}:halts"

    @property
    def control(self) -> str:
        return f"{self.tag}:control"

    @property
    def audit(self) -> str:
        return f"{self.tag}:audit"


@dataclass(frozen=True, slots=True)
class CheckpointKeys:
    """Checkpoints, and what holds back retention, in one namespace."""

    tag: str
    #: Of replays that run: what they still need.
    running: str

    @property
    def index(self) -> str:
        return f"{self.tag}:index"

    @property
    def bodies(self) -> str:
        return f"{self.tag}:bodies"

    @property
    def audit(self) -> str:
        return f"{self.tag}:audit"

    @property
    def busy(self) -> str:
        return f"{self.tag}:busy"

    @property
    def seen(self) -> str:
        return f"{self.tag}:seen"


@dataclass(frozen=True, slots=True)
class LimitKeys:
    """Counts of rate limiters, in one namespace."""

    tag: str

    def limit(self, name: str) -> str:
        """The count that a limiter calls `name`."""
        return f"{self.tag}:{name}"


@dataclass(frozen=True, slots=True)
class SchedulerKeys:
    """What is done when, in one namespace."""

    tag: str

    @property
    def lease(self) -> str:
        return f"{self.tag}:lease"

    @property
    def leader(self) -> str:
        return f"{self.tag}:leader"

    @property
    def members(self) -> str:
        return f"{self.tag}:members"

    @property
    def schedules(self) -> str:
        return f"{self.tag}:schedules"

    @property
    def changes(self) -> str:
        return f"{self.tag}:changes"

    def state(self, schedule: str) -> str:
        """What became of `schedule` so far."""
        return f"{self.tag}:state:{schedule}"

    def runs(self, schedule: str) -> str:
        """Runs of `schedule` that have begun and not ended."""
        return f"{self.tag}:runs:{schedule}"

    def history(self, schedule: str) -> str:
        """How runs of `schedule` ended."""
        return f"{self.tag}:history:{schedule}"


@dataclass(frozen=True, slots=True)
class ReplayKeys:
    """What is known of one replay."""

    tag: str

    @property
    def spec(self) -> str:
        return f"{self.tag}:spec"

    @property
    def state(self) -> str:
        return f"{self.tag}:state"

    @property
    def control(self) -> str:
        return f"{self.tag}:control"

    @property
    def lease(self) -> str:
        return f"{self.tag}:lease"


@dataclass(frozen=True, slots=True)
class Keys:
    """Builds the keys of one namespace."""

    namespace: str

    def log(self, type_name: str, part: str) -> LogKeys:
        """Keys of one stream of the log of `type_name`; `part` is a partition or a lane."""
        return LogKeys(f"{{{self.namespace}:log:{type_name}:{part}}}")

    def queue(self, name: str) -> QueueKeys:
        """Keys of work queue `name`."""
        return QueueKeys(f"{{{self.namespace}:q:{name}}}")

    @property
    def members(self) -> MemberKeys:
        """Keys that tell who lives."""
        return MemberKeys(f"{{{self.namespace}:members}}")

    @property
    def guards(self) -> GuardKeys:
        """Keys that tell what is stopped."""
        return GuardKeys(f"{{{self.namespace}:guards}}")

    @property
    def checkpoints(self) -> CheckpointKeys:
        """Keys of checkpoints and of retention."""
        return CheckpointKeys(
            f"{{{self.namespace}:checkpoints}}", f"{{{self.namespace}:replays}}:running"
        )

    @property
    def limits(self) -> LimitKeys:
        """Keys of rate limiters."""
        return LimitKeys(f"{{{self.namespace}:limits}}")

    @property
    def scheduler(self) -> SchedulerKeys:
        """Keys of schedules and their runs."""
        return SchedulerKeys(f"{{{self.namespace}:scheduler}}")

    @property
    def replays(self) -> str:
        """Ids of all replays."""
        return f"{{{self.namespace}:replays}}:index"

    def replay(self, replay_id: str) -> ReplayKeys:
        """Keys of one replay."""
        return ReplayKeys(f"{{{self.namespace}:replay:{replay_id}}}")

    def layout(self, type_name: str) -> str:
        """Layout of the log of `type_name`."""
        return f"{self.namespace}:layout:{type_name}"
