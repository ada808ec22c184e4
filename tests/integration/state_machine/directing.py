"""What the orders of events that are written down have in common."""

from __future__ import annotations

from typing import cast

from tests.integration.state_machine import endings
from tests.integration.state_machine.endings import Ending
from tests.integration.state_machine.owned_machine import OwnedMachine
from tests.integration.state_machine.owned_process import OwnedProcess

from streamatiq.broker.delivery import Delivery
from streamatiq.broker.sources import Source

__all__ = [
    "BACK",
    "HAPPENED",
    "UNDECIDED",
    "end",
    "process_of",
    "publish",
    "take",
    "two",
    "work_off",
]

UNDECIDED = Ending("undecided", 0, False, ())
#: It is done; where it is asked for, it has happened.
HAPPENED = Ending("done", 0, True, ())
BACK = Ending("back", 0, False, ())


def process_of(machine: OwnedMachine, which: int = 0) -> OwnedProcess:
    return cast("OwnedProcess", machine.processes[which])


def publish(machine: OwnedMachine, numbers: list[int]) -> None:
    machine.publish(numbers, 0, 0)
    machine.verify()


def take(machine: OwnedMachine, process: OwnedProcess, group: str) -> list[Delivery]:
    before = len(process.held)
    machine.take(process, group, machine.sources(group), room=20)
    return process.held[before:]


def end(machine: OwnedMachine, process: OwnedProcess, one: Delivery, ending: Ending) -> None:
    machine.commit(process, machine._ended(process, process.held.index(one), [ending]))
    machine.verify()


def two(machine: OwnedMachine) -> tuple[OwnedProcess, OwnedProcess]:
    machine.start_process()
    return process_of(machine, 0), process_of(machine, 1)


def work_off(machine: OwnedMachine, process: OwnedProcess, sources: list[Source]) -> None:
    """A process comes to the end of its partitions by itself."""
    group = sources[0].group
    for _ in range(6):
        take(machine, process, group)
        for one in list(process.held):
            end(machine, process, one, endings.DONE)
    for source in sources:
        state = machine.model.sources[source.keys.entries, group]
        left = (state.unread, state.pending)
        assert not any(left), f"{process.name} does not come to the end of {source.name}: {left}"
