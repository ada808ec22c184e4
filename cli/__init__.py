"""The `streamatiq` command: thin, one module a command."""

from __future__ import annotations

# The parent import guards the layout: a bare import from the repository's root must fail.
from ..errors import StreamatiqError as StreamatiqError
from ._main import main
from ._state import settings_from

__all__ = ["main", "settings_from"]
