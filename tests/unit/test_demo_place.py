"""The place of a run: what keeps it, and what is removed when nothing does."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import redis
from tests.support import start_python, wait_gone, wait_until

from streamatiq.demo import lifeline
from streamatiq.demo.place import (
    PREFIX,
    Directory,
    remove_abandoned,
    remove_namespace,
    server_url,
)


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Directory:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return Directory.make()


def test_a_directory_is_removed_whole(directory: Directory) -> None:
    assert directory.path.name.startswith(PREFIX)
    directory.data.mkdir()
    (directory.path / "workers.log").write_text("said")
    directory.close()
    assert not directory.path.exists()


def test_a_log_worth_keeping_is_all_that_is_kept(directory: Directory) -> None:
    directory.data.mkdir()
    (directory.path / "workers.log").write_text("said")
    directory.keep_log = True
    directory.close()
    assert [path.name for path in directory.path.iterdir()] == ["workers.log"]
    # Nobody holds it, and it is to be read by people: it is not abandoned.
    assert remove_abandoned() == []


def test_only_abandoned_directories_are_removed(directory: Directory, tmp_path: Path) -> None:
    (tmp_path / f"{PREFIX}empty").mkdir()
    (tmp_path / f"{PREFIX}file").write_text("")
    dead = tmp_path / f"{PREFIX}dead"
    dead.mkdir()
    (dead / "lifeline").write_text("")
    assert remove_abandoned() == [dead]
    assert directory.path.exists()
    directory.close()


def test_a_directory_whose_server_lives_is_not_removed(tmp_path: Path) -> None:
    dead = tmp_path / f"{PREFIX}dead"
    dead.mkdir()
    (dead / "lifeline").write_text("")
    with server_url(None, dead / "data") as url:
        assert url.startswith("unix://")
        assert remove_abandoned(tmp_path) == []
    wait_until(lambda: remove_abandoned(tmp_path) == [dead], 5)


def test_a_process_group_ends_with_its_lifeline(tmp_path: Path) -> None:
    path = tmp_path / "lifeline"
    held = lifeline.hold(path)
    leader = start_python(
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE)\n"
        "import streamatiq.demo.lifeline\n"
        "print('follows', child.pid, flush=True)\n"
        "child.wait()\n",
        env={lifeline.VARIABLE: str(path)},
    )
    child = int(leader.wait_for_line(r"follows (\d+)")[1])
    assert not lifeline.abandoned(path)
    assert leader.process.poll() is None
    os.close(held)
    assert leader.wait().returncode == -signal.SIGKILL
    wait_gone(child)


def test_a_process_whose_lifeline_is_gone_already_ends(tmp_path: Path) -> None:
    late = start_python(
        "import streamatiq.demo.lifeline, time; time.sleep(60)",
        env={lifeline.VARIABLE: str(tmp_path / "none")},
    )
    assert late.wait().returncode == -signal.SIGKILL


def test_a_namespace_is_removed_and_no_other(
    client: redis.Redis, namespace: str, open_client: Callable[[str], redis.Redis]
) -> None:
    ours = [f"{{{namespace}:log:x:0}}:entries", f"{namespace}:layout:x"]
    others = [f"{{{namespace}2:log:x:0}}:entries", f"{namespace}2:layout:x"]
    for key in [*ours, *others]:
        client.set(key, 1)
    assert remove_namespace(client, namespace) == 2
    assert client.exists(*ours) == 0
    assert client.exists(*others) == 2
