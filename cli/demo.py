"""`streamatiq demo`: a small trading pipeline, live."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from ..demo.run import Options, run_demo
from ..demo.stop import Stop

__all__ = ["demo"]

_DEFAULTS = Options()
#: Columns of output that goes to no terminal: wide enough for the tables.
PLAIN_WIDTH = 110


@click.command()
@click.option(
    "--seconds",
    type=click.FloatRange(0, 86_400, min_open=True),
    default=_DEFAULTS.seconds,
    show_default=True,
    help="How long market data is published.",
)
@click.option(
    "--rate",
    type=click.FloatRange(0, 1_000_000, min_open=True),
    default=_DEFAULTS.rate,
    show_default=True,
    help="Market data events a second.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    default=_DEFAULTS.workers,
    show_default=True,
    help="Worker processes.",
)
@click.option(
    "--threads",
    type=click.IntRange(1, 64),
    default=_DEFAULTS.threads,
    show_default=True,
    help="Threads in each worker process.",
)
@click.option(
    "--seed",
    type=int,
    default=_DEFAULTS.seed,
    show_default=True,
    help="The same seed gives the same market.",
)
@click.option(
    "--redis-url",
    metavar="URL",
    help="Use this server instead of an embedded one; the run's keys are removed at the end.",
)
@click.option("--keep", is_flag=True, help="With --redis-url: leave the run's keys there.")
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep the embedded server's data there.  [default: removed at the end]",
)
@click.pass_context
def demo(
    ctx: click.Context,
    seconds: float,
    rate: float,
    workers: int,
    threads: int,
    seed: int,
    redis_url: str | None,
    keep: bool,
    data_dir: Path | None,
) -> None:
    """Watch a small trading pipeline run.

    Simulated market data goes through signal, order and fill handlers, which real `dramatiq` worker
    processes run on an embedded server. At the end, everything is read back from the server and
    checked. Nothing of it is left behind.
    """
    if redis_url is not None and data_dir is not None:
        raise click.UsageError("--redis-url and --data-dir exclude each other.")
    stop = Stop()
    stop.install()
    console = Console()
    if not console.is_terminal:
        console = Console(width=PLAIN_WIDTH)
    options = Options(
        seconds=seconds,
        rate=rate,
        workers=workers,
        threads=threads,
        seed=seed,
        redis_url=redis_url,
        data_dir=data_dir,
        keep=keep,
    )
    ctx.exit(run_demo(options, console, stop))
