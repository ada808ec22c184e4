"""Tracing: real workers, a real server, the spans of OpenTelemetry's SDK."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dramatiq
import pytest
from dramatiq.middleware import Middleware
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Sampler
from opentelemetry.trace import SpanKind, StatusCode
from tests.integration.logs.harness import FAST, Bench, Echo, Note, Spread, note
from tests.support import dramatiq_workers, wait_until

from streamatiq import Event, Tracing, emit
from streamatiq.broker.settlements import DUPLICATE
from streamatiq.broker.turning_away import TurnedAway
from streamatiq.testing import TestBroker

#: A context from elsewhere.
FOREIGN = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01", "tracestate": "vendor=1"}


class Traced:
    """A bench with tracing, and its spans."""

    def __init__(self, sampler: Sampler | None = None) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(sampler=sampler)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = self.provider.get_tracer("test")

    def middleware(self) -> list[Middleware]:
        return [Tracing(tracer_provider=self.provider)]

    def spans(self, name: str = "") -> list[ReadableSpan]:
        """Those that have ended, in this order."""
        return [span for span in self.exporter.get_finished_spans() if name in ("", span.name)]

    def wait(self, name: str, count: int = 1) -> list[ReadableSpan]:
        return wait_until(
            lambda: found if len(found := self.spans(name)) >= count else None,
            what=lambda: f"{count} of {name}: {[span.name for span in self.spans()]}",
        )


@pytest.fixture
def traced() -> Traced:
    return Traced()


@pytest.fixture
def bench(open_bench: Callable[..., Bench], traced: Traced) -> Bench:
    return open_bench(middleware=traced.middleware())


@pytest.fixture
def open_bench(redis_url: str, namespace: str) -> Iterator[Callable[..., Bench]]:
    opened: list[Bench] = []

    def open_one(**options: Any) -> Bench:
        opened.append(Bench(redis_url, namespace, **options))
        return opened[-1]

    yield open_one
    for one in reversed(opened):
        one.stop()


def ids(span: ReadableSpan | None) -> tuple[int, int]:
    context = span and span.get_span_context()
    assert context is not None
    return context.trace_id, context.span_id


def parent(span: ReadableSpan) -> tuple[int, int] | None:
    return span.parent and (span.parent.trace_id, span.parent.span_id)


def header(span: ReadableSpan) -> str:
    context = span.get_span_context()
    assert context is not None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def test_a_trace_goes_from_the_publisher_through_all_handlers(traced: Traced, bench: Bench) -> None:
    bench.on(Note, name="first")(lambda event: Echo(ts_event=1, key="k", text="effect"))
    bench.on(Echo, name="second")(lambda event: None)
    bench.start()
    with traced.tracer.start_as_current_span("cause") as cause:
        receipt = bench.logs.publish(note("x", key="AAPL"))
    (first,), (second,) = traced.wait("process test.note"), traced.wait("process test.echo")
    (send,) = traced.wait("send test.note")
    assert isinstance(cause, ReadableSpan)
    assert (parent(send), send.kind) == (ids(cause), SpanKind.PRODUCER)
    assert (parent(first), first.kind) == (ids(send), SpanKind.CONSUMER)
    assert parent(second) == ids(first)
    assert [link.context.span_id for link in first.links] == [ids(send)[1]]
    (event,), (effect,) = bench.read(Note), bench.read(Echo)
    assert event.event.trace == {"traceparent": header(send)}
    assert effect.event.trace == {"traceparent": header(first)}
    server = {"messaging.system": "redis", "server.address": bench.logs.server[len("unix://") :]}
    assert {**(send.attributes or {})} == server | {
        "messaging.operation.type": "send",
        "messaging.operation.name": "send",
        "messaging.destination.name": "test.note",
        "messaging.destination.partition.id": "0",
        "messaging.message.id": str(event.event.id),
        "streamatiq.key": "AAPL",
    }
    assert first.attributes is not None
    client = first.attributes["messaging.client.id"]
    assert {**first.attributes} == server | {
        "messaging.operation.type": "process",
        "messaging.operation.name": "process",
        "messaging.destination.name": "test.note",
        "messaging.destination.partition.id": "0",
        "messaging.consumer.group.name": "first",
        "messaging.client.id": client,
        "messaging.message.id": str(event.event.id),
        "streamatiq.entry_id": receipt.entry_id,
        "streamatiq.attempt": 1,
        "streamatiq.key": "AAPL",
        "streamatiq.outcome": "done",
    }
    assert first.status.status_code is StatusCode.UNSET
    assert second.attributes is not None
    conversation = second.attributes["messaging.message.conversation_id"]
    assert conversation == str(event.event.id)
    assert first.start_time is not None
    assert first.end_time is not None
    assert send.start_time is not None
    assert send.start_time < first.start_time <= first.end_time


def test_publish_many_is_one_span_and_leaves_contexts_alone(traced: Traced, bench: Bench) -> None:
    own = note("own", trace=FOREIGN)
    bench.logs.publish_many([note("a"), own, note("b")])
    (send,) = traced.spans()
    assert send.name == "send test.note"
    assert parent(send) is None
    found = [entry.event.trace for entry in bench.read(Note)]
    assert found == [{"traceparent": header(send)}, FOREIGN, {"traceparent": header(send)}]
    assert [link.context.span_id for link in send.links] == [int("b" * 16, 16)]
    assert send.attributes is not None
    assert send.attributes["messaging.batch.message_count"] == 3
    assert "messaging.message.id" not in send.attributes
    assert own.trace == FOREIGN
    bench.logs.publish_many([note("c"), Spread(ts_event=1)])
    assert traced.spans()[-1].name == "send"


def test_a_publish_that_fails_is_an_error(traced: Traced, bench: Bench) -> None:
    nothing: Any = "no event"
    with pytest.raises(Exception, match="not an Event"):
        bench.logs.publish(nothing)
    with pytest.raises(Exception, match="not an Event"):
        bench.logs.publish_many([note("x"), nothing])
    for span in traced.spans():
        assert span.status.status_code is StatusCode.ERROR
        assert (span.attributes or {})["error.type"] == "InvalidEvent"
        assert [event.name for event in span.events] == ["exception"]
    assert len(traced.spans()) == 2


def test_a_coroutine_publishes_with_the_span_that_is_its_own(traced: Traced, bench: Bench) -> None:
    async def one(text: str) -> None:
        with traced.tracer.start_as_current_span(text):
            await bench.logs.apublish(note(text))
            await bench.logs.apublish_many([note(text)])

    async def all_at_once() -> None:
        await asyncio.gather(*(one(str(number)) for number in range(5)))
        await bench.logs.aclose()

    asyncio.run(all_at_once())
    sends = {header(span): parent(span) for span in traced.spans("send test.note")}
    assert len(sends) == 10
    for entry in bench.read(Note):
        (cause,) = traced.spans(entry.event.text)
        assert sends[entry.event.trace["traceparent"]] == ids(cause)


def test_each_attempt_is_a_span_with_its_error_and_outcome(traced: Traced, bench: Bench) -> None:
    def fail(event: Any) -> None:
        raise ValueError("wrong price")

    bench.on(Note, name="sub", max_retries=1)(fail)
    bench.start()
    bench.logs.publish(note("x"))
    runs = traced.wait("process test.note", 2)
    (send,) = traced.spans("send test.note")
    for number, (run, outcome) in enumerate(zip(runs, ("parked", "dead_lettered"), strict=True), 1):
        assert parent(run) == ids(send)
        assert run.attributes is not None
        assert run.attributes["streamatiq.attempt"] == number
        assert run.attributes["streamatiq.outcome"] == outcome
        assert run.attributes["error.type"] == "ValueError"
        assert run.status.status_code is StatusCode.ERROR
        assert run.status.description == "ValueError: wrong price"
        assert [event.name for event in run.events] == ["exception"]
    assert len(traced.spans()) == 3  # a retry of an event creates no message


def test_a_retry_that_is_asked_for_is_no_error(traced: Traced, bench: Bench) -> None:
    runs = iter([True, False])

    def again(event: Any) -> None:
        if next(runs):
            raise dramatiq.errors.Retry("later", delay=1)

    bench.on(Note, name="sub")(again)
    bench.start()
    bench.logs.publish(note("x"))
    first, second = traced.wait("process test.note", 2)
    assert (first.attributes or {})["streamatiq.outcome"] == "parked"
    assert (second.attributes or {})["streamatiq.outcome"] == "done"
    assert {span.status.status_code for span in (first, second)} == {StatusCode.UNSET}


def test_async_handlers_and_spans_of_their_own(traced: Traced, bench: Bench) -> None:
    @bench.on(Note, name="sub")
    async def handle(event: Note) -> Event:
        with traced.tracer.start_as_current_span("inner"):
            await asyncio.sleep(0.001)
            emit(Echo(ts_event=1, text="within"))
            bench.logs.publish(Spread(ts_event=1))
        return Echo(ts_event=1, text="after")

    bench.start(threads=4)
    bench.logs.publish_many([note(str(number)) for number in range(8)])
    runs = {header(span): span for span in traced.wait("process test.note", 8)}
    inner = {header(span): span for span in traced.spans("inner")}
    assert {parent(span) for span in inner.values()} == {ids(span) for span in runs.values()}
    assert len(inner) == 8
    bench.echoes(16)
    for entry in bench.read(Echo):
        spans = inner if entry.event.text == "within" else runs
        assert entry.event.trace["traceparent"] in spans
    sent = traced.wait("send test.spread", 8)
    assert {parent(span) for span in sent} == {ids(span) for span in inner.values()}


def test_generators_emit_in_the_span_that_is_present(traced: Traced, bench: Bench) -> None:
    @bench.on(Note, name="sub")
    def handle(event: Note) -> Iterator[Event]:
        yield Echo(ts_event=1, text="outer")
        with traced.tracer.start_as_current_span("inner"):
            yield Echo(ts_event=1, text="inner")

    bench.start()
    bench.logs.publish(note("x"))
    (run,) = traced.wait("process test.note")
    (inner,) = traced.spans("inner")
    bench.echoes(2)
    found = {entry.event.text: entry.event.trace["traceparent"] for entry in bench.read(Echo)}
    assert found == {"outer": header(run), "inner": header(inner)}


def test_messages_of_plain_actors_carry_their_context(traced: Traced, bench: Bench) -> None:
    attempts: list[Any] = []

    def first() -> int:
        attempts.append(1)
        if len(attempts) == 1:
            raise RuntimeError("once")
        return 5

    start = dramatiq.actor(first, actor_name="first", broker=bench.broker, **FAST)
    follow = dramatiq.actor(lambda five: None, actor_name="second", broker=bench.broker)
    with traced.tracer.start_as_current_span("cause") as cause:
        dramatiq.pipeline([start.message(), follow.message()], broker=bench.broker).run()
    bench.start()
    runs = traced.wait("process default", 3)
    created = traced.spans("create default")
    assert isinstance(cause, ReadableSpan)
    assert [parent(span) for span in created] == [ids(cause), ids(runs[1])]
    assert [parent(run) for run in runs] == [ids(created[at]) for at in (0, 0, 1)]
    told = [
        (run.attributes or {})[f"streamatiq.{what}"]
        for run in runs
        for what in ("actor", "attempt", "outcome")
    ]
    assert told == ["first", 1, "retried", "first", 2, "done", "second", 1, "done"]
    for run in runs:
        attributes = run.attributes or {}
        assert attributes["messaging.consumer.group.name"] == "default"
        assert attributes["messaging.destination.partition.id"] == "normal"


def test_a_message_has_no_option_more_without_tracing(open_bench: Callable[..., Bench]) -> None:
    bench = open_bench()
    actor = dramatiq.actor(lambda: None, actor_name="job", broker=bench.broker)
    assert actor.send().options == {}
    bench.logs.publish(note("x"))
    assert bench.read(Note)[0].event.trace is None


def test_what_is_turned_away_has_no_span(traced: Traced, open_bench: Callable[..., Bench]) -> None:
    present: list[object] = []

    class Refuse(Middleware):
        def before_delivery(self, broker: Any, delivery: Any) -> None:
            present.append(trace.get_current_span())
            if delivery.event.text == "no":
                raise TurnedAway(DUPLICATE)

    bench = open_bench(middleware=[Refuse(), *traced.middleware()])
    bench.on(Note, name="sub")(lambda event: None)
    bench.start(threads=1)
    bench.logs.publish_many([note("no"), note("yes"), note("no"), note("yes")])
    bench.settled("sub")
    runs = traced.wait("process test.note", 2)
    assert len(runs) == 2
    # Nothing is left behind in the worker's thread.
    assert present == [trace.INVALID_SPAN] * 4


def test_invalid_contexts_do_not_break_handling(traced: Traced, bench: Bench) -> None:
    odd: list[dict[str, str]] = [
        {},
        {"traceparent": ""},
        {"traceparent": "nonsense"},
        {"traceparent": "00-" + "0" * 32 + "-" + "b" * 16 + "-01"},
        {"traceparent": "ff-" + "a" * 32 + "-" + "b" * 16 + "-01"},
        {"traceparent": "é" * 1000},
        {"tracestate": "a=1"},
        {**FOREIGN, "tracestate": "=,=;é" * 300},
    ]
    bench.on(Note, name="sub")(lambda event: Echo(ts_event=1, text=event.text))
    bench.start()
    bench.logs.publish_many([note(at, trace=one) for at, one in enumerate(odd)])
    assert len(bench.echoes(len(odd))) == len(odd)
    runs = traced.wait("process test.note", len(odd))
    assert [parent(run) is not None for run in runs].count(True) == 1
    emitted = {entry.event.trace["traceparent"] for entry in bench.read(Echo)}
    assert emitted == {header(run) for run in runs}


def test_what_is_not_sampled_is_handed_on_and_not_recorded(
    open_bench: Callable[..., Bench],
) -> None:
    traced = Traced(ALWAYS_OFF)
    bench = open_bench(middleware=traced.middleware())
    bench.on(Note, name="sub")(lambda event: Echo(ts_event=1))
    bench.start()
    bench.logs.publish(note("x"))
    bench.echoes(1)
    (cause,), (effect,) = bench.read(Note), bench.read(Echo)
    before, after = cause.event.trace["traceparent"], effect.event.trace["traceparent"]
    assert not (int(before[-2:], 16) | int(after[-2:], 16)) & trace.TraceFlags.SAMPLED
    assert before[:35] == after[:35]
    assert before != after
    assert traced.spans() == []


def test_contexts_are_handed_on_without_an_sdk(open_bench: Callable[..., Bench]) -> None:
    bench = open_bench(middleware=[Tracing(tracer_provider=trace.NoOpTracerProvider())])
    bench.on(Note, name="sub")(lambda event: Echo(ts_event=1, text=event.text))
    bench.start()
    bench.logs.publish_many([note("none"), note("some", trace=FOREIGN)])
    bench.echoes(2)
    found = {entry.event.text: entry.event.trace for entry in bench.read(Echo)}
    assert found == {"none": None, "some": FOREIGN}


def test_the_twin_traces_as_the_broker_does(traced: Traced) -> None:
    from streamatiq import on

    with TestBroker(middleware=[*traced.middleware()]) as broker:
        on(Note, name="sub")(lambda event: Echo(ts_event=1))
        broker.publish(note("x"))
        broker.run_until_idle()
        (run,) = traced.spans("process test.note")
        (send,) = traced.spans("send test.note")
        assert parent(run) == ids(send)
        (effect,) = broker.published(Echo)
        assert effect.trace == {"traceparent": header(run)}


HANDLERS = """
import json, os

import dramatiq
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from streamatiq import Event, Partitioned, RedisStreamsBroker, Tracing, on


class Note(Event, type="test.note", log=Partitioned(1)):
    text: str = ""


class Echo(Event, type="test.echo", log=Partitioned(1)):
    text: str = ""


class ToFile(SpanExporter):
    def export(self, spans):
        with open(os.environ["TEST_SPANS"], "a") as file:
            for span in spans:
                parent = span.parent and f"{span.parent.span_id:016x}"
                file.write(json.dumps([span.name, f"{span.context.span_id:016x}", parent,
                    f"{span.context.trace_id:032x}", os.getpid()]) + "\\n")
        return SpanExportResult.SUCCESS


# A minute: what is seen sooner was let out by the stop.
provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(ToFile(), schedule_delay_millis=60_000))
trace.set_tracer_provider(provider)
broker = RedisStreamsBroker(os.environ["TEST_URL"], namespace=os.environ["TEST_NAMESPACE"])
broker.add_middleware(Tracing())
dramatiq.set_broker(broker)


@on(Note, name="first", start="earliest")
def first(event):
    return Echo(ts_event=1, text=event.text)


@on(Echo, name="second", start="earliest")
def second(event):
    job.send()


@dramatiq.actor
def job():
    pass
"""


def test_a_trace_goes_through_worker_processes(
    traced: Traced, bench: Bench, tmp_path: Path, redis_url: str, namespace: str
) -> None:
    """Two processes; their spans are let out when they stop."""
    (tmp_path / "traced_handlers.py").write_text(HANDLERS)
    env = {
        "TEST_URL": redis_url,
        "TEST_NAMESPACE": namespace,
        "TEST_SPANS": str(tmp_path / "spans"),
    }
    sends = []
    for number in range(20):
        bench.logs.publish(note(number))
    sends = traced.spans("send test.note")
    with dramatiq_workers("traced_handlers", cwd=tmp_path, env=env, processes=2) as workers:
        bench.echoes(20)
        for name, cls in (("first", Note), ("second", Echo)):
            bench.on(cls, name=name)(lambda event: None)
            bench.settled(name)
        bench.broker.declare_queue("default")
        bench.settled("default")
        assert not (tmp_path / "spans").exists()
        assert workers.stop() == 0
    lines = (tmp_path / "spans").read_text().splitlines()
    spans = {span_id: rest for rest in map(json.loads, lines) for span_id in [rest[1]]}
    names = Counter(name for name, *_ in spans.values())
    each = ("process test.note", "process test.echo", "create default", "process default")
    assert names == dict.fromkeys(each, 20)
    roots = {f"{ids(send)[1]:016x}": f"{ids(send)[0]:032x}" for send in sends}
    for name, _, above, trace_id, _ in spans.values():
        if name == "process test.note":
            assert roots[above] == trace_id
        else:
            assert spans[above][0] == each[each.index(name) - 1]
            assert spans[above][3] == trace_id
