"""Liveness: one thread and one connection a process say that it lives, whatever its handlers do.

One process at a time, by lease, also looks for dead ones (`Reclaimer`). A process is dead when it
was silent for too long; or, much sooner, when the server no longer has the connection of its
heartbeat thread and has got no other from it: that thread waits *on* its connection, so a living
process that is cut off connects again at once. The reclaimer looks at everybody's connection, the
others look at the reclaimer's. With each heartbeat goes a record of what consumption does; see
`health`.
"""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections.abc import Callable

from dramatiq.logging import get_logger

from ..errors import BrokerConnectionError, BrokerError, PermissionDenied
from . import scripts
from .arrivals import Arrivals
from .connections import Endpoint, Link, RetryPolicy
from .identity import Identity
from .keys import MemberKeys
from .outages import Outages
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
      record: Makes this process's health record, JSON; called with each heartbeat.
      on_renamed: Called in the thread when the present name turned out to be declared dead.
    """

    def __init__(
        self,
        members: MemberKeys,
        endpoint: Endpoint,
        identity: Identity,
        reclaimer: Reclaimer,
        *,
        record: Callable[[], bytes],
        on_renamed: Callable[[], None] = lambda: None,
    ) -> None:
        self.logger = get_logger(__name__, type(self))
        self.outages = Outages()
        self._members = members
        self._identity = identity
        self._reclaimer = reclaimer
        self._record = record
        self._on_renamed = on_renamed
        #: The name under which the server has had a heartbeat from us.
        self._listed_as = ""
        self._link = Link(endpoint, name="streamatiq-heartbeat")
        self._arrivals = Arrivals(members, endpoint)
        self._said_of_arrivals = False
        #: Whether the next heartbeat is the first one on its connection.
        self._is_new = True
        self._tried = threading.Event()
        self._last_beat = time.monotonic()
        self._connection: tuple[str, int] | None = None
        self._next_beat = 0.0
        self._stopping = threading.Event()
        self._wake, self._waker = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="streamatiq-heartbeat", daemon=True)
        self._thread.start()

    def wait_for_first(self, timeout_s: float) -> None:
        """Waits until this process is listed as alive, or could not be: before it reads."""
        self._tried.wait(timeout_s)

    @property
    def last_beat(self) -> float:
        """Monotonic time of the last heartbeat that the server took; before it, of the start."""
        return self._last_beat

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Stops the thread. A process that does not leave is found dead later."""
        self._stopping.set()
        self._waker.send(b"x")
        self._thread.join()
        self._link.close()
        self._arrivals.close()
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
                    self.outages.back()
                    backoff = retry.backoff(wait=self._stopping.wait, limit_s=RECONNECT_S)
                self._step()
            except BrokerConnectionError as error:
                self.logger.debug("Heartbeat: %s Connecting again.", error)
                self.outages.lost()
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
        self._tried.set()
        self._link.close()
        self._arrivals.close()
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
        self._is_new = True

    def _step(self) -> None:
        now = time.monotonic()
        if now >= self._next_beat or self._reclaimer.wants_heartbeat:
            self._beat(now)
            if time.monotonic() >= self._next_beat:
                # A handler kept the interpreter until long after the reply was there, and the next
                # one may again: before anything that waits, say that this process lives.
                self._beat(time.monotonic())
        next_look = self._reclaimer.look(self._link)
        if self._reclaimer.wants_heartbeat:
            return
        times = (self._next_beat, next_look, self._reclaimer.next_judgement)
        until = min(at for at in times if at is not None)
        self._wait(max(until - time.monotonic(), 0.001))

    def _beat(self, now: float) -> None:
        consumer = self._identity.consumer
        beat = self._link.run(
            scripts.heartbeat(
                self._members,
                consumer,
                self._connection,
                lease_ms=int(LEASE_S * 1000),
                believed_dead=self._reclaimer.dead_reclaimer,
                leads=self._reclaimer.leading,
                is_new=self._is_new,
                record=self._record(),
            )
        )
        self._is_new = False
        self._last_beat = time.monotonic()
        self._next_beat = now + BEAT_S
        self._tried.set()
        if not beat.listed and self._listed_as == consumer:
            # Declared dead while it was stopped or cut off: nothing must be read any more under
            # the name that is fenced. The new one is heard of at once.
            self._identity.fenced(consumer)
            self._on_renamed()
            self._next_beat = 0.0
        self._listed_as = consumer
        self._reclaimer.told(self._link, beat, self._connection)
        if beat.is_reclaimer:
            self._follow_arrivals(beat.now_ms)
        else:
            self._arrivals.close()

    def _follow_arrivals(self, now_ms: int) -> None:
        try:
            self._arrivals.follow(now_ms)
        except BrokerError as error:
            # Newcomers are seen with the next heartbeat.
            if not self._said_of_arrivals:
                self.logger.info("Heartbeat: %s Newcomers are seen a little later.", error)
            self._said_of_arrivals = True
            self._arrivals.close()

    def _wait(self, timeout_s: float) -> None:
        """Waits until somebody arrives, the time is over, or `stop`.

        Nothing is under way on the link, so any sign of life of it is its end.

        Raises:
          BrokerConnectionError: The server has closed the connection.
        """
        sock, arrivals = self._link.socket(), self._arrivals.socket()
        if sock is None:
            raise BrokerConnectionError("The heartbeat's connection is not open.")
        with selectors.DefaultSelector() as selector:
            selector.register(sock, selectors.EVENT_READ)
            selector.register(self._wake, selectors.EVENT_READ)
            if arrivals is not None:
                selector.register(arrivals, selectors.EVENT_READ)
            ready = {key.fileobj for key, _ in selector.select(timeout_s)}
        if sock in ready:
            raise BrokerConnectionError("The heartbeat's connection was closed.")
        if arrivals in ready:
            try:
                self._reclaimer.arrived(self._arrivals.take())
            except BrokerError as error:
                self.logger.debug("Heartbeat: %s", error)
            else:
                self._follow_arrivals(0)
