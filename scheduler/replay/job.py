"""A stored replay while this process runs it: its lease, its progress, its commands."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any

from dramatiq.logging import get_logger

from ...broker.connections import Link
from ...errors import ReplayError, ReplayTaken, StreamatiqError
from .controls import Status
from .engine import Batch, Engine
from .records import Standing
from .store import ReplayStore
from .targets import Target

__all__ = ["SAVE_EVERY_S", "ReplayJob", "Stopped"]

#: Between two saves of the progress, seconds.
SAVE_EVERY_S = 1.0
#: How long one read of the control stream waits, ms: shorter than a reply may take.
HEAR_MS = 5_000

#: What a command does, by its name.
COMMANDS: dict[str, Callable[[Engine, str], None]] = {
    "pause": lambda engine, _: engine.pause(),
    "resume": lambda engine, _: engine.resume(),
    "step": lambda engine, count: engine.step(int(count)),
    "speed": lambda engine, speed: engine.set_speed("max" if speed == "max" else float(speed)),
    "seek": lambda engine, to: engine.seek(int(to) if to.isdigit() else to),
    "cancel": lambda engine, _: engine.cancel(),
}


class Stopped(Exception):
    """The replay ended while a target waited for room."""


class ReplayJob:
    """One run of a stored replay. `begin`, then `deliver` and `tick` in the driver's thread, then
    `end`. A thread of its own takes commands.

    Parameters:
      clock_s: A clock that never steps back, seconds.
    """

    def __init__(
        self,
        store: ReplayStore,
        replay_id: str,
        engine: Engine,
        target: Target,
        *,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.logger = get_logger(__name__, type(self))
        self.replay_id = replay_id
        self.store = store
        self._engine = engine
        self._target = target
        self._clock_s = clock_s
        self._token = os.urandom(8).hex()
        self._run = 0
        self._saved_s = 0.0
        self._lock = threading.Lock()  # guards saving: _run, _saved_s
        self._listener: threading.Thread | None = None
        self._after = "0-0"
        self._ending = threading.Event()

    def begin(self) -> None:
        """Takes the lease and begins to take commands.

        Raises:
          ReplayTaken: Another process runs it.
        """
        self._after = self.store.control_end(self.replay_id)
        self._run = self.store.take(self.replay_id, self._token)
        self._ending.clear()
        self.save()
        self._listener = threading.Thread(
            target=self._listen, name=f"streamatiq-replay-{self.replay_id}", daemon=True
        )
        self._listener.start()

    def deliver(self, batch: Batch) -> None:
        """Hands a batch to the target.

        Raises:
          Stopped: The replay ended while the target waited for room.
          ReplayTaken: Another process has taken it over meanwhile.
        """
        self._target.deliver(batch.items, self._engine.progress.epoch, self._wait)

    def _wait(self, seconds: float) -> None:
        if self._engine.status not in (Status.RUNNING, Status.PAUSED):
            raise Stopped
        self._ending.wait(seconds)
        self.tick()

    def due_in_s(self) -> float:
        """Seconds until the next save."""
        return max(0.0, self._saved_s + SAVE_EVERY_S - self._clock_s())

    def tick(self) -> None:
        """Saves, if it is time.

        Raises:
          ReplayTaken: Another process has taken it over.
        """
        if self.due_in_s() == 0:
            self.save()

    def save(self) -> None:
        """Saves how far it has come. Thread-safe. Raises as `tick`."""
        with self._lock:
            if self._run:
                self._write(Standing(self._engine.snapshot()[0].value), keep=True)

    def end(self, error: BaseException | None = None, output: str = "") -> None:
        """Saves how it ended, gives up the lease, and takes no more commands. Idempotent.

        Parameters:
          error: What broke it.
          output: Digest of its output.
        """
        with self._lock:
            run, lost = self._run, isinstance(error, ReplayTaken)
            if not run:
                return
            try:
                if not lost:
                    self._write(self._standing(error), keep=False, error=error, output=output)
            finally:
                self._run = 0
                self._ending.set()
        if self._listener is not None and self._listener is not threading.current_thread():
            try:
                self.store.say(self.replay_id, {"end": self._token})  # wakes it
            except StreamatiqError as failed:
                self.logger.warning("Replay %s: %s", self.replay_id, failed)
            self._listener.join(HEAR_MS / 1000)

    def _standing(self, error: BaseException | None) -> Standing:
        status = self._engine.status
        if status is Status.CANCELLED or (status is Status.DONE and error is None):
            return Standing(status.value)
        failed = isinstance(error, Exception) and not isinstance(error, Stopped)
        return Standing.FAILED if failed else Standing.INTERRUPTED

    def _write(
        self,
        standing: Standing,
        *,
        keep: bool,
        error: BaseException | None = None,
        output: str = "",
    ) -> None:
        progress = self._engine.snapshot()[1]
        fields: dict[str, Any] = self.store.fields(standing, progress, self._engine.speed)
        failed = standing is Standing.FAILED
        fields["error"] = f"{type(error).__name__}: {error}" if failed else ""
        if output:
            fields["output"] = output
        self.store.save(self.replay_id, self._token, self._run, fields, keep=keep)
        self._saved_s = self._clock_s()

    # -- commands ------------------------------------------------------------------------------

    def _listen(self) -> None:
        link = Link(self.store.links.endpoint, name="streamatiq-replay")
        backoff = self.store.links.retry.backoff(wait=self._ending.wait)
        try:
            while not self._ending.is_set():
                try:
                    heard = self.store.hear(link, self.replay_id, self._after, HEAR_MS)
                except StreamatiqError as error:
                    link.close()
                    self.logger.warning("Commands of replay %s: %s", self.replay_id, error)
                    backoff.pause()
                    continue
                for self._after, fields in heard:
                    if "c" in fields:
                        self._obey(self._after, fields["c"], fields.get("v", ""))
        finally:
            link.close()

    def _obey(self, entry_id: str, name: str, argument: str) -> None:
        refused = ""
        try:
            if name not in COMMANDS:
                raise ReplayError(f"There is no command {name!r}.")
            COMMANDS[name](self._engine, argument)
            self.save()
        except (StreamatiqError, ValueError) as error:
            refused = str(error)
        try:
            self.store.say(self.replay_id, {"a": entry_id, "r": refused})
        except StreamatiqError as error:
            self.logger.warning("Replay %s cannot answer: %s", self.replay_id, error)
