"""The garbage collector leaves alone what a worker process has loaded, under the command only."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator

import pytest
from tests.integration.logs.harness import Bench

from streamatiq.broker import redis_streams
from streamatiq.broker.freezing import freeze


@pytest.fixture
def frozen(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was called in place of `freeze`."""
    calls: list[str] = []
    monkeypatch.setattr(redis_streams, "freeze", lambda: calls.append("freeze"))
    return calls


@pytest.fixture
def thawed() -> Iterator[None]:
    yield
    gc.unfreeze()


def test_what_is_there_is_left_alone_and_what_comes_later_is_not(thawed: None) -> None:
    freeze()
    assert gc.get_freeze_count() > 10_000

    ring: list[object] = []
    ring.append(ring)
    known = id(ring)
    del ring
    assert any(id(one) == known for one in gc.get_objects())
    gc.collect()
    assert not any(id(one) == known for one in gc.get_objects())


@pytest.mark.parametrize(
    ("command", "settings", "expected"),
    [(True, {}, ["freeze"]), (False, {}, []), (True, {"freeze": False}, [])],
    ids=["command", "program", "switched off"],
)
def test_a_worker_freezes_once_under_the_command_and_where_it_may(
    open_bench: Callable[..., Bench],
    frozen: list[str],
    command: bool,
    settings: dict[str, bool],
    expected: list[str],
) -> None:
    bench = open_bench(workers=settings)
    if command:
        bench.broker.emit_after("process_boot")
    bench.start()

    assert frozen == expected
