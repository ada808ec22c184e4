"""The recording through an ordered handler in four processes that are killed meanwhile.

Two witnesses: the handlers' own ledger, and the log of what they emitted; see `ordered_fleet`.
"""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.conftest import OwnServer
from tests.integration.end_to_end.recording import Tick, ticks
from tests.integration.faults.ordered_fleet import NAME, OrderedFleet
from tests.integration.faults.servers import PrivateServer

#: Events of one call of `publish_many`.
CHUNK = 200


@pytest.fixture
def fleet(own_server: OwnServer, namespace: str, tmp_path: Path) -> Iterator[OrderedFleet]:
    made = OrderedFleet(PrivateServer(own_server).url, namespace, tmp_path)
    yield made
    made.close()


@pytest.mark.parametrize(
    ("limit", "kills"),
    [
        pytest.param(3_000, 1, id="a-cut"),
        pytest.param(12_000, 3, id="a-long-cut", marks=pytest.mark.soak),
        pytest.param(
            None, 20, id="the-whole-file", marks=(pytest.mark.soak, pytest.mark.timeout(1800))
        ),
    ],
)
def test_the_sequence_of_each_instrument_survives_kills(
    fleet: OrderedFleet, limit: int | None, kills: int, request: pytest.FixtureRequest
) -> None:
    rows = [(tick.key, _text(tick)) for tick in ticks(limit)]
    rng = random.Random(4)
    kill_at = [len(rows) * (n + 1) // (kills + 1) for n in range(kills)]
    begun = time.monotonic()
    with ExitStack() as stack:
        workers = [stack.enter_context(fleet.workers(threads=4)) for _ in range(4)]
        fleet.wait_for_shares(*workers)
        for at in range(0, len(rows), CHUNK):
            fleet.publish_rows(rows[at : at + CHUNK])
            if kill_at and at >= kill_at[0]:
                # While it is busy, wherever it is.
                kill_at.pop(0)
                victim = rng.randrange(4)
                fleet.kill(workers[victim])
                workers[victim].wait()
                workers[victim] = stack.enter_context(fleet.workers(threads=4))
        fleet.settle(25 if kills < 20 else 600)
        took_s = time.monotonic() - begun
        repeated = fleet.check()
        wanted: dict[str, list[str]] = defaultdict(list)
        for key, row in rows:
            wanted[key].append(row)
        assert fleet.rows() == wanted
        assert not list(fleet.broker.dead_letters(NAME))
    request.node.user_properties.append(
        (
            "figure",
            f"recording in order: {len(rows):,} rows of {len(wanted)} instruments, {kills} kills,"
            f" {took_s:.1f} s; {repeated} handlings repeated, 0 lost, 0 doubled, 0 out of order",
        )
    )


def _text(tick: Tick) -> str:
    return f"{tick.number_id} {' '.join(tick.numbers)}"
