"""The thread of a consuming process that follows what is stopped: `streamatiq-control`.

It reads all of the state before the first queue is read, then follows the control stream in a
blocking read (no group: every process reads every change), and reads everything again after a
reconnect, where changes are missing, and now and then.

The thread alone uses its link and `_said`.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress

from dramatiq.logging import get_logger

from ..errors import BrokerConnectionError, BrokerError
from . import guard_scripts as scripts
from .connections import Endpoint, Link, RetryPolicy
from .guard_memory import Change, GuardMemory
from .guard_scripts import Guarded
from .guard_state import BreakerState, Halt
from .guard_words import breaker_words, halt_words
from .keys import GuardKeys
from .outages import Outages

__all__ = ["GuardFollower"]

#: Milliseconds of one blocking read of the control stream.
BLOCK_MS = 8_000
#: The same while a probe of this process runs, whose lease is renewed.
RENEW_MS = 2_500
#: Seconds after which everything is read again, whatever the stream says: somebody may have deleted
#: keys by hand.
REFRESH_S = 120.0
#: Failures of closed breakers that are older are forgotten, ms.
STALE_MS = 24 * 3600 * 1000
#: Breakers forgotten at a time.
FORGET = 100
#: Seconds that a reply may take beyond the time it may block.
MARGIN_S = 5.0
#: Longest pause between attempts to connect, seconds.
RECONNECT_S = 0.5
#: Seconds between attempts to end the thread's read while stopping.
STOP_EVERY_S = 0.05


class GuardFollower:
    """Keeps a `GuardMemory` up to date, whatever happens to the server.

    Parameters:
      keys, endpoint: Where the state is.
      memory: Where it goes.
      renew: Renews the leases of this process's probes over the thread's link; tells whether there
        are any. Called between two reads.
      clock_s: The monotonic clock, seconds.
    """

    def __init__(
        self,
        keys: GuardKeys,
        endpoint: Endpoint,
        memory: GuardMemory,
        *,
        renew: Callable[[Link], bool],
        clock_s: Callable[[], float],
    ) -> None:
        self.logger = get_logger(__name__, type(self))
        self.outages = Outages()
        #: Called in the thread after each change.
        self.callbacks: list[Callable[[], None]] = []
        self._keys = keys
        self._memory = memory
        self._renew = renew
        self._clock_s = clock_s
        self._link = Link(endpoint, timeout_s=BLOCK_MS / 1000 + MARGIN_S, name="streamatiq-control")
        self._last_id = "0-0"
        self._refresh_at_s = 0.0
        #: What was said in the log, by kind and name.
        self._said: dict[str, str] = {}
        self._tried = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="streamatiq-control", daemon=True)
        self._thread.start()

    def wait_for_first(self, timeout_s: float) -> None:
        """Waits until the state was read, or could not be."""
        self._tried.wait(timeout_s)

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Stops the thread. Idempotent."""
        self._stopping.set()
        while self._thread.is_alive():
            sock = self._link.socket()
            if sock is not None:
                with suppress(OSError):  # it was closed meanwhile
                    sock.shutdown(socket.SHUT_RDWR)
            self._thread.join(STOP_EVERY_S)
        self._link.close()

    # -- the thread ----------------------------------------------------------------------------

    def _run(self) -> None:
        retry = RetryPolicy(None, RECONNECT_S / 8)
        backoff = retry.backoff(wait=self._stopping.wait, limit_s=RECONNECT_S)
        said = ""
        while not self._stopping.is_set():
            try:
                if not self._link.is_open or self._clock_s() >= self._refresh_at_s:
                    self._load()
                    if self.outages.down:
                        self.logger.info("Halts and breakers are followed again.")
                    self.outages.back()
                    said = ""
                    backoff = retry.backoff(wait=self._stopping.wait, limit_s=RECONNECT_S)
                self._follow()
            except BrokerConnectionError as error:
                if not (self.outages.down or self._stopping.is_set()):
                    self.logger.warning(
                        "Cannot follow halts and breakers: %s What was known holds. Trying on.",
                        error,
                    )
                self.outages.lost()
                self._lost()
                backoff.pause()
            except BrokerError as error:
                if str(error) != said:
                    self.logger.error(
                        "Cannot read halts and breakers: %s %s Trying on.",
                        error,
                        "What was known holds." if self._memory.known else "Nothing runs so long.",
                    )
                said = str(error)
                self._lost()
                backoff.pause()
            except Exception:
                # A bug of ours must not leave this process deaf to halts in silence.
                self.logger.exception("Following halts and breakers failed. Trying again.")
                self._lost()
                backoff.pause()

    def _lost(self) -> None:
        self._tried.set()
        self._link.close()

    def _load(self) -> None:
        state = self._link.run(scripts.read(self._keys))
        self._last_id = state.last_id
        self._refresh_at_s = self._clock_s() + REFRESH_S
        changed = self._memory.load(state)
        self._tried.set()
        if changed:
            self._tell()
        self._forget(state)

    def _forget(self, state: Guarded) -> None:
        old = [
            record.name
            for record in state.breakers.values()
            if record.state == "closed" and record.last_ms <= state.now_ms - STALE_MS
        ]
        if old:
            self._link.run(scripts.forget(self._keys, STALE_MS, old[:FORGET]))

    def _follow(self) -> None:
        block_ms = RENEW_MS if self._renew(self._link) else BLOCK_MS
        reply = self._link.send(
            "XREAD", "BLOCK", block_ms, "STREAMS", self._keys.control, self._last_id
        )
        if not reply:
            return
        entries = reply[0][1]
        changes = [_change(fields) for _, fields in entries]
        if not self._memory.follow(changes):
            self.logger.debug("Changes of halts or breakers were missed; reading all of them.")
            self._load()
            return
        self._last_id = entries[-1][0].decode()
        self._tell()

    def _tell(self) -> None:
        """Tells the log and the callbacks what has changed."""
        now = {f"h {halt.scope.text}": halt_words(halt) for halt in self._memory.halts()}
        now |= {
            f"b {one.name}": breaker_words(one)
            for one in self._memory.breakers()
            if one.state != "closed"
        }
        for what, words in now.items():
            if self._said.get(what) != words:
                self.logger.warning("%s", words)
        for what in self._said.keys() - now.keys():
            kind, _, name = what.partition(" ")
            if kind == "b":
                self.logger.warning("Breaker %r is closed: what waited for it runs again.", name)
            else:
                self.logger.warning("No longer halted: %s", self._said[what])
        self._said = now
        for callback in list(self.callbacks):
            try:
                callback()
            except Exception:
                self.logger.exception("%r failed after a change of halts or breakers.", callback)


def _change(fields: list[bytes]) -> Change:
    """Reads an entry of the control stream: number, kind, name, value."""
    number, kind, name, text = fields[1], fields[3].decode(), fields[5].decode(), fields[7]
    value: BreakerState | Halt | None = None
    if text:
        value = BreakerState.parse(name, text) if kind == "b" else Halt.parse(name, text)
    return Change(int(number), kind, name, value)
