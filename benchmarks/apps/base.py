"""What the apps share: where to connect, and what a producer can do."""

from __future__ import annotations

import importlib
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from ..ledger import Ledger, Recorder
from ..processes import die_with_parent
from ..ticks import Tick

__all__ = ["QUEUE", "Producer", "Target", "connect", "recorder"]

#: Name of the one queue, stream or subscription that a system is measured with.
QUEUE = "ticks"

_URL, _NAMESPACE, _LEDGER = "BENCH_URL", "BENCH_NAMESPACE", "BENCH_LEDGER"


@dataclass(frozen=True, slots=True)
class Target:
    """Where an app connects to.

    Attributes:
        url: the server.
        namespace: prefix of every key that this run of the app may touch.
        ledger: the file of the ledger.
    """

    url: str
    namespace: str
    ledger: Path

    def to_env(self) -> dict[str, str]:
        """Return the environment variables that `from_env` reads."""
        return {_URL: self.url, _NAMESPACE: self.namespace, _LEDGER: str(self.ledger)}

    @classmethod
    def from_env(cls) -> Target:
        """Read the target that the bench has put into the environment."""
        return cls(os.environ[_URL], os.environ[_NAMESPACE], Path(os.environ[_LEDGER]))


class Producer(Protocol):
    """The sending side of a system, used by one thread."""

    #: Whether `send_many` is a real bulk call and not a loop.
    has_bulk: bool

    def prepare(self) -> None:
        """Create what must exist before the first message, such as a consumer group."""

    def send(self, tick: Tick) -> None:
        """Send one message, as a user would; returns when the server has it."""

    def send_many(self, ticks: Sequence[Tick]) -> None:
        """Send several; in bulk where the system can."""

    def wait_settled(self, timeout_s: float) -> bool:
        """Wait until nothing is queued or unacknowledged; False if that takes too long."""


def recorder(target: Target) -> Recorder:
    """Open the ledger for the handlers of this process, and tie its life to its parent's."""
    die_with_parent(signal.SIGKILL)
    return Recorder(Ledger(target.ledger))


def connect(app: str) -> Producer:
    """Import an app by its module name and connect its producer."""
    return cast(Producer, importlib.import_module(app).connect())
