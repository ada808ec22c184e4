"""Threads that reserve business keys at the same moment share a call, and none its fate."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from tests.integration.logs.harness import Bench, Echo, Note, Spread, note
from tests.support import CuttingProxy

from streamatiq.broker.calls import script
from streamatiq.broker.connections import Endpoint, Link, LinkPool, RetryPolicy
from streamatiq.broker.keys import Keys
from streamatiq.broker.reservations import Answer, Ask, Standing, Want, reserve_all
from streamatiq.broker.sources import AuditLevel, Source
from streamatiq.broker.subscriptions import Subscription
from streamatiq.errors import WrongKeyType

ME = "h:1:me"


@pytest.fixture
def links(redis_url: str) -> Iterator[LinkPool]:
    with closing(LinkPool(Endpoint(redis_url), RetryPolicy(3, 0.02))) as made:
        yield made


@pytest.fixture
def link(redis_url: str) -> Iterator[Link]:
    with closing(Link(Endpoint(redis_url))) as made:
        yield made


@pytest.fixture
def sources(link: Link, namespace: str) -> list[Source]:
    """Streams that have a group."""
    found = Subscription("s", (Spread,), "new").sources(Keys(namespace), {}, AuditLevel.OFF)
    for source in found:
        link.send("XGROUP", "CREATE", source.keys.entries, "s", "0", "MKSTREAM")
    return found


def claimed(link: Link, source: Source) -> bytes:
    added: bytes = link.send("XADD", source.keys.entries, "*", "d", "x")
    link.send("XREADGROUP", "GROUP", "s", ME, "STREAMS", source.keys.entries, ">")
    return added


def ask(link: Link, source: Source, *keys: str, window_ms: int = 0) -> Ask:
    """What a thread asks that has an entry for each of `keys`."""
    wants = []
    for at, key in enumerate(keys):
        entry = claimed(link, source)
        wants.append(Want(key, entry, f"run{at}", entry, True))
    return Ask(source.keys, (), "s", ME, window_ms, wants)


def standings(answers: list[Answer] | Exception) -> list[Standing]:
    assert not isinstance(answers, Exception), answers
    return [answer.standing for answer in answers]


def test_each_gets_the_answers_to_what_it_wants_and_the_first_gets_the_key(
    link: Link, links: LinkPool, sources: list[Source]
) -> None:
    first, second = ask(link, sources[0], "a", "b"), ask(link, sources[0], "b")
    third = ask(link, sources[1], "b", "c", "d")
    new, busy = Standing.NEW, Standing.BUSY

    for _ in range(2):  # a repetition changes nothing
        found = reserve_all(links, [first, third, second])
        assert [standings(one) for one in found] == [[new, new], [new, new, new], [busy]]


def test_one_stream_takes_one_call(
    link: Link, links: LinkPool, sources: list[Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    asks = [ask(link, sources[n % 2], f"k{n}") for n in range(8)]
    trips: list[int] = []
    run_many = Link.run_many

    def counted(self: Link, calls: Any) -> Any:
        trips.append(len(calls))
        return run_many(self, calls)

    monkeypatch.setattr(Link, "run_many", counted)
    found = reserve_all(links, asks)

    assert [standings(one) for one in found] == [[Standing.NEW]] * 8
    assert trips == [2]


def test_windows_are_each_ask_s_own(link: Link, links: LinkPool, sources: list[Source]) -> None:
    forever, short = ask(link, sources[0], "a"), ask(link, sources[0], "b", window_ms=60_000)
    found = reserve_all(links, [forever, short])

    assert [standings(one) for one in found] == [[Standing.NEW]] * 2


def test_a_stream_that_is_refused_does_not_spoil_the_others(
    link: Link, links: LinkPool, sources: list[Source]
) -> None:
    good, bad = ask(link, sources[0], "a"), ask(link, sources[1], "a")
    link.send("SET", sources[1].keys.keys, "no hash")

    wrong, right = reserve_all(links, [bad, good])
    assert isinstance(wrong, WrongKeyType)
    assert standings(right) == [Standing.NEW]


@pytest.mark.parametrize("cuts", [0, 5])
def test_every_key_runs_once_whatever_threads_ask_at_the_same_moment(
    open_bench: Callable[..., Bench], proxy: CuttingProxy, cuts: int
) -> None:
    through = open_bench(proxy.url, redis={"retry_delay": 0.02, "max_retries": 30})
    runs: Counter[str] = Counter()
    lock = threading.Lock()

    @through.on(Note, name="once", start="earliest", idempotency_key=lambda event: event.text)
    def once(event: Note) -> Echo:
        with lock:
            runs[event.text] += 1
        return Echo(ts_event=2, text=event.text)

    open_bench().logs.publish_many([note(n % 100) for n in range(300)])
    if cuts:
        proxy.cut_reply(script("reserve").sha.encode(), times=cuts)
    through.start(threads=8)

    assert sorted(through.echoes(100)) == sorted(str(n) for n in range(100))
    through.settled("once")
    assert proxy.cuts >= cuts
    assert runs == {str(n): 1 for n in range(100)}
