"""Audit records of made-up settlements: what each level says."""

from __future__ import annotations

import json
import time
from uuid import uuid4

from hypothesis import given
from hypothesis import strategies as st
from tests.integration.logs.harness import Note

from streamatiq.broker.audit import record
from streamatiq.broker.histogram import bucket
from streamatiq.broker.keys import Keys
from streamatiq.broker.settlements import (
    DONE,
    HAND_BACK,
    Action,
    DeadLetter,
    Emit,
    Park,
    Settlement,
    Times,
)
from streamatiq.broker.sources import AuditLevel
from streamatiq.broker.subscriptions import Subscription

KEYS = Keys("unit")
SOURCE = Subscription("s", (Note,), "new").sources(KEYS, {}, AuditLevel.OFF)[0]
MS = 1_000_000
RAN = Times(1_000 * MS, 1_002 * MS, 1_003 * MS, 1_005 * MS, 1_009 * MS)


def _settlement(
    action: Action = DONE, times: Times = RAN, *, attempt: int = 1, emits: int = 0
) -> Settlement:
    return Settlement(
        SOURCE,
        "h:1:t",
        b"9-1",
        uuid4().bytes,
        action,
        emits=[Emit(KEYS.log("x", "0"), uuid4().bytes, b"{}") for _ in range(emits)],
        attempt=attempt,
        times=times,
    )


def test_off_writes_nothing() -> None:
    assert record(AuditLevel.OFF, "h:1:t", 1, [_settlement()]) == b""


def test_counts() -> None:
    before_ms = time.time_ns() // MS
    batch = [
        _settlement(emits=2),
        _settlement(Park(10, b"{}"), attempt=2),
        _settlement(DeadLetter(["cause", "failed"])),
        _settlement(HAND_BACK, Times(claimed=5)),
    ]
    found = json.loads(record(AuditLevel.COUNTS, "h:1:t", 7, batch))
    assert before_ms <= found.pop("at") <= time.time_ns() // MS
    assert found == {
        "writer": "h:1:t",
        "batch": 7,
        "n": 4,
        "done": 1,
        "parked": 1,
        "dead_lettered": 1,
        "handed_back": 1,
        # Publish to start of first attempts that ran.
        "latency": {str(bucket(5_000)): 2},
        "waited_us": 3 * 2_000,
        "ran_us": 3 * 4_000,
        "emitted": 2,
    }


def test_full_tells_of_each_entry() -> None:
    one = _settlement(emits=1, attempt=3)
    never_run = _settlement(DeadLetter(["cause", "undecodable"]), Times())
    found = json.loads(record(AuditLevel.FULL, "h:1:t", 7, [one, never_run]))
    assert "waited_us" not in found
    assert found["entries"] == [
        [
            one.event_id.hex(), "9-1", "done", 3, 1_000_000,
            2_000, 3_000, 5_000, 9_000, [one.emits[0].event_id.hex()],
        ],
        [never_run.event_id.hex(), "9-1", "dead_lettered", 1, 0, None, None, None, None, []],
    ]  # fmt: skip


@given(st.lists(st.tuples(st.sampled_from([DONE, HAND_BACK, Park(1, b"")]), st.booleans())))
def test_outcomes_add_up(batch: list[tuple[Action, bool]]) -> None:
    settlements = [_settlement(action, RAN if ran else Times()) for action, ran in batch]
    found = json.loads(record(AuditLevel.COUNTS, "w", 1, settlements))
    outcomes = sum(found.get(name, 0) for name in ("done", "handed_back", "parked"))
    assert outcomes == found["n"] == len(batch)
    assert sum(found["latency"].values()) == sum(ran for _, ran in batch)
