"""Rules: halts and breakers change, and processes hear of it at their own pace."""

from __future__ import annotations

from tests.integration.state_machine.owning import Owning

__all__ = ["Guarding"]


class Guarding(Owning):
    """See the module."""
