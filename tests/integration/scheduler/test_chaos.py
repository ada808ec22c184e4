"""Leaders die again and again, by kill -9 or by being stopped; every fire time happens once."""

from __future__ import annotations

import random
import signal
from collections import Counter
from typing import Any

import dramatiq
import pytest
from tests.integration.scheduler.fleet import SchedulerFleet
from tests.support import Child, wait_until

from streamatiq import Lane

ACTOR = """
import dramatiq

@dramatiq.actor(queue_name="chaos")
def count(name): ...
"""


def _rounds(fleet: SchedulerFleet, rounds: int, seed: int) -> None:
    rng = random.Random(seed)
    (fleet.directory / "chaos_actors.py").write_text(ACTOR)
    fleet.env["STREAMATIQ_WORKERS__HANDLERS"] = '["fleet_kinds", "chaos_actors"]'

    @dramatiq.actor(broker=fleet.broker, queue_name="chaos")
    def count(name: str) -> None:
        """Never runs here."""

    children = [fleet.start(lease="0.5") for _ in range(2)]
    for number in range(4):
        fleet.tick(f"tick{number}")
    fleet.tick("sent", kind="send", parameters={"actor": "count", "args": ["x"]})
    stopped: Child | None = None
    for _ in range(rounds):
        before = sum(fleet.fired("tick0").values())
        wait_until(lambda before=before: sum(fleet.fired("tick0").values()) > before, 15)
        leader = max(children, key=fleet.leads)
        if rng.random() < 0.5:
            leader.signal(signal.SIGKILL)
            leader.process.wait()
            children.remove(leader)
            children.append(fleet.start(lease="0.5"))
        else:
            epoch = fleet.leads(leader)
            leader.signal(signal.SIGSTOP)
            stopped = leader
            wait_until(
                lambda epoch=epoch: any(fleet.leads(one) > epoch for one in children),
                15,
                lambda: "\n".join(map(str, children)),
            )
            stopped.signal(signal.SIGCONT)
    ending = sum(fleet.fired("tick0").values())
    wait_until(lambda: sum(fleet.fired("tick0").values()) > ending + 1, 15)
    for one in children:
        one.signal(signal.SIGTERM)
    assert [one.wait().returncode for one in children] == [0] * len(children)

    for number in range(4):
        fired = fleet.fired(f"tick{number}")
        assert set(fired.values()) == {1}
        assert sorted(fired) == list(range(min(fired), max(fired) + 1))
    key = fleet.broker.keys.queue("chaos").entries(Lane.NORMAL)
    with fleet.broker.client() as client:
        entries: Any = client.xrange(key)
    messages = [dramatiq.Message.decode(fields[b"m"]) for _, fields in entries]
    sent = Counter(message.message_timestamp // 1000 for message in messages)
    assert set(sent.values()) == {1}
    assert sorted(sent) == list(range(min(sent), max(sent) + 1))


@pytest.mark.soak
@pytest.mark.timeout(90)
def test_two_leaders_die(fleet: SchedulerFleet) -> None:
    _rounds(fleet, 2, seed=1)


@pytest.mark.soak
def test_many_leaders_die(fleet: SchedulerFleet) -> None:
    _rounds(fleet, 40, seed=2)
