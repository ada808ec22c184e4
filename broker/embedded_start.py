"""Starting or adopting: one loop that asks "who answers on this directory's socket?".

The child waits for the lock, so there is no probing of the lock and no decision to get wrong: if it
becomes the server it is the one that answers, else an older one is. In `start_or_adopt`:

    1. a server answers whose owner lives: adopt it, no child is needed (the common case)
    2. spawn the child
    3. until the time-out: the child answers -> owned; another answers -> end the child, adopt;
       the child ended -> tell why

A server whose owner was just killed answers for another tenth of a second before it heeds the
signal. So one without a living owner is adopted only after a grace of 1 s, if it then still
answers: its owner is out of sight (another container), or the system has no parent-death signal.

Nothing is shared between calls; two threads that race here behave like two processes.
"""

from __future__ import annotations

import json
import os
import re
import select
import shlex
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from ..errors import EmbeddedServerError
from . import embedded_files as files
from .embedded_binary import find_server_binary
from .embedded_spawn import spawn

__all__ = ["LOOPBACK", "Found", "short_client", "start_or_adopt"]

#: Seconds between two looks at the starting server: nothing tells us when it listens.
_POLL_S = 0.01
#: Seconds that one answer may take: a hanging server must not use up the whole time-out.
_ANSWER_TIMEOUT_S = 1.0
#: Seconds in which a server whose owner is gone has to end, before it counts as staying.
_ORPHAN_GRACE_S = 1.0
#: Starts with another free port, if somebody takes the chosen one first.
_FREE_PORT_ATTEMPTS = 5
#: What a server's log says of data that it cannot read.
_DAMAGED = ("Bad file format", "AOF format error", "Unrecoverable error", "Error reading")
_STUB = Path(__file__).with_name("embedded_stub.py")
#: The only interface that a TCP port is opened on.
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Found:
    """A server that answers; `process` is set if this call started it."""

    data_dir: Path
    info: files.ServerInfo
    process: subprocess.Popen[bytes] | None


class _PortTaken(EmbeddedServerError):
    """The server could not bind its TCP port."""


def start_or_adopt(data_dir: Path | str, *, start_timeout_s: float, port: int | None) -> Found:
    """Do what `EmbeddedServer.ensure` promises."""
    deadline = time.monotonic() + start_timeout_s
    path = files.prepare_directory(data_dir)
    running = _answering(path)
    if running is not None and _lives(running.owner_pid):
        return _adopt(path, running, port)
    attempts = _FREE_PORT_ATTEMPTS if port == 0 else 1
    while True:
        attempts -= 1
        try:
            return _start(path, port, deadline, start_timeout_s)
        except _PortTaken:
            if attempts == 0:
                raise


def _start(path: Path, port: int | None, deadline: float, start_timeout_s: float) -> Found:
    chosen = _free_port() if port == 0 else port
    child = _spawn_server(path, chosen)
    grace_end = time.monotonic() + _ORPHAN_GRACE_S
    try:
        while time.monotonic() < deadline:
            running = _answering(path)
            if running is not None and running.pid == child.pid:
                assert child.stderr is not None  # a pipe, by `spawn`
                child.stderr.close()
                return Found(path, running, child)
            if running is not None and (_lives(running.owner_pid) or time.monotonic() > grace_end):
                _end(child)
                return _adopt(path, running, port)
            if child.poll() is not None:
                raise _why_it_died(path, child, chosen)
            time.sleep(_POLL_S)
        raise _why_no_answer(path, child, start_timeout_s)
    except BaseException:
        _end(child)
        raise


def _spawn_server(path: Path, port: int | None) -> subprocess.Popen[bytes]:
    binary = find_server_binary()
    at = files.socket_path(path)
    argv = [str(binary), "--port", str(port or 0), "--bind", LOOPBACK, "--protected-mode", "yes"]
    argv += ["--unixsocket", at, "--unixsocketperm", "700", "--daemonize", "no"]
    argv += ["--appendonly", "yes", "--appendfsync", "everysec", "--appenddirname", files.DATA]
    argv += ["--save", "", "--maxmemory-policy", "noeviction"]
    argv += ["--loglevel", "notice", "--logfile", ""]
    spec: dict[str, Any] = {
        "parent_pid": os.getpid(),
        "data_dir": str(path),
        "lock": files.LOCK,
        "info_path": files.INFO,
        "log": files.LOG,
        "argv": argv,
        "info": {"socket": at, "port": port, "owner_pid": os.getpid()},
    }
    try:
        # Isolated and without site: it needs nothing of this environment, and starts in 20 ms.
        return spawn([sys.executable, "-I", "-S", str(_STUB), json.dumps(spec)])
    except OSError as error:
        raise EmbeddedServerError(
            f"the embedded server on {path} could not be spawned with {sys.executable!r} "
            f"({error.strerror}); free memory or processes, or repair the Python installation"
        ) from error


def _answering(path: Path) -> files.ServerInfo | None:
    """The server that the info file names, if it answers and has loaded its data."""
    info = files.read_info(path)
    if info is None:
        return None
    try:
        with short_client(path, info) as client:
            said = client.info("server", "persistence")
    except redis.RedisError:
        return None  # not there, hanging or loading: the caller looks again until its time-out
    same = said["process_id"] == info.pid
    return info if same and not said["loading"] and not said.get("async_loading") else None


def short_client(path: Path, info: files.ServerInfo) -> redis.Redis:
    """A client for one question to a server that may hang: no retries, 1 s for the answer."""
    return redis.Redis(
        unix_socket_path=str(path / info.socket),
        protocol=2,
        socket_timeout=_ANSWER_TIMEOUT_S,
        socket_connect_timeout=_ANSWER_TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
    )


def _lives(pid: int) -> bool:
    """Whether a process lives. One that has ended and was not reaped does not, where we can see."""
    try:
        if sys.platform != "linux":
            os.kill(pid, 0)
            return True
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # another user's
    try:
        watch = select.poll()
        watch.register(pidfd, select.POLLIN)
        return not watch.poll(0)
    finally:
        os.close(pidfd)


def _adopt(path: Path, running: files.ServerInfo, port: int | None) -> Found:
    if port is not None and (running.port is None or port not in (0, running.port)):
        has = f"on TCP port {running.port}" if running.port else "without a TCP port"
        raise EmbeddedServerError(
            f"the embedded server on {path} already runs (pid {running.pid}) {has}, but port={port}"
            f" was asked for; stop it first (its owner is process {running.owner_pid}), or ask for "
            "port=None and use its unix socket"
        )
    return Found(path, running, None)


def _end(child: subprocess.Popen[bytes]) -> None:
    """End a child that is not needed; it has confirmed nothing to anybody, so at once."""
    if child.poll() is None:
        child.kill()
    child.wait()
    assert child.stderr is not None  # a pipe, by `spawn`
    child.stderr.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        free: int = probe.getsockname()[1]
        return free


def _why_it_died(
    path: Path, child: subprocess.Popen[bytes], port: int | None
) -> EmbeddedServerError:
    assert child.stderr is not None  # a pipe, by `spawn`
    told = child.stderr.read().decode("utf-8", "replace").strip()
    if told:
        return EmbeddedServerError(
            f"the embedded server on {path} could not be started: {told}. Check that the directory "
            "is writable and the server program can be run, or choose another directory"
        )
    tail = files.log_tail(path)
    died = f"the embedded server on {path} died at its start (exit status {child.returncode})"
    if port is not None and "Address already in use" in tail:
        return _PortTaken(f"{died}: TCP port {port} is in use; choose another, or 0 for a free one")
    if any(sign in tail for sign in _DAMAGED):
        return EmbeddedServerError(
            f"{died}: its data cannot be read. Copy {path / files.DATA} away, "
            f"then {_cut(path, tail)}"
            f"start with an empty directory. Its log ends:\n{tail}"
        )
    return EmbeddedServerError(
        f"{died}; mend what its log names, then start again. {path / files.LOG} ends:\n{tail}"
    )


def _cut(path: Path, tail: str) -> str:
    """How to cut a damaged file at its first bad record; empty where the log names no such file.

    On the file and not on its manifest: Valkey 9.1's checker takes its own base file for damaged.
    """
    named = re.search(r"append only file (\S+\.incr\.aof)", tail)
    if named is None:
        return ""
    binary = shlex.quote(str(find_server_binary()))
    file = shlex.quote(str(path / files.DATA / named[1]))
    return (
        "cut it at its first damaged record by this line in bash: "
        f"(exec -a valkey-check-aof {binary} --fix {file}) - or "
    )


def _why_no_answer(
    path: Path, child: subprocess.Popen[bytes], start_timeout_s: float
) -> EmbeddedServerError:
    info = files.read_info(path)
    if info is not None and info.pid == child.pid:
        return EmbeddedServerError(
            f"the embedded server on {path} (pid {info.pid}) was started but did not answer within "
            f"{start_timeout_s:g} s, and was ended; if it loads much data, raise start_timeout_s. "
            f"{path / files.LOG} ends:\n{files.log_tail(path)}"
        )
    holder = f"process {info.pid}" if info is not None else "another process"
    return EmbeddedServerError(
        f"the data directory {path} is held by {holder}, which did not answer or end within "
        f"{start_timeout_s:g} s; wait for its end, or end it (fuser {path / files.LOCK} names it)"
    )
