"""The default broker for Dramatiq's command line, where nobody could catch an error."""

from __future__ import annotations

import dramatiq.broker
from dramatiq.logging import get_logger

from ..errors import StreamatiqError
from .defaults import default_broker
from .loader import EXIT_IMPORT

__all__ = ["set_broker_for_command_line"]


def set_broker_for_command_line() -> None:
    """Sets the default broker unless the application has set one.

    Raises:
      SystemExit: The settings are wrong; one line was logged.
    """
    if dramatiq.broker.global_broker is not None:
        return
    try:
        default_broker()
    except StreamatiqError as error:
        get_logger(__name__).critical("%s", error)
        raise SystemExit(EXIT_IMPORT) from None
