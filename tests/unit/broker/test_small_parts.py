"""Identity, members and parts: names of consumers, what they read, the streams of a log."""

from __future__ import annotations

import os
import socket
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from tests.integration.logs.harness import Note, Spread, Urgent

from streamatiq import Laned, Partitioned
from streamatiq.broker.identity import Identity
from streamatiq.broker.keys import Keys
from streamatiq.broker.members import decode_reads, encode_reads, reads_of
from streamatiq.broker.parts import parts
from streamatiq.broker.sources import AuditLevel
from streamatiq.broker.subscriptions import Subscription
from streamatiq.broker.work_queues import WorkQueue

NAMES = st.from_regex(r"[a-zA-Z_][a-zA-Z0-9._-]{0,30}", fullmatch=True)


def test_a_name_tells_host_and_process_and_is_unique() -> None:
    one, two = Identity(), Identity()
    host, pid, token = one.consumer.rsplit(":", 2)
    assert (host, int(pid)) == (socket.gethostname(), os.getpid())
    assert len(token) == 8
    assert one.consumer != two.consumer


def test_a_fenced_name_is_changed_once_and_told_once() -> None:
    identity = Identity()
    first = identity.consumer
    threads = [threading.Thread(target=identity.fenced, args=(first,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    second = identity.consumer
    assert second != first
    assert identity.take_lost() == [first]
    assert identity.take_lost() == []
    # A late word of the first name, after its loss was taken: told again, not renamed again.
    identity.fenced(first)
    assert identity.consumer == second
    assert identity.take_lost() == [first]


@given(NAMES, NAMES, st.sampled_from([(Note,), (Spread, Urgent), (Note, Spread, Urgent)]))
def test_what_a_consumer_reads_comes_back_as_it_was_written(
    namespace: str, name: str, classes: tuple[type[Note], ...]
) -> None:
    keys = Keys(namespace)
    subscription = Subscription(name, classes, "new").sources(keys, {}, AuditLevel.OFF)
    for sources in (subscription, WorkQueue(keys, name).sources):
        assert decode_reads(encode_reads(sources)) == reads_of(sources)
        assert [one.is_log for one in reads_of(sources)] == [one.is_log for one in sources]


@pytest.mark.parametrize("record", [b"", b"{}", b"[{}]", b'[{"name": "x"}]'])
def test_a_record_of_something_else_is_refused(record: bytes) -> None:
    with pytest.raises(ValidationError):
        decode_reads(record)


def test_the_streams_of_a_log() -> None:
    assert parts(Partitioned(1)) == ["0"]
    assert parts(Partitioned(3)) == ["0", "1", "2"]
    assert parts(Laned()) == ["high", "normal", "low"]


def test_sources_of_a_subscription_carry_lane_audit_and_rotation() -> None:
    subscription = Subscription("s", (Spread, Urgent), "earliest")
    sources = subscription.sources(Keys("n"), {"test.urgent": AuditLevel.FULL}, AuditLevel.COUNTS)
    assert [one.name for one in sources] == [
        *(f"log:test.spread:{n}" for n in range(4)),
        *(f"log:test.urgent:{lane}" for lane in ("high", "normal", "low")),
    ]
    assert [one.lane for one in sources] == [1, 1, 1, 1, 0, 1, 2]
    assert [one.audit for one in sources] == [AuditLevel.COUNTS] * 4 + [AuditLevel.FULL] * 3
    assert subscription.rotates
    assert subscription.group_start == "0"
    assert not Subscription("s", (Urgent,), "new").rotates
    assert Subscription("s", (Note,), "new").group_start == "$"
