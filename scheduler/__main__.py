"""`python -m streamatiq.scheduler`: as `streamatiq scheduler`."""

from __future__ import annotations

import logging
import sys

from ..errors import ConfigurationError, StreamatiqError
from ..settings import Settings
from .main import run_scheduler


def _main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    try:
        return run_scheduler(Settings.load())
    except StreamatiqError as error:
        print(f"streamatiq: error: {error}", file=sys.stderr)  # noqa: T201 - a program's message
        return 2 if isinstance(error, ConfigurationError) else 1


if __name__ == "__main__":
    sys.exit(_main())
