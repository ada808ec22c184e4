"""Ctrl-C as something to wait for, instead of an exception anywhere.

The first signal asks the demo to stop, the second to stop at once, the third ends the process
where it stands (which is safe: see `lifeline`). SIGTERM and SIGHUP mean the same as Ctrl-C. Where
the process waits inside somebody else's code, as for a connection, a signal may raise there:
`interrupting`.

Signal handlers run in the main thread between any two instructions, also inside
`threading.Event.wait`, whose lock `Event.set` would wait for in vain; a pipe has no such lock.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType

__all__ = ["EXIT_INTERRUPTED", "Stop"]

#: Exit code of an interrupted run.
EXIT_INTERRUPTED = 130
#: Seconds after which a wait looks whether the process still has its starter.
LOOK_S = 0.25

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stop:
    """What asks a run to stop. For the main thread.

    Parameters:
      environment: Says whether make has started us. Make's own end by kill -9 then counts as a
        signal, since make cannot pass one on.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._reader, self._writer = os.pipe()
        self._signals = 0
        self._raises = False
        self._starter = os.getppid() if "MAKELEVEL" in environment else None

    def install(self) -> None:
        """Takes the signals over, for the rest of the process."""
        for number in _SIGNALS:
            signal.signal(number, self._on_signal)

    @property
    def requested(self) -> bool:
        """Whether to stop."""
        if self._starter is not None and os.getppid() != self._starter:
            self._starter = None
            self.request()
        return self._signals > 0

    @property
    def urgent(self) -> bool:
        """Whether to stop without waiting for anything."""
        return self._signals > 1

    def request(self) -> None:
        """Asks to stop, as a signal does."""
        self._signals += 1
        os.write(self._writer, b".")

    def wait(self, timeout_s: float) -> bool:
        """Waits until a stop is requested; returns whether it is."""
        deadline = time.monotonic() + timeout_s
        while not self.requested:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            select.select([self._reader], [], [], min(left, LOOK_S))
        return True

    @contextmanager
    def interrupting(self) -> Iterator[None]:
        """In the block, a new signal raises KeyboardInterrupt where the process stands.

        Raises:
          KeyboardInterrupt: There was one.
        """
        self._raises = True
        try:
            yield
        finally:
            self._raises = False

    def close(self) -> None:
        """Closes the pipe. Not while the signals are taken over."""
        os.close(self._reader)
        os.close(self._writer)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.request()
        if self._signals > 2:
            os._exit(EXIT_INTERRUPTED)
        if self._raises:
            self._raises = False
            raise KeyboardInterrupt
