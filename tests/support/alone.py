"""Tests side by side, and those that are to have the machine for themselves.

`make test` lets several processes of pytest run tests at once. Each holds `machine` shared while it
runs a test that is like most, and exclusively for those of `ALONE`. To ask for `machine` takes
`gate`, so that who waits to be alone is next: others would pass for ever.

A process that dies leaves no lock behind.
"""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import IO

__all__ = ["ALONE", "Turns", "is_alone"]

#: They measure times, or load every core by themselves. (Not a mark, for who distributes the tests
#: knows their names only.)
ALONE = (
    "tests/integration/end_to_end/",
    "tests/integration/faults/test_busy_interpreter.py",
    "tests/integration/faults/test_early_deaths.py",
    "tests/integration/faults/test_idle.py",
)


def is_alone(nodeid: str) -> bool:
    """Whether nothing else may run beside this test."""
    return nodeid.startswith(ALONE)


class Turns:
    """When the tests of one process may run.

    Args:
        folder: where the locks are, the same for all processes of one run.
    """

    def __init__(self, folder: Path) -> None:
        self._gate: IO[bytes] = open(folder / "gate.lock", "ab")  # noqa: SIM115 - see `close`
        self._machine: IO[bytes] = open(folder / "machine.lock", "ab")  # noqa: SIM115 - see `close`
        self._is_alone = False

    def begin(self, *, alone: bool) -> None:
        """Wait for the turn of the next test."""
        if self._is_alone and alone:
            return  # still: another turn between the two would cost two waits
        fcntl.flock(self._gate, fcntl.LOCK_EX)
        fcntl.flock(self._machine, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(self._gate, fcntl.LOCK_UN)
        self._is_alone = alone

    def end(self, *, keep: bool) -> None:
        """The test has ended; with `keep` the next one wants to be alone too."""
        if not (keep and self._is_alone):
            # Said, not left to closing: a child that was forked has the file open too.
            fcntl.flock(self._machine, fcntl.LOCK_UN)
            self._is_alone = False

    def close(self) -> None:
        self.end(keep=False)
        self._gate.close()
        self._machine.close()
