"""What is done: handlers of events, and what runs them.

`dramatiq streamatiq.workers` imports this package, takes the default broker and, when the process
boots, loads the handler modules that the settings name. Anywhere else, importing it sets no broker.
"""

from __future__ import annotations

import sys

from .circuit_breaker import Breaker, CircuitBreaker
from .command_line import set_broker_for_command_line
from .defaults import default_broker
from .emitting import emit
from .fencing import fencing_token
from .handler_state import HandlerState, checkpointed
from .idempotency import Idempotency
from .limits import Limits
from .loader import load_handlers
from .metrics import LatencyMetrics
from .on import on
from .publishing import apublish, apublish_many, publish, publish_many
from .tracing import Tracing

__all__ = [
    "Breaker",
    "CircuitBreaker",
    "HandlerState",
    "Idempotency",
    "LatencyMetrics",
    "Limits",
    "Tracing",
    "apublish",
    "apublish_many",
    "checkpointed",
    "default_broker",
    "emit",
    "fencing_token",
    "load_handlers",
    "on",
    "publish",
    "publish_many",
]

# Dramatiq's command line asks for the global broker right after this import.
if "dramatiq.cli" in sys.modules:
    set_broker_for_command_line()
