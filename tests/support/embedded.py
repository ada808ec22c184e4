"""What the tests of the embedded server share; `tests/conftest.py` makes its fixtures known."""

from __future__ import annotations

import fcntl
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from streamatiq.broker.embedded import EmbeddedServer

from .processes import Child, start_python

__all__ = [
    "OpenClient",
    "data_dir",
    "ensured",
    "lock_is_free",
    "short_temp",
    "sleeping_server",
    "start_ensurer",
]

OpenClient = Callable[[str], redis.Redis]


#: A process that ensures a server on argv[1] when told to, reports it, and lives until told to end.
_ENSURE = """
import sys
from streamatiq.broker.embedded import EmbeddedServer
print("ready")
sys.stdin.readline()
server = EmbeddedServer.ensure(sys.argv[1])
print("server", server.pid, server.owned)
sys.stdin.readline()
"""


def start_ensurer(data_dir: Path) -> Child:
    """Start a process that ensures a server on the next line told, and ends on the one after."""
    child = start_python(_ENSURE, str(data_dir))
    child.wait_for_line("ready")
    return child


def ensured(child: Child) -> tuple[int, bool]:
    """The pid of the server that it ensured, and whether it owns it."""
    found = child.wait_for_line(r"server (\d+) (True|False)")
    return int(found[1]), found[2] == "True"


def lock_is_free(data_dir: Path) -> bool:
    """Whether nobody holds the lock of a data directory."""
    with open(data_dir / "server.lock", "rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def short_temp(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A temporary directory for sockets; pytest's own may be too long for one."""
    with tempfile.TemporaryDirectory(prefix="sq") as path:
        monkeypatch.setattr("tempfile.tempdir", path)
        yield Path(path).resolve()


@pytest.fixture
def sleeping_server(data_dir: Path) -> Iterator[EmbeddedServer]:
    """A server that holds its lock and does not answer."""
    with EmbeddedServer.ensure(data_dir) as server:
        os.kill(server.pid, signal.SIGSTOP)
        yield server
        os.kill(server.pid, signal.SIGKILL)
