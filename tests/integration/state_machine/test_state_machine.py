"""Any order of everything that may happen: nothing is lost, nothing is committed twice.

The quick form runs the same examples each time and does not shorten what it finds. The long one
runs new examples for STATE_MACHINE_SECONDS (900), of up to STATE_MACHINE_STEPS (80) steps each;
what it finds it tells as the shortest sequence of steps that it can make of it: minutes more.
STATE_MACHINE_SHRINK=1 makes the quick form do so too.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from tests.conftest import OwnServer
from tests.integration.state_machine import keyed_orders, owned_orders
from tests.integration.state_machine.endings import EMITS
from tests.integration.state_machine.machine import Machine
from tests.integration.state_machine.owned_machine import OwnedMachine
from tests.integration.state_machine.owned_process import SteppedFollower, SteppedReader
from tests.integration.state_machine.owned_shapes import OwnedLayout
from tests.integration.state_machine.shapes import HOUR_MS
from tests.integration.state_machine.surroundings import Surroundings
from tests.integration.state_machine.world import World

from streamatiq.broker import (
    buffer,
    committer,
    consumer,
    guards,
    intake,
    ordered_reader,
    reader,
    reclaimer,
    suspects,
)

FOUND = [Phase.explicit, Phase.generate]
SHORTENED = [*FOUND, Phase.shrink]


@pytest.fixture
def world(own_server: OwnServer, monkeypatch: pytest.MonkeyPatch) -> World:
    # Small pages: reclaiming takes several calls. Nothing that time alone brings about.
    monkeypatch.setattr(reclaimer, "PAGE", 2)
    monkeypatch.setattr(reclaimer, "SILENCE_S", 1e9)
    monkeypatch.setattr(consumer, "UNDECIDED_MS", HOUR_MS)
    monkeypatch.setattr(committer, "RETRY_MS", HOUR_MS)
    return World(own_server)


@pytest.fixture
def owned_world(own_server: OwnServer, monkeypatch: pytest.MonkeyPatch, world: World) -> World:
    # Nothing waits, and nothing happens because time has passed.
    monkeypatch.setattr(ordered_reader, "SHARE_S", 0.0)
    monkeypatch.setattr(buffer, "PAUSE_S", 1e9)
    for name in ("QUIET_S", "EVERY_S", "RARELY_S", "PATIENCE_S"):
        monkeypatch.setattr(suspects, name, 0.0)
    monkeypatch.setattr(reader.Reader, "closed_s", 0.0)
    monkeypatch.setattr(intake, "OrderedReader", SteppedReader)
    monkeypatch.setattr(guards, "GuardFollower", SteppedFollower)
    world.make_layout = OwnedLayout
    return world


def _run(world: World, machine: type[Surroundings] = Machine, **options: object) -> None:
    machine = type("StateMachine", (machine,), {"world": world})
    run_state_machine_as_test(
        machine,
        settings=settings(
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            report_multiple_bugs=False,
            **options,  # type: ignore[arg-type]
        ),
    )


@pytest.mark.timeout(600)  # shortening a failure; else it takes some ten seconds
def test_any_order_of_events(world: World) -> None:
    shorten = os.environ.get("STATE_MACHINE_SHRINK") == "1"
    _run(
        world,
        max_examples=5,
        stateful_step_count=40,
        derandomize=True,
        phases=SHORTENED if shorten else FOUND,
    )


@pytest.mark.timeout(600)
def test_any_order_with_owners(owned_world: World) -> None:
    shorten = os.environ.get("STATE_MACHINE_SHRINK") == "1"
    _run(
        owned_world,
        OwnedMachine,
        max_examples=3,
        stateful_step_count=30,
        derandomize=True,
        phases=SHORTENED if shorten else FOUND,
    )


def _two_suspects(machine: Machine) -> None:
    """Of entries that may have killed their worker one runs at a time."""
    machine.begin([3], [(1, False)] * 4)
    for _ in range(2):
        dead = machine.processes[0]
        machine.take(dead, "work", machine.sources("work"), room=4)
        machine._die(dead)
        machine.verify()
        machine.bury(machine.processes[0], dead.name)
        machine.verify()
    machine.start_process()
    machine.take_suspect(0, 0, cut=False, others=1)


def _once_in_one_call(machine: Machine) -> None:
    """The same event several times in one call."""
    machine.publish([3, 8, 3, 3], 0, 0)


def _batch_that_comes_late(machine: Machine) -> None:
    """A batch that was long on its way, behind the next one, is refused."""
    machine.begin([3, 8], [])
    process = machine.processes[0]
    machine.take(process, "beta", machine.sources("beta"), room=4)
    for _ in range(2):
        machine.commit(process, machine._ended(process, 0, [EMITS]))
        machine.verify()
    machine.send_again(0)
    machine.send_again(1)


def _known_for_a_second_window(machine: Machine) -> None:
    """An id is known until two windows have passed."""
    machine.publish([3], 0, 0)
    for window in range(2):
        for which in range(len(machine.example.log_keys)):
            machine.age_ids(which)
        machine.publish([8, 3][: 2 - window], 0, 0)
        machine.verify()


@pytest.mark.parametrize(
    "steps", [_two_suspects, _once_in_one_call, _batch_that_comes_late, _known_for_a_second_window]
)
def test_orders_that_chance_finds_rarely(world: World, steps: Callable[[Machine], None]) -> None:
    machine = type("StateMachine", (Machine,), {"world": world})()
    steps(machine)
    machine.verify()
    machine.teardown()


@pytest.mark.parametrize(
    "steps", [*owned_orders.ORDERS, *keyed_orders.ORDERS], ids=lambda one: one.__name__
)
def test_orders_with_owners(owned_world: World, steps: Callable[[OwnedMachine], None]) -> None:
    machine = type("StateMachine", (OwnedMachine,), {"world": owned_world})()
    steps(machine)
    machine.verify()
    machine.one_owner_at_a_time()
    machine.teardown()


def _for_long(world: World, machine: type[Surroundings]) -> str:
    """Runs new examples until the time is over, and tells how many."""
    seconds = float(os.environ.get("STATE_MACHINE_SECONDS", "900"))
    steps = int(os.environ.get("STATE_MACHINE_STEPS", "80"))
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        _run(world, machine, max_examples=20, stateful_step_count=steps, phases=SHORTENED)
    return f"{world.examples} examples, {world.steps} steps, {world.settlements} settlements"


@pytest.mark.soak
def test_any_order_of_events_for_long(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    said = _for_long(world, Machine)
    with capsys.disabled():
        print(f"\nstate machine: {said}")  # noqa: T201


@pytest.mark.soak
def test_any_order_with_owners_for_long(
    owned_world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    said = _for_long(owned_world, OwnedMachine)
    with capsys.disabled():
        print(f"\nstate machine with owners: {said}")  # noqa: T201
