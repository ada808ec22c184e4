"""Loads the handler modules named in the settings when a worker process boots.

`dramatiq streamatiq.workers` imports no handlers by itself. A worker process that has declared none
by the time it boots loads the modules of `workers.handlers`; one that was started with handler
modules of its own (`dramatiq my_handlers`) keeps to those.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence

from dramatiq import Broker
from dramatiq.logging import get_logger
from dramatiq.middleware import Middleware

from ..errors import HandlerModuleError

__all__ = ["HandlerLoader", "load_handlers"]

#: Modules whose frames say nothing about a failing handler module.
_NOT_THEIRS = (__name__, "importlib", "importlib._bootstrap", "importlib._bootstrap_external")
#: Exit code of Dramatiq's command line for a failed import.
EXIT_IMPORT = 2


class HandlerLoader(Middleware):
    """Loads modules when the process boots, if no actor is declared by then.

    Parameters:
      modules: Dotted names.
    """

    def __init__(self, modules: Sequence[str]) -> None:
        self.logger = get_logger(__name__, type(self))
        self.modules = tuple(modules)

    def after_process_boot(self, broker: Broker) -> None:
        """Loads the modules.

        Raises:
          SystemExit: One cannot be loaded; it was logged. Dramatiq swallows other exceptions here.
        """
        if broker.actors:
            return
        if not self.modules:
            self.logger.critical(
                "No handlers to run: name their modules under workers.handlers in the settings, or "
                "start `dramatiq MODULE` with a module that declares some."
            )
            raise SystemExit(EXIT_IMPORT)
        try:
            load_handlers(self.modules)
        except HandlerModuleError as error:
            # The module's own traceback follows the line that names the module.
            self.logger.critical("%s", error, exc_info=_own_traceback(error.__cause__))
            raise SystemExit(EXIT_IMPORT) from None


def load_handlers(modules: Sequence[str]) -> None:
    """Imports handler modules in order.

    Raises:
      HandlerModuleError: One does not exist; or it raises when it is imported, with what it raised
        as the cause.
    """
    for name in modules:
        try:
            found = importlib.util.find_spec(name)
        except ModuleNotFoundError:
            found = None
        if found is None:
            raise HandlerModuleError(
                f"Handler module {name!r} (workers.handlers) does not exist on the Python path. "
                "Check the name, and start the worker where it can be imported."
            )
        try:
            importlib.import_module(name)
        except Exception as error:
            raise HandlerModuleError(
                f"Handler module {name!r} (workers.handlers) raised {type(error).__name__} when it "
                "was imported."
            ) from error


def _own_traceback(error: BaseException | None) -> BaseException | None:
    """`error` with the module's part of its traceback: not our frames and the import system's."""
    if error is None:
        return None
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_globals.get("__name__") in _NOT_THEIRS:
        trace = trace.tb_next
    return error.with_traceback(trace)
