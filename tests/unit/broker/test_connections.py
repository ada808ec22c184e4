"""Endpoints: what a URL may be, and that no password is shown."""

from __future__ import annotations

import asyncio
import os

import pytest
import redis

from streamatiq.broker.async_links import AsyncLinks
from streamatiq.broker.connections import Endpoint, Link, LinkPool, RetryPolicy
from streamatiq.errors import BrokerConnectionError, ConfigurationError, EmbeddedServerError

#: Nobody listens there.
NOWHERE = "redis://user:sec%40ret@127.0.0.1:1/0"


@pytest.mark.parametrize(
    "url",
    [
        "redis://user:secret@host:6379/0",
        "redis://:secret@host",
        "rediss://user:secret@host:6379",
        "unix://user:secret@/run/redis.sock",
        "redis://host:6379/0?password=secret",
    ],
)
def test_a_password_is_never_shown(url: str) -> None:
    endpoint = Endpoint(url)
    for text in (endpoint.shown, repr(endpoint), str(endpoint)):
        assert "secret" not in text
    assert "host" in endpoint.shown or "redis.sock" in endpoint.shown
    assert endpoint.resolved() == url


def test_a_malformed_url_is_named_without_its_password() -> None:
    with pytest.raises(ConfigurationError, match="is not usable") as caught:
        Endpoint("http://user:secret@host")
    assert "secret" not in str(caught.value)
    assert "redis://HOST:PORT/DB" in str(caught.value)
    with pytest.raises(ConfigurationError):
        Endpoint("redis://host:6379/0?socket_timeout=soon")
    with pytest.raises(EmbeddedServerError):
        Endpoint("embedded://")


def test_a_refused_connection_shows_no_password() -> None:
    link = Link(Endpoint(NOWHERE))
    with pytest.raises(BrokerConnectionError) as caught:
        link.send("PING")
    assert "127.0.0.1:1" in str(caught.value)
    assert "sec" not in str(caught.value).replace("second", "")
    assert link.socket() is None


def test_connections_repeat_nothing_by_themselves_and_speak_protocol_2() -> None:
    connection = Endpoint("redis://h").connection(timeout_s=3, name="n")
    assert connection.retry._retries == 0
    assert connection.protocol in (2, "2")
    assert (connection.socket_timeout, connection.client_name) == (3, "n")
    assert isinstance(Endpoint("unix:///s").connection(), redis.UnixDomainSocketConnection)


def test_a_pool_tries_as_often_as_its_policy_says() -> None:
    pool = LinkPool(Endpoint(NOWHERE), RetryPolicy(max_retries=2, delay_s=0.001))
    tries: list[Link] = []

    def action(link: Link) -> object:
        tries.append(link)
        return link.send("PING")

    with pytest.raises(BrokerConnectionError):
        pool.call(action)
    assert len(tries) == 3


def test_asyncio_links_try_as_often_too() -> None:
    links = AsyncLinks(Endpoint(NOWHERE), RetryPolicy(max_retries=2, delay_s=0.001))
    tries: list[int] = []

    async def ping() -> None:
        async def action(link: object) -> object:
            tries.append(1)
            return await link.send("PING")  # type: ignore[attr-defined]

        try:
            await links.call(action)
        finally:
            await links.close()

    with pytest.raises(BrokerConnectionError):
        asyncio.run(ping())
    assert len(tries) == 3


def test_links_are_used_again_and_not_after_an_error_or_a_fork() -> None:
    pool = LinkPool(Endpoint("redis://h"), RetryPolicy())
    with pool.borrow() as first, pool.borrow() as second:
        assert first is not second
        assert first.slot != second.slot
    with pool.borrow() as again:
        assert again in (first, second)
    with pytest.raises(KeyError), pool.borrow() as broken:
        raise KeyError
    assert broken not in pool._idle
    pool._pid = os.getpid() + 1  # as a forked child sees it
    with pool.borrow() as fresh:
        assert fresh not in (first, second)
