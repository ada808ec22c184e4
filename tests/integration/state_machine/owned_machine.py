"""The second state machine: partitions with owners, and what guards their events.

Its rules are in the modules that it is derived from: `ticking` (what is published), `owning`,
`running`, `requeuing`, `guarding`; and those that it shares with the first one, from `surroundings`
on. `mirror` lets the model follow the product's script calls, `order_ledger` keeps what was
promised. `owned_orders` and `keyed_orders` are orders of events that chance finds rarely.
"""

from __future__ import annotations

from tests.integration.state_machine.guarding import Guarding

__all__ = ["OwnedMachine"]


class OwnedMachine(Guarding):
    """All rules."""
