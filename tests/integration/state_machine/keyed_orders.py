"""Orders of events about business keys, batches and guards that chance finds rarely."""

from __future__ import annotations

from collections.abc import Callable

from tests.integration.state_machine import endings
from tests.integration.state_machine.directing import (
    HAPPENED,
    UNDECIDED,
    end,
    process_of,
    publish,
    take,
    two,
    work_off,
)
from tests.integration.state_machine.owned_machine import OwnedMachine
from tests.integration.state_machine.owned_process import members_of

from streamatiq.broker.guard_state import Scope

__all__ = ["ORDERS"]


def busy_in_a_batch(machine: OwnedMachine) -> None:
    """What is behind an event that waits for its business key waits for it, too."""
    publish(machine, [1, 25, 33])
    process = process_of(machine)
    (batch,) = take(machine, process, "bars")
    assert len(members_of(batch)) == 3
    end(machine, process, batch, endings.DONE)


def uncertain_letters(machine: OwnedMachine) -> None:
    """A process dies with a key reserved: a letter, which runs once it is requeued."""
    publish(machine, [1, 13])
    first, second = two(machine)
    for one in take(machine, first, "notes"):
        machine.start(first, one)
    machine._die(first)
    machine.bury(second, first.name)
    for one in take(machine, second, "notes"):
        end(machine, second, one, endings.DONE)
    machine.requeue("notes", 0, 0)
    machine.verify()
    for one in take(machine, second, "notes"):
        end(machine, second, one, endings.DONE)


def uncertain_and_asked(machine: OwnedMachine) -> None:
    """Who may have done its work is asked for, and not run again."""
    publish(machine, [1, 25, 5])
    process = process_of(machine)
    for ending in (UNDECIDED, HAPPENED, endings.DONE):
        for one in take(machine, process, "orders"):
            end(machine, process, one, ending)
            if ending is UNDECIDED:
                keys = machine.model.sources[one.source.keys.entries, "orders"].keys
                assert any("r " in stood for stood in keys.young.values()), "it was forgotten"
            elif ending is HAPPENED and one.event is not None and one.event.key == "b":
                assert not process.called, "it was run again"
        machine.make_due("orders", [])


def one_probe(machine: OwnedMachine) -> None:
    """Two processes ask for the place of the probe."""
    publish(machine, [0, 1, 2, 3])
    first, second = two(machine)
    machine.rebalance(1, 2, 4)
    machine.probe("orders", 0, 0)
    for process in (first, second):
        for one in list(process.held):
            if one not in process.begun:
                machine.begin_handler(machine.processes.index(process), 0, 3)
                break


def forgotten_under_a_run(machine: OwnedMachine) -> None:
    """A business key is forgotten while its run goes on, and another event's run is done."""
    publish(machine, [1, 25])
    first, second = two(machine)
    machine.take(first, "notes", machine.sources("notes"), room=1)
    (one,) = first.held
    machine.start(first, one)
    for source in machine.sources("notes"):
        machine.example.admin.delete(source.keys.keys)
        machine.model.sources[source.keys.entries, "notes"].keys.young.clear()
    machine.order.forget_keys()
    for other in take(machine, second, "notes"):
        end(machine, second, other, endings.EMITS)
    done = [
        key
        for source in machine.sources("notes")
        for key, stood in machine.model.sources[source.keys.entries, "notes"].keys.young.items()
        if stood == "d"
    ]
    assert done == ["b0"]
    end(machine, first, one, endings.EMITS)


def taken_from_a_run(machine: OwnedMachine) -> None:
    """A run whose business key was forgotten does not free it under the run that has it now."""
    publish(machine, [1, 25])
    first, second = two(machine)
    machine.take(first, "notes", machine.sources("notes"), room=1)
    (one,) = first.held
    machine.start(first, one)
    for source in machine.sources("notes"):
        machine.example.admin.delete(source.keys.keys)
        machine.model.sources[source.keys.entries, "notes"].keys.young.clear()
    machine.order.forget_keys()
    for other in take(machine, second, "notes"):
        machine.start(second, other)
    end(machine, first, one, endings.RETRY)


def what_cannot_be_emitted(machine: OwnedMachine) -> None:
    """An end that the server refuses leaves the key reserved: nobody knows."""
    publish(machine, [1])
    process = process_of(machine)
    log = next(log for key, log in machine.example.log_keys.items() if "effect" in key)
    machine.example.admin.set(log.ids_old, "not ours")
    text = f"WRONGTYPE {log.ids_old} holds a string and not a hash"
    machine.model.misplaced[log.entries] = text
    for one in take(machine, process, "orders"):
        end(machine, process, one, endings.EMITS)
    machine.example.admin.delete(log.ids_old)
    machine.model.misplaced.clear()
    machine.make_due("orders", [])
    for one in take(machine, process, "orders"):
        end(machine, process, one, HAPPENED)


def settled_by_hand(machine: OwnedMachine) -> None:
    """For an entry that is not pending any more no business key is reserved."""
    publish(machine, [1])
    process = process_of(machine)
    for one in take(machine, process, "notes"):
        source = one.source
        machine.example.admin.xack(source.keys.entries, source.group, one.entry_id)
        state = machine.model.sources[source.keys.entries, source.group]
        entry = state.held(one.entry_id)
        assert entry is not None
        del state.pending[entry]
        machine.ledger.ended.add((source.group, str(members_of(one)[0].message_id)))
        assert not machine.start(process, one)
        process.held.remove(one)


def one_of_a_business_key(machine: OwnedMachine) -> None:
    """Of two events of a business key in two processes one waits."""
    publish(machine, [1, 25])
    first, second = two(machine)
    began = []
    for process in (first, second):
        machine.take(process, "notes", machine.sources("notes"), room=1)
        (one,) = process.held
        began.append(machine.start(process, one))
    assert began == [True, False]


def halted_at_the_last_moment(machine: OwnedMachine) -> None:
    """What was handed out already is turned away, and runs in its place once it may."""
    publish(machine, [0, 12, 3, 15])
    process = process_of(machine)
    held = take(machine, process, "orders")
    machine.halt(Scope("orders"), 0)
    machine.begin_handler(0, 0, len(held))
    assert not process.begun
    assert not process.held
    assert not take(machine, process, "orders")
    machine.resume(0, 0)
    work_off(machine, process, machine.sources("orders"))
    outcomes = [
        machine.order.outcomes[source.keys.entries, "orders"]
        for source in machine.sources("orders")
    ]
    assert sum(map(len, outcomes)) == 4


def halves_of_a_batch(machine: OwnedMachine) -> None:
    """A batch that fails is taken apart until the guilty event is alone; or it names the guilty."""
    publish(machine, [0, 4, 12, 24, 36])
    process = process_of(machine)
    for ending in (endings.FAIL, endings.FAIL, endings.DONE):
        for one in take(machine, process, "bars") or list(process.held):
            end(machine, process, one, ending)
        process.take("bars")
    machine.end_in_part(0, 0, {0})
    machine.verify()
    work_off(machine, process, machine.sources("bars"))


ORDERS: list[Callable[[OwnedMachine], None]] = [
    busy_in_a_batch,
    uncertain_letters,
    uncertain_and_asked,
    one_probe,
    forgotten_under_a_run,
    taken_from_a_run,
    what_cannot_be_emitted,
    settled_by_hand,
    one_of_a_business_key,
    halted_at_the_last_moment,
    halves_of_a_batch,
]
