"""The `streamatiq` command: thin, one module a command."""

from __future__ import annotations

import signal
import threading

# Ctrl-C while the rest is imported ends the process without a traceback; `main` handles it later.
_main_thread = threading.current_thread() is threading.main_thread()
_handler = signal.signal(signal.SIGINT, signal.SIG_DFL) if _main_thread else None

# The parent import guards the layout: a bare import from the repository's root must fail.
from ..errors import StreamatiqError as StreamatiqError  # noqa: E402 - after the signal
from ._main import main  # noqa: E402 - after the signal
from ._state import settings_from  # noqa: E402 - after the signal

if _handler is not None:
    signal.signal(signal.SIGINT, _handler)

__all__ = ["main", "settings_from"]
