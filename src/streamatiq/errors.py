"""Every error that Streamatiq raises, in one tree.

    StreamatiqError
    ├── ConfigurationError             a setting is unknown, missing or bad (names file and line)
    │   └── InvalidSettings            the same, for every wrong setting at once
    ├── EventError
    │   ├── EventDefinitionError       an Event subclass is declared wrongly, or its type name clashes
    │   ├── InvalidEvent               a value breaks the event's own rules (names the field and value)
    │   ├── UnknownEventType           no class is registered for a type name
    │   ├── EventDecodeError           bytes that are not an event of the expected type
    │   ├── SchemaVersionError         an event of a schema version that this code cannot read
    │   ├── IllegalTransition          an order was moved to a state its life does not allow
    │   ├── Overfill                   a fill would exceed the ordered quantity
    │   └── DetectorError              a detector of feeds got a bad parameter, or bytes that are no state of it
    ├── BrokerError
    │   ├── BrokerConnectionError      the server cannot be reached      (also Dramatiq's ConnectionClosed)
    │   │   └── AuthenticationFailed   wrong or missing user name or password
    │   ├── PermissionDenied           the server's ACL refuses a command or key
    │   ├── OutOfMemory                the server is at maxmemory and refuses the write
    │   ├── BacklogFull                a work queue or log holds as much unhandled work as it may
    │   ├── ReadOnlyServer             the server is a read-only replica
    │   ├── WrongKeyType               a key of ours holds something else
    │   ├── CommandFailed              the server refused a command for another reason
    │   ├── UnsupportedServer          older than Redis 7.0
    │   ├── UnsafeServer               an eviction policy that may throw data away
    │   ├── InvalidLane                a message asks for a priority that is no lane
    │   ├── LogMismatch                a log exists with another layout than its event class declares
    │   ├── DeadLetterNotFound         a dead letter that is asked for by its id is not there
    │   ├── CheckpointError
    │   │   ├── CheckpointNotFound     there is no checkpoint of this id
    │   │   ├── CheckpointDamaged      a checkpoint is not what was stored, or of a later release
    │   │   ├── CheckpointUnusable     a log does not hold any more what a checkpoint needs
    │   │   ├── RestoreRefused         a restore asks for what cannot be, or workers still run
    │   │   └── CheckpointsBusy        another process takes or restores one, or trims, right now
    │   ├── LeadershipLost             another scheduler process leads: nothing more is written
    │   └── NotAStreamatiqBroker       the global Dramatiq broker is of another kind
    ├── EmbeddedServerError            our own server could not be started, or is not installed
    ├── HandlerError
    │   ├── HandlerDefinitionError     @on was used wrongly
    │   ├── BatchFailed                raised by handlers: some events of a batch have failed
    │   ├── FencedError                the delivery was taken from this run, which must not go on
    │   ├── StateTooLarge              a handler's state would have more bytes than it may
    │   ├── UncertainOutcome           nobody knows whether the work of a business key was done
    │   └── HandlerModuleError         a module of handlers cannot be found or imported
    ├── SchedulerError
    │   ├── InvalidSchedule            a schedule is defined wrongly, or cannot run as it is defined
    │   ├── ScheduleNotFound           there is no schedule of this name
    │   └── ScheduleConflict           a schedule exists already, or was changed meanwhile
    ├── IngestError                    a file or mapping that cannot be ingested
    └── ReplayError                    a replay cannot be made, controlled, or go on
        ├── InvalidReplay              what is asked of it makes no sense (names the value)
        ├── ReplayRangeTrimmed         the log does not have all of its range any more
        ├── ReplayExists               its id, or its target, is taken
        ├── ReplayNotFound             no replay has this id
        ├── ReplayNotRunning           no process runs it, so it cannot be controlled
        ├── ReplayTaken                another process runs it
        └── NeedsCheckpoint            a replay into the live logs without a checkpoint before it

Every message names the thing, the offending value, and what to do next. `code` is stable and meant
for machines; the class docstring says when the error is raised.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar
from uuid import UUID

import dramatiq.errors

__all__ = [
    "AuthenticationFailed",
    "BacklogFull",
    "BatchFailed",
    "BrokerConnectionError",
    "BrokerError",
    "CheckpointDamaged",
    "CheckpointError",
    "CheckpointNotFound",
    "CheckpointUnusable",
    "CheckpointsBusy",
    "CommandFailed",
    "ConfigurationError",
    "DeadLetterNotFound",
    "DetectorError",
    "EmbeddedServerError",
    "EventDecodeError",
    "EventDefinitionError",
    "EventError",
    "FencedError",
    "HandlerDefinitionError",
    "HandlerError",
    "HandlerModuleError",
    "IllegalTransition",
    "IngestError",
    "InvalidEvent",
    "InvalidLane",
    "InvalidReplay",
    "InvalidSchedule",
    "InvalidSettings",
    "LeadershipLost",
    "LogMismatch",
    "NeedsCheckpoint",
    "NotAStreamatiqBroker",
    "OutOfMemory",
    "Overfill",
    "PermissionDenied",
    "ReadOnlyServer",
    "ReplayError",
    "ReplayExists",
    "ReplayNotFound",
    "ReplayNotRunning",
    "ReplayRangeTrimmed",
    "ReplayTaken",
    "RestoreRefused",
    "ScheduleConflict",
    "ScheduleNotFound",
    "SchedulerError",
    "SchemaVersionError",
    "StateTooLarge",
    "StreamatiqError",
    "UncertainOutcome",
    "UnknownEventType",
    "UnsafeServer",
    "UnsupportedServer",
    "WrongKeyType",
]


class StreamatiqError(Exception):
    """Base of every error raised by Streamatiq."""

    #: Stable machine-readable name of the error.
    code: ClassVar[str] = "streamatiq"


class ConfigurationError(StreamatiqError):
    """A setting is unknown, missing or has a bad value."""

    code = "configuration"


class InvalidSettings(ConfigurationError):
    """Settings are unknown or bad; all of them are named at once.

    Parameters:
      problems: One line each, starting with the place: file, line and column, or variable.
    """

    code = "invalid_settings"

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        lines = "".join(f"\n  {problem}" for problem in self.problems)
        super().__init__(
            self.problems[0]
            if len(self.problems) == 1
            else f"{len(self.problems)} settings are wrong:{lines}"
        )


class EventError(StreamatiqError):
    """Base of errors about events."""

    code = "event"


class EventDefinitionError(EventError):
    """An Event subclass is declared wrongly, or its type name is taken."""

    code = "event_definition"


class InvalidEvent(EventError, ValueError):
    """A value breaks the rules of its event."""

    code = "invalid_event"


class UnknownEventType(EventError):
    """No event class is registered under a type name."""

    code = "unknown_event_type"


class EventDecodeError(EventError):
    """Bytes do not hold an event of the expected type."""

    code = "event_decode"


class SchemaVersionError(EventDecodeError):
    """An event has a schema version that this code cannot read."""

    code = "schema_version"


class IllegalTransition(EventError, ValueError):
    """An order cannot go from its present state to the asked one."""

    code = "illegal_transition"


class Overfill(EventError, ValueError):
    """A fill would exceed the quantity that was ordered."""

    code = "overfill"


class DetectorError(EventError, ValueError):
    """A detector of feeds got a bad parameter, or bytes that are no state of it."""

    code = "detector"


class BrokerError(StreamatiqError, dramatiq.errors.BrokerError):
    """Base of errors between us and the server."""

    code = "broker"

    def __init__(self, message: str) -> None:
        Exception.__init__(self, message)  # Dramatiq's is not annotated
        self.message = message


class BrokerConnectionError(BrokerError, dramatiq.errors.ConnectionClosed):
    """The server cannot be reached, or the connection was lost.

    It is a Dramatiq `ConnectionClosed`, so that Dramatiq's workers reconnect on it.
    """

    code = "broker_connection"


class AuthenticationFailed(BrokerConnectionError):
    """The server refused the user name or password."""

    code = "authentication_failed"


class PermissionDenied(BrokerError):
    """The server's access rules refuse a command or a key."""

    code = "permission_denied"


class OutOfMemory(BrokerError):
    """The server has reached maxmemory and refuses to store more."""

    code = "out_of_memory"


class BacklogFull(BrokerError):
    """A work queue, or a subscription of a log, has as much left to handle as it may have.

    Events or messages of the call that found room are stored; `left` are the others. Publishing all
    events again is harmless; of messages, enqueue only `left` again.

    Attributes:
      queue: The work queue; None for a log.
      log: The event type; None for a work queue.
      part: The log's partition or lane; None for a work queue.
      subscription: The subscription of the log that has most to handle; None for a work queue.
      backlog: What the queue or subscription has to handle: ready or unread, and running.
      limit: The limit that it has reached: `event_bus.max_queue_size`.
      accepted: How many events or messages of the call are stored (or were before).
      left: The events or messages of the call that are not stored, in order.
      receipts: Of the events that are stored, in order; empty for messages.
      waited_s: How long the call waited for room, seconds; 0 if it did not.
    """

    code = "backlog_full"

    def __init__(
        self,
        message: str,
        *,
        queue: str | None = None,
        log: str | None = None,
        part: str | None = None,
        subscription: str | None = None,
        backlog: int = 0,
        limit: int = 0,
        accepted: int = 0,
        left: Sequence[Any] = (),
        receipts: Sequence[Any] = (),
        waited_s: float = 0.0,
    ) -> None:
        super().__init__(message)
        self.queue = queue
        self.log = log
        self.part = part
        self.subscription = subscription
        self.backlog = backlog
        self.limit = limit
        self.accepted = accepted
        self.left = tuple(left)
        self.receipts = tuple(receipts)
        self.waited_s = waited_s


class ReadOnlyServer(BrokerError):
    """The server is a read-only replica."""

    code = "read_only_server"


class WrongKeyType(BrokerError):
    """A key that belongs to us holds a value of another type."""

    code = "wrong_key_type"


class CommandFailed(BrokerError):
    """The server refused a command for a reason that has no class of its own."""

    code = "command_failed"


class UnsupportedServer(BrokerError):
    """The server is older than Redis 7.0."""

    code = "unsupported_server"


class UnsafeServer(BrokerError):
    """The server may evict data: its maxmemory-policy is not `noeviction`."""

    code = "unsafe_server"


class InvalidLane(BrokerError, ValueError):
    """A message asks for a priority that is no lane."""

    code = "invalid_lane"


class LogMismatch(BrokerError):
    """A log exists on the server with another layout than its event class declares."""

    code = "log_mismatch"


class DeadLetterNotFound(BrokerError, LookupError):
    """A dead letter that is asked for by its id is not there."""

    code = "dead_letter_not_found"


class LeadershipLost(BrokerError):
    """This scheduler process does not lead any more: what it was about to write is not written."""

    code = "leadership_lost"


class CheckpointError(BrokerError):
    """Base of errors about checkpoints."""

    code = "checkpoint"


class CheckpointNotFound(CheckpointError, LookupError):
    """There is no checkpoint of this id."""

    code = "checkpoint_not_found"


class CheckpointDamaged(CheckpointError):
    """A stored checkpoint is not what was written, or was written by a later release."""

    code = "checkpoint_damaged"


class CheckpointUnusable(CheckpointError):
    """A log does not hold any more what a checkpoint needs: it was trimmed, deleted or made anew."""

    code = "checkpoint_unusable"


class RestoreRefused(CheckpointError):
    """A restore asks for what cannot be done now; nothing was changed."""

    code = "restore_refused"


class CheckpointsBusy(CheckpointError):
    """Another process takes a checkpoint, restores one, or trims, right now."""

    code = "checkpoints_busy"


class NotAStreamatiqBroker(BrokerError):
    """The global Dramatiq broker is not a RedisStreamsBroker."""

    code = "not_a_streamatiq_broker"


class EmbeddedServerError(StreamatiqError):
    """The embedded server is not installed, or could not be started."""

    code = "embedded_server"


class HandlerError(StreamatiqError):
    """Base of errors about handlers."""

    code = "handler"


class HandlerDefinitionError(HandlerError, TypeError):
    """A handler is declared wrongly."""

    code = "handler_definition"


class BatchFailed(HandlerError):
    """Raised by a handler of batches: some events have failed, the others are done.

    The ones that failed are retried, or become dead letters, as if each had been handled alone.

    Parameters:
      errors: What happened to each event that failed, by its id (a UUID, or its text).

    Raises:
      HandlerDefinitionError: `errors` is no such mapping.
    """

    code = "batch_failed"

    def __init__(self, errors: Mapping[UUID | str, BaseException]) -> None:
        if not isinstance(errors, Mapping) or not errors:
            raise HandlerDefinitionError(
                f"BatchFailed({errors!r:.80}): give an exception for each event that failed, by "
                "its id, as in BatchFailed({event.id: error})."
            )
        self.errors: dict[UUID, BaseException] = {}
        for event_id, error in errors.items():
            if not isinstance(error, BaseException):
                raise HandlerDefinitionError(
                    f"BatchFailed: what happened to {event_id} is {error!r:.80}, not an exception."
                )
            try:
                key = event_id if isinstance(event_id, UUID) else UUID(event_id)
            except (ValueError, AttributeError, TypeError):
                raise HandlerDefinitionError(
                    f"BatchFailed: {event_id!r:.80} is no id of an event."
                ) from None
            self.errors[key] = error
        first = next(iter(self.errors.values()))
        super().__init__(f"{len(self.errors)} events of a batch failed, the first with {first!r}")


class FencedError(HandlerError):
    """The delivery that a handler is running was taken from this process: it was declared dead.

    Nothing that this run still does is committed, and the event runs elsewhere. Let it end the
    handler.
    """

    code = "fenced"


class StateTooLarge(HandlerError, ValueError):
    """A handler's state would have more bytes than its `size_limit`."""

    code = "state_too_large"


class UncertainOutcome(HandlerError):
    """Nobody knows whether what a business key stands for was done.

    The error of dead letters of cause `uncertain`. A handler may raise it where it cannot tell itself,
    after a call that timed out for example: its business key is not freed then, and `on_uncertain`
    decides at the next delivery.
    """

    code = "uncertain_outcome"


class HandlerModuleError(HandlerError):
    """A module of handlers cannot be found, or fails when it is imported."""

    code = "handler_module"


class SchedulerError(StreamatiqError):
    """Base of errors about schedules."""

    code = "scheduler"


class InvalidSchedule(SchedulerError, ValueError):
    """A schedule is defined wrongly, or names something that there is not."""

    code = "invalid_schedule"


class ScheduleNotFound(SchedulerError, LookupError):
    """There is no schedule of this name."""

    code = "schedule_not_found"


class ScheduleConflict(SchedulerError):
    """A schedule of this name exists already, or somebody else has changed it meanwhile."""

    code = "schedule_conflict"


class IngestError(StreamatiqError):
    """A file or a column mapping cannot be ingested."""

    code = "ingest"


class ReplayError(StreamatiqError):
    """A replay cannot be made, controlled, or go on."""

    code = "replay"


class InvalidReplay(ReplayError, ValueError):
    """What is asked of a replay makes no sense."""

    code = "invalid_replay"


class ReplayRangeTrimmed(ReplayError):
    """A log does not have all events of the asked range any more."""

    code = "replay_range_trimmed"


class ReplayExists(ReplayError):
    """The id of a new replay is taken, or its target holds something already."""

    code = "replay_exists"


class ReplayNotFound(ReplayError, LookupError):
    """No replay has the id that is asked for."""

    code = "replay_not_found"


class ReplayNotRunning(ReplayError):
    """A replay was to be controlled, but no process runs it."""

    code = "replay_not_running"


class ReplayTaken(ReplayError):
    """Another process runs the replay, or has taken it over."""

    code = "replay_taken"


class NeedsCheckpoint(ReplayError):
    """A replay into the live logs was asked for without a checkpoint before it."""

    code = "needs_checkpoint"
