"""Threads that ask at the same moment share a round trip; nobody waits for one that is gone."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support import wait_until

from streamatiq.broker.combining import MOST, Combiner
from streamatiq.errors import BrokerConnectionError, CommandFailed


class Server:
    """Answers with the square; `closed` keeps round trips under way."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.open.set()
        self.trips: list[list[int]] = []
        self.errors: list[BaseException] = []

    def __call__(self, asks: Sequence[int]) -> list[int | Exception]:
        self.trips.append(list(asks))
        self.open.wait(10)
        if self.errors:
            raise self.errors.pop()
        return [CommandFailed(f"no {ask}") if ask < 0 else ask * ask for ask in asks]


def asking(
    pool: ThreadPoolExecutor, combiner: Combiner[int, int], server: Server, asks: Sequence[int]
) -> list[Future[int]]:
    """The first of `asks` is under way, and the others wait in their order."""
    server.open.clear()
    futures = []
    for count, ask in enumerate(asks):
        futures.append(pool.submit(combiner.ask, ask))
        if count == 0:
            wait_until(lambda: server.trips)
        else:
            wait_until(lambda count=count: len(combiner._waiting) == count)  # type: ignore[misc]
    return futures


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def combiner(server: Server) -> Combiner[int, int]:
    return Combiner(server)


def test_one_that_asks_alone_goes_at_once_and_in_its_own_thread() -> None:
    threads: list[int] = []

    def perform(asks: Sequence[str]) -> list[str | Exception]:
        threads.append(threading.get_ident())
        return list(asks)

    combiner: Combiner[str, str] = Combiner(perform)

    assert [combiner.ask("a"), combiner.ask("b")] == ["a", "b"]
    assert threads == [threading.get_ident()] * 2


def test_what_is_asked_while_one_is_under_way_goes_together_and_in_order(
    combiner: Combiner[int, int], server: Server
) -> None:
    with ThreadPoolExecutor(8) as pool:
        futures = asking(pool, combiner, server, [1, 2, 3, 4, 5, 6, 7, 8])
        server.open.set()

        assert [future.result(10) for future in futures] == [1, 4, 9, 16, 25, 36, 49, 64]
    assert server.trips == [[1], [2, 3, 4, 5, 6, 7, 8]]


def test_more_than_one_trip_takes_go_in_several(
    combiner: Combiner[int, int], server: Server
) -> None:
    with ThreadPoolExecutor(MOST + 3) as pool:
        futures = asking(pool, combiner, server, list(range(MOST + 3)))
        server.open.set()

        assert [future.result(10) for future in futures] == [n * n for n in range(MOST + 3)]
    assert [len(trip) for trip in server.trips] == [1, MOST, 2]


def test_an_error_of_one_is_not_the_others(combiner: Combiner[int, int], server: Server) -> None:
    with ThreadPoolExecutor(3) as pool:
        futures = asking(pool, combiner, server, [1, -2, 3])
        server.open.set()

        assert (futures[0].result(10), futures[2].result(10)) == (1, 9)
        with pytest.raises(CommandFailed, match="no -2"):
            futures[1].result(10)


def test_all_of_a_trip_that_fails_hear_of_it_each_with_an_error_of_its_own(
    combiner: Combiner[int, int], server: Server
) -> None:
    with ThreadPoolExecutor(3) as pool:
        futures = asking(pool, combiner, server, [1, 2, 3])
        lost = BrokerConnectionError("gone")
        server.errors = [lost, lost]
        server.open.set()
        errors = [future.exception(10) for future in futures]

    assert [type(error) for error in errors] == [BrokerConnectionError] * 3
    assert [str(error) for error in errors] == ["gone"] * 3
    assert len({id(error) for error in errors}) == 3
    assert combiner.ask(4) == 16


@pytest.mark.parametrize("trip", [1, 2])
def test_others_go_themselves_where_the_thread_that_goes_is_interrupted(
    combiner: Combiner[int, int], server: Server, trip: int
) -> None:
    class Interrupted(BaseException):
        pass

    with ThreadPoolExecutor(4) as pool:
        futures = asking(pool, combiner, server, [1, 2, 3, 4])
        if trip == 2:
            server.errors = [Interrupted(), BrokerConnectionError("gone")]
        else:
            server.errors = [Interrupted()]
        server.open.set()
        outcomes = [future.exception(10) or future.result() for future in futures]

    if trip == 1:
        assert isinstance(outcomes[0], Interrupted)
        assert outcomes[1:] == [4, 9, 16]
    else:
        assert isinstance(outcomes[1], Interrupted)
        assert outcomes[2:] == [9, 16]
        assert server.trips == [[1], [2, 3, 4], [3, 4]]
    assert combiner.ask(5) == 25


def test_one_that_is_interrupted_while_it_waits_is_left_out_and_may_have_been_told_to_go(
    combiner: Combiner[int, int], server: Server
) -> None:
    with ThreadPoolExecutor(3) as pool:
        futures = asking(pool, combiner, server, [1, 2, 3])
        # As an interrupt finds it: it waits, or was told to go and has not begun.
        second, third = combiner._waiting
        combiner._leave(third)
        server.open.set()

        assert [future.result(10) for future in futures[:2]] == [1, 4]
        third.answer, third.is_answered = 0, True
        third.gate.release()
    assert [2] in server.trips
    assert second not in combiner._waiting

    told = type(second)(9)
    told.leads = combiner._busy = True
    combiner._leave(told)
    assert combiner.ask(5) == 25


def test_a_child_process_does_not_wait_for_a_thread_of_its_parent(
    combiner: Combiner[int, int], server: Server
) -> None:
    with ThreadPoolExecutor(1) as pool:
        asking(pool, combiner, server, [1])
        child = os.fork()
        if child == 0:
            server.open.set()
            threading.Timer(10, os._exit, [2]).start()
            os._exit(0 if combiner.ask(3) == 9 else 1)
        server.open.set()
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@given(st.lists(st.lists(st.integers(-5, 100), min_size=1, max_size=20), min_size=1, max_size=6))
@settings(max_examples=30, deadline=None)
def test_everybody_gets_the_answer_to_what_was_asked(asks: list[list[int]]) -> None:
    server = Server()
    combiner: Combiner[int, int] = Combiner(server)

    def one(numbers: list[int]) -> list[int | None]:
        return [_answer(lambda number=number: combiner.ask(number)) for number in numbers]  # type: ignore[misc]

    with ThreadPoolExecutor(len(asks)) as pool:
        found = list(pool.map(one, asks))

    assert found == [[None if n < 0 else n * n for n in numbers] for numbers in asks]
    assert sorted(n for trip in server.trips for n in trip) == sorted(
        n for one in asks for n in one
    )


def _answer(action: Callable[[], int]) -> int | None:
    try:
        return action()
    except CommandFailed:
        return None
