"""The folder in which the processes of one `dramatiq` command meet: each writes, one serves.

`STREAMATIQ_METRICS_DIR` names it. Otherwise each run of a command has its own below the temporary
directory, named by the command's main process; what dead runs have left there is removed when a new
one begins. A program that runs a worker without the command has a folder of its own too.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import stat
import sys
import tempfile
from pathlib import Path

from .metric_files import is_alive, process_id

__all__ = ["metrics_folder", "prepare_folder"]

#: Names the folder.
VARIABLE = "STREAMATIQ_METRICS_DIR"


def metrics_folder() -> Path:
    """The folder of this process: the same in all processes of a `dramatiq` command."""
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named)
    parent = multiprocessing.parent_process()
    # A program of the user's that starts processes by itself is no such command.
    is_command = "dramatiq.cli" in sys.modules and parent is not None and parent.pid is not None
    owner = parent.pid if is_command and parent is not None and parent.pid else os.getpid()
    return _base() / process_id(owner)


def _base() -> Path:
    return Path(tempfile.gettempdir()) / f"streamatiq-metrics-{os.getuid()}"


def prepare_folder(folder: Path) -> None:
    """Makes the folder, and removes those of dead runs beside it, unless it was named.

    Raises:
      OSError: It cannot be made, or belongs to somebody else.
    """
    base = _base()
    if folder.parent != base:
        folder.mkdir(parents=True, exist_ok=True)
        return
    base.mkdir(mode=0o700, exist_ok=True)
    found = base.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        # Anybody may make this name in a shared temporary directory.
        raise PermissionError(
            f"{base} belongs to somebody else, or is no directory. Remove it, or name a directory "
            f"in {VARIABLE}."
        )
    folder.mkdir(mode=0o700, exist_ok=True)
    for other in base.iterdir():
        if not is_alive(other.name):
            shutil.rmtree(other, ignore_errors=True)
