"""What keeps a worker process from starting: one clear line of ours under the `dramatiq` command,
no traceback of ours, and an exit status that is not 0."""

from __future__ import annotations

import re
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
from tests.conftest import OwnServer
from tests.integration.faults.servers import PrivateServer
from tests.support.processes import Child, Finished

#: A line of the log that comes from our own loggers.
_OURS = re.compile(r"\[streamatiq\.[^\]]*\] \[(?:CRITICAL|ERROR|WARNING)\] (.*)")
_GOOD = """
from streamatiq import Event, on

class Good(Event, type="boot.good"):
    pass

@on(Good, name="boot")
def boot(event):
    pass
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "good_handlers.py").write_text(_GOOD)
    return tmp_path


def _begin(place: Path, modules: str = "streamatiq.workers", **env: str) -> Child:
    """Start `dramatiq MODULES`. It takes a second or more to end, so that cases run beside."""
    command = str(Path(sys.executable).with_name("dramatiq"))
    settings = {
        "STREAMATIQ_WORKERS__HANDLERS": '["good_handlers"]',
        "STREAMATIQ_REDIS__RETRY_DELAY": "0.01",
        **env,
    }
    return Child([command, "--processes", "1", "--threads", "1", modules], env=settings, cwd=place)


def _start(place: Path, modules: str = "streamatiq.workers", **env: str) -> Finished:
    """Run `dramatiq MODULES` to its end."""
    return _begin(place, modules, **env).wait()


def _only_line(finished: Finished) -> str:
    """Our one line; the rest is Dramatiq's own, and there is no traceback."""
    ours = _OURS.findall(finished.stderr)
    assert len(ours) == 1, finished.stderr
    assert "Traceback" not in finished.stderr
    assert 'File "' not in finished.stderr
    assert finished.returncode != 0
    return str(ours[0])


#: With our module, which reads the settings, and with one that has handlers.
_MODULES = ("streamatiq.workers", "good_handlers")


def test_a_wrong_url(place: Path) -> None:
    url = {"STREAMATIQ_REDIS__URL": "http://somewhere:1"}
    for child in [_begin(place, modules, **url) for modules in _MODULES]:
        line = _only_line(child.wait())
        assert "STREAMATIQ_REDIS__URL" in line
        assert "'http://somewhere:1'" in line
        assert "redis://" in line


def test_a_refused_connection(place: Path) -> None:
    url = {"STREAMATIQ_REDIS__URL": "redis://:secret@127.0.0.1:1/0"}
    for child in [_begin(place, modules, **url) for modules in _MODULES]:
        finished = child.wait()
        line = _only_line(finished)
        assert "127.0.0.1:1" in line
        assert "Is the server running and redis.url right?" in line
        assert "secret" not in finished.stderr


def test_a_wrong_and_a_missing_password(place: Path, own_server: OwnServer) -> None:
    server = own_server("locked", port=0)
    with redis.Redis.from_url(server.url, protocol=2) as client:
        client.config_set("requirepass", "right")
    url = server.tcp_url
    wrong = url.replace("redis://", "redis://:wrong@")
    for child in [_begin(place, STREAMATIQ_REDIS__URL=one) for one in (wrong, url)]:
        finished = child.wait()
        assert "Check user and password in redis.url" in _only_line(finished)
        assert "wrong@" not in finished.stderr


def test_an_eviction_policy_that_throws_events_away(place: Path, private: PrivateServer) -> None:
    with private.client() as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
    line = _only_line(_start(place, STREAMATIQ_REDIS__URL=private.url))
    assert "'allkeys-lru'" in line
    assert "CONFIG SET maxmemory-policy noeviction" in line


def test_a_server_that_is_too_old(place: Path) -> None:
    with _server_of_version("6.2.0") as url:
        line = _only_line(_start(place, STREAMATIQ_REDIS__URL=url))
    assert "is version 6.2.0" in line
    assert "needs Redis 7.0 or newer" in line


def test_a_handler_module_that_does_not_exist(place: Path, redis_url: str) -> None:
    for child, name in [
        (_begin(place, **_handlers(redis_url, name)), name)
        for name in ("no_such_module", "no_such_package.handlers")
    ]:
        line = _only_line(child.wait())
        assert f"{name!r} (workers.handlers) does not exist" in line


def test_a_handler_module_that_raises_keeps_its_own_traceback(place: Path, redis_url: str) -> None:
    cases = {
        "looks_up": (
            "def load():\n    raise LookupError('no tables')\nload()\n",
            "LookupError: no tables",
        ),
        "no_python": ("def load(:\n", "SyntaxError: "),
        "depends": ("import no_such_dependency\n", "ModuleNotFoundError: No module named"),
    }
    children = {}
    for name, (text, _) in cases.items():
        (place / f"{name}.py").write_text(text)
        children[name] = _begin(place, **_handlers(redis_url, name))
    for name, (_, last) in cases.items():
        finished = children[name].wait()
        assert finished.returncode != 0
        (line,) = _OURS.findall(finished.stderr)
        assert f"{name!r} (workers.handlers) raised" in line
        frames = re.findall(r'File "([^"]*)"', finished.stderr)
        assert {Path(one).name for one in frames} == {f"{name}.py"}
        after = finished.stderr.partition(line)[2].lstrip("\n")
        assert after.startswith(("Traceback", '  File "'))
        assert last in after


def test_no_handlers(place: Path, redis_url: str) -> None:
    settings = {"STREAMATIQ_REDIS__URL": redis_url, "STREAMATIQ_WORKERS__HANDLERS": "[]"}
    line = _only_line(_start(place, **settings))
    assert "No handlers to run" in line
    assert "workers.handlers" in line


def test_several_wrong_settings_are_told_together(place: Path) -> None:
    finished = _start(
        place,
        STREAMATIQ_REDIS__URL="http://x",
        STREAMATIQ_REDIS__MAX_RETRIES="many",
    )
    assert finished.returncode != 0
    (first,) = _OURS.findall(finished.stderr)
    assert "2 settings are wrong" in first
    assert "STREAMATIQ_REDIS__URL" in finished.stderr
    assert "STREAMATIQ_REDIS__MAX_RETRIES" in finished.stderr
    assert "Traceback" not in finished.stderr


def _handlers(url: str, name: str) -> dict[str, str]:
    return {"STREAMATIQ_REDIS__URL": url, "STREAMATIQ_WORKERS__HANDLERS": f'["{name}"]'}


@contextmanager
def _server_of_version(version: str) -> Iterator[str]:
    """A server that greets everybody, and says that it is of `version`. Yields its URL."""
    info = f"# Server\r\nredis_version:{version}\r\nrun_id:0\r\n".encode()

    def serve(client: socket.socket) -> None:
        with client, client.makefile("rb") as lines:
            while header := lines.readline():
                words = []
                for _ in range(int(header[1:])):
                    length = int(lines.readline()[1:])
                    words.append(lines.read(length + 2)[:-2].upper())
                if words[0] == b"INFO":
                    client.sendall(b"$%d\r\n%b\r\n" % (len(info), info))
                else:
                    client.sendall(b"+OK\r\n")

    def accept() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return  # closed
            threading.Thread(target=serve, args=(client,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        acceptor = threading.Thread(target=accept, daemon=True)
        acceptor.start()
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        acceptor.join()
