"""`streamatiq demo` as a user runs it, as a whole process; and what is left when it has ended.

Every process of a demo is found by an environment variable, or by its working directory (Valkey
writes its title over its environment).
"""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from tests.conftest import OwnServer
from tests.support import Child, start_python, wait_until

from streamatiq.demo.place import PREFIX, remove_abandoned

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

MARK = "DEMO_TEST_DIRECTORY"
#: Orders that the venue refuses at first, with the seed and the number of events of the whole run.
REFUSED = 3
HANDLERS = ["demo.find_signal", "demo.place_order", "demo.fill_order", "demo.keep_position"]


def processes(directory: Path) -> dict[int, str]:
    """Pid and command line of each process of the demos whose directories are in `directory`."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            environment = (entry / "environ").read_bytes().split(b"\0")
            cwd = os.readlink(entry / "cwd")
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue  # ended meanwhile, or is another user's
        if f"{MARK}={directory}".encode() in environment or cwd.startswith(str(directory)):
            found[int(entry.name)] = command
    return found


class Demo(Child):
    """A running `streamatiq demo`, whose temporary directories are in `directory`."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.directory = directory
        env: dict[str, str | None] = {"TMPDIR": str(directory), MARK: str(directory)}
        super().__init__(
            [str(Path(sys.executable).with_name("streamatiq")), "demo", *options],
            env=env | {"PYTHONUNBUFFERED": "1"},
            cwd=directory,
        )

    def others(self) -> dict[int, str]:
        """Pid and command line of each of its processes, without itself."""
        found = processes(self.directory)
        found.pop(self.pid, None)
        return found

    def assert_nothing_left(self) -> None:
        wait_until(lambda: not self.others(), 10, lambda: f"no process left: {self.others()}")

    def assert_no_directory_left(self) -> None:
        assert list(self.directory.glob(f"{PREFIX}*")) == []


def rows(report: str) -> Iterator[tuple[str, list[str]]]:
    """The lines of the report's tables: name, and what stands in the columns."""
    for line in report.partition("Closing report")[2].splitlines():
        words = re.split(r"\s{2,}", line.strip())
        if len(words) > 1:
            yield words[0], words[1:]


def test_a_whole_run_handles_everything_and_leaves_only_its_data(
    tmp_path: Path, own_server: OwnServer
) -> None:
    kept = ("--data-dir", str(tmp_path / "kept"))
    demo = Demo(tmp_path, "--seconds", "1.5", "--rate", "800", "--seed", "1", *kept)
    ended = demo.wait(25)
    assert ended.returncode == 0, demo
    assert ended.stderr == ""
    table = dict(rows(ended.stdout))
    logs = ["market_data", "signal", "order", "fill"]
    events = {name: int(table[name][0].replace(",", "")) for name in logs}
    assert events["market_data"] == 1200
    assert events["signal"] > 0
    handled, retried = {}, {}
    for name in HANDLERS:
        figures = [int(figure.replace(",", "")) for figure in table[name][:6]]
        handled[name], retried[name], duplicates, dead, left, lost = figures
        assert (duplicates, dead, left, lost) == (0, 0, 0, 0)
        assert all(re.fullmatch(r"[\d.,]+ ms", latency) for latency in table[name][6:])
    assert list(handled.values()) == list(events.values())
    assert retried["demo.fill_order"] == REFUSED
    assert "Nothing is lost; orders and fills agree." in ended.stdout
    demo.assert_nothing_left()
    demo.assert_no_directory_left()
    namespace = re.search(r"kept, under namespace (demo-[0-9a-f]+)\.", ended.stdout)
    assert namespace is not None, demo
    with redis.Redis.from_url(own_server("kept").url, protocol=2) as client:
        for name, count in events.items():
            assert client.xlen(f"{{{namespace[1]}:log:{name}:0}}:entries") == count


@pytest.mark.parametrize("moment", ["Starting an embedded server.*", "Starting worker processes.*"])
def test_ctrl_c_while_starting(tmp_path: Path, moment: str) -> None:
    demo = Demo(tmp_path)
    demo.wait_for_line(moment)
    demo.signal(signal.SIGINT)
    ended = demo.wait(10)
    assert ended.returncode == 130, demo
    assert ended.stderr == ""
    assert "Stopped before anything was published." in ended.stdout
    demo.assert_nothing_left()
    demo.assert_no_directory_left()


@pytest.mark.soak
def test_ctrl_c_in_the_middle_on_a_server_of_ones_own(
    tmp_path: Path, redis_url: str, client: redis.Redis
) -> None:
    demo = Demo(tmp_path, "--rate", "300", "--redis-url", redis_url)
    demo.wait_for_line("0 of 20 s: .*")
    assert client.keys("*demo-*") != []
    wait_until(lambda: client.keys("*demo-*fill:0}:ids"), 10, "fills")
    demo.signal(signal.SIGINT)
    ended = demo.wait(15)
    assert ended.returncode == 130, demo
    assert ended.stderr == ""
    assert "Stopped before its end" in ended.stdout
    assert "Wrong" not in ended.stdout
    assert client.keys("*demo-*") == []
    demo.assert_nothing_left()
    demo.assert_no_directory_left()


def test_ctrl_c_while_the_last_events_are_handled(tmp_path: Path) -> None:
    demo = Demo(tmp_path, "--seconds", "1")
    demo.wait_for_line("0 of 1 s: .*", 25)
    workers = [pid for pid, command in demo.others().items() if "dramatiq" in command]
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)  # so that events are left when the source has ended
    demo.wait_for_line(".*last events are being handled.*")
    demo.signal(signal.SIGINT)
    for pid in workers:
        os.kill(pid, signal.SIGCONT)
    ended = demo.wait(15)
    assert ended.returncode == 130, demo
    assert ended.stderr == ""
    assert "Stopped before its end" in ended.stdout
    assert "Wrong" not in ended.stdout
    demo.assert_nothing_left()


def test_a_second_ctrl_c_waits_for_nothing(tmp_path: Path) -> None:
    demo = Demo(tmp_path)
    demo.wait_for_line("0 of 20 s: .*")
    demo.signal(signal.SIGINT)
    demo.wait_for_line("Stopping the worker processes.*")
    demo.signal(signal.SIGINT)
    ended = demo.wait(10)
    assert ended.returncode == 130, demo
    assert ended.stderr == ""
    assert "Closing report" not in ended.stdout
    demo.assert_nothing_left()
    demo.assert_no_directory_left()


@pytest.mark.parametrize("moment", ["Starting worker processes.*", "0 of 20 s: .*"])
def test_a_killed_demo_leaves_no_process(tmp_path: Path, moment: str) -> None:
    demo = Demo(tmp_path)
    demo.wait_for_line(moment)
    for program in ("valkey", "dramatiq"):
        wait_until(lambda program=program: program in " ".join(demo.others().values()), 5, program)
    demo.signal(signal.SIGKILL)
    demo.wait(5)
    demo.assert_nothing_left()
    # Its directory is the next demo's to remove. The kernel lets go of the locks a little later
    # than the processes are gone.
    wait_until(lambda: remove_abandoned(tmp_path), 5, "the directory is abandoned")
    demo.assert_no_directory_left()


def test_a_demo_of_a_killed_make_stops(tmp_path: Path) -> None:
    """make cannot pass a kill -9 on; the demo sees that its parent is gone."""
    command = [str(Path(sys.executable).with_name("streamatiq")), "demo"]
    env = {"TMPDIR": str(tmp_path), MARK: str(tmp_path), "MAKELEVEL": "1"}
    make = start_python(f"import subprocess; subprocess.run({command!r})", env=env, cwd=tmp_path)
    make.wait_for_line("Starting worker processes.*")
    make.signal(signal.SIGKILL)
    wait_until(lambda: not processes(tmp_path), 10, lambda: f"all ended: {processes(tmp_path)}")
    assert "Traceback" not in make.stderr
    assert list(tmp_path.glob(f"{PREFIX}*")) == []


def test_when_worker_processes_die_the_demo_says_why_and_stops(tmp_path: Path) -> None:
    demo = Demo(tmp_path, "--rate", "200")
    demo.wait_for_line("0 of 20 s: .*")
    main = min(pid for pid, command in demo.others().items() if "dramatiq" in command)
    os.kill(main, signal.SIGKILL)  # its workers are orphans now
    ended = demo.wait(15)
    assert ended.returncode == 1, demo
    assert "Worker process is ready for action." in ended.stdout
    (line,) = ended.stderr.splitlines()
    log = re.fullmatch(r"streamatiq: error: The worker processes ended .*: (/.*)", line)
    assert log is not None, line
    assert Path(log[1]).is_file()
    demo.assert_nothing_left()


@pytest.mark.parametrize(
    ("url", "code", "says"),
    [
        ("http://localhost", 2, "http://localhost"),
        ("redis://127.0.0.1:1", 1, "No connection to redis://127.0.0.1:1"),
    ],
)
def test_a_server_that_cannot_be_used_is_one_line(
    tmp_path: Path, url: str, code: int, says: str
) -> None:
    demo = Demo(tmp_path, "--redis-url", url)
    ended = demo.wait(10)
    assert ended.returncode == code, demo
    (line,) = ended.stderr.splitlines()
    assert line.startswith("streamatiq: error: ")
    assert says in line
    demo.assert_no_directory_left()


def test_a_wrong_password_is_one_line(
    tmp_path: Path, own_server: OwnServer, open_client: Callable[[str], redis.Redis]
) -> None:
    server = own_server(port=0)
    open_client(server.url).config_set("requirepass", "right")
    demo = Demo(tmp_path, "--redis-url", server.tcp_url.replace("//", "//:wrong@"))
    ended = demo.wait(10)
    assert ended.returncode == 1, demo
    (line,) = ended.stderr.splitlines()
    assert "refused the login" in line
    assert ":wrong@" not in ended.stdout + ended.stderr


def test_two_places_for_the_data_are_one_too_many(tmp_path: Path) -> None:
    demo = Demo(tmp_path, "--redis-url", "redis://localhost", "--data-dir", "kept")
    ended = demo.wait(10)
    assert ended.returncode == 2
    assert "exclude each other" in ended.stderr
