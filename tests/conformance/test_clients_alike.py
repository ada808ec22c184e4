"""Clients that wait, vanish and are counted: the same on the twin and on a real server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
import redis
from tests.support import wait_until

from streamatiq.broker.connections import Endpoint, Link
from streamatiq.broker.embedded import EmbeddedServer
from streamatiq.broker.server import check_server
from streamatiq.errors import BrokerConnectionError, BrokerError, CommandFailed
from streamatiq.testing import Twin

Connect = Callable[[], Link]


@pytest.fixture(params=["server", "twin"])
def connect(
    request: pytest.FixtureRequest, server: EmbeddedServer, twin: Twin
) -> Iterator[Connect]:
    """Opens connections to one or the other."""
    opened: list[Link] = []

    def open_one() -> Link:
        opened.append(Link(Endpoint(server.url if request.param == "server" else twin.url)))
        return opened[-1]

    yield open_one
    for link in opened:
        link.close()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as threads:
        yield threads


@pytest.fixture
def key(connect: Connect, namespace: str) -> str:
    """A stream with a group."""
    name = f"{namespace}:stream"
    connect().send("XGROUP", "CREATE", name, "g", "0", "MKSTREAM")
    return name


def _is_blocked(link: Link, client_id: int) -> bool:
    return b"flags=b" in link.send("CLIENT", "LIST", "ID", client_id)


def _read(key: str, consumer: str, block_ms: int) -> tuple[Any, ...]:
    return (
        "XREADGROUP", "GROUP", "g", consumer, "COUNT", 1, "BLOCK", block_ms, "STREAMS", key, ">",
    )  # fmt: skip


def _wait(
    pool: ThreadPoolExecutor, connect: Connect, other: Link, key: str, consumer: str
) -> tuple[Future[Any], int]:
    """A reader that waits, and its client id."""
    link = connect()
    client_id = link.client_id()
    reading = pool.submit(link.send, *_read(key, consumer, 20_000))
    wait_until(lambda: _is_blocked(other, client_id), what="a blocked reader")
    return reading, client_id


def test_each_entry_wakes_one_reader_the_longest_waiting_first(
    connect: Connect, pool: ThreadPoolExecutor, key: str
) -> None:
    link = connect()
    readers = [_wait(pool, connect, link, key, f"c{number}")[0] for number in range(3)]
    for number, reader in enumerate(readers):
        entry = link.send("XADD", key, "*", "n", number)
        assert reader.result(10) == [[key.encode(), [[entry, [b"n", b"%d" % number]]]]]
        assert not any(one.done() for one in readers[number + 1 :])


def test_entries_of_one_script_go_to_all_who_wait(
    connect: Connect, pool: ThreadPoolExecutor, key: str
) -> None:
    link = connect()
    readers = [_wait(pool, connect, link, key, f"c{number}")[0] for number in range(2)]
    script = "for i = 1, 2 do redis.call('XADD', KEYS[1], '*', 'n', i) end"
    link.send("EVAL", script, 1, key)
    found = [reader.result(10)[0][1][0][1] for reader in readers]
    assert found == [[b"n", b"1"], [b"n", b"2"]]


def test_a_wait_ends_by_itself(connect: Connect, key: str) -> None:
    assert connect().send(*_read(key, "c", 1)) is None


def test_a_wait_is_ended_by_another_client(
    connect: Connect, pool: ThreadPoolExecutor, key: str
) -> None:
    link = connect()
    reading, client_id = _wait(pool, connect, link, key, "c")
    assert link.send("CLIENT", "UNBLOCK", client_id) == 1
    assert reading.result(10) is None
    assert link.send("CLIENT", "UNBLOCK", client_id) == 0
    reading, client_id = _wait(pool, connect, link, key, "c")
    link.send("CLIENT", "UNBLOCK", client_id, "ERROR")
    with pytest.raises(CommandFailed, match="UNBLOCKED"):
        reading.result(10)


@pytest.mark.parametrize("how", [("DEL",), ("XGROUP", "DESTROY")], ids=["key", "group"])
def test_a_reader_learns_that_its_group_is_gone(
    connect: Connect, pool: ThreadPoolExecutor, key: str, how: tuple[str, ...]
) -> None:
    link = connect()
    reading, _ = _wait(pool, connect, link, key, "c")
    link.send(*how, key, *(["g"] if len(how) > 1 else []))
    with pytest.raises(CommandFailed, match="NOGROUP"):
        reading.result(10)


def test_what_was_sent_behind_a_waiting_read_is_done_after_it(
    connect: Connect, pool: ThreadPoolExecutor, key: str
) -> None:
    link, reader = connect(), connect()
    client_id = reader.client_id()
    both = pool.submit(reader.send_many, [_read(key, "c", 20_000), ("XLEN", key)])
    wait_until(lambda: _is_blocked(link, client_id), what="a blocked reader")
    link.send("XADD", key, "*", "n", 1)
    reply, length = both.result(10)
    assert len(reply) == length == 1


def test_a_reader_that_vanishes_takes_nothing(
    connect: Connect, pool: ThreadPoolExecutor, key: str
) -> None:
    link = connect()
    reading, client_id = _wait(pool, connect, link, key, "gone")
    link.send("CLIENT", "KILL", "ID", client_id)
    with pytest.raises(BrokerConnectionError):
        reading.result(10)
    link.send("XADD", key, "*", "n", 1)
    assert link.send("XPENDING", key, "g") == [0, None, None, None]


def test_connections_have_numbers_and_vanish_from_the_list(connect: Connect) -> None:
    one, other = connect(), connect()
    ids = [one.client_id(), other.client_id()]
    assert ids[1] > ids[0]
    assert one.send("CLIENT", "LIST", "ID", *ids).count(b"id=") == 2
    other.close()
    wait_until(
        lambda: one.send("CLIENT", "LIST", "ID", *ids).count(b"id=") == 1, what="one to vanish"
    )
    assert other.client_id() > ids[1], "it has another number when it comes back"


def test_a_transaction_is_done_as_a_whole(connect: Connect, key: str) -> None:
    link = connect()
    replies = link.send_many(
        [("MULTI",), ("XADD", key, "1-1", "a", "b"), ("GET", key), ("XLEN", key), ("EXEC",)]
    )
    assert replies[:4] == [b"OK", b"QUEUED", b"QUEUED", b"QUEUED"]
    done, refused, length = replies[4]
    assert (done, length) == (b"1-1", 1)
    assert isinstance(refused, redis.ResponseError)


def test_a_worker_may_trust_it(connect: Connect) -> None:
    info = check_server(connect())
    assert info is not None
    assert len(connect().send("TIME")) == 2
    with pytest.raises(BrokerError, match="unknown command"):
        connect().send("NO-SUCH-COMMAND")


def test_a_transaction_is_refused_when_what_it_watches_has_changed(
    connect: Connect, namespace: str
) -> None:
    one, other = connect(), connect()
    key = f"{namespace}:watched"
    for change, done in ((("SET", key, "2"), None), (("GET", key), [b"OK"]), (("DEL", key), None)):
        one.send("SET", key, "1")
        one.send("WATCH", key)
        other.send(*change)
        one.send("MULTI")
        one.send("SET", key, "mine")
        assert one.send("EXEC") == done
    one.send("WATCH", key)
    other.send("SET", key, "3")
    one.send("UNWATCH")
    one.send("MULTI")
    one.send("GET", key)
    assert one.send("EXEC") == [b"3"]
    one.send("WATCH", key)
    one.send("MULTI")
    one.send("DISCARD")
    other.send("SET", key, "4")
    one.send("MULTI")
    one.send("GET", key)
    assert one.send("EXEC") == [b"4"]


def test_a_read_without_a_group_waits_for_what_is_added(
    pool: ThreadPoolExecutor, connect: Connect, namespace: str
) -> None:
    key = f"{namespace}:control"
    link, other = connect(), connect()
    client_id = link.client_id()
    for after in (b"0-0", None):
        last = after or other.send("XREVRANGE", key, "+", "-", "COUNT", 1)[0][0]
        reading = pool.submit(link.send, "XREAD", "BLOCK", 20_000, "STREAMS", key, last)
        wait_until(lambda: _is_blocked(other, client_id), what="a blocked reader")
        entry_id = other.send("XADD", key, "MAXLEN", 1, "*", "i", "1")
        assert reading.result(10) == [[key.encode(), [[entry_id, [b"i", b"1"]]]]]
    assert link.send("XREAD", "BLOCK", 10, "STREAMS", key, "$") is None
