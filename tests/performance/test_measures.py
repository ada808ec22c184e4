"""What the measures compute from a ledger, and each of them once, as small as it can be.

Never how fast anything is; only that figures come from what happened.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from benchmarks.ledger import Ledger
from benchmarks.measures import (
    Concurrency,
    Delays,
    Endurance,
    Flood,
    Idle,
    ManyDelayed,
    Measure,
    Recovery,
)
from benchmarks.measures.base import percentiles, share_of
from benchmarks.measures.concurrency import ideal_per_s
from benchmarks.measures.delays import lateness
from benchmarks.measures.endurance import growth
from benchmarks.measures.flood import FILLS, TICKS, flooded
from benchmarks.measures.many_delayed import due_rate
from benchmarks.measures.recovery import recovered
from benchmarks.metrics import METRICS
from benchmarks.processes import ChildFailed
from benchmarks.results import Sample
from benchmarks.rounds import FLOOD_VARIANTS
from benchmarks.server import open_server
from benchmarks.stage import Bench
from benchmarks.systems import SYSTEMS

from streamatiq import EmbeddedServer

MS = 1_000_000


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger.create(tmp_path / "ledger", 4)
    yield ledger
    ledger.close()


def fill(cells: memoryview, *values: int) -> None:
    for n, value in enumerate(values):
        cells[n] = value


def test_percentiles_are_named_by_share_and_unit() -> None:
    assert percentiles([float(n) for n in range(100, 0, -1)], "ms") == {
        "p50_ms": 50.0,
        "p99_ms": 99.0,
        "max_ms": 100.0,
    }


def test_a_slow_system_gets_its_share_of_a_long_measure_and_never_nothing() -> None:
    assert share_of(1_000, SYSTEMS["streamatiq"]) == 1_000
    assert share_of(1_000, SYSTEMS["redisbroker"]) == 50
    assert share_of(1, SYSTEMS["redisbroker"]) == 1


def test_lateness_counts_from_the_due_time_and_leaves_the_warm_up_out(ledger: Ledger) -> None:
    fill(ledger.scheduled, 0, 100 * MS, 200 * MS, 300 * MS)
    fill(ledger.handled, 9 * MS, 101 * MS, 205 * MS, 303 * MS)

    assert lateness(ledger, 1) == {"p50_ms": 3.0, "p99_ms": 5.0, "max_ms": 5.0}


def test_a_message_that_starts_before_it_is_due_is_a_failure(ledger: Ledger) -> None:
    fill(ledger.scheduled, 100 * MS, 200 * MS, 300 * MS, 400 * MS)
    fill(ledger.handled, 101 * MS, 198 * MS, 301 * MS, 401 * MS)

    with pytest.raises(ChildFailed, match=r"started 2\.0 ms before it was due"):
        lateness(ledger, 0)


def test_recovery_lasts_until_the_last_message_sent_before_the_kill_has_ended(
    ledger: Ledger,
) -> None:
    # The victim, row 0, is killed at 100 ms: it has ended message 0, is at 1; 2 waits, 3 is new.
    fill(ledger.sent, 10 * MS, 20 * MS, 30 * MS, 110 * MS)
    fill(ledger.handled, 15 * MS, 95 * MS, 105 * MS, 990 * MS)
    fill(ledger.done, 25 * MS, 600 * MS, 115 * MS, 999 * MS)
    fill(ledger.runs, 2, 2, 1, 1)
    fill(ledger.worker, 0, 0, 1, 1)

    assert recovered(ledger, 100 * MS, victim=0) == {
        "recovery_s": 0.5,
        "interrupted": 1,
        "ended_again": 1,
    }


def test_a_kill_that_interrupts_nothing_shows_nothing(ledger: Ledger) -> None:
    fill(ledger.sent, 10, 20, 30, 40)
    fill(ledger.handled, 11, 21, 31, 41)
    fill(ledger.done, 12, 22, 32, 42)
    fill(ledger.runs, 1, 1, 1, 1)

    with pytest.raises(ChildFailed, match="was not running anything"):
        recovered(ledger, 50, victim=0)


def test_growth_compares_the_last_tenth_with_the_first() -> None:
    readings = [(n, 50_000_000 + (20_000_000 if n >= 900 else 0)) for n in range(0, 1_001, 20)]
    readings[:1] = [(n, 10_000_000) for n in range(10)]  # still filling its caches

    found = growth(readings, 0, 1_000)
    assert found["worker_growth"] == pytest.approx(1.4)
    assert found["worker_mb"] == 70.0


def test_growth_is_unknown_without_readings_at_both_ends() -> None:
    assert growth([(500, 1), (1_000, 1)], 0, 1_000)["worker_growth"] is None
    assert growth([(50, 1), (500, 1)], 0, 1_000)["worker_growth"] is None


def test_sixteen_threads_that_sleep_ten_milliseconds_could_do_1600_a_second() -> None:
    assert ideal_per_s(16) == 1_600


def test_the_due_rate_counts_from_the_due_time_to_the_last_handler(ledger: Ledger) -> None:
    fill(ledger.scheduled, 0, 1_000 * MS, 1_000 * MS, 1_000 * MS)
    fill(ledger.handled, 5_000 * MS, 1_100 * MS, 2_500 * MS, 1_200 * MS)

    assert due_rate(ledger, 1, 4, given_up_ns=0) == pytest.approx(2.0)


def test_the_due_rate_of_what_was_given_up_counts_to_that_moment(ledger: Ledger) -> None:
    fill(ledger.scheduled, 0, 1_000 * MS, 1_000 * MS, 1_000 * MS)
    fill(ledger.handled, 5_000 * MS, 1_100 * MS)

    assert due_rate(ledger, 1, 4, given_up_ns=3_000 * MS) == pytest.approx(0.5)
    assert due_rate(ledger, 2, 4, given_up_ns=3_000 * MS) == 0


@pytest.fixture
def wide(tmp_path: Path) -> Iterator[Ledger]:
    """One with cells for orders, fills and ticks."""
    ledger = Ledger.create(tmp_path / "wide", TICKS + 6)
    yield ledger
    ledger.close()


def test_a_flood_counts_orders_fills_and_the_ticks_between_them(wide: Ledger) -> None:
    # Orders 1 to 3 are counted: 100 ms to 2,100 ms.
    fill(wide.sent, 1 * MS, 100 * MS, 1_100 * MS, 2_090 * MS)
    fill(wide.handled, 9 * MS, 102 * MS, 1_103 * MS, 2_100 * MS)
    fill(wide.handled[FILLS:], 99 * MS, 106 * MS, 1_104 * MS, 2_106 * MS)
    fill(wide.sent[TICKS:], 50 * MS, 200 * MS, 300 * MS, 400 * MS, 2_200 * MS)
    fill(wide.handled[TICKS:], 60 * MS, 210 * MS, 0, 410 * MS, 2_300 * MS)

    assert flooded(wide, range(1, 4)) == {
        "order_p50_ms": 3.0,
        "order_p99_ms": 10.0,
        "order_max_ms": 10.0,
        "fill_p50_ms": 4.0,
        "fill_p99_ms": 6.0,
        "fill_max_ms": 6.0,
        "ticks_per_s": 1.0,
        "ticks_published_per_s": 1.5,
    }


def test_the_flood_and_its_app_agree_on_numbers_and_variants(root: Path) -> None:
    text = (root / "benchmarks" / "apps" / "streamatiq_mixed.py").read_text()

    assert f"FILLS, TICKS = {FILLS:_}, {TICKS:_}" in text
    for variant in FLOOD_VARIANTS[1:]:
        assert f'"{variant}"' in text


#: Each measure once. Side by side: they mostly wait, and nobody looks at how fast anything is. Most
#: of them with the system whose processes start quickest.
TINY: list[list[tuple[Measure, str]]] = [
    [
        (Recovery(0.5, 15.0), "streamatiq-on"),
        (Endurance(3_000), "streamatiq"),
        (Concurrency(16, 0.1), "redisbroker"),
    ],
    [
        (Delays(10, 1), "streamatiq"),
        (Idle(3, 0.2, 2), "redisbroker"),
        (ManyDelayed(1_000, 200, 0.2, 20.0), "redisbroker"),
    ],
    [(Flood("priorities", 0.2), "streamatiq-mixed")],
]

#: Other systems and cases, one by one.
MORE: list[tuple[Measure, str]] = [
    (Delays(20, 2), "redisbroker"),
    *((Flood(variant, 0.2), "streamatiq-mixed") for variant in FLOOD_VARIANTS),
    (Recovery(6.0, 8.0), "streamatiq"),
    (Concurrency(64, 0.1), "streamatiq"),
    (Concurrency(64, 0.1), "streamatiq-on"),
    (Endurance(20_000), "streamatiq-on"),
    (Endurance(20_000), "redisbroker"),
    (Idle(1, 0.2, 2), "redisbroker"),
    (Idle(3, 0.2, 2), "streamatiq-on"),
    (Idle(3, 0.2, 2), "streamatiq"),
    (ManyDelayed(1_000, 200, 0.2, 20.0), "streamatiq"),
]


def take(measure: Measure, name: str, server: EmbeddedServer, folder: Path) -> Sample:
    with open_server(server.tcp_url, folder) as bench_server:
        return measure.measure(Bench(bench_server, 8, folder), SYSTEMS[name], 0)


@pytest.mark.parametrize(
    "cases",
    [TINY[0], *(pytest.param(cases, marks=pytest.mark.soak) for cases in TINY[1:])],
    ids=["crash and load", "delays and idling", "flood"],
)
def test_each_measure_handles_every_message_and_gives_its_figures(
    cases: list[tuple[Measure, str]], server: EmbeddedServer, tmp_path: Path
) -> None:
    with ThreadPoolExecutor(len(cases)) as pool:
        samples = [pool.submit(take, *case, server, tmp_path) for case in cases]

    for sample in samples:
        check(sample.result())


@pytest.mark.soak
@pytest.mark.parametrize(("measure", "name"), MORE)
def test_a_measure_does_so_for_other_systems_and_cases(
    measure: Measure, name: str, server: EmbeddedServer, tmp_path: Path
) -> None:
    check(take(measure, name, server, tmp_path))


def check(sample: Sample) -> None:
    """What must be so of every sample, however short the measure was."""
    assert (sample.error, sample.at_least) == (None, []), sample
    assert sample.handled == sample.sent > 0, sample
    assert sample.duplicates == 0, sample
    # Market data that waits at the end of a flood is left.
    assert sample.settled is (None if sample.measure == "flood" else True), sample
    assert {metric.key for metric in METRICS[sample.measure]} <= sample.values.keys()
    for key, value in sample.values.items():
        # Differences between two readings; of memory, also of others than ours.
        may_be_any = {"more_commands_per_s", "server_bytes_per_message", "bytes_per_message"}
        # Some are too short to read the memory in both tenths.
        assert value is None or value >= 0 or key in may_be_any, (key, sample)
    if sample.measure == "recovery":
        assert sample.values["interrupted"], sample


@pytest.mark.soak
def test_a_recovery_that_takes_too_long_is_given_up(server: EmbeddedServer, tmp_path: Path) -> None:
    """RedisBroker needs more than a minute."""
    sample = take(Recovery(0.5, 0.2), "redisbroker", server, tmp_path)

    assert sample.at_least == ["recovery_s"]
    assert sample.values["recovery_s"] == 0.2
    assert sample.lost == 0  # not waited for, so not said to be lost


@pytest.mark.soak
def test_due_messages_that_wait_for_too_long_are_given_up(
    server: EmbeddedServer, tmp_path: Path
) -> None:
    """RedisBroker's worker takes no more into its memory while later ones fill it."""
    sample = take(ManyDelayed(200_000, 400, 0.3, 2.0), "redisbroker", server, tmp_path)

    assert (sample.values["due_per_s"], sample.handled, sample.lost) == (0, None, 0)
