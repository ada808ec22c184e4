"""The measures. Each is a case with its figures: `measure(bench, system, round)` gives one sample.

drain          a full queue is emptied: messages/s, and CPU of workers and server
enqueue        one producer, no workers: messages/s one by one and in bulk
latency        from sending to the start of the handler, at a fixed rate
memory         what the server needs per message that waits
delays         how late delayed messages start
recovery       a worker is killed under load: until all that it held has been handled
concurrency    handlers that sleep: share of what that many threads could do
endurance      many messages, handled as they come: does anything grow?
idle           commands a second with nothing to do, and how fast the first message starts then
flood          orders and fills while market data comes as fast as it is taken
many-delayed   a queue full of delayed messages: what it costs, and many that are due at once
"""

from __future__ import annotations

from .base import Measure, Values
from .concurrency import Concurrency
from .delays import Delays
from .drain import Drain
from .endurance import Endurance
from .enqueue import Enqueue
from .flood import Flood
from .idle import Idle
from .latency import Latency
from .many_delayed import ManyDelayed
from .memory import Memory
from .recovery import Recovery

__all__ = [
    "Concurrency",
    "Delays",
    "Drain",
    "Endurance",
    "Enqueue",
    "Flood",
    "Idle",
    "Latency",
    "ManyDelayed",
    "Measure",
    "Memory",
    "Recovery",
    "Values",
]
