"""The W3C trace context: read from events and messages, and written into them."""

from __future__ import annotations

import re
from collections.abc import Mapping

from opentelemetry.trace import Span, SpanContext, TraceFlags, TraceState

__all__ = ["extracted", "headers_of"]

#: Characters; what is longer is nobody's.
MAX_TRACEPARENT, MAX_TRACESTATE = 512, 8192
_TRACEPARENT = re.compile(
    r"[ \t]*([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?[ \t]*"
)


def extracted(carrier: object) -> SpanContext | None:
    """The span that a trace context names; None where there is none, or an invalid one.

    As OpenTelemetry's own propagator, at a third of its cost: this is paid by every delivery.
    """
    if not isinstance(carrier, Mapping):
        return None
    text, state = carrier.get("traceparent"), carrier.get("tracestate")
    if not isinstance(text, str) or len(text) > MAX_TRACEPARENT:
        return None
    found = _TRACEPARENT.fullmatch(text)
    if found is None or found[1] == "ff" or (found[1] == "00" and found[5]):
        return None
    usable = isinstance(state, str) and 0 < len(state) <= MAX_TRACESTATE
    context = SpanContext(
        int(found[2], 16),
        int(found[3], 16),
        True,
        TraceFlags(int(found[4], 16)),
        TraceState.from_header([str(state)]) if usable else None,
    )
    return context if context.is_valid else None


def headers_of(span: Span) -> dict[str, str]:
    """The trace context that names a span; empty if it has none."""
    context = span.get_span_context()
    if not context.is_valid:
        return {}
    named = f"{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
    headers = {"traceparent": f"00-{named}"}
    if context.trace_state:
        headers["tracestate"] = context.trace_state.to_header()
    return headers
