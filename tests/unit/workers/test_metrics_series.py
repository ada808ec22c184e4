"""What is counted of a settled batch; without a server."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.parser import text_string_to_metric_families
from tests.integration.logs.harness import Note, Vault

from streamatiq.broker import settlements
from streamatiq.broker.keys import Keys
from streamatiq.broker.settlements import (
    CANCELLED,
    DONE,
    HAND_BACK,
    BatchOutcome,
    DeadLetter,
    Emit,
    Ended,
    HandBack,
    Park,
    Problem,
    Settlement,
    Times,
)
from streamatiq.broker.sources import AuditLevel, Source
from streamatiq.broker.subscriptions import Subscription
from streamatiq.broker.work_queues import WorkQueue
from streamatiq.workers.metric_files import MetricFile
from streamatiq.workers.metric_series import _PROBLEMS, BOUNDS_S, STAGES, Series
from streamatiq.workers.metric_server import scrape

KEYS = Keys("space:1")
SECOND = 1_000_000_000
#: When each thing happened, ns; settled a second after it was done.
TIMES = Times(*(n * 100 * SECOND for n in range(1, 6)))
AT = TIMES.done + SECOND


def _source(name: str = "sub") -> Source:
    return Subscription(name, (Note,), "new").sources(KEYS, {}, AuditLevel.OFF)[0]


SOURCE = _source()


def _settled(entry: int, *, source: Source = SOURCE, **changes: Any) -> Settlement:
    given: dict[str, Any] = {"action": DONE, "times": TIMES, "happened_ns": 90 * SECOND, **changes}
    return Settlement(source, "me", f"{entry}-0".encode(), b"x" * 16, **given)


class Metrics:
    """A series with a file, and what stands in it."""

    def __init__(self, folder: Path, limit: int = 50) -> None:
        self.folder = folder
        self.series = Series(
            MetricFile(folder, "counter"), MetricFile(folder, "histogram"), limit=limit
        )

    def observe(self, *batch: Settlement, outcome: BatchOutcome | None = None) -> None:
        self.series.observe(batch, outcome or BatchOutcome(), AT)

    def values(self, name: str, **labels: str) -> dict[tuple[str, ...], float]:
        """Samples of `name` by the values of the other labels, where they are not 0."""
        found = {}
        for family in text_string_to_metric_families(scrape(self.folder).decode()):
            for one in family.samples:
                if one.name == name and labels.items() <= one.labels.items() and one.value:
                    rest = tuple(v for k, v in sorted(one.labels.items()) if k not in labels)
                    found[rest] = one.value
        return found

    def stages(self, suffix: str = "seconds_count") -> dict[str, float]:
        found = self.values(f"streamatiq_stage_{suffix}", queue="sub", type=Note.event_type)
        return {stage: value for (stage,), value in found.items()}


@pytest.fixture
def metrics(tmp_path: Path) -> Metrics:
    return Metrics(tmp_path)


def test_each_stage_lasts_from_one_time_to_the_next(metrics: Metrics) -> None:
    metrics.observe(_settled(1), _settled(2))
    assert metrics.stages() == dict.fromkeys(STAGES, 2)
    seconds = metrics.stages("time_seconds_total")
    assert seconds.pop("happened_to_published") == 2 * 10
    assert seconds.pop("done_to_settled") == 2 * 1
    assert seconds.pop("published_to_started") == 2 * 300
    assert seconds == dict.fromkeys(seconds, 2 * 100)
    assert metrics.stages("negative_total") == {}


def test_negative_latencies_are_counted_as_what_they_are(metrics: Metrics) -> None:
    """The recording's receiver runs 1.27 s behind the exchange."""
    published = TIMES.published
    metrics.observe(
        _settled(1, happened_ns=published + 1_270_000_000),
        _settled(2, happened_ns=published + 20 * SECOND),
        _settled(3, happened_ns=published),
        _settled(4, happened_ns=published - 2 * SECOND),
    )
    stage = "happened_to_published"
    buckets = metrics.values(
        "streamatiq_stage_seconds_bucket", queue="sub", type=Note.event_type, stage=stage
    )
    assert buckets["-10.0",] == 1
    assert buckets["-1.0",] == 2
    assert buckets["-0.001",] == 2
    assert buckets["0.0",] == 3
    assert buckets["1.0",] == 3
    assert buckets["2.5",] == buckets["+Inf",] == 4
    assert metrics.stages("negative_total") == {stage: 2}
    assert metrics.stages("negative_seconds_total") == {stage: pytest.approx(21.27)}
    assert metrics.stages("time_seconds_total")[stage] == pytest.approx(2)


@pytest.mark.parametrize("count", [1, 3, 200])
def test_buckets_are_those_that_prometheus_client_would_count(metrics: Metrics, count: int) -> None:
    rng = random.Random(count)
    expected = Histogram("h", "h", buckets=BOUNDS_S, registry=CollectorRegistry())
    batch = []
    for n in range(count):
        on_bound = rng.choice(BOUNDS_S)
        spent_s = rng.choice([on_bound, rng.uniform(-20, 1000), 10 ** rng.uniform(-6, 3)])
        spent_ns = round(spent_s * 1e9)
        expected.observe(spent_ns / 1e9)
        batch.append(_settled(n, times=TIMES._replace(done=TIMES.started + spent_ns)))
    metrics.observe(*batch)
    (family,) = expected.collect()
    wanted = {
        sample.labels["le"]: sample.value
        for sample in family.samples
        if sample.name == "h_bucket" and sample.value
    }
    found = metrics.values(
        "streamatiq_stage_seconds_bucket",
        queue="sub",
        type=Note.event_type,
        stage="started_to_done",
    )
    assert {le: value for (le,), value in found.items()} == wanted


def test_a_later_attempt_counts_only_from_its_claim(metrics: Metrics) -> None:
    metrics.observe(_settled(1, attempt=2), _settled(2))
    assert metrics.stages() == {
        stage: 2 if stage in ("claimed_to_started", "started_to_done", "done_to_settled") else 1
        for stage in STAGES
    }


def test_what_was_not_run_has_no_latency(metrics: Metrics) -> None:
    metrics.observe(
        _settled(1, action=HAND_BACK, times=Times()), _settled(2, action=CANCELLED, times=Times())
    )
    assert metrics.stages() == {}
    assert _outcomes(metrics) == {"handed_back": 1, "cancelled": 1}


def test_a_time_that_is_not_known_is_passed_over(metrics: Metrics) -> None:
    metrics.observe(_settled(1, happened_ns=0, times=TIMES._replace(published=0)), _settled(2))
    counts = metrics.stages()
    assert counts["happened_to_published"] == counts["published_to_started"] == 1
    assert counts["appended_to_claimed"] == 2


def _outcomes(metrics: Metrics) -> dict[str, float]:
    found = metrics.values("streamatiq_deliveries_total", queue="sub", type=Note.event_type)
    return {outcome: value for (outcome,), value in found.items()}


def test_each_delivery_has_one_outcome(metrics: Metrics) -> None:
    outcome = BatchOutcome(
        problems=[
            Problem(SOURCE, b"1-0", "DUPLICATE"),
            Problem(SOURCE, b"2-0", "GONE"),
            Problem(SOURCE, b"3-0", "WRONGTYPE x holds a string"),
            Problem(SOURCE, b"", "GONE"),
        ]
    )
    batch = [_settled(n) for n in range(5)]
    batch += [_settled(5, action=Park(10, b"")), _settled(6, action=Ended("expired"))]
    batch += [_settled(7, action=Ended("of tomorrow"))]
    metrics.observe(*batch, outcome=outcome)
    assert _outcomes(metrics) == {
        "done": 2,
        "duplicate": 1,
        "gone": 1,
        "refused": 1,
        "parked": 1,
        "expired": 1,
        "of tomorrow": 1,
    }
    assert metrics.stages()["started_to_done"] == 5
    assert metrics.values("streamatiq_settled_elsewhere_total") == {("sub", "test.note"): 1}
    assert metrics.values("streamatiq_settle_batches_total") == {(): 1}


def test_names_of_outcomes_are_bounded(metrics: Metrics) -> None:
    metrics.observe(*(_settled(n, action=Ended(f"end {n}")) for n in range(50)))
    found = _outcomes(metrics)
    assert sum(found.values()) == 50
    assert len(found) < 40
    assert found["other"] == 50 - (len(found) - 1)


def test_every_outcome_is_documented() -> None:
    """Those of the broker's own settlements, and what the server says instead."""
    actions = [one for one in vars(settlements).values() if isinstance(one, Ended | HandBack)]
    names = {one.outcome for one in actions}
    names |= {Park(0, b"").outcome, DeadLetter(()).outcome, *_PROBLEMS.values()}
    assert {"done", "duplicate", "conflated", "expired", "filtered", "parked"} <= names
    text = (Path(__file__).parents[3] / "docs/metrics.md").read_text()
    listed = text.partition("### Outcomes")[2].partition("## ")[0]
    assert [
        name for name in sorted({*names, "fenced", "refused"}) if f"`{name}`" not in listed
    ] == []


def test_what_a_fenced_consumer_did_is_not_timed(metrics: Metrics) -> None:
    metrics.observe(_settled(1), outcome=BatchOutcome(fenced=[(SOURCE, "me")]))
    assert _outcomes(metrics) == {"fenced": 1}
    assert metrics.stages() == {}


def test_emitted_events_are_counted_where_they_are_committed(metrics: Metrics) -> None:
    emits = [Emit(KEYS.log(cls.event_type, "0"), b"y" * 16, b"") for cls in (Note, Vault, Note)]
    metrics.observe(
        _settled(1, emits=emits),
        _settled(2, emits=emits),
        _settled(3),
        outcome=BatchOutcome(problems=[Problem(SOURCE, b"2-0", "DUPLICATE")]),
    )
    found = metrics.values("streamatiq_emitted_total", queue="sub", type=Note.event_type)
    assert found == {(Note.event_type,): 2, (Vault.event_type,): 1}


def test_a_work_queue_has_no_type(metrics: Metrics) -> None:
    metrics.observe(_settled(1, source=WorkQueue(KEYS, "jobs").sources[1], happened_ns=0))
    assert metrics.values("streamatiq_deliveries_total") == {("done", "jobs", "-"): 1}
    found = metrics.values("streamatiq_stage_seconds_count", queue="jobs", type="-")
    stages = {stage for (stage,) in found}
    # It is published when it is appended, and nobody says when it happened.
    assert stages == set(STAGES) - {"happened_to_published", "published_to_appended"}


def test_too_many_labels_are_counted_as_other_and_it_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    metrics = Metrics(tmp_path, limit=3)
    for n in range(6):
        metrics.observe(_settled(n, source=_source(f"sub{n}")))
    names = {queue for _, queue, _ in metrics.values("streamatiq_deliveries_total")}
    assert names == {"sub0", "sub1", "sub2", "other"}
    assert sum(metrics.values("streamatiq_deliveries_total").values()) == 6
    emits = [Emit(KEYS.log(f"type{n}", "0"), b"y" * 16, b"") for n in range(6)]
    metrics.observe(_settled(9, source=_source("sub0"), emits=emits))
    emitted = metrics.values("streamatiq_emitted_total", queue="sub0", type=Note.event_type)
    assert emitted == {("type0",): 1, ("type1",): 1, ("type2",): 1, ("other",): 3}
    assert caplog.text.count("more than 3 pairs") == 1


def test_what_is_declared_is_there_before_it_happens(metrics: Metrics) -> None:
    metrics.series.declare("sub", [Note.event_type])
    metrics.series.declare("jobs", [])
    text = scrape(metrics.folder).decode()
    for labels in ('queue="sub",type="test.note"', 'queue="jobs",type="-"'):
        assert f'streamatiq_deliveries_total{{outcome="done",{labels}}} 0.0' in text
    for line in _lines(text, "streamatiq_stage_seconds_bucket"):
        assert line.endswith(" 0.0")


def _lines(text: str, name: str) -> Iterable[str]:
    found = [line for line in text.splitlines() if line.startswith(name)]
    assert found
    return found
