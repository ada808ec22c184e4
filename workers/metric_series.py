"""What the committer's thread counts: latencies and outcomes of settled batches.

A batch is taken apart by source and looked at as a whole, in columns: sorted lists are counted by
bisection, and a number is stored for each bucket that was hit, not for each delivery. That is about
a microsecond a delivery; an observation of each would be thirty.

Latencies between two clocks (the exchange's, the publisher's, the server's, this machine's) may be
negative. Then they are counted in buckets below zero; and since a histogram's `_sum` must not
shrink, the sums stand apart: `_time_seconds_total` is what was not negative, `_negative_` what was.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from operator import sub
from typing import NamedTuple

from dramatiq.logging import get_logger

from ..broker.settlements import DONE, BatchOutcome, Settlement
from ..broker.sources import Source
from .metric_files import MetricFile

__all__ = ["BOUNDS_NS", "STAGES", "Series"]

#: Upper bounds of buckets, seconds; +Inf comes on top.
BOUNDS_S = (
    *(-10.0, -1.0, -0.1, -0.01, -0.001, 0.0),
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0),
)
BOUNDS_NS = [round(bound * 1e9) for bound in BOUNDS_S]
#: From when to when. The first four are counted for first attempts only: later ones would hold the
#: pauses between.
STAGES = (
    "happened_to_published",
    "published_to_appended",
    "appended_to_claimed",
    "published_to_started",
    "claimed_to_started",
    "started_to_done",
    "done_to_settled",
)
#: Values of the label `outcome`, of one queue and type; more are counted as `other`. They are names
#: in the code (`Action.outcome`), so there are few.
MAX_OUTCOMES = 32
#: Those that are there, as 0, before they happen: so that the first one is an increase.
_EXPECTED = ("done", "retried", "parked", "dead_lettered")
#: What the server says of an entry that did not go as asked.
_PROBLEMS = {"DUPLICATE": "duplicate", "CANCELLED": "cancelled", "GONE": "gone"}
#: Label of what would be too many.
OTHER = "other"
#: The label `type` of a work queue's messages; no event type begins so.
NO_TYPE = "-"


class _Latency(NamedTuple):
    """Places of one stage's numbers."""

    buckets: list[int]
    time: int
    negative: int
    negative_time: int


class _Source:
    """Numbers of one queue and event type."""

    def __init__(self, series: Series, queue: str, kind: str) -> None:
        self.series = series
        self.labels = {"queue": queue, "type": kind}
        self.stages = {name: series.latency({**self.labels, "stage": name}) for name in STAGES}
        self.outcomes: dict[str, int] = {}
        for outcome in _EXPECTED:
            self.outcome(outcome)
        self.elsewhere = series.counter(
            "streamatiq_settled_elsewhere",
            "Settles in which entries were not pending any more.",
            self.labels,
        )
        #: By the tag of the log's keys.
        self.emitted: dict[str, int] = {}

    def outcome(self, name: str) -> int:
        place = self.outcomes.get(name)
        if place is None:
            if len(self.outcomes) >= MAX_OUTCOMES:
                name = OTHER
            place = self.outcomes[name] = self.series.counter(
                "streamatiq_deliveries",
                "Deliveries by how they ended.",
                {**self.labels, "outcome": name},
            )
        return place

    def emitted_to(self, tag: str) -> int:
        place = self.emitted.get(tag)
        if place is None:
            place = self.emitted[tag] = self.series.emitted(self.labels, tag)
        return place


class Series:
    """The numbers that grow with each settled batch. `observe` is for one thread at a time.

    Parameters:
      counters, histograms: Where they stand.
      limit: Pairs of queue and event type that get labels of their own; as many pairs of queue and
        emitted type. What comes later is counted under `other`.
    """

    def __init__(self, counters: MetricFile, histograms: MetricFile, *, limit: int) -> None:
        self.logger = get_logger(__name__, type(self))
        self._counters = counters
        self._histograms = histograms
        self._limit = limit
        self._sources: dict[tuple[str, str], _Source] = {}
        self._emitted: set[tuple[str, str]] = set()
        self._said = False
        self._batches = self.counter("streamatiq_settle_batches", "Calls that settled.", {})

    # -- numbers -------------------------------------------------------------------------------

    def counter(self, name: str, help_text: str, labels: dict[str, str]) -> int:
        """The place of a counter; `name` without `_total`."""
        return self._counters.cell(name, f"{name}_total", help_text, labels)

    def latency(self, labels: dict[str, str]) -> _Latency:
        """The places of a stage."""
        name = "streamatiq_stage_seconds"
        text = "Time from one stage of a delivery to the next."
        buckets = [
            self._histograms.cell(name, f"{name}_bucket", text, {**labels, "le": bound})
            for bound in (*map(str, BOUNDS_S), "+Inf")
        ]
        return _Latency(
            buckets,
            self.counter("streamatiq_stage_time_seconds", "Sum of those >= 0.", labels),
            self.counter("streamatiq_stage_negative", "Number of those < 0.", labels),
            self.counter("streamatiq_stage_negative_seconds", "By how much, in sum.", labels),
        )

    def emitted(self, labels: dict[str, str], tag: str) -> int:
        """The place of the counter of events that `labels` emitted to the log of these keys."""
        kind = tag.rsplit(":", 2)[1]  # {NAMESPACE:log:TYPE:PART}
        if (labels["queue"], kind) not in self._emitted:
            if len(self._emitted) >= self._limit:
                self._say_full()
                kind = OTHER
            else:
                self._emitted.add((labels["queue"], kind))
        return self.counter(
            "streamatiq_emitted", "Events that handlers emitted.", {**labels, "emitted": kind}
        )

    def declare(self, queue: str, kinds: Iterable[str]) -> None:
        """Makes the numbers of a queue or subscription, all 0. Its types; none for a queue."""
        for kind in kinds or (NO_TYPE,):
            self._source(queue, kind)

    def _source(self, queue: str, kind: str) -> _Source:
        found = self._sources.get((queue, kind))
        if found is None:
            if len(self._sources) >= self._limit:
                self._say_full()
                found = self._sources.get((OTHER, OTHER)) or _Source(self, OTHER, OTHER)
                self._sources[OTHER, OTHER] = found
                return found
            found = self._sources[queue, kind] = _Source(self, queue, kind)
        return found

    def _say_full(self) -> None:
        if not self._said:
            self._said = True
            self.logger.warning(
                "There are more than %d pairs of queue and event type; the others are counted "
                "under %r. Raise LatencyMetrics(max_series=...) if your Prometheus can take it.",
                self._limit,
                OTHER,
            )

    # -- batches -------------------------------------------------------------------------------

    def observe(self, batch: Sequence[Settlement], outcome: BatchOutcome, at_ns: int) -> None:
        """Counts a batch; see `OnSettled`."""
        self._counters.cells[self._batches] += 1
        groups: dict[Source, list[Settlement]] = {}
        for one in batch:
            source = one.source
            if source in groups:
                groups[source].append(one)
            else:
                groups[source] = [one]
        for source, group in groups.items():
            cls = source.event_class
            numbers = self._source(source.group, NO_TYPE if cls is None else cls.event_type)
            members = group
            if outcome.fenced or outcome.problems:
                members = self._without_problems(source, numbers, group, outcome)
            if members:
                self._count(numbers, members)
                self._time(numbers, members, at_ns)

    def _without_problems(
        self,
        source: Source,
        numbers: _Source,
        members: list[Settlement],
        outcome: BatchOutcome,
    ) -> list[Settlement]:
        """Counts what did not go as asked; returns the rest."""
        fenced = {consumer for at, consumer in outcome.fenced if at is source}
        said = {entry_id: text for at, entry_id, text in outcome.problems if at is source}
        if said.pop(b"", None) is not None:
            # The server does not say which ones.
            self._counters.cells[numbers.elsewhere] += 1
        rest = []
        for one in members:
            if one.consumer in fenced:
                ended = "fenced"
            elif one.entry_id in said:
                ended = _PROBLEMS.get(said[one.entry_id], "refused")
            else:
                rest.append(one)
                continue
            place = numbers.outcome(ended)
            self._counters.cells[place] += 1
        return rest

    def _count(self, numbers: _Source, members: list[Settlement]) -> None:
        actions = [one.action for one in members]
        if actions.count(DONE) == len(actions):
            self._counters.cells[numbers.outcomes["done"]] += len(actions)
        else:
            for ended, count in Counter(action.outcome for action in actions).items():
                place = numbers.outcome(ended)
                self._counters.cells[place] += count
        for emits in [one.emits for one in members if one.emits]:
            for emit in emits:
                place = numbers.emitted_to(emit.log.tag)
                self._counters.cells[place] += 1

    def _time(self, numbers: _Source, members: list[Settlement], at_ns: int) -> None:
        if 0 in [one.times[4] for one in members]:  # not run: handed back, cancelled, undecodable
            members = [one for one in members if one.times[4]]
            if not members:
                return
        stages = numbers.stages
        published, appended, claimed, started, done = zip(
            *[one.times for one in members], strict=True
        )
        self._add(stages["claimed_to_started"], list(map(sub, started, claimed)))
        self._add(stages["started_to_done"], list(map(sub, done, started)))
        self._add(stages["done_to_settled"], [at_ns - end for end in done])
        attempts = [one.attempt for one in members]
        if attempts.count(1) < len(attempts):
            members = [one for one in members if one.attempt == 1]
            if not members:
                return
            published, appended, claimed, started, _ = zip(
                *[one.times for one in members], strict=True
            )
        if members[0].source.event_class is not None:
            happened = [one.happened_ns for one in members]
            self._between(stages["happened_to_published"], happened, published)
            self._between(stages["published_to_appended"], published, appended)
        self._between(stages["appended_to_claimed"], appended, claimed)
        self._between(stages["published_to_started"], published, started)

    def _between(self, latency: _Latency, begun: Sequence[int], ended: Sequence[int]) -> None:
        """Counts the latencies of those of which both times are known."""
        if 0 in begun or 0 in ended:
            diffs = [b - a for a, b in zip(begun, ended, strict=True) if a and b]
            if not diffs:
                return
        else:
            diffs = list(map(sub, ended, begun))
        self._add(latency, diffs)

    def _add(self, latency: _Latency, diffs: list[int]) -> None:
        cells, buckets = self._histograms.cells, latency.buckets
        counters = self._counters.cells
        diffs.sort()
        first, last = bisect_left(BOUNDS_NS, diffs[0]), bisect_left(BOUNDS_NS, diffs[-1])
        at = 0
        for bucket in range(first, last):
            end = bisect_right(diffs, BOUNDS_NS[bucket], at)
            if end > at:
                cells[buckets[bucket]] += end - at
                at = end
        cells[buckets[last]] += len(diffs) - at
        total = sum(diffs)
        if diffs[0] < 0:
            below = bisect_left(diffs, 0)
            negative = sum(diffs[:below])
            counters[latency.negative] += below
            counters[latency.negative_time] -= negative / 1e9
            total -= negative
        counters[latency.time] += total / 1e9
