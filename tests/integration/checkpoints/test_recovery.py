"""Everything is killed at a random moment; a checkpoint is restored, and workers run on: the ledger
of committed effects is that of a run that nobody disturbed.

Worker processes are real, kills are kill -9, and the server is killed with them.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import pytest
from tests.conftest import OwnServer
from tests.integration.faults.servers import PrivateServer
from tests.support import dramatiq_workers, wait_until

from streamatiq import Event, Partitioned, RedisStreamsBroker, Settings
from streamatiq.broker import Subscription
from streamatiq.errors import RestoreRefused
from streamatiq.scheduler.checkpoints import Checkpoints

_IDS = UUID("6f2c5b0e-1c59-4a8e-9a55-2f2f0a0f3a51")
COUNT = 500

_HANDLERS = """
import hashlib, time
from streamatiq import Event, Partitioned, checkpointed, default_broker, on
from streamatiq.broker import heartbeat, reclaimer

# The dead are found sooner: they count among those that share the partitions.
heartbeat.BEAT_S, heartbeat.LEASE_S, reclaimer.SILENCE_S = 0.4, 1.0, 1.5
default_broker()

class Cause(Event, type="recovery.cause", log=Partitioned(3)):
    number: int = 0

class Step(Event, type="recovery.step", log=Partitioned(1)):
    number: int = 0
    digest: str = ""

class Effect(Event, type="recovery.effect", log=Partitioned(1)):
    number: int = 0

chain = checkpointed("chain")

@on(Cause, name="chained", start="earliest", ordered=True, state=chain)
def chained(event):
    digest = hashlib.sha256((chain.get() or b"") + str(event.number).encode()).hexdigest()
    chain.set(digest.encode())
    time.sleep(0.001)
    return Step(ts_event=1, number=event.number, digest=digest)

@on(Cause, name="plain", start="earliest")
def plain(event):
    time.sleep(0.001)
    return Effect(ts_event=1, number=event.number)
"""


class Cause(Event, type="recovery.cause", log=Partitioned(3)):
    number: int = 0


class Step(Event, type="recovery.step", log=Partitioned(1)):
    number: int = 0
    digest: str = ""


class Effect(Event, type="recovery.effect", log=Partitioned(1)):
    number: int = 0


class Place:
    """A namespace with worker processes."""

    def __init__(self, url: str, namespace: str, directory: Path) -> None:
        (directory / "recovery_handlers.py").write_text(_HANDLERS)
        self._directory = directory
        self._env = {
            "STREAMATIQ_REDIS__URL": url,
            "STREAMATIQ_NAMESPACE": namespace,
            "STREAMATIQ_REDIS__RETRY_DELAY": "0.05",
        }
        settings = Settings.model_validate({"redis": {"retry_delay": 0.05, "max_retries": 20}})
        self.broker = RedisStreamsBroker(url, namespace=namespace, settings=settings, middleware=[])
        for name in ("chained", "plain"):
            self.broker.declare_subscription(Subscription(name, (Cause,), "earliest"))
            self.broker.declare_queue(name)

    def workers(self) -> Any:
        return dramatiq_workers(
            "recovery_handlers", processes=1, threads=3, env=self._env, cwd=self._directory
        )

    def publish(self, first: int, last: int) -> None:
        for at in range(first, last, 10):
            self.broker.logs.publish_many(
                [
                    Cause(id=uuid5(_IDS, str(n)), ts_event=1, key=f"K{n % 7}", number=n)
                    for n in range(at, min(at + 10, last))
                ]
            )

    def ledger(self) -> list[tuple[str, int, str]]:
        """All committed effects, with their ids."""
        steps = [(str(e.event.id), e.event.number, e.event.digest) for e in self.logs(Step)]
        return sorted([*steps, *((str(e.event.id), e.event.number, "") for e in self.logs(Effect))])

    def logs(self, cls: Any) -> Any:
        return self.broker.logs.read(cls)

    def drained(self) -> None:
        wait_until(
            lambda: all(self.broker.backlog(name) == 0 for name in ("chained", "plain")),
            30,
            lambda: f"backlog {[self.broker.backlog(name) for name in ('chained', 'plain')]}",
        )


@pytest.fixture
def open_place(tmp_path: Path) -> Iterator[Callable[[str, str], Place]]:
    opened: list[Place] = []

    def open_one(url: str, namespace: str) -> Place:
        opened.append(Place(url, namespace, tmp_path))
        return opened[-1]

    yield open_one
    for one in opened:
        one.broker.close()


@pytest.mark.timeout(90)
@pytest.mark.parametrize(
    "seed", [1, *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(2, 12))]
)
def test_the_ledger_is_that_of_an_undisturbed_run(
    seed: int,
    own_server: OwnServer,
    open_place: Callable[[str, str], Place],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("streamatiq.broker.reclaimer.SILENCE_S", 1.0)
    rng = random.Random(seed)
    private = PrivateServer(own_server)
    place, undisturbed = open_place(private.url, "killed"), open_place(private.url, "whole")

    with ExitStack() as stack:
        first = [stack.enter_context(place.workers()) for _ in range(2)]
        place.publish(0, 100)
        publisher = threading.Thread(target=place.publish, args=(100, 300))
        publisher.start()
        early, late = rng.randrange(20, 150), rng.randrange(20, 200)
        wait_until(lambda: len(place.ledger()) > early, 20)
        taken = Checkpoints(place.broker).create("in the middle of it")
        seen = len(place.ledger())
        wait_until(lambda: len(place.ledger()) >= min(seen + late, 600), 20)  # 600: all of it
        for workers in first:
            workers.kill()
        private.kill()
        private.start()
        publisher.join()
        stack.pop_all()

    checkpoints = Checkpoints(place.broker)
    assert checkpoints.verify(taken.id).is_good
    monkeypatch.setattr("streamatiq.broker.reclaimer.SILENCE_S", 1e9)
    with pytest.raises(RestoreRefused, match="Worker processes read"):
        checkpoints.restore(taken.id)
    monkeypatch.setattr("streamatiq.broker.reclaimer.SILENCE_S", 1.0)

    def restored() -> Any:
        try:
            return checkpoints.restore(taken.id)
        except RestoreRefused:  # those that were killed are not silent for long enough
            return None

    did = wait_until(restored, 10)
    assert seen == 600 or sum(one.again for one in did) > 0
    with place.workers():
        place.publish(300, COUNT)
        place.drained()
    with undisturbed.workers():
        undisturbed.publish(0, COUNT)
        undisturbed.drained()
    ledger = place.ledger()
    assert len(ledger) == 2 * COUNT
    assert ledger == undisturbed.ledger()
