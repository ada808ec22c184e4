"""The second state machine: partitions with owners, and what guards and repeats their events."""

from __future__ import annotations

from tests.integration.state_machine.guarding import Guarding

__all__ = ["OwnedMachine"]


class OwnedMachine(Guarding):
    """All rules."""
