"""The server that the settings name, for commands that only look: none is started for a look."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

import redis

from ..broker.connections import Endpoint
from ..broker.embedded import embedded_url_path
from ..broker.embedded_files import DATA, INFO, read_info
from ..broker.embedded_start import short_client
from ..errors import BrokerConnectionError, EmbeddedServerError

__all__ = ["refuse_new", "running"]


def refuse_new(url: str) -> None:
    """Refuses an embedded:// URL of a directory in which no server has ever run: starting one there
    would show an empty server where a wrong path is meant to be noticed. Creates nothing.

    Raises:
      EmbeddedServerError: It has not.
    """
    if url.startswith("embedded://"):
        _used_directory(url)


def running(url: str) -> Endpoint:
    """The server at `url`; an embedded one that runs already. Starts and creates nothing.

    Raises:
      EmbeddedServerError: No embedded server has ever been started there.
      BrokerConnectionError: The embedded server does not run, or does not answer.
      ConfigurationError: The URL is malformed.
    """
    if not url.startswith("embedded://"):
        return Endpoint(url)
    path = _used_directory(url)
    info = read_info(path)
    if info is not None:
        try:
            with short_client(path, info) as client:
                client.ping()
        except redis.RedisError as error:
            trouble = f" ({error})"
        else:
            return Endpoint(f"unix://{quote(str(path / info.socket))}")
    else:
        trouble = ""
    raise BrokerConnectionError(
        f"The embedded server at {path} is not running, or does not answer{trouble}. It ends with "
        "the process that started it: start a worker."
    )


def _used_directory(url: str) -> Path:
    path = Path(os.path.realpath(embedded_url_path(url)))
    # Not Path.exists(), which raises where this user may not look.
    if any(os.path.exists(path / name) for name in (INFO, DATA)):
        return path
    raise EmbeddedServerError(
        f"No embedded server has been started at {path}. Is the path in redis.url right? "
        "A relative one begins at the working directory."
    )
