"""What a worker process asks of the garbage collector, under the command only."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator

import pytest
from tests.integration.logs.harness import Bench

from streamatiq.broker import redis_streams
from streamatiq.broker.tuning import YOUNGEST, tune


@pytest.fixture
def tuned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was called in place of `tune`."""
    calls: list[str] = []
    monkeypatch.setattr(redis_streams, "tune", lambda: calls.append("tune"))
    return calls


@pytest.fixture
def thawed() -> Iterator[None]:
    threshold = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*threshold)


def test_what_is_there_is_left_alone_and_what_comes_later_is_not(thawed: None) -> None:
    tune()
    assert gc.get_freeze_count() > 10_000

    ring: list[object] = []
    ring.append(ring)
    known = id(ring)
    del ring
    assert any(id(one) == known for one in gc.get_objects())
    gc.collect()
    assert not any(id(one) == known for one in gc.get_objects())


def test_the_collector_begins_later(thawed: None) -> None:
    gc.set_threshold(700, 11, 12)
    tune()
    assert gc.get_threshold() == (YOUNGEST, 11, 12)


def test_what_the_process_has_set_itself_is_kept(thawed: None) -> None:
    gc.set_threshold(0, 11, 12)
    tune()
    assert gc.get_threshold() == (0, 11, 12)


@pytest.mark.parametrize(
    ("command", "settings", "expected"),
    [(True, {}, ["tune"]), (False, {}, []), (True, {"tune": False}, [])],
    ids=["command", "program", "switched off"],
)
def test_a_worker_tunes_once_under_the_command_and_where_it_may(
    open_bench: Callable[..., Bench],
    tuned: list[str],
    command: bool,
    settings: dict[str, bool],
    expected: list[str],
) -> None:
    bench = open_bench(workers=settings)
    if command:
        bench.broker.emit_after("process_boot")
    bench.start()

    assert tuned == expected
