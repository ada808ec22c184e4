"""Any order of everything that may happen: nothing is lost, nothing is committed twice.

The quick form runs the same examples each time and does not shorten what it finds. The long one
runs new examples for STATE_MACHINE_SECONDS (900), of up to STATE_MACHINE_STEPS (80) steps each;
what it finds it tells as the shortest sequence of steps that it can make of it: minutes more.
STATE_MACHINE_SHRINK=1 makes the quick form do so too.
"""

from __future__ import annotations

import os
import time

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from tests.conftest import OwnServer
from tests.integration.state_machine.machine import Machine
from tests.integration.state_machine.shapes import HOUR_MS
from tests.integration.state_machine.world import World

from streamatiq.broker import committer, consumer, reclaimer

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


def _run(world: World, **options: object) -> None:
    machine = type("StateMachine", (Machine,), {"world": world})
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
        max_examples=15,
        stateful_step_count=40,
        derandomize=True,
        phases=SHORTENED if shorten else FOUND,
    )


@pytest.mark.soak
def test_any_order_of_events_for_long(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    seconds = float(os.environ.get("STATE_MACHINE_SECONDS", "900"))
    steps = int(os.environ.get("STATE_MACHINE_STEPS", "80"))
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        _run(world, max_examples=50, stateful_step_count=steps, phases=SHORTENED)
    with capsys.disabled():
        print(f"\nstate machine: {world.examples} examples, {world.steps} steps")  # noqa: T201
