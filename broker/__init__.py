"""Where events live: connections, keys, scripts, logs, intake, committer, and the Dramatiq broker.

See `docs/internals.md` for the life of a message.
"""

from __future__ import annotations

from .batch import Batch
from .current import current_delivery
from .dead_letter_entry import DeadLetterEntry
from .dead_letter_filter import DeadLetterFilter
from .delivery import Delivery
from .embedded import EmbeddedServer
from .guard_admin import GuardChange, HaltOutcome
from .guard_state import BreakerState, Halt, Scope
from .logs import Logs, Receipt
from .redis_streams import RedisStreamsBroker
from .settlements import Emit
from .sources import AuditLevel
from .subscriptions import Start, Subscription

__all__ = [
    "AuditLevel",
    "Batch",
    "BreakerState",
    "DeadLetterEntry",
    "DeadLetterFilter",
    "Delivery",
    "EmbeddedServer",
    "Emit",
    "GuardChange",
    "Halt",
    "HaltOutcome",
    "Logs",
    "Receipt",
    "RedisStreamsBroker",
    "Scope",
    "Start",
    "Subscription",
    "current_delivery",
]
