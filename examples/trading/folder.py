"""Where this system keeps its files: the folder that TRADING_DATA names."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

__all__ = ["data_folder", "database"]

#: Seconds that a transaction may wait for those of others.
WAIT_S = 4.0


def data_folder() -> Path:
    """The folder; made if it is not there. Default: `.streamatiq/trading` where we run."""
    folder = Path(os.environ.get("TRADING_DATA", ".streamatiq/trading"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def database(file: str, tables: str) -> Iterator[sqlite3.Connection]:
    """One transaction, alone in its file: committed at the end, or undone if the block raises.

    Parameters:
      file: Name in the folder.
      tables: Statements that make what is not there yet, separated by semicolons.
    """
    path = data_folder() / file
    with closing(sqlite3.connect(path, timeout=WAIT_S, isolation_level=None)) as db:
        # Survives killed processes, as this example needs it; not a power cut.
        db.execute("PRAGMA synchronous = OFF")
        db.execute("BEGIN IMMEDIATE")
        try:
            for statement in tables.split(";"):
                db.execute(statement)
            yield db
        except BaseException:
            db.rollback()
            raise
        db.commit()
