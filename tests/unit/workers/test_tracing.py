"""Spans without a server: odd contexts, batches, and a Python without OpenTelemetry."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from tests.integration.logs.harness import Note, note

from streamatiq import Event
from streamatiq.broker import Delivery, Logs
from streamatiq.broker.connections import Endpoint, LinkPool, RetryPolicy
from streamatiq.broker.keys import Keys
from streamatiq.broker.sources import AuditLevel, Source
from streamatiq.broker.subscriptions import Subscription
from streamatiq.broker.work_queues import WorkQueue
from streamatiq.workers.tracing_spans import Spans

KEYS = Keys("unit")
LOG = Subscription("sub", (Note,), "new").sources(KEYS, {}, AuditLevel.OFF)[0]
QUEUE = WorkQueue(KEYS, "default").sources[0]
SERVER = "redis://:***@example.org:7000/0"
A, B = "a" * 32, "b" * 16
LOGS = Logs(KEYS, LinkPool(Endpoint("redis://nowhere"), RetryPolicy()), window_ms=1)

exporter = InMemorySpanExporter()
provider = TracerProvider(sampler=ALWAYS_ON)
provider.add_span_processor(SimpleSpanProcessor(exporter))
spans = Spans("1", provider)
oracle = TraceContextTextMapPropagator()


def _delivery(source: Source, event: Event | None, options: dict[str, Any]) -> Delivery:
    delivery = Delivery(
        source=source,
        consumer="h:1:t",
        entry_id=b"1-1",
        data=b"",
        has_options=False,
        appended_ns=0,
        claimed_ns=0,
    )
    delivery.event, delivery.options = event, options
    delivery.message_id, delivery.actor_name = "id", "actor"
    return delivery


def _run(*deliveries: Delivery) -> Any:
    exporter.clear()
    run = spans.begin(SERVER, deliveries)
    assert trace.get_current_span() is run.span
    spans.end(run, deliveries[0])
    assert trace.get_current_span() is trace.INVALID_SPAN
    (span,) = exporter.get_finished_spans()
    return span


#: What nearly is a `traceparent`, and a part of it that is not.
NEARLY = st.builds(
    "-".join,
    st.lists(
        st.sampled_from(
            ["00", "01", "ff", A, B, "0" * 32, "0" * 16, "A" * 32, "01", "", "é", "٣٣"]
        ),
        max_size=6,
    ),
)
#: The first text that is drawn takes a second on a busy machine.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
VALID = st.builds(
    "{}00-{}-{}-{}{}".format,
    st.sampled_from(["", " \t"]),
    st.just(A),
    st.just(B),
    st.sampled_from(["00", "01", "ff"]),
    st.sampled_from(["", " ", "\t\t", "\n", "-x", " x"]),
)
STATES = st.lists(st.sampled_from(["a=1", "b@c=2", "=", "a=", "", " x=y ", "é=1"])).map(",".join)
ODD_TEXT = st.one_of(st.text(), NEARLY, st.text("0123456789abcdef-", max_size=60))


@patient
@given(
    fields=st.fixed_dictionaries(
        {}, optional={"traceparent": VALID | ODD_TEXT, "tracestate": STATES | ODD_TEXT}
    )
)
@example(fields={"traceparent": f"00-{A}-{B}-01", "tracestate": "=" * 9000})
@example(fields={"traceparent": f"00-{A}-{B}-01\n"})
@example(fields={"traceparent": f"cc-{A}-{B}-01-future"})
def test_any_context_of_an_event_is_taken_or_left(fields: dict[str, str]) -> None:
    span = _run(_delivery(LOG, note("x", trace=fields), {}))
    # As OpenTelemetry's own parser has it, but for a line's end, which it lets pass.
    if fields.get("traceparent", "").endswith("\n"):
        assert span.parent is None
        return
    found = trace.get_current_span(oracle.extract(fields, Context())).get_span_context()
    assert span.parent == (found if found.is_valid else None)
    assert span.parent is None or span.parent.trace_state == found.trace_state
    assert len(span.links) == (span.parent is not None)
    # What is published with it is published.
    with spans.sending(LOGS, [note("x", trace=fields)]) as carried:
        assert carried[0].trace == fields


ANYTHING = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@patient
@given(option=ANYTHING | st.fixed_dictionaries({"traceparent": ANYTHING, "tracestate": ANYTHING}))
def test_any_option_of_a_message_is_taken_or_left(option: Any) -> None:
    span = _run(_delivery(QUEUE, None, {"trace": option}))
    assert span.parent is None


def test_a_batch_is_linked_to_each_event_and_a_child_of_none() -> None:
    traces: list[dict[str, str] | None] = [
        {"traceparent": f"00-{A}-{B}-01"},
        None,
        {"traceparent": f"00-{'c' * 32}-{'d' * 16}-00"},
    ]
    events = [note("x", key="k", trace=one) for one in traces]
    span = _run(*(_delivery(LOG, event, {}) for event in events))
    assert span.parent is None
    assert span.attributes["messaging.batch.message_count"] == 3
    assert "messaging.message.id" not in span.attributes
    assert [f"{link.context.span_id:x}" for link in span.links] == [B, "d" * 16]
    ids = [link.attributes["messaging.message.id"] for link in span.links]
    assert ids == [str(events[0].id), str(events[2].id)]


def test_servers_are_named_without_secrets() -> None:
    assert _run(_delivery(QUEUE, None, {})).attributes["server.address"] == "example.org"
    assert _run(_delivery(QUEUE, None, {})).attributes["server.port"] == 7000


def _python(code: str) -> str:
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=20
    )
    return run.stdout


def test_nothing_of_it_is_imported_without_tracing() -> None:
    code = (
        "import sys\n"
        # As if it were not installed; where it is, redis-py imports it.
        "sys.modules['opentelemetry'] = None\n"
        "import streamatiq\n"
        "print(len([getattr(streamatiq, name) for name in streamatiq.__all__]))\n"
        "print('streamatiq.workers.tracing_spans' in sys.modules)"
    )
    count, loaded = _python(code).split()
    assert int(count) > 40
    assert loaded == "False"


def test_without_the_package_the_error_names_the_extra() -> None:
    code = (
        "import sys\n"
        "sys.modules['opentelemetry'] = None\n"
        "from streamatiq import Tracing, errors\n"
        "try:\n    Tracing()\n"
        "except errors.ConfigurationError as error:\n    print(error)"
    )
    assert "pip install 'streamatiq[otel]'" in _python(code)
