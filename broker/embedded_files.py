"""What the embedded server keeps in its data directory, and who may touch it.

    server.lock      flock'ed by the server from before its start to its very end; never deleted,
                     since two processes could then hold "the" lock of two different files
    server.json      pid, socket, port, owner of the running server, and the inode of the lock that
                     it holds: in a copied directory the inode differs, and the file is not believed
    server.sock      the socket, unless the path is too long for one (see `socket_path`)
    server.log       the server's own log, appended; server.log.1 is the one before
    appendonlydir/   the data

Everything here is a pure function of the directory: no state, safe from any thread or process.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ..errors import EmbeddedServerError

__all__ = [
    "DATA",
    "INFO",
    "LOCK",
    "LOG",
    "LOG_START",
    "SOCKET",
    "ServerInfo",
    "embedded_url_path",
    "log_tail",
    "prepare_directory",
    "read_info",
    "socket_path",
]

LOCK = "server.lock"
INFO = "server.json"
SOCKET = "server.sock"
LOG = "server.log"
DATA = "appendonlydir"

#: The line with which `embedded_stub` begins each server's part of the log.
LOG_START = "--- start"

_SCHEME = "embedded://"
#: Longest socket path in bytes: sun_path less its final zero (108 on Linux, 104 on BSD and macOS).
_MAX_SOCKET_PATH_BYTES = 107 if sys.platform == "linux" else 103
#: Bytes of the log's end that are looked at for an error message.
_LOG_TAIL_BYTES = 4096


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """The content of the info file."""

    pid: int
    #: Of the socket, inside the data directory or absolute.
    socket: str
    #: On the loopback interface; None without TCP.
    port: int | None
    #: The process that started the server and with which it ends.
    owner_pid: int
    lock_inode: int


def embedded_url_path(url: str) -> Path:
    """Return the directory that an `embedded://PATH` URL names.

    `embedded://.streamatiq/data` is relative to the working directory, `embedded:///var/lib/x` is
    absolute, a leading `~` is the home directory. Nothing is unquoted: the rest is the path.

    Raises:
        EmbeddedServerError: another scheme, or no path.
    """
    path = url.removeprefix(_SCHEME)
    if path == url or not path:
        raise EmbeddedServerError(
            f"{url!r} does not name an embedded server; write embedded://PATH, for example "
            "embedded://.streamatiq/data or embedded:///var/lib/streamatiq"
        )
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise EmbeddedServerError(
            f"{url!r}: the home directory is not known ({error}); write the path out"
        ) from error


def prepare_directory(data_dir: Path | str) -> Path:
    """Create the directory if needed (mode 700), look for foreign files; return its real path.

    Raises:
        EmbeddedServerError: it cannot be made or written, or holds a file that is not ours.
    """
    path = Path(data_dir).expanduser()
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = path.resolve(strict=True)
    except OSError as error:
        raise EmbeddedServerError(
            f"the data directory {path} cannot be made ({error.strerror}); choose another one in "
            "redis.url (embedded://PATH)"
        ) from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise EmbeddedServerError(
            f"the data directory {path} is not writable for this user (uid {os.getuid()}); "
            "change its owner or mode, or choose another one in redis.url (embedded://PATH)"
        )
    for name, kind, is_ours in (
        (LOCK, "a file", stat.S_ISREG),
        (INFO, "a file", stat.S_ISREG),
        (LOG, "a file", stat.S_ISREG),
        (SOCKET, "a socket", stat.S_ISSOCK),
        (DATA, "a directory", stat.S_ISDIR),
    ):
        try:
            mode = (path / name).stat().st_mode
        except FileNotFoundError:
            continue
        if not is_ours(mode):
            raise EmbeddedServerError(
                f"{path / name} is in the way: the embedded server needs {kind} of that name; "
                "move it elsewhere, or choose another data directory"
            )
    return path


def read_info(data_dir: Path) -> ServerInfo | None:
    """Return what the info file says, or None where it speaks of no server of this directory.

    That the server lives is not implied: only an answer on its socket shows that.

    Raises:
        EmbeddedServerError: the file is not one of ours, or cannot be read.
    """
    path = data_dir / INFO
    try:
        found = json.loads(path.read_bytes())
        info = ServerInfo(**found)
        return info if (data_dir / LOCK).stat().st_ino == info.lock_inode else None
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise EmbeddedServerError(
            f"{path} was not written by the embedded server, or cannot be read ({error}); "
            "move it elsewhere, or choose another data directory"
        ) from error


def socket_path(data_dir: Path) -> str:
    """Return where the server's socket goes: its name in `data_dir`, or a short absolute path.

    The short one is in a directory of mode 700 below the temporary directory, named by a hash of
    `data_dir`, so that every process finds the same one.

    Raises:
        EmbeddedServerError: the short directory belongs to another user, or is too long as well.
    """
    if len(os.fsencode(data_dir / SOCKET)) <= _MAX_SOCKET_PATH_BYTES:
        return SOCKET
    digest = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]
    short_dir = Path(tempfile.gettempdir()).resolve() / f"streamatiq-{os.getuid()}-{digest}"
    short = short_dir / "s"
    if len(os.fsencode(short)) > _MAX_SOCKET_PATH_BYTES:
        raise EmbeddedServerError(
            f"no room for a socket: {data_dir / SOCKET} and {short} are both longer than "
            f"{_MAX_SOCKET_PATH_BYTES} bytes; choose a shorter data directory, or set TMPDIR"
        )
    try:
        short_dir.mkdir(mode=0o700, exist_ok=True)
        found = short_dir.lstat()
    except OSError as error:
        raise EmbeddedServerError(
            f"the socket directory {short_dir} cannot be made ({error.strerror}); "
            "choose a shorter data directory, or set TMPDIR"
        ) from error
    # Anybody may make a directory there; another user's would let him listen in our place.
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise EmbeddedServerError(
            f"{short_dir} is not a private directory of this user (uid {os.getuid()}); "
            "remove it, choose a shorter data directory, or set TMPDIR"
        )
    return str(short)


def log_tail(data_dir: Path, lines: int = 6) -> str:
    """Return the last lines that the last server logged; empty if there is no log."""
    try:
        with open(data_dir / LOG, "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _LOG_TAIL_BYTES))
            text = file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.rpartition(f"{LOG_START}\n")[2].splitlines()[-lines:])
