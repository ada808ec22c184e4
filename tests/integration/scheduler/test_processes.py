"""Real scheduler processes: who leads when one is killed, stopped, asked to end, or cut off."""

from __future__ import annotations

import json
import re
import signal
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from tests.integration.faults.servers import PrivateServer
from tests.integration.scheduler.fleet import SchedulerFleet
from tests.support import Child, run_python, wait_until

from streamatiq.cli import main


def test_a_killed_leader_is_replaced_within_five_seconds(
    fleet: SchedulerFleet, figures: list[str]
) -> None:
    first = fleet.start()
    fleet.wait_for_leader(first)
    second = fleet.start()
    fleet.tick()
    fleet.wait_for_ticks(2)
    assert not fleet.leads(second)
    first.signal(signal.SIGKILL)
    killed = time.monotonic()
    fleet.wait_for_leader(second, 2)
    took_s = time.monotonic() - killed
    figures.append(f"scheduler: the next leader after a kill -9: {took_s:.2f} s")
    assert took_s < 5
    fleet.wait_for_ticks(len(fleet.fired()) + 2)
    fleet.check()


def test_a_run_that_was_killed_is_done_by_the_next_leader(
    fleet: SchedulerFleet, tmp_path: Path
) -> None:
    path = tmp_path / "hold"
    first = fleet.start(lease="1")
    fleet.wait_for_leader(first)
    second = fleet.start(lease="1")
    fleet.hold(path)
    wait_until(lambda: Path(f"{path}.{first.pid}").exists())
    first.signal(signal.SIGKILL)
    began = Path(f"{path}.{second.pid}")
    wait_until(lambda: began.exists() and began.read_text())
    assert began.read_text() == "2"
    (run,) = fleet.schedules.get("hold").state.runs  # one run, not two
    assert run.attempts == 2
    path.unlink()
    wait_until(fleet.held)
    assert fleet.held() == [f"held by {second.pid}"]
    wait_until(lambda: fleet.schedules.get("hold").state.last)
    assert fleet.schedules.get("hold").state.totals == {"done": 1}


def test_a_leader_that_was_stopped_can_write_nothing_when_it_wakes_up(
    fleet: SchedulerFleet, tmp_path: Path
) -> None:
    path = tmp_path / "hold"
    first = fleet.start(lease="1")
    fleet.wait_for_leader(first)
    second = fleet.start(lease="1")
    fleet.tick()
    fleet.hold(path)
    wait_until(lambda: Path(f"{path}.{first.pid}").exists())
    fleet.wait_for_ticks(1)
    with fleet.stopped(first):
        fleet.wait_for_leader(second, 2)
        fleet.wait_for_ticks(3)
        path.unlink()  # what the first one waits for, too
        wait_until(fleet.held)
    # It wakes up in the middle of its run, and goes on to publish.
    wait_until(lambda: "leads now; standing by" in first.stderr, 10, lambda: str(first))
    wait_until(lambda: "Schedule hold: " in first.stderr, 10, lambda: str(first))
    assert "this is scheduler 1 " in first.stderr
    fleet.wait_for_ticks(len(fleet.fired()) + 1)
    assert fleet.held() == [f"held by {second.pid}"]
    fleet.check()
    # And leads again when it is its turn.
    second.signal(signal.SIGTERM)
    fleet.wait_for_leader(first, 3)


def test_a_leader_that_is_asked_to_end_lets_its_runs_end_and_another_one_lead(
    fleet: SchedulerFleet, tmp_path: Path, figures: list[str]
) -> None:
    path = tmp_path / "hold"
    first = fleet.start(stop_timeout="20")
    fleet.wait_for_leader(first)
    second = fleet.start()
    fleet.tick()
    fleet.hold(path)
    wait_until(lambda: Path(f"{path}.{first.pid}").exists())
    first.signal(signal.SIGTERM)
    wait_until(lambda: "Stopping: " in first.stderr, 10, lambda: str(first))
    assert not fleet.leads(second)
    path.unlink()
    released = time.monotonic()
    fleet.wait_for_leader(second, 2)
    took_s = time.monotonic() - released
    figures.append(f"scheduler: the next leader after a SIGTERM: {took_s:.2f} s")
    assert took_s < 2
    assert first.wait().returncode == 0
    assert fleet.held() == [f"held by {first.pid}"]
    fleet.wait_for_ticks(2)
    fleet.check()
    assert second.process.poll() is None
    second.signal(signal.SIGINT)
    assert second.wait().returncode == 0
    with fleet.broker.client() as client:
        assert client.exists(fleet.broker.keys.scheduler.lease) == 0
        assert client.hlen(fleet.broker.keys.scheduler.members) == 0


def test_a_second_signal_ends_it_at_once(fleet: SchedulerFleet, tmp_path: Path) -> None:
    path = tmp_path / "hold"
    first = fleet.start(stop_timeout="60")
    fleet.wait_for_leader(first)
    fleet.hold(path)
    wait_until(lambda: Path(f"{path}.{first.pid}").exists())
    first.signal(signal.SIGTERM)
    wait_until(lambda: "Stopping: " in first.stderr, 10, lambda: str(first))
    first.signal(signal.SIGTERM)
    assert first.wait(5).returncode == 1
    assert len(fleet.schedules.get("hold").state.runs) == 1


def test_a_run_that_does_not_end_in_time_is_left_to_the_next_leader(
    fleet: SchedulerFleet, tmp_path: Path
) -> None:
    path = tmp_path / "hold"
    first = fleet.start(stop_timeout="0.2")
    fleet.wait_for_leader(first)
    fleet.hold(path)
    wait_until(lambda: Path(f"{path}.{first.pid}").exists())
    first.signal(signal.SIGTERM)
    ended = first.wait(10)
    assert ended.returncode == 1
    assert "1 runs did not end in time" in ended.stderr
    second = fleet.start()
    path.unlink()
    wait_until(fleet.held)
    assert fleet.held() == [f"held by {second.pid}"]


@pytest.mark.soak
def test_the_server_is_killed_and_comes_back(
    private: PrivateServer, namespace: str, tmp_path: Path
) -> None:
    fleet = SchedulerFleet(private.url, namespace, tmp_path)
    children = [fleet.start(), fleet.start()]
    fleet.tick()
    fleet.wait_for_ticks(2)
    private.kill()
    wait_until(lambda: all("Trying on" in one.stderr for one in children), 10)
    private.start()
    wait_until(lambda: all("the server is back" in one.stderr for one in children), 15)
    fleet.wait_for_ticks(len(fleet.fired()) + 3)
    fleet.check()
    assert [one.process.poll() for one in children] == [None, None]
    for one in children:
        one.signal(signal.SIGTERM)
    assert [one.wait().returncode for one in children] == [0, 0]
    fleet.close()


def test_a_change_wakes_the_leader_at_once(fleet: SchedulerFleet, figures: list[str]) -> None:
    leader = fleet.start(lease="30")  # so that it looks by itself every two seconds only
    fleet.wait_for_leader(leader)
    fleet.tick(cron="@yearly", every=None)
    times = []
    for number in range(1, 11):
        asked = time.monotonic()
        fleet.schedules.run("tick")
        wait_until(lambda number=number: sum(fleet.fired().values()) >= number)
        times.append(time.monotonic() - asked)
    figures.append(f"scheduler: from `run` to the event, of ten: {max(times) * 1000:.0f} ms")
    assert sorted(times)[5] < 0.5


def _url(child: Child) -> str:
    found = re.search(r"Health and metrics of \S+: (http://\S+)", child.stderr)
    assert found is not None, str(child)
    return found[1]


def test_health_and_metrics_over_http(
    private: PrivateServer, namespace: str, tmp_path: Path
) -> None:
    fleet = SchedulerFleet(private.url, namespace, tmp_path)
    leader = fleet.start()
    fleet.wait_for_leader(leader)
    other = fleet.start()
    fleet.tick()
    fleet.wait_for_ticks(1)

    def health(child: Child) -> dict[str, object]:
        with urllib.request.urlopen(f"{_url(child)}/health") as reply:
            assert reply.status == 200
            found: dict[str, object] = json.load(reply)
        return found

    told = health(leader)
    assert (told["healthy"], told["role"], told["epoch"]) == (True, "leader", 1)
    assert (told["schedules"], told["connected"]) == (1, True)
    stands = health(other)
    assert (stands["role"], stands["leader"]) == ("stand-by", told["name"])
    with urllib.request.urlopen(f"{_url(leader)}/metrics") as reply:
        text = reply.read().decode()
    assert "streamatiq_scheduler_leader 1.0" in text
    assert re.search(r'scheduler_runs_total{kind="publish",outcome="done"} [1-9]', text)
    assert re.search(r"scheduler_lateness_seconds_count [1-9]", text)
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"{_url(leader)}/")
    # A server that is away is shown, and is no reason to restart the process.
    private.kill()
    wait_until(lambda: health(leader)["connected"] is False)
    assert health(leader)["healthy"] is True
    private.start()
    wait_until(lambda: health(leader)["connected"] is True)
    fleet.close()


def test_health_from_the_command_line(
    fleet: SchedulerFleet, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(fleet.directory)
    for name, value in fleet.env.items():
        assert value is not None
        monkeypatch.setenv(name, value)
    fleet.tick()
    fleet.tick("late", cron="@yearly", every=None)

    def health(*arguments: str) -> tuple[int, str]:
        code = main(["health", *arguments])
        return code, capsys.readouterr().out

    code, out = health()
    assert code == 1
    assert "PROBLEM  2 schedules are defined, and no scheduler process leads. Start one" in out
    code, out = health("--scheduler")
    assert code == 1
    assert "No scheduler process was heard of. Start one" in out
    child = fleet.start()
    fleet.wait_for_leader(child)
    code, out = health("--scheduler")
    assert code == 0, out
    assert re.search(rf"^\S+:{child.pid} +\d\.\d s ago +leads +2$", out, re.MULTILINE)
    assert out.endswith("Healthy: 1 scheduler.\n")
    assert health("--scheduler", "--pid", "1")[0] == 1
    code, out = health("--scheduler", "--json")
    assert json.loads(out)["schedulers"][0]["leads"] is True
    # A fire time that is long over, and nobody runs it: the leader does not know of it.
    fleet.wait_for_ticks(3)  # by then it has planned the other one, too
    with fleet.broker.client() as client:
        key = fleet.broker.keys.scheduler.state("late")
        client.hset(key, "cursor", int(time.time() * 1000) - 2 * 366 * 86_400_000)
    code, out = health("--scheduler")
    assert code == 1
    assert re.search(r"PROBLEM  schedule 'late' is due for \d+ s and does not run", out)


def test_what_is_wrong_at_the_start_is_said_in_one_line(
    fleet: SchedulerFleet, tmp_path: Path
) -> None:
    leader = fleet.start()
    port = _url(leader).rpartition(":")[2]
    taken = run_python(
        "streamatiq.scheduler", env={**fleet.env, "STREAMATIQ_SCHEDULER__PORT": port},
        cwd=fleet.directory, check=False,
    )  # fmt: skip
    assert taken.returncode == 2
    assert f"scheduler.port {port}: " in taken.stderr
    assert "Choose another port, 0 for any free one, or null for none." in taken.stderr
    missing = run_python(
        "streamatiq.scheduler", env={**fleet.env, "STREAMATIQ_WORKERS__HANDLERS": '["no_x"]'},
        cwd=fleet.directory, check=False,
    )  # fmt: skip
    assert missing.returncode == 1
    assert "Handler module 'no_x' (workers.handlers) does not exist" in missing.stderr
    down = run_python(
        "streamatiq.scheduler",
        env={**fleet.env, "STREAMATIQ_REDIS__URL": "unix:///nowhere/redis.sock"},
        cwd=fleet.directory, check=False,
    )  # fmt: skip
    assert down.returncode == 1
    assert down.stderr.splitlines()[-1].startswith("streamatiq: error: No connection to unix://")


@pytest.mark.soak
def test_many_schedules_fire_in_time(fleet: SchedulerFleet, figures: list[str]) -> None:
    names = [f"tick{number}" for number in range(50)]
    for name in names:
        fleet.tick(name)
    leader = fleet.start()
    fleet.wait_for_leader(leader)
    wait_until(lambda: all(len(fleet.fired(name)) >= 4 for name in names[::7]), 25)
    leader.signal(signal.SIGTERM)
    assert leader.wait().returncode == 0
    late = []
    for name in names:
        fired = fleet.fired(name)
        assert set(fired.values()) == {1}
        assert sorted(fired) == list(range(min(fired), max(fired) + 1))
        late += [
            entry.began_ms - entry.fired_ms
            for entry in fleet.schedules.history(name)
            if entry.outcome == "done"
        ][:-2]  # the first ones were due before it led
    late.sort()
    median, p99 = late[len(late) // 2], late[len(late) * 99 // 100]
    figures.append(f"scheduler: 50 runs a second begin {median} ms late (median), {p99} ms (p99)")


@pytest.mark.soak
def test_an_idle_leader_asks_little(private: PrivateServer, namespace: str, tmp_path: Path) -> None:
    """By the server's count of what its clients send."""
    fleet = SchedulerFleet(private.url, namespace, tmp_path)
    leader, other = fleet.start(), fleet.start()
    fleet.wait_for_leader(leader)
    fleet.tick(cron="@yearly", every=None)
    with private.client() as client:

        def calls() -> int:
            stats: dict[str, dict[str, int]] = client.info("commandstats")
            return sum(stats.get(f"cmdstat_{one}", {}).get("calls", 0)
                       for one in ("evalsha", "xread", "eval"))  # fmt: skip

        before, began = calls(), time.monotonic()
        wait_until(lambda: time.monotonic() - began > 4, 10)
        rate = (calls() - before) / (time.monotonic() - began)
    assert rate < 6  # two processes
    for one in (leader, other):
        one.signal(signal.SIGTERM)
        assert one.wait().returncode == 0
    fleet.close()
