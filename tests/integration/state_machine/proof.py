"""The end of an example: a healthy process handles what is left, then promises are checked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.integration.state_machine import endings
from tests.integration.state_machine.process import Process

if TYPE_CHECKING:
    from tests.integration.state_machine.surroundings import Surroundings

__all__ = ["prove"]

#: Rounds in which nothing was done, after which nothing more will be: one may be needed to look.
IDLE_ROUNDS = 2
#: More rounds than any example can need.
ROUNDS = 200


def prove(machine: Surroundings) -> None:
    """Drains everything and checks what was promised."""
    machine.mend()
    machine.verify()
    healthy = _last_one(machine)
    machine.mend()
    idle = 0
    for _ in range(ROUNDS):
        idle = 0 if _round(machine, healthy) else idle + 1
        if idle == IDLE_ROUNDS:
            break
    else:
        raise AssertionError("what is left never comes to an end")
    machine.verify()
    _nothing_left(machine)
    machine.ledger.check(machine.example)
    machine.kept_order()


def _last_one(machine: Surroundings) -> Process:
    """One process lives on; all others are dead, and reclaimed."""
    healthy = machine.new_process()
    machine.processes.append(healthy)
    for process in machine.processes[:-1]:
        machine._die(process)
    for group in machine.groups:
        machine._enlist(healthy, group)
    for name in sorted(machine.model.alive - {healthy.name}):
        machine.bury(healthy, name)
        machine.verify()
    machine.heartbeat(-1, 0, False)
    machine.verify()
    if healthy.reclaimer._leading is False:
        raise AssertionError("the only process does not lead")
    return healthy


def _round(machine: Surroundings, healthy: Process) -> int:
    """Takes and settles what can be taken; returns how many entries."""
    done = 0
    for group in machine.groups:
        machine.make_due(group, [])
        sources = machine.sources(group)
        taken = machine.take(healthy, group, sources, room=50)
        if group not in machine.example.layout.owned:  # else the reader takes suspects by itself
            # The second one only if the first is of another stream: suspects run one at a time.
            taken += machine.take(healthy, group, sources, room=1, alone=True)
            taken += machine.take(healthy, group, sources, room=1, alone=True)
        while healthy.held:
            ending = endings.EMITS if machine.emits(group) else endings.DONE
            machine.commit(healthy, machine._ended(healthy, 0, [ending] * len(healthy.held)))
            machine.verify()
        done += taken
    return done


def _nothing_left(machine: Surroundings) -> None:
    """No state is left behind by what was handled."""
    seen = machine.example.observe()
    for at, source in seen.sources.items():
        left = (source.unread, source.pending, source.parked, source.options, source.suspects)
        assert not any(left), f"{at} still holds {left}"
    for queue, members in seen.delayed.items():
        assert not members, f"{queue} still delays {members}"
    for group in machine.example.layout.work:
        for lane in machine.sources(group):
            assert not seen.streams[lane.keys.entries], f"{lane.name} is not empty"
    assert len(seen.alive) == 1, f"listed as alive: {seen.alive}"
