"""`streamatiq health`: is the work being done? For people, and for health checks of containers."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

import click
from pydantic import TypeAdapter

from .._config_layer import redact
from ..broker.connections import Link
from ..broker.health import MAX_SILENCE_S, HealthReport, Problem, ProcessHealth
from ..broker.health_reading import read_health, server_problem
from ..broker.keys import Keys
from ..broker.wording import counted
from ..errors import BrokerConnectionError
from ..scheduler.health import SchedulerHealth, SchedulerMember, read_scheduler_health
from ..settings import Settings
from ._server import running
from ._state import settings_from

__all__ = ["health"]

#: Seconds that the server may take to answer.
REPLY_TIMEOUT_S = 5.0
#: Exit code where there are problems.
UNHEALTHY = 1
#: In the place of a queue, where none is read.
NO_QUEUE = "-"

EPILOG = """\b
Exit codes:
  0  healthy
  1  problems, which are named; no worker process; or the server does not answer
  2  wrong usage, or wrong settings

In a container: streamatiq health --host "$(hostname)" --outage-ok
"""


@click.command(epilog=EPILOG)
@click.option("--host", "hosts", multiple=True, metavar="HOST", help="Only processes on HOST.")
@click.option("--pid", "pids", multiple=True, type=int, metavar="PID", help="Only process PID.")
@click.option("--queue", "queues", multiple=True, metavar="NAME", help="Only queue NAME.")
@click.option(
    "--max-silence",
    type=click.FloatRange(min=0, min_open=True),
    default=MAX_SILENCE_S,
    show_default=True,
    metavar="SECONDS",
    help="How long something may make no progress though it could.",
)
@click.option(
    "--max-running",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="How long a handler may run.  [default: for ever]",
)
@click.option("--scheduler", is_flag=True, help="Only scheduler processes.")
@click.option("--outage-ok", is_flag=True, help="A server that does not answer is no problem.")
@click.option("--json", "as_json", is_flag=True, help="Print the whole report as JSON.")
@click.pass_context
def health(
    ctx: click.Context,
    hosts: tuple[str, ...],
    pids: tuple[int, ...],
    queues: tuple[str, ...],
    max_silence: float,
    max_running: float | None,
    scheduler: bool,
    outage_ok: bool,
    as_json: bool,
) -> int:
    """Tell whether the worker processes do their work.

    Shows what each process does and what waits in each queue, then every problem: which process,
    which queue, since when, and what to do. What is halted, and which breakers are open, is noted;
    that is no problem. --host, --pid and --queue may be given several times. Scheduler processes
    are shown too; with --scheduler, they alone are judged.
    """
    if scheduler and queues:
        raise click.UsageError("--scheduler and --queue exclude each other.")
    settings = settings_from(ctx)
    try:
        endpoint = running(settings.redis.url)
        with closing(Link(endpoint, timeout_s=REPLY_TIMEOUT_S, name="streamatiq-health")) as link:
            unfit = server_problem(link)
            keys = Keys(settings.namespace)
            report = HealthReport([], [])
            if not scheduler:
                report = read_health(
                    link,
                    keys,
                    hosts=hosts,
                    pids=pids,
                    queues=queues,
                    max_silence_s=max_silence,
                    max_running_s=max_running,
                )
            schedulers = SchedulerHealth()
            if scheduler or not (hosts or pids or queues):
                schedulers = read_scheduler_health(
                    link,
                    keys.scheduler,
                    max_silence_s=max_silence,
                    hosts=hosts,
                    pids=pids,
                    wanted=scheduler,
                )
    except BrokerConnectionError as error:
        if not outage_ok:
            raise
        click.echo(f"Not known, which counts as healthy here: {error}")
        return 0
    problems = [unfit] if unfit is not None else []
    if not (scheduler or report.processes or hosts or pids):
        problems.append(_nobody(settings))
    report = replace(report, problems=[*problems, *report.problems, *schedulers.problems])
    if as_json:
        text = TypeAdapter(HealthReport).dump_json(report, indent=2).decode()
        members = TypeAdapter(list[SchedulerMember]).dump_json(schedulers.members).decode()
        click.echo(
            f'{{\n  "healthy": {str(report.healthy).lower()},\n  "schedulers": {members},\n'
            f'  "schedules": {schedulers.schedules},{text[1:]}'
        )
    else:
        for line in _lines(report, schedulers):
            click.echo(line)
    return 0 if report.healthy else UNHEALTHY


def _nobody(settings: Settings) -> Problem:
    where = f"namespace {settings.namespace!r} on {redact(settings.redis.url)}"
    advice = "Start one, or look whether namespace and redis.url are those of the workers."
    return Problem("", "", None, f"No worker process is known in {where}", advice)


def _lines(report: HealthReport, schedulers: SchedulerHealth) -> list[str]:
    rows: list[tuple[str, ...]] = [
        ("PROCESS", "HEARD", "RUNNING", "OLDEST", "QUEUE", "STATE", "HELD")
    ]
    for process in report.processes:
        rows += _rows(process)
    lines = _table(rows)
    if not report.processes:
        lines = []
    rows = [("QUEUE", "READERS", "UNREAD", "PENDING", "OLDEST READY")]
    for work in report.queues:
        counts = (work.readers, work.unread, work.pending)
        ready = _seconds(work.ready_s) if work.ready_s else "-"
        rows.append((work.name, *(str(count) for count in counts), ready))
    if report.queues:
        lines += [*([""] if lines else []), *_table(rows)]
    if schedulers.members:
        rows = [("SCHEDULER", "HEARD", "ROLE", "SCHEDULES")]
        for one in schedulers.members:
            plans = str(schedulers.schedules) if one.leads else "-"
            role = "leads" if one.leads else "stands by"
            heard = f"{_seconds(one.silent_s)} ago"
            rows.append((f"{one.host}:{one.pid}", heard, role, plans))
        lines += [*([""] if lines else []), *_table(rows)]
    lines += [""] if lines else []
    lines += [f"NOTE  {note}" for note in report.notes]
    lines += [f"PROBLEM  {problem}" for problem in report.problems]
    if report.healthy:
        parts = [
            counted(len(report.processes), "process", "processes"),
            counted(len(report.queues), "queue"),
        ]
        parts = [] if not (report.processes or report.queues) else parts
        parts += [counted(len(schedulers.members), "scheduler")] if schedulers.members else []
        lines.append(f"Healthy: {', '.join(parts)}.")
    return lines


def _rows(process: ProcessHealth) -> list[tuple[str, ...]]:
    oldest = f"{_seconds(process.running_s)} {process.running_what}" if process.running else "-"
    first = (
        f"{process.host}:{process.pid}",
        f"{_seconds(process.silent_s)} ago",
        f"{process.running}/{process.threads}",
        oldest,
    )
    queues = [(one.name, one.state.value, str(one.held)) for one in process.queues]
    rows = [(*first, *queue) for queue in queues[:1] or [(NO_QUEUE, _phase(process), "-")]]
    return [*rows, *(("", "", "", "", *queue) for queue in queues[1:])]


def _phase(process: ProcessHealth) -> str:
    """What a process does that reads nothing."""
    if not process.recorded or process.threads:
        return "starting"
    return "stopping"


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _seconds(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.0f} h"
