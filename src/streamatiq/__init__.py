"""Streamatiq: typed events in durable logs on Redis Streams, handled by Dramatiq actors.

Import from here only; what lies in the packages below may move.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version as _version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import errors
    from .broker import (
        AuditLevel,
        BreakerState,
        DeadLetterEntry,
        EmbeddedServer,
        GuardChange,
        Halt,
        HaltOutcome,
        Logs,
        Receipt,
        RedisStreamsBroker,
    )
    from .errors import BatchFailed, StreamatiqError
    from .events import (
        Bar,
        BookAction,
        BookDelta,
        BookDeltas,
        Direction,
        Event,
        EventType,
        FillEvent,
        GapDetector,
        GapReport,
        Lane,
        Laned,
        LateDetector,
        Lateness,
        LatenessReport,
        Liquidity,
        MarketDataEvent,
        OrderEvent,
        OrderStatus,
        OrderType,
        Partitioned,
        Quote,
        SequenceStatus,
        Side,
        SignalEvent,
        Silence,
        StaleDetector,
        TimeInForce,
        Trade,
        decode,
        encode,
        feed_of,
        from_cloudevent,
        from_cloudevent_http,
        instrument,
        missed_updates,
        now_ns,
        to_cloudevent,
        to_cloudevent_http,
        upcast,
    )
    from .scheduler import (
        JobKind,
        RunContext,
        Schedule,
        SchedulerProcess,
        Schedules,
        read_schedule_file,
        register_kind,
    )
    from .scheduler.checkpoints import (
        Checkpoint,
        CheckpointInfo,
        Checkpoints,
        PrunePolicy,
        Restored,
    )
    from .scheduler.replay import (
        EventMonitor,
        Replay,
        Replayed,
        ReplayReport,
        replay,
        resume_replay,
    )
    from .scheduler.retention import Retention
    from .scheduler.retention_report import RetentionReport
    from .settings import Settings
    from .workers import (
        Breaker,
        CircuitBreaker,
        HandlerState,
        Idempotency,
        LatencyMetrics,
        Limits,
        Tracing,
        apublish,
        apublish_many,
        checkpointed,
        default_broker,
        emit,
        fencing_token,
        on,
        publish,
        publish_many,
    )

__version__ = _version("streamatiq")

__all__ = [
    "AuditLevel",
    "Bar",
    "BatchFailed",
    "BookAction",
    "BookDelta",
    "BookDeltas",
    "Breaker",
    "BreakerState",
    "Checkpoint",
    "CheckpointInfo",
    "Checkpoints",
    "CircuitBreaker",
    "DeadLetterEntry",
    "Direction",
    "EmbeddedServer",
    "Event",
    "EventMonitor",
    "EventType",
    "FillEvent",
    "GapDetector",
    "GapReport",
    "GuardChange",
    "Halt",
    "HaltOutcome",
    "HandlerState",
    "Idempotency",
    "JobKind",
    "Lane",
    "Laned",
    "LateDetector",
    "LatencyMetrics",
    "Lateness",
    "LatenessReport",
    "Limits",
    "Liquidity",
    "Logs",
    "MarketDataEvent",
    "OrderEvent",
    "OrderStatus",
    "OrderType",
    "Partitioned",
    "PrunePolicy",
    "Quote",
    "Receipt",
    "RedisStreamsBroker",
    "Replay",
    "ReplayReport",
    "Replayed",
    "Restored",
    "Retention",
    "RetentionReport",
    "RunContext",
    "Schedule",
    "SchedulerProcess",
    "Schedules",
    "SequenceStatus",
    "Settings",
    "Side",
    "SignalEvent",
    "Silence",
    "StaleDetector",
    "StreamatiqError",
    "TimeInForce",
    "Tracing",
    "Trade",
    "apublish",
    "apublish_many",
    "checkpointed",
    "decode",
    "default_broker",
    "emit",
    "encode",
    "errors",
    "feed_of",
    "fencing_token",
    "from_cloudevent",
    "from_cloudevent_http",
    "instrument",
    "missed_updates",
    "now_ns",
    "on",
    "publish",
    "publish_many",
    "read_schedule_file",
    "register_kind",
    "replay",
    "resume_replay",
    "to_cloudevent",
    "to_cloudevent_http",
    "upcast",
]

#: Where the names come from, in the order of the layers.
_HOMES = (
    ".errors",
    ".settings",
    ".events",
    ".broker",
    ".workers",
    ".scheduler.replay",
    ".scheduler.checkpoints",
    ".scheduler.retention",
    ".scheduler.retention_report",
    ".scheduler",
)


def __getattr__(name: str) -> Any:
    """Loads what is asked for, so that `streamatiq --help` need not load a broker."""
    if name in __all__:
        for home in _HOMES:
            module = import_module(home, __name__)
            value = module if home == f".{name}" else getattr(module, name, None)
            if value is not None:
                globals()[name] = value
                return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
