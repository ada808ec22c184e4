"""Orders of events of the second machine that chance finds rarely."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from tests.integration.state_machine import endings
from tests.integration.state_machine.endings import Ending
from tests.integration.state_machine.owned_machine import OwnedMachine
from tests.integration.state_machine.owned_process import OwnedProcess, members_of

from streamatiq.broker.delivery import Delivery

__all__ = ["ORDERS"]

UNDECIDED = Ending("undecided", 0, False, ())
HAPPENED = Ending("done", 0, True, ())


def _process(machine: OwnedMachine, which: int = 0) -> OwnedProcess:
    return cast("OwnedProcess", machine.processes[which])


def _publish(machine: OwnedMachine, numbers: list[int]) -> None:
    machine.publish(numbers, 0, 0)
    machine.verify()


def _take(machine: OwnedMachine, process: OwnedProcess, group: str) -> list[Delivery]:
    before = len(process.held)
    machine.take(process, group, machine.sources(group), room=20)
    return process.held[before:]


def _end(machine: OwnedMachine, process: OwnedProcess, one: Delivery, ending: Ending) -> None:
    machine.commit(process, machine._ended(process, process.held.index(one), [ending]))
    machine.verify()


def _two(machine: OwnedMachine) -> tuple[OwnedProcess, OwnedProcess]:
    machine.start_process()
    return _process(machine, 0), _process(machine, 1)


def busy_in_a_batch(machine: OwnedMachine) -> None:
    """What is behind an event that waits for its business key waits for it, too."""
    _publish(machine, [1, 25, 33])
    process = _process(machine)
    (batch,) = _take(machine, process, "bars")
    assert len(members_of(batch)) == 3
    _end(machine, process, batch, endings.DONE)


def taken_over_while_it_runs(machine: OwnedMachine) -> None:
    """The new owner waits for what its predecessor runs, and is woken when that is settled."""
    _publish(machine, [0, 4, 2, 6, 12])
    first, second = _two(machine)
    running = _take(machine, first, "orders")
    for one in running:
        assert machine.start(first, one)
    for _ in range(2):
        for process in (first, second):
            machine.take(process, "orders", machine.sources("orders"), room=20)
    assert {one.consumer for one in first.held} == {first.name}
    for one in list(second.held):
        machine.start(second, one)
    for one in running:
        _end(machine, first, one, endings.RETRY if one is running[0] else endings.DONE)
    for process in (second, first):
        machine.take(process, "orders", machine.sources("orders"), room=20)
        for one in list(process.held):
            if one not in process.begun:
                machine.start(process, one)


def retry_of_a_predecessor(machine: OwnedMachine) -> None:
    """A retry that waits for its time holds up its key with the next owner, too."""
    _publish(machine, [0, 12, 24, 2])
    first, second = _two(machine)
    for one in _take(machine, first, "orders"):
        _end(machine, first, one, endings.LATER)
    machine._die(first)
    machine.bury(second, first.name)
    for one in _take(machine, second, "orders"):
        _end(machine, second, one, endings.DONE)
    machine.make_due("orders", [])
    for one in _take(machine, second, "orders"):
        _end(machine, second, one, endings.DONE)


def declared_dead_and_going_on(machine: OwnedMachine) -> None:
    """Under a name that was fenced nothing is fetched, reserved, or settled, and no token given."""
    _publish(machine, [1, 2, 13, 14])
    first, second = _two(machine)
    held = _take(machine, first, "orders")
    machine.bury(second, first.name)
    for place in range(len(held)):
        machine.ask_for_token(0, place, 0)
    machine.take(second, "orders", machine.sources("orders"), room=20)
    for one in list(second.held):
        machine.start(second, one)
    for one in held:
        _end(machine, first, one, endings.EMITS)
    _take(machine, first, "orders")


def uncertain_letters(machine: OwnedMachine) -> None:
    """A process dies with a key reserved: a letter, which runs once it is requeued."""
    _publish(machine, [1, 13])
    first, second = _two(machine)
    for one in _take(machine, first, "notes"):
        machine.start(first, one)
    machine._die(first)
    machine.bury(second, first.name)
    for one in _take(machine, second, "notes"):
        _end(machine, second, one, endings.DONE)
    machine.requeue("notes", 0, 0)
    machine.verify()
    for one in _take(machine, second, "notes"):
        _end(machine, second, one, endings.DONE)


def uncertain_and_asked(machine: OwnedMachine) -> None:
    """Who may have done its work is asked for, and not run again."""
    _publish(machine, [1, 25, 5])
    process = _process(machine)
    for ending in (UNDECIDED, HAPPENED, endings.DONE):
        for one in _take(machine, process, "orders"):
            _end(machine, process, one, ending)
        machine.make_due("orders", [])


def one_probe(machine: OwnedMachine) -> None:
    """Two processes ask for the place of the probe."""
    _publish(machine, [0, 1, 2, 3])
    first, second = _two(machine)
    machine.rebalance(1, 2, 4)
    machine.probe("orders", 0, 0)
    for process in (first, second):
        for one in list(process.held):
            if one not in process.begun:
                machine.begin_handler(machine.processes.index(process), 0, 3)
                break


def suspects_in_order(machine: OwnedMachine) -> None:
    """What may have killed its workers runs alone, and before what is behind it."""
    _publish(machine, [0, 12, 24])
    for _ in range(2):
        dead = _process(machine)
        _take(machine, dead, "orders")
        machine._die(dead)
        machine.bury(_process(machine), dead.name)
        machine.verify()
    process = _process(machine)
    for _ in range(4):
        for one in _take(machine, process, "orders"):
            _end(machine, process, one, endings.DONE)


def older_retry_of_a_quote(machine: OwnedMachine) -> None:
    """A retry is not handled after what is newer."""
    _publish(machine, [0])
    process = _process(machine)
    (one,) = _take(machine, process, "quotes")
    _end(machine, process, one, endings.LATER)
    _publish(machine, [4, 8, 12])
    for one in _take(machine, process, "quotes"):
        _end(machine, process, one, endings.DONE)
    machine.make_due("quotes", [])
    for one in _take(machine, process, "quotes"):
        _end(machine, process, one, endings.DONE)


def ownership_is_lost(machine: OwnedMachine) -> None:
    """A server that lost its last writes does not know the owner any more; another one takes it."""
    _publish(machine, [0, 1])
    first, second = _two(machine)
    machine.take(first, "orders", machine.sources("orders"), room=1)
    for source in machine.sources("orders"):
        machine.example.admin.delete(source.keys.owner)
        machine.model.sources[source.keys.entries, "orders"].owner = ""
    machine.read(second, "orders", most=1)
    assert any(second.believes(source) for source in machine.sources("orders"))
    machine.read(first, "orders", most=9, shares=False)
    for process in (first, second, first):
        machine.read(process, "orders", most=9)


def forgotten_under_a_run(machine: OwnedMachine) -> None:
    """A business key is forgotten while its run goes on, and another event's run is done."""
    _publish(machine, [1, 25])
    first, second = _two(machine)
    machine.take(first, "notes", machine.sources("notes"), room=1)
    (one,) = first.held
    machine.start(first, one)
    for source in machine.sources("notes"):
        machine.example.admin.delete(source.keys.keys)
        machine.model.sources[source.keys.entries, "notes"].keys.young.clear()
    machine.order.forget_keys()
    for other in _take(machine, second, "notes"):
        _end(machine, second, other, endings.EMITS)
    _end(machine, first, one, endings.EMITS)


ORDERS: list[Callable[[OwnedMachine], None]] = [
    busy_in_a_batch,
    taken_over_while_it_runs,
    retry_of_a_predecessor,
    declared_dead_and_going_on,
    uncertain_letters,
    uncertain_and_asked,
    one_probe,
    suspects_in_order,
    older_retry_of_a_quote,
    ownership_is_lost,
    forgotten_under_a_run,
]
