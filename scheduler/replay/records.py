"""What the server knows of a replay, as values."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from .progress import Progress
from .spec import ReplaySpec

__all__ = ["Definition", "Record", "Standing"]


class Standing(StrEnum):
    """How a replay stands."""

    NEW = "new"
    RUNNING = "running"
    PAUSED = "paused"
    #: Its process was stopped, or has died: `resume` goes on.
    INTERRUPTED = "interrupted"
    #: Its process met an error: `resume` tries again.
    FAILED = "failed"
    DONE = "done"
    CANCELLED = "cancelled"

    @property
    def has_ended(self) -> bool:
        """Whether it never goes on."""
        return self in (Standing.DONE, Standing.CANCELLED)

    @property
    def is_live(self) -> bool:
        """Whether a process says that it runs it."""
        return self in (Standing.RUNNING, Standing.PAUSED)


@dataclass(frozen=True, slots=True)
class Definition:
    """What a replay is: never changed once it is stored.

    Parameters:
      ends: The last entries of its streams when it was made, by `StreamRange.name`.
      first_ns, last_ns: About where its range begins and ends, in recorded time; for progress.
      workers: Worker processes that it starts.
      threads: Threads in each.
      handlers: Modules that they load.
      checkpoint: Taken before a replay into the live logs.
    """

    replay_id: str
    spec: ReplaySpec
    ends: dict[str, str]
    first_ns: int
    last_ns: int
    created_ms: int
    workers: int = 0
    threads: int = 8
    handlers: tuple[str, ...] = ()
    checkpoint: str | None = None

    def to_json(self) -> str:
        """The text that is stored."""
        return json.dumps(
            {
                "id": self.replay_id,
                "spec": self.spec.to_dict(),
                "ends": self.ends,
                "first_ns": self.first_ns,
                "last_ns": self.last_ns,
                "created_ms": self.created_ms,
                "workers": self.workers,
                "threads": self.threads,
                "handlers": list(self.handlers),
                "checkpoint": self.checkpoint,
            },
            separators=(",", ":"),
        )

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """What `to_json` gave."""
        fields: dict[str, Any] = json.loads(text)
        return cls(
            fields["id"],
            ReplaySpec.from_dict(fields["spec"]),
            fields["ends"],
            fields["first_ns"],
            fields["last_ns"],
            fields["created_ms"],
            fields["workers"],
            fields["threads"],
            tuple(fields["handlers"]),
            fields["checkpoint"],
        )


@dataclass(frozen=True, slots=True)
class Record:
    """A replay as the server knows it.

    Parameters:
      standing: How it stands; `interrupted` where no process has its lease.
      speed: At present; infinite: flat out.
      saved_ms: When its progress was saved, ms, the server's clock; 0: never.
      error: Why it failed; empty: it did not.
      output: Digest of the target's output, hex; empty: not computed.
    """

    definition: Definition
    standing: Standing
    progress: Progress
    speed: float
    saved_ms: int
    error: str
    output: str

    @property
    def fraction(self) -> float:
        """About how much of it is done, from 0 to 1, by recorded time."""
        if self.standing is Standing.DONE:
            return 1.0
        first_ns, last_ns = self.definition.first_ns, self.definition.last_ns
        if not self.progress.count or last_ns <= first_ns:
            return 0.0
        return min(1.0, max(0.0, (self.progress.last_ns - first_ns) / (last_ns - first_ns)))

    @property
    def eta_s(self) -> float | None:
        """About how many more seconds it takes; None: not known, or it does not run."""
        if self.standing is not Standing.RUNNING or not self.progress.count:
            return None
        if self.speed < float("inf"):
            return max(0, self.definition.last_ns - self.progress.last_ns) / 1e9 / self.speed
        done = self.fraction
        return self.progress.running_ns / 1e9 * (1 - done) / done if done else None
