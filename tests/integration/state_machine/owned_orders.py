"""Orders of events about owners of partitions that chance finds rarely."""

from __future__ import annotations

from collections.abc import Callable

from tests.integration.state_machine import endings
from tests.integration.state_machine.directing import (
    BACK,
    end,
    process_of,
    publish,
    take,
    two,
    work_off,
)
from tests.integration.state_machine.owned_machine import OwnedMachine

from streamatiq.broker.calls import script

__all__ = ["ORDERS"]


def taken_over_while_it_runs(machine: OwnedMachine) -> None:
    """The new owner waits for what its predecessor runs, and is woken when that is settled."""
    publish(machine, [0, 4, 2, 6, 12])
    first, second = two(machine)
    running = take(machine, first, "orders")
    for place, one in enumerate(running):
        assert machine.start(first, one)
        machine.ask_for_token(0, place, 1)
        machine.ask_for_token(0, place, 0)
    for _ in range(2):
        for process in (first, second):
            machine.take(process, "orders", machine.sources("orders"), room=20)
    assert {one.consumer for one in first.held} == {first.name}
    for one in list(second.held):
        machine.start(second, one)
    for one in running:
        end(machine, first, one, endings.RETRY if one is running[0] else endings.DONE)
    for one in list(first.held):
        end(machine, first, one, endings.DONE)
    owned = [one for one in machine.sources("orders") if second.believes(one)]
    assert owned, "nothing was taken over"
    work_off(machine, second, owned)


def retry_of_a_predecessor(machine: OwnedMachine) -> None:
    """A retry that waits for its time holds up its key with the next owner, too."""
    publish(machine, [1, 25, 13, 2])
    first, second = two(machine)
    for one in take(machine, first, "orders"):
        end(machine, first, one, endings.LATER)
    machine._die(first)
    machine.bury(second, first.name)
    for one in take(machine, second, "orders"):
        end(machine, second, one, endings.DONE)
    machine.make_due("orders", [])
    for one in take(machine, second, "orders"):
        end(machine, second, one, endings.DONE)


def declared_dead_and_going_on(machine: OwnedMachine) -> None:
    """Under a name that was fenced nothing is fetched, reserved, or settled, and no token given."""
    publish(machine, [1, 2, 13, 14])
    first, second = two(machine)
    held = take(machine, first, "orders")
    machine.bury(second, first.name)
    machine.verify()
    take(machine, first, "bars")
    for place in range(len(held)):
        machine.ask_for_token(0, place, 0)
    machine.take(second, "orders", machine.sources("orders"), room=20)
    for one in list(second.held):
        machine.start(second, one)
    for one in held:
        end(machine, first, one, endings.EMITS)
    machine.beat(first)
    machine.verify()
    machine.read(first, "orders", most=9, shares=False)
    machine.one_owner_at_a_time()


def suspects_in_order(machine: OwnedMachine) -> None:
    """What may have killed its workers runs alone, and before what is behind it."""
    publish(machine, [0, 12, 24])
    for _ in range(2):
        dead = process_of(machine)
        take(machine, dead, "orders")
        machine._die(dead)
        machine.bury(process_of(machine), dead.name)
        machine.verify()
    process = process_of(machine)
    for _ in range(4):
        for one in take(machine, process, "orders"):
            end(machine, process, one, endings.DONE)


def older_retry_of_a_quote(machine: OwnedMachine) -> None:
    """A retry is not handled after what is newer."""
    publish(machine, [0])
    process = process_of(machine)
    (one,) = take(machine, process, "quotes")
    end(machine, process, one, endings.LATER)
    publish(machine, [4, 8, 12])
    for one in take(machine, process, "quotes"):
        end(machine, process, one, endings.DONE)
    machine.make_due("quotes", [])
    for one in take(machine, process, "quotes"):
        end(machine, process, one, endings.DONE)


def ownership_is_lost(machine: OwnedMachine) -> None:
    """A server that lost its last writes does not know the owner any more; another one takes it."""
    publish(machine, [0, 1])
    first, second = two(machine)
    machine.take(first, "orders", machine.sources("orders"), room=1)
    for source in machine.sources("orders"):
        machine.example.admin.delete(source.keys.owner)
        machine.model.sources[source.keys.entries, "orders"].owner = ""
    machine.read(second, "orders", most=1)
    assert any(second.believes(source) for source in machine.sources("orders"))
    for _ in machine.sources("orders"):
        machine.read(first, "orders", most=9, shares=False)
    machine.one_owner_at_a_time()
    for process in (first, second, first):
        machine.read(process, "orders", most=9)


def a_lost_fetch(machine: OwnedMachine) -> None:
    """What was claimed by a fetch whose reply was lost runs in its place, and at once."""
    publish(machine, [0, 1, 12])
    process = process_of(machine)
    machine.read(process, "orders", most=1)
    machine.read(process, "orders", most=9, cut=1, after=1)
    work_off(machine, process, machine.sources("orders"))


def given_up_while_it_waits(machine: OwnedMachine) -> None:
    """What waits behind a running handler goes with its partition."""
    publish(machine, [0, 12, 24, 36, 2, 14, 26, 38, 1, 13, 25, 37])
    first, second = two(machine)
    running = take(machine, first, "orders") + take(machine, first, "orders")
    for one in running:
        machine.start(first, one)
    for process in (second, first, second):
        machine.take(process, "orders", machine.sources("orders"), room=20)
    for one in running:
        end(machine, first, one, endings.DONE)
    for one in first.take("orders"):
        machine.start(first, one)  # its own, or it must not be here
    for process in (second, first, second):
        work_off(machine, process, [s for s in machine.sources("orders") if process.believes(s)])


def given_up_twice(machine: OwnedMachine) -> None:
    """Whoever does not know whether it has given a partition up takes it from nobody."""
    publish(machine, [0, 1])
    first, second = two(machine)
    machine.read(first, "orders", most=9)
    machine.read(second, "orders", most=9)
    # Else the reply that is cut is that there is no such script.
    machine.example.admin.script_load(script("disown").text.decode())
    machine.read(first, "orders", most=9, cut=1, after=1)
    machine.read(second, "orders", most=9)
    for process in (first, second):
        machine.read(process, "orders", most=9)


def listed_nowhere(machine: OwnedMachine) -> None:
    """The list of who lives was lost, with an owner on it."""
    publish(machine, [0, 1, 12])
    first, second = two(machine)
    machine.read(first, "orders", most=9)
    machine._die(first)
    machine.graves.remove(first.name)
    machine.example.admin.hdel(machine.example.keys.members.alive, first.name)
    machine.example.admin.delete(machine.example.keys.members.reads(first.name))
    machine.model.forget(first.name)
    machine.read(second, "orders", most=9)
    assert all(second.believes(source) for source in machine.sources("orders"))


def handed_back_and_behind(machine: OwnedMachine) -> None:
    """What is behind an event that was handed back waits until it has run."""
    publish(machine, [0, 12])
    process = process_of(machine)
    assert len(take(machine, process, "orders")) == 1
    assert not take(machine, process, "orders")  # it waits behind the first one
    back = machine._ended(process, 0, [BACK])
    assert not process.take("orders"), "it has overtaken what was handed back"
    machine.commit(process, back)
    machine.verify()
    work_off(machine, process, machine.sources("orders"))


ORDERS: list[Callable[[OwnedMachine], None]] = [
    taken_over_while_it_runs,
    retry_of_a_predecessor,
    declared_dead_and_going_on,
    suspects_in_order,
    older_retry_of_a_quote,
    ownership_is_lost,
    a_lost_fetch,
    given_up_while_it_waits,
    given_up_twice,
    listed_nowhere,
    handed_back_and_behind,
]
