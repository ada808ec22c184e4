"""What is urgent is settled first; each stream keeps its order, and nothing waits for ever."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tests.integration.logs.harness import Note

from streamatiq.broker.keys import Keys
from streamatiq.broker.settlements import DONE, Settlement
from streamatiq.broker.settling_order import SettlingOrder
from streamatiq.broker.sources import AuditLevel, Source
from streamatiq.broker.subscriptions import Subscription


def source(name: str, priority: int) -> Source:
    subscription = Subscription(name, (Note,), "new", priority=priority)
    return subscription.sources(Keys("unit"), {}, AuditLevel.OFF)[0]


ORDERS, TICKS = source("orders", 0), source("ticks", 100)
SOURCES = [ORDERS, TICKS, source("fills", 0), source("signals", 7)]


def several(of: Source, count: int, first: int = 0) -> list[Settlement]:
    return [Settlement(of, "c", b"%d-0" % (first + n), b"", DONE) for n in range(count)]


def add(order: SettlingOrder, settlements: list[Settlement]) -> None:
    for one in settlements:
        order.add((one,))


def take(order: SettlingOrder, most: int) -> list[Settlement]:
    return [one for together in order.take(most) for one in together]


def test_urgent_ones_overtake_and_both_keep_their_order() -> None:
    order = SettlingOrder()
    ticks, orders = several(TICKS, 5), several(ORDERS, 3)
    add(order, [*ticks, *orders])

    assert take(order, 100) == [*orders, *ticks]
    assert (len(order), take(order, 100)) == (0, [])


def test_a_quarter_of_a_batch_is_kept_for_the_others() -> None:
    order = SettlingOrder()
    ticks, orders = several(TICKS, 50), several(ORDERS, 500)
    add(order, [*ticks, *orders])

    assert take(order, 100) == [*orders[:75], *ticks[:25]]
    assert take(order, 100) == [*orders[75:150], *ticks[25:]]
    assert take(order, 100) == orders[150:250]


def test_however_many_are_more_urgent_each_priority_gets_its_turn() -> None:
    order = SettlingOrder()
    lines = [several(source(f"s{priority}", priority), 300) for priority in range(6)]
    for line in reversed(lines):
        add(order, line)

    taken = take(order, 128)
    counts = [sum(1 for one in taken if one.source.priority == n) for n in range(6)]
    assert counts == [96, 24, 5, 1, 1, 1]
    assert sum(counts) == 128


@given(
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from(range(len(SOURCES))), st.integers(1, 9)),
            st.tuples(st.none(), st.integers(1, 12)),
        )
    )
)
def test_nothing_is_lost_doubled_or_out_of_its_stream_s_order(
    steps: list[tuple[int | None, int]],
) -> None:
    order = SettlingOrder()
    added: list[Settlement] = []
    taken: list[Settlement] = []
    for at, count in steps:
        if at is None:
            before = len(order)
            found = take(order, count)
            assert len(found) == min(count, before)
            taken += found
        else:
            new = several(SOURCES[at], count, len(added))
            added += new
            add(order, new)
            assert len(order) == len(added) - len(taken)
    taken += take(order, len(added))

    for one in SOURCES:
        assert [s for s in taken if s.source is one] == [s for s in added if s.source is one]


def test_what_belongs_together_is_not_parted() -> None:
    order = SettlingOrder()
    large, small = several(ORDERS, 150), several(ORDERS, 3, 150)
    order.add(large)
    order.add(small[:2])
    order.add(small[2:])

    assert order.take(100) == [large]  # alone, though it is too large
    assert order.take(2) == [small[:2]]
    assert order.take(2) == [small[2:]]
    assert len(order) == 0
