"""The demo's honesty: whatever can become of an event is found and told apart, on a real server."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from io import StringIO

import pytest
import redis
from pydantic_core import to_json
from rich.console import Console

from streamatiq.broker import RedisStreamsBroker
from streamatiq.broker.keys import SourceKeys
from streamatiq.demo.meter import Meter
from streamatiq.demo.report import Report, SourceReport
from streamatiq.demo.verify import Account, Accounts, Book, check_logs
from streamatiq.errors import BrokerConnectionError
from streamatiq.events import FillEvent, MarketDataEvent, OrderEvent, OrderType, Side, Trade

LOGS = (MarketDataEvent, OrderEvent, FillEvent)
SUBSCRIPTION = "test.see"


class Pipeline:
    """A namespace with one subscription to market data, whose worker is the test."""

    def __init__(self, client: redis.Redis, broker: RedisStreamsBroker) -> None:
        self.client = client
        self.broker = broker
        log = broker.keys.log("market_data", "0")
        self.entries = log.entries
        self.keys: SourceKeys = log.subscription(SUBSCRIPTION)
        client.xgroup_create(self.entries, SUBSCRIPTION, "$", mkstream=True)
        self.meter = Meter(client, "here", broker.keys, LOGS)

    def publish(self, count: int) -> list[MarketDataEvent]:
        data = Trade(price="1", size="1")
        events = [MarketDataEvent(ts_event=n, key="SIM:A", data=data) for n in range(count)]
        self.broker.logs.publish_many(events)
        return events

    def read(self, count: int) -> list[str]:
        ((_, page),) = self.client.xreadgroup(SUBSCRIPTION, "me", {self.entries: ">"}, count=count)
        return [entry_id.decode() for entry_id, _ in page]

    def settle(self, entry_id: str, event: MarketDataEvent, *, mark: bool = True) -> None:
        if mark:
            self.client.hset(self.keys.done, event.id.bytes, 1)
        self.client.xack(self.entries, SUBSCRIPTION, entry_id)

    def audit(self, **outcomes: object) -> None:
        record = {"writer": "me", "batch": 1, "at": 1, "n": 1, "ran_us": 7, **outcomes}
        self.client.xadd(self.keys.audit, {"r": to_json(record)})

    def check(self) -> Accounts:
        return check_logs(self.client, "here", self.broker.keys, self.broker.logs, LOGS)


@pytest.fixture
def pipeline(client: redis.Redis, redis_url: str, namespace: str) -> Iterator[Pipeline]:
    broker = RedisStreamsBroker(redis_url, namespace=namespace, middleware=[])
    yield Pipeline(client, broker)
    broker.close()


def order(name: str, quantity: str = "4") -> OrderEvent:
    return OrderEvent(
        ts_event=1,
        key="SIM:A",
        client_order_id=name,
        side=Side.BUY,
        order_type=OrderType.MARKET,
        quantity=quantity,
    )


def fill(of: OrderEvent, exec_id: str, quantity: str) -> FillEvent:
    return FillEvent.of(
        of, exec_id=exec_id, last_quantity=Decimal(quantity), last_price=Decimal(1), ts_event=2
    )


def report(
    accounts: Accounts, pipeline: Pipeline, *, published: int, interrupted: bool = False
) -> Report:
    source = SourceReport(published, 1.0, 100.0, kept_up=True)
    return Report(accounts, pipeline.meter.read(), source, 1.5, interrupted)


def printed(one: Report) -> str:
    out = StringIO()
    one.print(Console(file=out, width=110))
    return out.getvalue()


def test_what_became_of_each_event_is_told_apart(pipeline: Pipeline) -> None:
    events = pipeline.publish(1003)
    ids = pipeline.read(1002)
    for entry_id, event in zip(ids[:1000], events, strict=False):
        pipeline.settle(entry_id, event)
    pipeline.settle(ids[1000], events[1000], mark=False)  # lost; the next one is pending
    dead = dict.fromkeys(("source", "cause", "error", "traceback", "consumer", "data"), "x")
    pipeline.client.xadd(
        pipeline.keys.dead, {**dead, "entry": ids[0], "attempts": 1, "at": 1}
    )  # has its mark as well, as the settle writes it
    accounts = pipeline.check()
    assert accounts.events["market_data"] == 1003
    assert accounts.subscriptions == {SUBSCRIPTION: Account(handled=999, dead=1, left=2, lost=1)}
    problems = report(accounts, pipeline, published=1003).problems
    assert "events lost: 1" in problems
    assert "events in the dead letters: 1" in problems
    assert "events not handled in time: 2" in problems


def test_marks_that_were_rotated_count(pipeline: Pipeline) -> None:
    (event,) = pipeline.publish(1)
    (entry_id,) = pipeline.read(1)
    pipeline.settle(entry_id, event)
    pipeline.client.rename(pipeline.keys.done, pipeline.keys.done_old)
    assert pipeline.check().subscriptions == {SUBSCRIPTION: Account(handled=1)}


def test_a_clean_run_says_so(pipeline: Pipeline) -> None:
    (event,) = pipeline.publish(1)
    (entry_id,) = pipeline.read(1)
    pipeline.settle(entry_id, event)
    one, two = order("o1"), order("o2", "1")
    first = fill(one, "e1", "1.5")
    second = fill(one.filled_by(first), "e2", "2.5")
    pipeline.broker.logs.publish_many([one, two, first, second, fill(two, "e3", "1")])
    pipeline.audit(done=1, latency={"96": 1})
    clean = report(pipeline.check(), pipeline, published=1)
    assert clean.problems == []
    text = printed(clean)
    assert "Orders: 2, of which 2 are filled exactly, by 3 fills" in text
    assert "quantity ordered 5, filled 5" in text
    assert "4.28 ms" in text
    assert "Nothing is lost; orders and fills agree." in text


def test_what_is_left_after_an_interruption_is_not_wrong(pipeline: Pipeline) -> None:
    pipeline.publish(3)
    pipeline.broker.logs.publish(order("o1"))
    stopped = report(pipeline.check(), pipeline, published=3, interrupted=True)
    assert stopped.problems == []
    assert "Stopped before its end: 3 events are left to be handled." in printed(stopped)
    ended = report(pipeline.check(), pipeline, published=3)
    assert ended.problems == ["events not handled in time: 3", "orders not filled: 1"]


def test_a_log_that_lacks_events_of_the_source_is_wrong(pipeline: Pipeline) -> None:
    pipeline.publish(2)
    short = report(pipeline.check(), pipeline, published=3, interrupted=True)
    assert short.problems == ["the source published 3 events, and 2 are in their log"]


def test_handlers_that_succeeded_twice_are_duplicates(pipeline: Pipeline) -> None:
    (event,) = pipeline.publish(1)
    (entry_id,) = pipeline.read(1)
    pipeline.settle(entry_id, event)
    pipeline.audit(done=1, parked=2, latency={})
    pipeline.audit(done=1, latency={})
    twice = report(pipeline.check(), pipeline, published=1)
    assert twice.duplicates(SUBSCRIPTION) == 1
    assert twice.reading.subscriptions[SUBSCRIPTION].retried == 2


@pytest.mark.parametrize(
    ("fills", "problem"),
    [
        (lambda one: [fill(one, "e1", "4"), fill(one, "e1", "4")], "e1 was reported twice"),
        (lambda one: [fill(one, "e1", "4"), fill(one, "e2", "4")], "this fill was applied before"),
        (lambda one: [fill(order("other"), "e1", "4")], "e1 is of an order that nobody placed"),
        (lambda one: [fill(one, "e1", "1"), fill(one, "e2", "1")], "e2"),
    ],
)
def test_fills_that_do_not_fit_their_orders(fills, problem: str) -> None:  # type: ignore[no-untyped-def]
    book = Book()
    book.order(order("o1"))
    for one in fills(order("o1")):
        book.fill(one)
    assert len(book.problems) == 1
    assert problem in book.problems[0]


def test_an_order_placed_twice_is_found() -> None:
    book = Book()
    book.order(order("o1"))
    book.order(order("o1"))
    assert book.problems == ["order o1 was placed twice"]


def test_many_disagreements_are_not_all_shown(pipeline: Pipeline) -> None:
    accounts = pipeline.check()
    accounts.book.problems += [f"problem {number}" for number in range(20)]
    problems = report(accounts, pipeline, published=0).problems
    assert len(problems) == 6
    assert problems[-1] == "and 15 more of these"


def test_a_meter_reads_each_audit_record_once_and_misses_the_trimmed(pipeline: Pipeline) -> None:
    for _ in range(1500):
        pipeline.audit(done=2, latency={"8": 2})
    first = pipeline.meter.read()
    assert first.subscriptions[SUBSCRIPTION].handled == 3000
    assert first.audit_missed == 0
    for _ in range(3):
        pipeline.audit(done=1, latency={"9": 1})
    pipeline.client.xtrim(pipeline.keys.audit, maxlen=1, approximate=False)
    second = pipeline.meter.read()
    assert second.subscriptions[SUBSCRIPTION].latency == {8: 3000, 9: 1}
    assert second.audit_missed == 2
    assert "2 audit records were dropped" in printed(
        Report(pipeline.check(), second, SourceReport(0, 1.0, 1.0, kept_up=False), 1.0, False)
    )


def test_a_meter_counts_unread_parked_and_pending(pipeline: Pipeline) -> None:
    pipeline.publish(10)
    pipeline.read(4)
    pipeline.client.zadd(pipeline.keys.parked, {"1-0": 5})
    reading = pipeline.meter.read()
    one = reading.subscriptions[SUBSCRIPTION]
    assert (one.unread, one.pending, one.parked, reading.lag) == (6, 4, 1, 10)
    assert reading.published == {"market_data": 10, "order": 0, "fill": 0}
    # Where the server does not know, as for a group set back, the entries are counted.
    pipeline.client.xgroup_setid(pipeline.entries, SUBSCRIPTION, pipeline.read(1)[0])
    assert pipeline.meter.read().subscriptions[SUBSCRIPTION].unread == 5


def test_a_meter_without_a_server_raises_ours(namespace: str) -> None:
    broker = RedisStreamsBroker("redis://127.0.0.1:1", namespace=namespace, middleware=[])
    with broker.client() as client, pytest.raises(BrokerConnectionError, match="No connection"):
        Meter(client, "there", broker.keys, LOGS).read()
