"""A delivery is Dramatiq's proxy: its message is built on demand, and safe to send on as JSON."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from dramatiq import Message, MessageProxy
from tests.integration.logs.harness import Note, note

from streamatiq import encode
from streamatiq.broker import Delivery
from streamatiq.broker.claimed import Claimed
from streamatiq.broker.consumer import StreamConsumer
from streamatiq.broker.keys import Keys
from streamatiq.broker.settlements import Emit
from streamatiq.broker.sources import AuditLevel, Source
from streamatiq.broker.subscriptions import Subscription
from streamatiq.broker.work_queues import WorkQueue

KEYS = Keys("unit")
LOG: Source = Subscription("handler", (Note,), "new").sources(KEYS, {}, AuditLevel.OFF)[0]
QUEUE: Source = WorkQueue(KEYS, "default").sources[1]


class _OneEntry:
    """An intake that holds one entry."""

    def __init__(self, claimed: Claimed) -> None:
        self._claimed = claimed

    def take(self, prefetch: int, timeout_s: float) -> Claimed:
        return self._claimed


def _delivered(
    source: Source, data: bytes, *, options: bytes | None = None, more: tuple[bytes, ...] = ()
) -> Delivery:
    """What a consumer makes of an entry."""
    fields = [b"d" if source.is_log else b"m", data, *more]
    claimed = Claimed(source, "h:1:t", b"5-0", fields, options, 7)
    consumer = StreamConsumer(_OneEntry(claimed), None, prefetch=1, timeout_ms=1)  # type: ignore[arg-type]
    delivery = next(consumer)
    assert delivery is not None
    return delivery


def _message(**changes: Any) -> Message[Any]:
    fields: dict[str, Any] = {
        "queue_name": "default",
        "actor_name": "act",
        "args": (1, "two"),
        "kwargs": {"three": 3},
        "options": {"retries": 2, "eta": 5, "custom": "kept"},
    }
    return Message(**{**fields, **changes})


def test_a_message_is_read_as_it_was_sent() -> None:
    sent = _message()
    got = _delivered(QUEUE, sent.encode(), more=(b"a", b"123"))
    assert isinstance(got, MessageProxy)
    for name in ("queue_name", "actor_name", "args", "kwargs", "message_id", "message_timestamp"):
        assert getattr(got, name) == getattr(sent, name)
    # Without the eta, which would send it to the worker's memory.
    assert got.options == {"retries": 2, "custom": "kept"}
    assert got.attempt == 3
    assert got.appended_ns == got.published_ns == 123_000
    assert (got.event, got.event_id) == (None, b"")
    assert not got.has_options


def test_the_message_behind_is_built_once_and_only_when_asked_for() -> None:
    got = _delivered(QUEUE, _message(options={}).encode())
    assert got._built is None
    built = got._message
    assert got._built is built is got._message
    assert built == _message(
        options={}, message_id=built.message_id, message_timestamp=built.message_timestamp
    )
    copied = got.copy(options={"retries": 1})
    assert copied.options == {"retries": 1}
    assert copied.message_id == got.message_id


def test_an_event_is_the_argument_and_its_message_is_json() -> None:
    event = note("ä", key="k").stamped(1_000)
    got = _delivered(LOG, encode(event), options=b'{"retries":1,"traceback":"t"}')
    assert got.args == (event,)
    assert got.event == event
    assert (got.queue_name, got.actor_name, got.message_id) == ("handler", "handler", str(event.id))
    assert (got.attempt, got.options["traceback"], got.has_options) == (2, "t", True)
    assert got.event_id == event.id.bytes
    assert got.published_ns == 1_000
    # Callbacks and results send the message on.
    again = json.loads(json.dumps(got._message.asdict()))
    assert json.loads(again["args"][0])["text"] == "ä"
    assert got._message.encode()


@pytest.mark.parametrize("source", [LOG, QUEUE])
def test_text_equality_and_hash(source: Source) -> None:
    data = encode(note("x")) if source.is_log else _message().encode()
    one, two = _delivered(source, data), _delivered(source, data)
    for text in (str(one), repr(one)):
        assert one.actor_name in text
    assert one == one
    assert len({one, two}) == 2
    assert one in {one}


def test_a_run_begins_anew_and_keeps_its_times() -> None:
    got = _delivered(QUEUE, _message().encode())
    before_ns = time.time_ns()
    got.emits.append(Emit(KEYS.log("x", "0"), b"", b""))
    got.start(logs=None)  # type: ignore[arg-type]
    assert got.emits == []
    got.done()
    times = got.times()
    assert before_ns <= times.started <= times.done <= time.time_ns()
    assert times.claimed == 7


@pytest.mark.parametrize(
    "changes", [{"args": "text"}, {"kwargs": []}, {"options": None}, {"message_id": 5}]
)
def test_a_message_of_wrong_types_is_undecodable(changes: dict[str, Any]) -> None:
    data = json.dumps({**json.loads(_message().encode()), **changes}).encode()
    ended: list[Any] = []

    class Committer:
        def submit_at_once(self, settlements: Any) -> None:
            ended.extend(settlements)

    class Intake(_OneEntry):
        def ended(self, *ends: tuple[Claimed | None, bool]) -> None:
            ended.extend(returns for _, returns in ends)

    claimed = Claimed(QUEUE, "h:1:t", b"5-0", [b"m", data], None, 0)
    consumer = StreamConsumer(Intake(claimed), Committer(), prefetch=1, timeout_ms=1)  # type: ignore[arg-type]
    assert next(consumer) is None
    settlement, returns = ended
    assert returns is False
    assert settlement.action.outcome == "dead_lettered"
    assert data in settlement.action.fields
    assert "undecodable" in settlement.action.fields
