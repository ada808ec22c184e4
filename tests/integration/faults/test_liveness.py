"""`streamatiq health` beside real worker processes: what it calls healthy, what it reports, and
that workers come back by themselves where they can."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.integration.faults.fleet import QUICK, Fleet
from tests.integration.faults.servers import PrivateServer
from tests.support import CuttingProxy, wait_until
from tests.support.processes import Child, Finished

from streamatiq.broker.connections import Endpoint, Link
from streamatiq.broker.health import HealthReport, Problem
from streamatiq.broker.health_reading import read_health

#: A blocked read ends sooner, and a lost connection is noticed sooner.
QUICK_READS = {**QUICK, "reader.BLOCK_MS": 300, "intake.MARGIN_S": 0.5}
#: As QUICK_READS, but a connection that says nothing is believed for ever.
TRUSTING = {**QUICK_READS, "intake.MARGIN_S": 1_000}
#: Seconds without progress that are a problem here.
SILENCE_S = 2.0


def _look(fleet: Fleet, url: str | None = None, **options: Any) -> HealthReport:
    options = {"max_silence_s": SILENCE_S, **options}
    with closing(Link(Endpoint(url or fleet.env["STREAMATIQ_REDIS__URL"]))) as link:
        return read_health(link, fleet.broker.keys, **options)


def _problem(fleet: Fleet, url: str | None = None, **options: Any) -> Problem:
    """The one problem that appears."""
    (problem,) = wait_until(lambda: _look(fleet, url, **options).problems)
    return problem


def _command(fleet: Fleet, *arguments: str) -> Finished:
    command = str(Path(sys.executable).with_name("streamatiq"))
    return Child([command, "health", *arguments], env=fleet.env, cwd=fleet.directory).wait()


def _ready(fleet: Fleet, processes: int = 1) -> None:
    """Each process has recorded what its two queues do."""
    wait_until(
        lambda: (
            (found := _look(fleet).processes)
            and len(found) == processes
            and all(len(one.queues) == 2 for one in found)
        )
    )


def test_the_command_shows_what_workers_do(fleet: Fleet) -> None:
    gate = fleet.directory / "gate"
    with fleet.workers(threads=2, constants=QUICK) as workers:
        _ready(fleet)
        fleet.publish([1, 2], f"wait {gate}")
        wait_until(lambda: _look(fleet).processes[0].running == 2)
        pid, host = workers.worker_pids[0], socket.gethostname()
        mine = ("--host", host, "--pid", str(pid))
        shown = _command(fleet, *mine, "--queue", "fleet")
        assert shown.returncode == 0, shown
        assert f"{host}:{pid}" in shown.stdout
        assert "2/2" in shown.stdout
        assert "Healthy: 1 process, 1 queue." in shown.stdout
        # All threads wait in a lock: busy, unless a limit is given.
        late = _command(fleet, *mine, "--max-running", "0.1", "--json")
        assert late.returncode == 1
        report = json.loads(late.stdout)
        assert report["healthy"] is False
        (problem,) = report["problems"]
        assert problem["process"] == f"process {pid} on {host}"
        assert (problem["queue"], problem["what"]) == ("fleet", "fleet runs")
        assert report["processes"][0]["running"] == 2
        other = _command(fleet, "--pid", "1")
        assert other.returncode == 1
        assert "PROBLEM  process 1: no such worker process is recorded" in other.stdout
        gate.touch()
        fleet.wait_for([1, 2])


@pytest.mark.soak
def test_a_queue_with_a_backlog_that_nobody_reads_is_a_problem(fleet: Fleet) -> None:
    assert _look(fleet) == HealthReport([], [])
    with fleet.workers(constants=QUICK):
        fleet.publish(range(3))
        fleet.wait_for(range(3))
        assert _look(fleet).healthy
    assert _look(fleet).healthy  # nothing waits
    fleet.publish(range(3, 5))
    problem = _problem(fleet)
    assert (problem.queue, problem.what) == ("fleet", "nobody reads it, and 2 entries wait")
    assert problem.since_s is not None
    with fleet.workers(constants=QUICK):
        wait_until(lambda: _look(fleet).healthy)
        fleet.wait_for(range(5))


def test_a_worker_whose_route_to_the_server_is_lost_comes_back(
    fleet: Fleet, proxy: CuttingProxy, redis_url: str
) -> None:
    """The socket of its reads stays open and says nothing; heartbeats go on."""
    through = {"STREAMATIQ_REDIS__URL": proxy.url}
    with fleet.workers(constants=QUICK_READS, env=through) as workers:
        _ready(fleet)
        proxy.fall_silent(fleet.source.entries.encode())  # at the next read of this subscription
        wait_until(lambda: proxy.silenced)
        fleet.publish(range(10))
        fleet.wait_for(range(10))
        assert fleet.effects() == Counter(range(10))
        assert "was declared dead" not in workers.log
        wait_until(lambda: _look(fleet, redis_url).healthy)


def test_a_worker_that_lives_and_does_not_read_is_reported(
    fleet: Fleet, proxy: CuttingProxy, redis_url: str
) -> None:
    through = {"STREAMATIQ_REDIS__URL": proxy.url}
    with fleet.workers(constants=TRUSTING, env=through) as workers:
        _ready(fleet)
        assert _look(fleet).healthy
        proxy.fall_silent(fleet.source.entries.encode())
        wait_until(lambda: proxy.silenced)
        fleet.publish([1])
        stuck = "there is room, and no read has ended"
        wait_until(lambda: [one.what for one in _look(fleet).problems] == [stuck])
        problem = _problem(fleet)
        assert problem.process == f"process {workers.worker_pids[0]} on {socket.gethostname()}"
        assert problem.queue == "fleet"
        # The other queue of the same process is read.
        fleet.send(2)
        fleet.wait_for_effects(1)
        workers.kill()


def test_a_stopped_process_is_reported(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamatiq.broker.health.SILENT_S", 1.2)
    with fleet.workers(constants=QUICK) as workers:
        _ready(fleet)
        pid = workers.worker_pids[0]
        os.kill(pid, signal.SIGSTOP)
        problem = _problem(fleet)
        assert problem.what == "no heartbeat"
        assert problem.process == f"process {pid} on {socket.gethostname()}"
        os.kill(pid, signal.SIGCONT)
        wait_until(lambda: _look(fleet).healthy)


def test_everything_is_healthy_again_after_a_restart_of_the_server(
    private: PrivateServer, private_fleet: Fleet
) -> None:
    fleet = private_fleet
    with fleet.workers(constants=QUICK_READS), fleet.workers(constants=QUICK_READS):
        _ready(fleet, 2)
        private.kill()
        down = _command(fleet)
        assert down.returncode == 1
        assert "streamatiq: error: " in down.stderr
        spared = _command(fleet, "--outage-ok")
        assert (spared.returncode, spared.stderr) == (0, "")
        assert spared.stdout.startswith("Not known, which counts as healthy here: ")
        private.start()
        _ready(fleet, 2)
        fleet.publish(range(10))
        fleet.wait_for(range(10))

        def both_beat() -> bool:
            report = _look(fleet)
            return report.healthy and all(one.silent_s < 1 for one in report.processes)

        wait_until(both_beat)
        assert len(_look(fleet).processes) == 2
