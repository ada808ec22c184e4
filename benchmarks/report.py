"""Tables of a run: medians over the rounds, their spread, ratios to two reference systems, budgets.

`python -m benchmarks.report FILE` rewrites the part of docs/performance.md between its two markers;
with `--print` it prints the full tables instead.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from .budgets import judge
from .metrics import METRICS, Metric
from .processes import ROOT
from .results import Run, load_run
from .systems import SYSTEMS

__all__ = [
    "Summary",
    "main",
    "render_budgets",
    "render_full",
    "render_ratios",
    "rewrite_section",
    "summarise",
]

#: Systems that the others are compared with.
REFERENCES = ("redisbroker", "floor")

#: With what those are compared besides that differ from it in how events are handled only.
PLAIN = "streamatiq-on"

#: Lines between which docs/performance.md is generated.
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"

#: The document whose section is generated.
DOCUMENT = ROOT / "docs" / "performance.md"


@dataclass(frozen=True, slots=True)
class Summary:
    """One figure of one system over all rounds that succeeded.

    Attributes:
        measure, case, metric, system: which figure.
        middle, least, most: median, smallest and largest over the rounds.
        ratios: the median divided by each reference system's, where that has one and it says
            something.
        given_up: the measure was not patient enough: the median is at least that.
        below: reference systems that were given up: the real ratio is smaller.
    """

    measure: str
    case: str
    metric: Metric
    system: str
    middle: float
    least: float
    most: float
    ratios: dict[str, float]
    given_up: bool = False
    below: frozenset[str] = frozenset()

    def ratio(self, reference: str) -> str:
        """The ratio to a reference system, as shown."""
        value = self.ratios.get(reference)
        if value is None or (self.given_up and reference in self.below):
            return "-"
        sign = "< " if reference in self.below else "> " if self.given_up else ""
        return sign + (f"{value:.2f}" if value < 10 else f"{value:.1f}")

    @property
    def absolute(self) -> str:
        """The median, as shown."""
        return ("> " if self.given_up else "") + _number(self.middle, self.metric.decimals)


def summarise(run: Run) -> list[Summary]:
    """Reduce the samples to one line per figure and system, in the order of the tables."""
    values: dict[tuple[str, str, str], dict[str, list[float]]] = {}
    limits: dict[tuple[str, str, str, str], float] = {}
    for sample in run.samples:
        for metric in METRICS[sample.measure]:
            value = sample.values.get(metric.key)
            if value is not None:
                key = (sample.measure, sample.case, metric.key)
                values.setdefault(key, {}).setdefault(sample.system, []).append(value)
                if metric.key in sample.at_least:
                    limits[*key, sample.system] = value
    order = list(METRICS)
    summaries = []
    for (measure, case, name), by_system in sorted(
        values.items(), key=lambda item: order.index(item[0][0])
    ):
        metric = next(m for m in METRICS[measure] if m.key == name)
        middles = {system: median(found) for system, found in by_system.items()}
        unknown = frozenset(
            system
            for system, middle in middles.items()
            if middle >= limits.get((measure, case, name, system), float("inf"))
        )
        for system in run.settings["systems"]:
            if system not in by_system:
                continue
            ratios = {
                reference: middles[system] / middles[reference]
                for reference in (*REFERENCES, PLAIN)
                if metric.compared and middles.get(reference)
            }
            found = by_system[system]
            summaries.append(
                Summary(
                    *(measure, case, metric, system),
                    *(middles[system], min(found), max(found), ratios),
                    given_up=system in unknown,
                    below=unknown & ratios.keys(),
                )
            )
    return summaries


def render_budgets(run: Run) -> str:
    """Render what was measured of what must be reached; empty if nothing was."""
    summaries = {(s.measure, s.case, s.metric.key, s.system): s for s in summarise(run)}
    verdicts = judge(
        {figure: s.middle for figure, s in summaries.items()},
        [figure for figure, s in summaries.items() if s.given_up],
    )
    rows = []
    for v in verdicts:
        b = v.budget
        sign = ">=" if b.at_least else "<="
        rows.append(
            [
                f"{b.measure} {v.case}: {b.title}",
                v.system,
                f"{sign} {b.limit:g} {b.unit}",
                ("> " if v.unknown_above else "") + f"{v.value:,.2f}",
                v.words,
            ]
        )
    return _table(["what", "system", "must be", "is", "budget"], rows, left=3) if rows else ""


def render_full(run: Run) -> str:
    """Render everything: absolute medians, spread, ratios, and what failed."""
    rows = [
        [
            f"{s.measure} {s.case}",
            s.metric.title,
            s.system,
            s.absolute,
            f"{_number(s.least, s.metric.decimals)} - {_number(s.most, s.metric.decimals)}",
            *(s.ratio(reference) for reference in REFERENCES),
        ]
        for s in summarise(run)
    ]
    # A case is named once, on its first line.
    for row, above in reversed(list(zip(rows[1:], rows[:-1], strict=True))):
        if row[:2] == above[:2]:
            row[:2] = ["", ""]
    head = ["measure", "figure", "system", "median", "min - max", *(f"x {r}" for r in REFERENCES)]
    parts = [machine_line(run), _table(head, rows, left=3), render_budgets(run)]
    if run.failures:
        parts.append("\n".join(["**Not as it must be:**", *(f"- {f}" for f in run.failures)]))
    return "\n\n".join(part for part in parts if part)


def render_ratios(run: Run) -> str:
    """Render the figures as ratios, with the references' own medians for scale.

    For rates more is better, for times, CPU and bytes less is; each line says which.
    """
    summaries = summarise(run)
    summaries = [s for s in summaries if s.metric.compared]
    names = [s for s in run.settings["systems"] if any(x.system == s for x in summaries)]
    by_figure: dict[tuple[str, str, str], dict[str, Summary]] = {}
    for s in summaries:
        by_figure.setdefault((s.measure, s.case, s.metric.key), {})[s.system] = s
    others = [name for name in names if name not in REFERENCES and not _is_special(name)]
    present = [name for name in REFERENCES if name in names]
    head = ["figure", "better", *(f"{name} (absolute)" for name in present)]
    head += [f"{name} / {reference}" for name in others for reference in present]
    rows = []
    for by_system in by_figure.values():
        if all(_is_special(name) for name in by_system):
            continue
        first = next(iter(by_system.values()))
        row = [f"{first.measure} {first.case}, {first.metric.title}"]
        row.append("more" if first.metric.more_is_better else "less")
        for reference in present:
            known = by_system.get(reference)
            row.append(known.absolute if known else "-")
        for name in others:
            known = by_system.get(name)
            row += [known.ratio(reference) if known else "-" for reference in present]
        rows.append(row)
    parts = [machine_line(run), _table(head, rows, left=2), _render_special(summaries)]
    parts.append(render_budgets(run))
    if run.failures:
        parts.append("\n".join(["Not as it must be:", *(f"- {f}" for f in run.failures)]))
    return "\n\n".join(part for part in parts if part)


def _is_special(name: str) -> bool:
    """Whether a system takes part in some measures only, and so has lines of its own."""
    return name in SYSTEMS and bool(SYSTEMS[name].measures)


def _render_special(summaries: Sequence[Summary]) -> str:
    """Render the figures of the special systems, a line each; empty if there are none."""
    references = (*REFERENCES, PLAIN)
    rows = []
    for s in summaries:
        if _is_special(s.system):
            better = "more" if s.metric.more_is_better else "less"
            figure = f"{s.measure} {s.case}, {s.metric.title}"
            rows.append([figure, better, s.system, s.absolute, *(s.ratio(r) for r in references)])
    head = ["figure", "better", "system", "median", *(f"/ {r}" for r in references)]
    return _table(head, rows, left=3) if rows else ""


def machine_line(run: Run) -> str:
    """Say on one line what the run ran on, and how often."""
    m, s = run.machine, run.settings
    return (
        f"{m['measured_at']}: {m['server']} (appendonly {m['appendonly']}, {m['appendfsync']}), "
        f"Python {m['python']}, dramatiq {m['dramatiq']}, redis-py {m['redis_py']}, "
        f"{m['system']}, {m['cores']} cores; {s['threads']} threads a process, "
        f"{s['tick_bytes']}-byte ticks, medians over {s['rounds']} rounds."
    )


def rewrite_section(text: str, section: str) -> str:
    """Return `text` with what stands between the two markers replaced by `section`.

    Raises:
        ValueError: a marker is missing.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the document needs the lines {BEGIN!r} and {END!r}")
    return f"{before}{begin}\n\n{section}\n\n{end}{after}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Rewrite the document's section, or print the full tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__)
    parser.add_argument("file", type=Path, help="result file of benchmarks.run")
    parser.add_argument("--print", action="store_true", help="print the tables, change no file")
    parser.add_argument("--document", type=Path, default=DOCUMENT)
    options = parser.parse_args(arguments)
    try:
        run = load_run(options.file)
        if options.print:
            print(render_full(run))
            return 0
        text = options.document.read_text()
        options.document.write_text(rewrite_section(text, render_ratios(run)))
    except (OSError, ValueError) as error:
        print(f"benchmarks.report: {error}", file=sys.stderr)
        return 2
    print(f"rewrote the figures in {options.document}")
    return 0


def _number(value: float, decimals: int) -> str:
    return f"{value:,.{decimals}f}"


def _table(head: list[str], rows: list[list[str]], *, left: int) -> str:
    """Render a Markdown table that also reads well as text; `left` columns are left-aligned."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]

    def line(cells: list[str]) -> str:
        padded = [
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    rule = ["-" * w if i < left else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    return "\n".join([line(head), line(rule), *(line(row) for row in rows)])


if __name__ == "__main__":
    sys.exit(main())
