"""Liveness: one thread and one connection a process say that it lives, whatever its handlers do.

One process at a time, by lease, also looks for dead ones (`Reclaimer`). A process is dead when it
was silent for too long; or, much sooner, when the server no longer has the connection of its
heartbeat thread and has got no other from it: that thread waits *on* its connection, so a living
process that is cut off connects again at once. The reclaimer looks at everybody's connection, the
others look at the reclaimer's.
"""

from __future__ import annotations

import selectors
import socket
import threading
import time

from dramatiq.logging import get_logger

from ..errors import BrokerConnectionError, BrokerError, PermissionDenied
from . import scripts
from .connections import Endpoint, Link, RetryPolicy
from .identity import Identity
from .keys import MemberKeys
from .reclaimer import Reclaimer
from .server import ServerInfo

__all__ = ["Heartbeat"]

#: Seconds between heartbeats.
BEAT_S = 3.0
#: Seconds for which the reclaimer's lease holds without a heartbeat.
LEASE_S = 5.0
#: Longest pause between attempts to connect, seconds: shorter than what is believed a death.
RECONNECT_S = 0.2


class Heartbeat:
    """The heartbeat thread of one process. Attributes are the thread's own.

    Parameters:
      members: Where it is recorded.
      endpoint: The server; attempts to reach it are not limited.
      identity: This process's consumer name.
      reclaimer: What to do as the one that looks for dead processes.
    """

    def __init__(
        self, members: MemberKeys, endpoint: Endpoint, identity: Identity, reclaimer: Reclaimer
    ) -> None:
        self.logger = get_logger(__name__, type(self))
        self._members = members
        self._identity = identity
        self._reclaimer = reclaimer
        self._link = Link(endpoint, name="streamatiq-heartbeat")
        self._connection: tuple[str, int] | None = None
        self._next_beat = 0.0
        self._stopping = threading.Event()
        self._wake, self._waker = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="streamatiq-heartbeat", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stops the thread. A process that does not leave is found dead later."""
        self._stopping.set()
        self._waker.send(b"x")
        self._thread.join()
        self._link.close()
        self._waker.close()
        self._wake.close()

    def _run(self) -> None:
        retry = RetryPolicy(None, RECONNECT_S / 4)
        backoff = retry.backoff(wait=self._stopping.wait, limit_s=RECONNECT_S)
        connected = False
        said = ""
        while not self._stopping.is_set():
            try:
                if not connected:
                    self._connect()
                    connected = True
                    backoff = retry.backoff(wait=self._stopping.wait, limit_s=RECONNECT_S)
                self._step()
            except BrokerConnectionError as error:
                self.logger.debug("Heartbeat: %s Connecting again.", error)
                connected = self._lost()
                backoff.pause()
            except BrokerError as error:
                if str(error) != said:
                    self.logger.error("Heartbeat: %s Trying on.", error)
                said = str(error)
                connected = self._lost()
                backoff.pause()
            except Exception:
                # Without heartbeats this process would be declared dead: go on, and say so.
                self.logger.exception("Heartbeat failed; trying again.")
                connected = self._lost()
                backoff.pause()

    def _lost(self) -> bool:
        self._link.close()
        self._reclaimer.pause()
        return False

    def _connect(self) -> None:
        client_id = self._link.client_id()
        try:
            info = ServerInfo.parse(self._link.send("INFO", "server").decode())
        except PermissionDenied:
            self._connection = None  # found dead by silence only
        else:
            self._connection = (info.get("run_id", ""), client_id)
        self._next_beat = 0.0

    def _step(self) -> None:
        now = time.monotonic()
        if now >= self._next_beat:
            beat = self._link.run(
                scripts.heartbeat(
                    self._members,
                    self._identity.consumer,
                    self._connection,
                    lease_ms=int(LEASE_S * 1000),
                    believed_dead=self._reclaimer.dead_reclaimer,
                )
            )
            self._next_beat = now + BEAT_S
            self._reclaimer.told(self._link, beat, self._connection)
        next_look = self._reclaimer.look(self._link)
        if self._reclaimer.dead_reclaimer:
            self._next_beat = 0.0  # take its place
            return
        until = self._next_beat if next_look is None else min(self._next_beat, next_look)
        if self._closed_within(max(until - time.monotonic(), 0.001)):
            raise BrokerConnectionError("The heartbeat's connection was closed.")

    def _closed_within(self, timeout_s: float) -> bool:
        """Waits until the server closes the connection, the time is over, or `stop`.

        Nothing is under way on the link, so any sign of life is its end.
        """
        sock = self._link.socket()
        if sock is None:
            return True
        with selectors.DefaultSelector() as selector:
            selector.register(sock, selectors.EVENT_READ)
            selector.register(self._wake, selectors.EVENT_READ)
            return any(key.fileobj is sock for key, _ in selector.select(timeout_s))
