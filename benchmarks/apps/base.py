"""What the apps share: where to connect, and what a producer can do."""

from __future__ import annotations

import importlib
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from ..ledger import Ledger, Recorder
from ..processes import die_with_parent
from ..ticks import Tick

__all__ = [
    "BULK_CALL",
    "DELAYS",
    "FLOODS",
    "QUEUE",
    "RECOVERS",
    "THREADS",
    "Producer",
    "Target",
    "connect",
    "handling",
]

#: Name of the one queue, stream or subscription that a system is measured with.
QUEUE = "ticks"

#: What a system may be able to do (`Producer.abilities`): `send_many` is a real bulk call; it
#: delays messages; its worker processes run handlers in threads; it finds dead workers; it sends
#: orders one by one and market data in bulk.
BULK_CALL, DELAYS, THREADS, RECOVERS = "bulk call", "delays", "threads", "recovers"
FLOODS = "floods"

_URL, _NAMESPACE, _LEDGER = "BENCH_URL", "BENCH_NAMESPACE", "BENCH_LEDGER"
_WORK, _QUEUES, _VARIANT = "BENCH_WORK_MS", "BENCH_QUEUES", "BENCH_VARIANT"


@dataclass(frozen=True, slots=True)
class Target:
    """Where an app connects to, and what its handlers do.

    Attributes:
        url: the server.
        namespace: prefix of every key that this run of the app may touch.
        ledger: the file of the ledger.
        work_ms: how long a handler sleeps; 0: it notes its message and nothing else.
        queues: queues or subscriptions that a worker reads; all but one of them stay empty.
        variant: which variant of itself an app is that has some.
    """

    url: str
    namespace: str
    ledger: Path
    work_ms: float = 0.0
    queues: int = 1
    variant: str = ""

    def to_env(self) -> dict[str, str]:
        """Return the environment variables that `from_env` reads."""
        return {
            _URL: self.url,
            _NAMESPACE: self.namespace,
            _LEDGER: str(self.ledger),
            _WORK: str(self.work_ms),
            _QUEUES: str(self.queues),
            _VARIANT: self.variant,
        }

    @classmethod
    def from_env(cls) -> Target:
        """Read the target that the bench has put into the environment."""
        env = os.environ
        return cls(
            env[_URL],
            env[_NAMESPACE],
            Path(env[_LEDGER]),
            float(env[_WORK]),
            int(env[_QUEUES]),
            env[_VARIANT],
        )


class Producer(Protocol):
    """The sending side of a system, used by one thread."""

    #: Which of the abilities above it has.
    abilities: frozenset[str]

    def prepare(self) -> None:
        """Create what must exist before the first message, such as a consumer group."""

    def send(self, tick: Tick) -> None:
        """Send one message, as a user would; returns when the server has it."""

    def send_many(self, ticks: Sequence[Tick]) -> None:
        """Send several; in bulk where the system can."""

    def send_delayed(self, ticks: Sequence[Tick], delay_ms: int) -> None:
        """Send messages that are due `delay_ms` from now; several in bulk where the system can.

        Raises:
            NotImplementedError: the system does not delay messages.
        """

    def wait_settled(self, timeout_s: float, delayed: int = 0) -> bool:
        """Wait until nothing is queued or unacknowledged; False if that takes too long.

        Args:
            timeout_s: how long to wait.
            delayed: messages that must still be there, waiting for their time.
        """


def handling(target: Target) -> Callable[[int], None]:
    """Return what a handler calls with its message's number, and tie this process to its parent.

    It notes the message in the ledger; where the target asks for work, it then sleeps, and notes
    the end.
    """
    die_with_parent(signal.SIGKILL)
    record = Recorder(Ledger(target.ledger))
    if not target.work_ms:
        return record
    work_s = target.work_ms / 1000

    def work(number: int) -> None:
        record(number)
        time.sleep(work_s)
        record.ended(number)

    return work


def connect(app: str) -> Producer:
    """Import an app by its module name and connect its producer."""
    return cast(Producer, importlib.import_module(app).connect())
