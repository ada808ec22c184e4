"""Replies that are lost after the server has done the work: nothing lost, nothing twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dramatiq
import pytest
from tests.integration.logs.harness import Bench, Echo, Note, note, texts
from tests.support import CuttingProxy, wait_until

from streamatiq.broker.calls import script


def _sha(name: str) -> bytes:
    return script(name).sha.encode()


@pytest.fixture
def through(open_bench: Callable[..., Bench], proxy: CuttingProxy) -> Bench:
    """A broker whose workers talk through the cutting proxy."""
    return open_bench(proxy.url, redis={"retry_delay": 0.02, "max_retries": 30})


@pytest.fixture
def direct(open_bench: Callable[..., Bench]) -> Bench:
    """A broker of the same namespace that publishes past the proxy."""
    return open_bench()


@pytest.mark.parametrize("keep_bytes", [0, 2])
@pytest.mark.parametrize("what", ["settle", "fetch", "block"])
def test_lost_replies_of_a_worker(
    through: Bench, direct: Bench, proxy: CuttingProxy, what: str, keep_bytes: int
) -> None:
    runs: list[str] = []

    @through.on(Note, name="lossy")
    def lossy(event: Note) -> Echo:
        runs.append(event.text)
        return Echo(ts_event=2, text=event.text)

    through.start()
    direct.logs.publish(note("warm"))
    through.echoes(1)
    match = b"XREADGROUP" if what == "block" else _sha(what)
    proxy.cut_reply(match, times=6, keep_bytes=keep_bytes)
    for first in range(0, 300, 10):  # several at a time: what comes alone needs no fetch
        direct.logs.publish_many([note(first + n) for n in range(10)])
    found = through.echoes(301, timeout_s=20)
    # The last blocking read may still wait for what is to be cut.
    assert proxy.cuts >= (3 if what == "block" else 6)
    assert sorted(found) == sorted(["warm", *map(str, range(300))])
    through.settled("lossy")
    assert sorted(texts(direct.read(Echo))) == sorted(found)
    # A lost reply is no failure of the handler: nothing ran twice.
    assert sorted(runs) == sorted(found)


def test_an_enqueue_whose_reply_is_lost_is_stored_once(
    through: Bench, direct: Bench, proxy: CuttingProxy
) -> None:
    done: list[int] = []
    actor: Any = dramatiq.actor(actor_name="count", broker=through.broker)(done.append)
    actor.send(-1)
    for delay in (None, 30):
        proxy.cut_reply(_sha("enqueue"), after=2, times=3)
        for n in range(10):
            actor.send_with_options(args=(n,), delay=delay)
    assert proxy.cuts == 6
    through.start()
    wait_until(lambda: len(done) >= 21)
    through.settled("default")
    assert sorted(done) == sorted([-1, *range(10), *range(10)])


def test_lost_replies_of_settles_with_retries_and_following_messages(
    through: Bench, proxy: CuttingProxy
) -> None:
    runs: list[int] = []
    told: list[int] = []

    @dramatiq.actor(broker=through.broker)
    def tell(message: Any, result: Any) -> None:
        told.append(message["args"][0])

    @dramatiq.actor(broker=through.broker, min_backoff=10, max_backoff=20, on_success="tell")
    def fails_once(number: int) -> None:
        runs.append(number)
        if runs.count(number) == 1:
            raise RuntimeError("once")

    for n in range(40):
        fails_once.send(n)
    proxy.cut_reply(_sha("settle"), times=6)
    through.start()
    wait_until(lambda: len(told) >= 40, 20)
    through.settled("default")
    assert proxy.cuts == 6
    assert sorted(runs) == sorted([*range(40), *range(40)])
    assert sorted(told) == list(range(40))


def test_connections_dropped_all_the_time(
    through: Bench, direct: Bench, proxy: CuttingProxy
) -> None:
    @through.on(Note, name="dropped")
    def dropped(event: Note) -> Echo:
        return Echo(ts_event=2, text=event.text)

    through.start(threads=4)
    for block in range(10):
        direct.logs.publish_many([note(f"{block} {n}") for n in range(30)])
        through.echoes(block * 30 + 5, timeout_s=20)
        proxy.drop_connections()
    found = through.echoes(300, timeout_s=20)
    through.settled("dropped")
    assert sorted(texts(direct.read(Echo))) == sorted(found)
    assert sorted(found) == sorted(texts(direct.read(Note)))
