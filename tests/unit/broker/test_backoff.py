"""Pauses between attempts, with injected waiting and jitter."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamatiq.broker.backoff import Backoff
from streamatiq.broker.connections import RetryPolicy
from streamatiq.errors import AuthenticationFailed, BrokerConnectionError, OutOfMemory


class _Fixed(random.Random):
    """Jitter that is always the same."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self._value = value

    def random(self) -> float:
        return self._value


@pytest.mark.parametrize(
    ("jitter", "pauses"), [(0.0, [0.5, 1, 2, 3.5, 3.5]), (1.0, [1, 2, 4, 7, 7])]
)
def test_pauses_double_up_to_the_limit(jitter: float, pauses: list[float]) -> None:
    backoff = Backoff(first_s=1, limit_s=7, rng=_Fixed(jitter))
    assert [backoff.next_s() for _ in range(5)] == pauses


@given(st.floats(0.001, 100), st.floats(0.001, 100), st.integers(0, 2**32))
def test_no_pause_is_longer_than_the_limit_or_shorter_than_half(
    first_s: float, limit_s: float, seed: int
) -> None:
    backoff = Backoff(first_s=first_s, limit_s=limit_s, rng=random.Random(seed))
    for n in range(12):
        base = min(first_s * 2**n, limit_s)
        assert base / 2 <= backoff.next_s() <= base


class _Waits:
    """Records pauses; says stop at the one of that number."""

    def __init__(self, stop_at: int = 0) -> None:
        self.pauses: list[float] = []
        self._stop_at = stop_at

    def __call__(self, pause_s: float) -> bool:
        self.pauses.append(pause_s)
        return len(self.pauses) == self._stop_at


def _failing(times: int, error: Exception) -> tuple[Callable[[], str], list[int]]:
    calls: list[int] = []

    def action() -> str:
        calls.append(1)
        if len(calls) <= times:
            raise error
        return "done"

    return action, calls


def _backoff(waits: _Waits) -> Backoff:
    return Backoff(first_s=1, limit_s=30, rng=_Fixed(1.0), wait=waits)


def test_a_lost_connection_is_repeated_after_each_pause() -> None:
    waits = _Waits()
    closed: list[int] = []
    action, calls = _failing(3, BrokerConnectionError("gone"))
    result = _backoff(waits).repeat(action, max_retries=3, before_retry=lambda: closed.append(1))
    assert (result, len(calls), waits.pauses, len(closed)) == ("done", 4, [1, 2, 4], 3)


def test_the_last_attempts_error_is_raised() -> None:
    waits = _Waits()
    action, calls = _failing(9, BrokerConnectionError("gone"))
    with pytest.raises(BrokerConnectionError, match="gone"):
        _backoff(waits).repeat(action, max_retries=2, before_retry=lambda: None)
    assert (len(calls), waits.pauses) == (3, [1, 2])


@pytest.mark.parametrize("error", [AuthenticationFailed("no"), OutOfMemory("full"), KeyError("x")])
def test_what_no_repetition_mends_is_not_repeated(error: Exception) -> None:
    waits = _Waits()
    action, calls = _failing(9, error)
    with pytest.raises(type(error)):
        _backoff(waits).repeat(action, max_retries=None, before_retry=lambda: None)
    assert (len(calls), waits.pauses) == (1, [])


def test_without_a_limit_only_a_stop_ends_it() -> None:
    waits = _Waits(stop_at=50)
    action, calls = _failing(1000, BrokerConnectionError("gone"))
    with pytest.raises(BrokerConnectionError):
        _backoff(waits).repeat(action, max_retries=None, before_retry=lambda: None)
    assert len(calls) == 50


def test_a_policy_gives_fresh_pauses_each_time() -> None:
    policy = RetryPolicy(max_retries=3, delay_s=0.5)
    for _ in range(2):
        waits = _Waits(stop_at=1)
        assert policy.backoff(wait=waits).pause()
        assert 0.25 <= waits.pauses[0] <= 0.5
    waits = _Waits(stop_at=9)
    limited = policy.backoff(wait=waits, limit_s=0.2)
    while not limited.pause():
        pass
    assert max(waits.pauses) <= 0.2
