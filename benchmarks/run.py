"""`python -m benchmarks.run`: measure the systems side by side and print a table.

Exit code 0: everything ran, nothing was lost; 1: something did not (the table says what); 2: wrong
options or no server; 130: interrupted.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

from .processes import ROOT
from .report import render_full
from .results import save_run
from .rounds import FULL, MEASURES, QUICK, Plan, run_plan
from .server import ServerUnavailable, open_server
from .stage import Bench, remove_abandoned_ledgers
from .systems import SYSTEMS

__all__ = ["main"]

#: What `--quick` sets: enough to see that it works and roughly how fast, in a few minutes.
_QUICK = {"rounds": 1, "messages": 4_000, "seconds": 3.0}

#: Default options otherwise.
_FULL = {"rounds": 3, "messages": 20_000, "seconds": 10.0}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the bench; see the module for the exit codes."""
    options = _parse(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    remove_abandoned_ledgers()
    started = time.strftime("%Y%m%d-%H%M%S")
    path: Path = options.json or ROOT / "benchmarks" / "results" / f"{started}.json"
    plan = Plan(
        systems=tuple(SYSTEMS[name] for name in SYSTEMS if name in options.systems),
        measures=tuple(options.only),
        rounds=options.rounds,
        messages=options.messages,
        processes=tuple(options.processes),
        threads=options.threads,
        rates_per_s=tuple(options.rates),
        seconds=options.seconds,
        sizes=QUICK if options.quick else FULL,
    )
    try:
        with tempfile.TemporaryDirectory(prefix="streamatiq-bench-") as folder:
            data_dir, log_dir = Path(folder, "server"), Path(folder, "logs")
            log_dir.mkdir()
            with open_server(options.redis_url, data_dir) as server:
                run = run_plan(plan, Bench(server, plan.threads, log_dir), _say)
    except KeyboardInterrupt:
        _say("interrupted; all child processes are stopped")
        return 130
    except ServerUnavailable as error:
        _say(f"no server to measure on: {error}")
        return 2
    save_run(run, path)
    print(render_full(run))
    print(f"\nsamples: {path}")
    return 1 if run.failures else 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    add = parser.add_argument
    add("--systems", type=_names(tuple(SYSTEMS)), default=tuple(SYSTEMS), metavar="A,B")
    add("--only", type=_names(MEASURES), default=MEASURES, metavar="A,B", help=", ".join(MEASURES))
    add("--rounds", type=_positive, help=f"default {_FULL['rounds']}")
    add("--messages", type=_positive, help=f"per drain, times the factor; {_FULL['messages']}")
    add("--seconds", type=_positive, help=f"per rate of latency; default {_FULL['seconds']:.0f}")
    add("--rates", type=_numbers, default=(100, 1_000), metavar="N,M", help="messages/s")
    add("--processes", type=_numbers, default=(1, 2), metavar="N,M", help="worker processes")
    add("--threads", type=_positive, default=8, help="worker threads a process")
    add("--quick", action="store_true", help="one short round; options given besides win")
    add("--json", type=Path, metavar="FILE", help="default: benchmarks/results/TIME.json")
    add("--redis-url", metavar="URL", help="measure on this server, not on our embedded one")
    options = parser.parse_args(arguments)
    for name, value in (_QUICK if options.quick else _FULL).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    return options


def _names(known: tuple[str, ...]) -> Callable[[str], tuple[str, ...]]:
    def parse(text: str) -> tuple[str, ...]:
        names = tuple(text.split(","))
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
        return names

    return parse


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(_positive(part) for part in text.split(","))


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return number


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
