"""The command group, and the one place where its errors become lines and exit codes."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import click

from ..errors import ConfigurationError, InvalidSchedule, InvalidSettings, StreamatiqError
from ._lazy import LazyCommand, LazyGroup
from ._state import State, pass_state

__all__ = ["main", "streamatiq"]

#: Exit codes.
FAILED = 1
MISUSED = 2
INTERRUPTED = 130

COMMANDS = {
    "demo": LazyCommand("demo", "Watch a small trading pipeline run."),
    "ingest": LazyCommand("ingest", "Publish market data from a file."),
    "health": LazyCommand("health", "Tell whether workers do their work."),
    "scheduler": LazyCommand("scheduler", "Run schedules, or stand by for it."),
    "schedule": LazyCommand("schedule", "Define schedules, and look at them."),
    "replay": LazyCommand("replay", "Replay ranges of logs, and compare."),
    "dead": LazyCommand("dead", "Look at dead letters, rerun or delete them."),
    "halt": LazyCommand("halt", "Stop a subscription, a key or everything, now."),
    "resume": LazyCommand("halt", "End a halt."),
    "halts": LazyCommand("halt", "Show what is halted."),
    "breaker": LazyCommand("breaker", "Look at circuit breakers, set them by hand."),
    "checkpoint": LazyCommand("checkpoint", "Take checkpoints, look at them, go back to one."),
    "retention": LazyCommand("retention", "Trim logs now, or see what holds them."),
    "config": LazyCommand("config", "Show and check the settings."),
}

EPILOG = """\b
Exit codes:
  0    done
  1    failed
  2    wrong usage, wrong settings, or a wrong schedule
  130  interrupted (Ctrl-C)
"""


@click.group(
    cls=LazyGroup,
    lazy=COMMANDS,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(version("streamatiq"), message="%(prog)s %(version)s")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="Settings file.  [default: $STREAMATIQ_CONFIG, else config/event_engine.yaml if present]",
)
@click.option("-v", "--verbose", count=True, help="Log more; -vv also shows tracebacks.")
@pass_state
def streamatiq(state: State, config: Path | None, verbose: int) -> None:
    """Typed events in durable logs on Redis Streams, handled by Dramatiq actors."""
    state.config = config
    state.verbosity = verbose
    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)]
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s", force=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters:
      arguments: Without the program's name; None takes those of the process.

    Returns:
      The exit code. Errors of ours are printed as one line each, without a traceback; any other
      exception is a bug and leaves this function.
    """
    state = State()
    try:
        code = streamatiq.main(
            None if arguments is None else list(arguments),
            prog_name="streamatiq",
            standalone_mode=False,
            obj=state,
        )
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except StreamatiqError as error:
        if state.verbosity >= 2:
            traceback.print_exc()
        for line in _lines(error):
            click.echo(f"streamatiq: error: {line}", err=True)
        misused = isinstance(error, ConfigurationError | InvalidSchedule)
        return MISUSED if misused else FAILED
    except BrokenPipeError:
        # Nobody reads any more. What is still buffered must not fail again when Python exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return FAILED
    return code if isinstance(code, int) else 0


def _lines(error: StreamatiqError) -> list[str]:
    if isinstance(error, InvalidSettings):
        return list(error.problems)
    text = str(error) or (type(error).__doc__ or type(error).__name__).partition("\n")[0]
    return ["; ".join(part.strip() for part in text.splitlines() if part.strip())]
