"""Tables say what was measured, what it is compared with, and what went wrong."""

from pathlib import Path

import pytest
from benchmarks.report import (
    BEGIN,
    END,
    main,
    render_budgets,
    render_full,
    render_ratios,
    rewrite_section,
    summarise,
)
from benchmarks.results import Run, Sample, load_run, save_run


def make_run(
    *, unavailable: dict[str, str] | None = None, extra: list[Sample] | None = None
) -> Run:
    samples = [
        Sample(round_, system, "drain", "1 process", {"rate_per_s": rate}, sent=100, handled=100)
        for system, rates in {
            "floor": (60_000.0, 50_000.0, 70_000.0),
            "redisbroker": (2_000.0, 2_100.0, 1_900.0),
            "streamatiq": (15_000.0, 20_000.0, 10_000.0),
        }.items()
        for round_, rate in enumerate(rates)
    ]
    return Run(
        machine={
            "measured_at": "2030-01-01 00:00 UTC",
            "server": "Valkey 9.1.2",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "python": "3.11.7",
            "dramatiq": "2.2.1",
            "redis_py": "8.1.0",
            "system": "Linux x86_64",
            "cores": 2,
        },
        settings={
            "systems": {"floor": "f", "redisbroker": "r", "streamatiq": "s"},
            "threads": 8,
            "tick_bytes": 280,
            "rounds": 3,
        },
        unavailable=unavailable or {},
        samples=samples + (extra or []),
    )


def test_summary_is_the_median_with_spread_and_ratios_to_both_references() -> None:
    by_system = {s.system: s for s in summarise(make_run())}

    ours = by_system["streamatiq"]
    assert (ours.middle, ours.least, ours.most) == (15_000, 10_000, 20_000)
    assert ours.ratios == {"redisbroker": 7.5, "floor": 0.25}
    assert list(by_system) == ["floor", "redisbroker", "streamatiq"]


def test_a_figure_that_a_round_lacks_is_left_out_of_the_median_only() -> None:
    failed = Sample(3, "streamatiq", "drain", "1 process", error="a worker exited with 1")
    run = make_run(extra=[failed])

    assert {s.system: s.middle for s in summarise(run)}["streamatiq"] == 15_000
    assert run.failures == ["streamatiq, drain 1 process, round 4: a worker exited with 1"]
    assert "a worker exited with 1" in render_full(run)
    assert "a worker exited with 1" in render_ratios(run)


@pytest.mark.parametrize(
    ("sample", "words"),
    [
        (Sample(0, "floor", "drain", "x", sent=10, handled=8), "2 of 10 messages lost"),
        (
            Sample(0, "floor", "drain", "x", sent=9, handled=9, duplicates=3),
            "3 messages handled more than once",
        ),
        (Sample(0, "floor", "drain", "x", sent=9, handled=9, settled=False), "not all settled"),
    ],
)
def test_what_is_lost_doubled_or_unsettled_is_a_failure(sample: Sample, words: str) -> None:
    assert words in make_run(extra=[sample]).failures[0]


def test_enqueued_messages_that_nobody_should_handle_are_not_lost() -> None:
    assert Sample(0, "floor", "enqueue", "in bulk", {"rate_per_s": 1.0}, sent=10).lost == 0
    assert make_run().failures == []


def test_a_system_that_cannot_run_is_named() -> None:
    text = render_full(make_run(unavailable={"streamatiq-on": "no module"}))

    assert "streamatiq-on cannot run: no module" in text


def test_tables_have_a_line_for_each_system_and_equal_columns() -> None:
    table = render_full(make_run()).split("\n\n")[1]
    lines = table.splitlines()

    assert len({line.count("|") for line in lines}) == 1
    assert len({len(line) for line in lines}) == 1
    row = next(line for line in lines if "streamatiq" in line)
    assert [cell.strip() for cell in row.split("|")[3:8]] == [
        "streamatiq",
        "15,000",
        "10,000 - 20,000",
        "7.50",
        "0.25",
    ]


def test_special_systems_have_lines_of_their_own_with_a_ratio_to_plain_events() -> None:
    extra = [
        Sample(0, system, "drain", "1 process", {"rate_per_s": rate})
        for system, rate in (("streamatiq-on", 16_000.0), ("streamatiq-guarded", 12_000.0))
    ]
    flood = {"order_p50_ms": 2.5}
    extra.append(Sample(0, "streamatiq-mixed", "flood", "priorities", flood))
    run = make_run(extra=extra)
    for name in ("streamatiq-on", "streamatiq-guarded", "streamatiq-mixed"):
        run.settings["systems"][name] = name
    rows = [[cell.strip() for cell in line.split("|")] for line in render_ratios(run).splitlines()]

    assert ["drain 1 process, messages/s", "more", "streamatiq-guarded", "12,000"] in [
        row[1:5] for row in rows
    ]
    ratios = {tuple(row[1:4]): row[5:8] for row in rows if len(row) == 9}
    assert ratios["drain 1 process, messages/s", "more", "streamatiq-guarded"] == [
        *("6.00", "0.20", "0.75"),
    ]
    assert ratios["flood priorities, order, p50 ms", "less", "streamatiq-mixed"] == ["-"] * 3
    head = next(row for row in rows if "better" in row)
    assert "streamatiq-on / floor" in head
    assert not any("guarded" in cell for cell in head)


def test_a_reference_that_was_given_up_leaves_an_upper_bound() -> None:
    given_up = [
        Sample(0, "redisbroker", "recovery", "k", {"recovery_s": 20.0}, at_least=["recovery_s"]),
        Sample(0, "streamatiq", "recovery", "k", {"recovery_s": 1.5, "interrupted": 4.0}),
    ]
    text = render_ratios(make_run(extra=given_up))

    row = next(line for line in text.splitlines() if "recovery k, s to recover" in line)
    assert [cell.strip() for cell in row.split("|")[3:7]] == ["> 20.00", "-", "< 0.07", "-"]
    assert "handlers interrupted" not in text  # a ratio of that says nothing
    assert "handlers interrupted" in render_full(make_run(extra=given_up))


def test_one_round_that_was_given_up_does_not_make_the_median_a_bound() -> None:
    rounds = [
        Sample(0, "streamatiq", "recovery", "k", {"recovery_s": 20.0}, at_least=["recovery_s"]),
        Sample(1, "streamatiq", "recovery", "k", {"recovery_s": 1.5}),
        Sample(2, "streamatiq", "recovery", "k", {"recovery_s": 1.0}),
    ]
    found = next(s for s in summarise(make_run(extra=rounds)) if s.measure == "recovery")

    assert (found.absolute, found.most, found.given_up) == ("1.50", 20.0, False)


def test_budgets_stand_below_the_table_and_in_the_document() -> None:
    for render in (render_full, render_ratios):
        rows = [line for line in render(make_run()).splitlines() if "of RedisBroker's" in line]
        assert [cell.strip() for cell in rows[0].split("|")[1:6]] == [
            "drain 1 process: drain, of RedisBroker's",
            "streamatiq",
            ">= 5 x",
            "7.50",
            "met",
        ]


def test_a_run_without_budgeted_figures_has_no_table_of_budgets() -> None:
    run = make_run()
    run.samples[:] = [s for s in run.samples if s.system == "floor"]

    assert render_budgets(run) == ""


def test_the_document_keeps_everything_but_its_generated_section(tmp_path: Path) -> None:
    results, document = tmp_path / "run.json", tmp_path / "performance.md"
    save_run(make_run(), results)
    document.write_text(f"# Title\n\n{BEGIN}\nold\n{END}\nafter\n")

    assert main([str(results), "--document", str(document)]) == 0
    once = document.read_text()
    assert once.startswith(f"# Title\n\n{BEGIN}\n")
    assert once.endswith(f"{END}\nafter\n")
    assert "old" not in once
    assert "| 7.50" in once
    assert main([str(results), "--document", str(document)]) == 0
    assert document.read_text() == once


def test_a_document_without_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="needs the lines"):
        rewrite_section(f"{BEGIN} only", "x")


def test_a_result_file_survives_the_round_trip_and_another_format_is_refused(
    tmp_path: Path,
) -> None:
    path = tmp_path / "sub" / "run.json"
    save_run(make_run(), path)

    assert load_run(path) == make_run()
    path.write_text('{"format": 0}')
    with pytest.raises(ValueError, match="not a result file of format"):
        load_run(path)
    assert main([str(path), "--print"]) == 2


def test_the_committed_document_has_its_markers(root: Path) -> None:
    text = (root / "docs" / "performance.md").read_text()

    assert BEGIN in rewrite_section(text, "x")
