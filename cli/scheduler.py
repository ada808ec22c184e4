"""`streamatiq scheduler`: the process that runs schedules."""

from __future__ import annotations

import logging

import click

from ..scheduler.main import run_scheduler
from ._state import State, settings_from

__all__ = ["scheduler"]

EPILOG = """\b
Exit codes:
  0    stopped by SIGTERM or Ctrl-C, and every run had ended
  1    failed; a second signal; or runs did not end in time, and are done again by the next leader
  2    wrong usage, or wrong settings
"""


@click.command(epilog=EPILOG)
@click.pass_context
def scheduler(ctx: click.Context) -> int:
    """Run schedules, or stand by for it.

    Any number of these processes may run: one leads, and when it dies another takes over within
    scheduler.lease seconds. /health and /metrics are served on scheduler.host and scheduler.port.
    """
    settings = settings_from(ctx)
    if ctx.ensure_object(State).verbosity == 0:
        logging.getLogger().setLevel(logging.INFO)
    return run_scheduler(settings)
