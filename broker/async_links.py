"""Connections for coroutines: the same calls as `connections`, on asyncio.

An asyncio connection belongs to the event loop that opened it, so links are kept per loop; a loop
that is gone takes its links with it. Not thread-safe within a loop, as asyncio itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import redis
from redis.asyncio.connection import AbstractConnection, Connection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from ..errors import AuthenticationFailed, BrokerConnectionError
from .calls import Call
from .connections import MAX_IDLE_LINKS, REPLY_TIMEOUT_S, Endpoint, RetryPolicy
from .faults import translated

__all__ = ["AsyncLink", "AsyncLinks"]

T = TypeVar("T")
R = TypeVar("R")


class AsyncLink:
    """One connection, for one task at a time. Opens on first use, reopens after a loss."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._connection: AbstractConnection | None = None

    async def send(self, *args: Any) -> Any:
        """Sends one command and returns its raw reply.

        Raises:
          BrokerError: As `Link.send`.
        """
        with translated(self.endpoint.shown, args):
            connection = await self._open()
            await connection.send_command(*args)
            return await connection.read_response()

    async def run(self, call: Call[T]) -> T:
        """Runs one script call."""
        try:
            return call.parse(await self.send(*call.evalsha()))
        except redis.exceptions.NoScriptError:
            return call.parse(await self.send(*call.eval()))

    async def run_many(self, calls: Sequence[Call[T]]) -> list[T]:
        """Runs script calls one after the other."""
        return [await self.run(call) for call in calls]

    async def close(self) -> None:
        """Closes the connection; the next call opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect()

    async def _open(self) -> AbstractConnection:
        if self._connection is None:
            # Starting an embedded server blocks; everything else here is quick.
            url = await asyncio.to_thread(self.endpoint.resolved)
            options: dict[str, Any] = dict(parse_url(url))
            kind = options.pop("connection_class", Connection)
            connection: AbstractConnection = kind(
                **options,
                protocol=2,
                retry=Retry(NoBackoff(), 0),
                socket_timeout=REPLY_TIMEOUT_S,
            )
            await connection.connect()
            self._connection = connection
        return self._connection


class AsyncLinks:
    """Links for the tasks of any event loop.

    Parameters:
      endpoint: Where to connect.
      retry: What `call` does when the connection is lost.
    """

    def __init__(self, endpoint: Endpoint, retry: RetryPolicy) -> None:
        self._endpoint = endpoint
        self._retry = retry
        self._idle: WeakKeyDictionary[asyncio.AbstractEventLoop, list[AsyncLink]] = (
            WeakKeyDictionary()
        )

    async def call(self, action: Callable[[AsyncLink], Awaitable[T]]) -> T:
        """Runs `action` with a link; repeats it after lost connections, as the policy says.

        `action` must be harmless to repeat after a lost reply.

        Raises:
          BrokerConnectionError: The last attempt failed too.
          BrokerError: The server refused.
        """
        idle = self._idle.setdefault(asyncio.get_running_loop(), [])
        link = idle.pop() if idle else AsyncLink(self._endpoint)
        backoff = self._retry.backoff()
        retries = 0
        whole = False
        try:
            while True:
                try:
                    result = await action(link)
                    whole = True
                    return result
                except AuthenticationFailed:
                    raise
                except BrokerConnectionError:
                    limit = self._retry.max_retries
                    if limit is not None and retries >= limit:
                        raise
                    await link.close()
                    retries += 1
                    await asyncio.sleep(backoff.next_s())
        finally:
            # A cancelled call may have left half a reply on the connection.
            if whole and len(idle) < MAX_IDLE_LINKS:
                idle.append(link)
            else:
                await link.close()

    async def close(self) -> None:
        """Closes the links of the running event loop."""
        for link in self._idle.pop(asyncio.get_running_loop(), []):
            await link.close()
