"""Connections to the server.

Two ways to talk to it:

- `Link`: one connection of its own for one thread at a time. The hot paths (publish, enqueue,
  fetch, settle) use it: it sends packed commands and reads raw replies, without a pool, a parser of
  replies or hidden retries in between. redis-py's client would repeat an XADD whose reply was lost,
  and append it twice; a `Link` repeats a call only where its caller says that this is harmless.
- `client()`: redis-py's client, for reading and administration.

Protocol 2 is pinned everywhere: the shape of stream replies differs between protocols.
`embedded://PATH` starts (or adopts) our own server each time a connection is opened, so a worker
whose embedded server went away brings it back.
"""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.connection import AbstractConnection, parse_url
from redis.retry import Retry

from .._config_layer import redact
from ..errors import BrokerConnectionError, ConfigurationError, EmbeddedServerError
from .backoff import Backoff
from .calls import Call
from .embedded import EmbeddedServer, embedded_url_path
from .faults import translated

__all__ = ["Alarm", "Endpoint", "Link", "LinkPool", "RetryPolicy"]

T = TypeVar("T")

#: Seconds that a reply may take before the connection counts as lost.
REPLY_TIMEOUT_S = 10.0
#: Seconds that opening a connection may take.
CONNECT_TIMEOUT_S = 5.0
#: Pauses between the rings of an alarm, ms: the first may be heard before the request is.
RING_AGAIN_MS = (2.0, 4.0, 8.0, 16.0, 32.0)
#: Idle links that a pool keeps open.
MAX_IDLE_LINKS = 32


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a call is repeated after a lost connection.

    Parameters:
      max_retries: Attempts after the first; None repeats for ever.
      delay_s: First pause, seconds; doubles, with jitter, up to 30 s.
    """

    max_retries: int | None = 3
    delay_s: float = 1.0

    def backoff(
        self, *, wait: Callable[[float], bool] | None = None, limit_s: float = 30.0
    ) -> Backoff:
        """A fresh run of pauses, none longer than `limit_s`; `wait` waits that many seconds and
        returns True to stop."""
        return Backoff(first_s=self.delay_s, limit_s=limit_s, wait=wait)


class Endpoint:
    """Where the server is, and how to reach it.

    Parameters:
      url: redis://, rediss://, unix:// or embedded://PATH.

    Raises:
      ConfigurationError: The URL is of another kind or malformed.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        #: The URL without its password: what may be shown.
        self.shown = redact(url)
        self._embedded = url.startswith("embedded://")
        self._server: EmbeddedServer | None = None
        self._lock = threading.Lock()  # guards _server
        if self._embedded:
            embedded_url_path(url)
        else:
            self._parse(url)

    def _parse(self, url: str) -> dict[str, Any]:
        try:
            return dict(parse_url(url))
        except ValueError as error:
            raise ConfigurationError(
                f"redis.url {self.shown!r} is not usable: {error}. Use redis://HOST:PORT/DB, "
                "rediss://..., unix:///PATH or embedded://PATH."
            ) from error

    def resolved(self) -> str:
        """The URL to connect to; starts the embedded server where one is meant.

        Raises:
          EmbeddedServerError: It is not installed or cannot be started.
        """
        if not self._embedded:
            return self.url
        with self._lock:
            try:
                server = EmbeddedServer.ensure(embedded_url_path(self.url))
            except EmbeddedServerError as error:
                if self._server is None:
                    raise  # it never ran here: a mistake in the configuration
                raise BrokerConnectionError(str(error)) from error
            # The object that started it is the one that can stop it: keep it while it runs.
            if self._server is None or self._server.pid != server.pid:
                self._server = server
            return self._server.url

    def connection(
        self, *, timeout_s: float = REPLY_TIMEOUT_S, name: str | None = None
    ) -> AbstractConnection:
        """A new, not yet opened connection that repeats nothing by itself."""
        options = self._parse(self.resolved())
        kind = options.pop("connection_class", redis.Connection)
        options.update(
            protocol=2,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=timeout_s,
            client_name=name,
        )
        if kind is not redis.UnixDomainSocketConnection:
            options.setdefault("socket_connect_timeout", CONNECT_TIMEOUT_S)
            options.setdefault("socket_keepalive", True)
        connection: AbstractConnection = kind(**options)
        return connection

    def client(self) -> redis.Redis:
        """A redis-py client for reading and administration."""
        return redis.Redis.from_url(
            self.resolved(),
            protocol=2,
            socket_timeout=REPLY_TIMEOUT_S,
            socket_connect_timeout=CONNECT_TIMEOUT_S,
        )

    def close(self) -> None:
        """Stops the embedded server, if this process started it."""
        with self._lock:
            if self._server is not None and self._server.owned:
                self._server.stop()
            self._server = None

    def __repr__(self) -> str:
        return f"Endpoint({self.shown!r})"


class Alarm(NamedTuple):
    """What to do when a reply has not come by a certain time."""

    #: On the monotonic clock, seconds.
    at_s: float
    #: Makes the reply come; called again, ever more rarely, until it does.
    ring: Callable[[], None]


class Link:
    """One connection, for one thread at a time. Opens on first use, reopens after a loss.

    Parameters:
      endpoint: Where to connect.
      timeout_s: Seconds that a reply may take (a blocking read passes its own).
      name: Shown by CLIENT LIST.
    """

    def __init__(
        self, endpoint: Endpoint, *, timeout_s: float = REPLY_TIMEOUT_S, name: str | None = None
    ) -> None:
        self.endpoint = endpoint
        self._timeout_s = timeout_s
        self._name = name
        self._connection: AbstractConnection | None = None
        #: Names this link to scripts that must not repeat a call whose reply was lost.
        self.slot = os.urandom(8).hex()
        #: Number of the last such call.
        self.sequence = 0

    @property
    def is_open(self) -> bool:
        """Whether a connection was opened, and not lost as far as we know."""
        return self._connection is not None

    def next_sequence(self) -> int:
        """The number of the next call that must happen once. Repeat it with the same number."""
        self.sequence += 1
        return self.sequence

    def send(self, *args: Any) -> Any:
        """Sends one command and returns its raw reply.

        Raises:
          BrokerConnectionError: The connection could not be opened or was lost; whether the
            server has done the command is not known.
          BrokerError: The server refused the command; the kind says why.
        """
        with translated(self.endpoint.shown, args):
            connection = self._open()
            connection.send_packed_command(connection.pack_command(*args), check_health=False)
            return connection.read_response()

    def send_many(
        self, commands: Sequence[Sequence[Any]], *, alarm: Alarm | None = None
    ) -> list[Any]:
        """Sends commands in one go; a refused one gives its exception in place of a reply.

        Parameters:
          alarm: What to do if no reply has come by then.

        Raises:
          BrokerConnectionError: As `send`.
        """
        with translated(self.endpoint.shown, commands[0]):
            connection = self._open()
            connection.send_packed_command(connection.pack_commands(commands), check_health=False)
            if alarm is not None:
                self._wait(alarm)
            replies: list[Any] = []
            for _ in commands:
                try:
                    replies.append(connection.read_response(disconnect_on_error=False))
                except redis.ResponseError as error:
                    replies.append(error)
                except BaseException:
                    self.close()
                    raise
            return replies

    def _wait(self, alarm: Alarm) -> None:
        """Waits until there is something to read, or the alarm has rung in vain for a while."""
        sock = self.socket()
        if sock is None:
            return
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        wait_ms = max(0.0, (alarm.at_s - time.monotonic()) * 1000)
        for pause_ms in RING_AGAIN_MS:
            if poll.poll(wait_ms):
                return
            alarm.ring()
            wait_ms = pause_ms

    def run(self, call: Call[T]) -> T:
        """Runs one script call, loading the script where the server does not have it.

        Raises:
          BrokerError: As `send`.
        """
        try:
            return call.parse(self.send(*call.evalsha()))
        except redis.exceptions.NoScriptError:
            return call.parse(self.send(*call.eval()))

    def run_many(self, calls: Sequence[Call[T]]) -> list[T]:
        """Runs script calls in one round trip.

        Raises:
          BrokerError: The first refusal; calls after it may have been done.
        """
        replies = self.send_many([call.evalsha() for call in calls])
        results: list[T] = []
        for call, reply in zip(calls, replies, strict=True):
            if isinstance(reply, redis.exceptions.NoScriptError):
                results.append(self.run(call))
            elif isinstance(reply, redis.ResponseError):
                with translated(self.endpoint.shown, call.evalsha()):
                    raise reply
            else:
                results.append(call.parse(reply))
        return results

    def client_id(self) -> int:
        """The server's number of this connection; a reopened one has another."""
        return int(self.send("CLIENT", "ID"))

    def _open(self) -> AbstractConnection:
        if self._connection is None:
            connection = self.endpoint.connection(timeout_s=self._timeout_s, name=self._name)
            connection.connect()
            self._connection = connection
        return self._connection

    def socket(self) -> socket.socket | None:
        """The open connection's socket, to wait on; None after a loss."""
        # redis-py has no public way to it.
        return None if self._connection is None else self._connection._get_socket()

    def forget(self) -> None:
        """Drops a connection inherited by fork without touching its socket's other owner."""
        self._connection = None

    def close(self) -> None:
        """Closes the connection; the next call opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.disconnect()


class LinkPool:
    """Links for any thread of a process. Thread-safe; starts afresh after a fork.

    Parameters:
      endpoint: Where to connect.
      retry: What `call` does when the connection is lost.
    """

    def __init__(self, endpoint: Endpoint, retry: RetryPolicy) -> None:
        self.endpoint = endpoint
        self.retry = retry
        self._lock = threading.Lock()  # guards _idle and _pid
        self._idle: list[Link] = []
        self._pid = os.getpid()

    def new_link(self) -> Link:
        """A link of the kind that this pool lends."""
        return Link(self.endpoint)

    @contextmanager
    def borrow(self) -> Iterator[Link]:
        """A link for this thread alone while the block runs."""
        with self._lock:
            if self._pid != os.getpid():
                for link in self._idle:
                    link.forget()
                self._idle = []
                self._pid = os.getpid()
            link = self._idle.pop() if self._idle else self.new_link()
        try:
            yield link
        except BaseException:
            # Interrupted between a request and its reply, perhaps: the next user would read it.
            link.close()
            raise
        with self._lock:
            keep = len(self._idle) < MAX_IDLE_LINKS
            if keep:
                self._idle.append(link)
        if not keep:
            link.close()

    def call(self, action: Callable[[Link], T]) -> T:
        """Runs `action` with a link, again and again after lost connections, as the policy says.

        `action` must be harmless to repeat after a lost reply.

        Raises:
          BrokerConnectionError: The last attempt failed too.
          BrokerError: The server refused.
        """
        with self.borrow() as link:
            return self.retry.backoff().repeat(
                lambda: action(link),
                max_retries=self.retry.max_retries,
                before_retry=link.close,
                first_at_once=link.is_open,
            )

    def close(self) -> None:
        """Closes the idle links."""
        with self._lock:
            idle, self._idle = self._idle, []
        for link in idle:
            link.close()
