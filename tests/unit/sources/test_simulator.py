"""The simulated market: the same for the same seed, exact, and plausible."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from itertools import count, pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamatiq.errors import InvalidEvent
from streamatiq.events import MarketDataEvent, Side, UuidV7, decode_as, encode
from streamatiq.sources import MarketSimulator

KEYS = ["SIM:AAA", "SIM:BBB", "SIM:CCC"]


def simulator(seed: int, keys: list[str] = KEYS) -> MarketSimulator:
    clock = count(10**18, 1000).__next__
    return MarketSimulator(seed, keys, clock_ns=clock, ids=UuidV7(clock, Random(seed).randbytes))


@settings(max_examples=5)
@given(st.integers())
def test_the_same_seed_gives_the_same_bytes(seed: int) -> None:
    first, second = (b"".join(map(encode, simulator(seed).take(100))) for _ in range(2))
    assert first == second
    assert first != b"".join(map(encode, simulator(seed + 1).take(100)))


def test_the_bytes_of_a_seed_do_not_change_from_one_release_to_the_next() -> None:
    trade, quote = simulator(7).take(2)
    assert encode(trade) == (
        b'{"type":"market_data","v":1,"id":"00e8d4a5-1000-71c5-a652-e44da7f2370d",'
        b'"ts_event":1000000000000001000,"source":"simulator","key":"SIM:AAA","data":'
        b'{"kind":"trade","price":"341.468","size":"0.2","trade_id":"1","aggressor":"sell"}}'
    )
    assert encode(quote) == (
        b'{"type":"market_data","v":1,"id":"00e8d4a5-1000-71c6-8e27-136550a4a3a6",'
        b'"ts_event":1000000000000003000,"source":"simulator","key":"SIM:BBB","data":'
        b'{"kind":"quote","bid_px":"4561.67","bid_sz":"654","ask_px":"4561.68","ask_sz":"1"}}'
    )


def test_events_are_valid_and_prices_walk_by_ticks() -> None:
    quotes: dict[str, list[tuple[Decimal, Decimal]]] = defaultdict(list)
    trades = 0
    for event in simulator(1).take(6000):
        assert decode_as(MarketDataEvent, encode(event)) == event
        data = event.data
        if data.kind == "quote":
            assert 0 < data.bid_px < data.ask_px
            assert min(data.bid_sz, data.ask_sz) > 0
            quotes[event.key].append((data.bid_px, data.ask_px))
        else:
            trades += 1
            if quotes[event.key]:
                bid, ask = quotes[event.key][-1]
                assert data.price == (ask if data.aggressor is Side.BUY else bid)
    assert 0.17 < trades / 6000 < 0.23
    assert set(quotes) == set(KEYS)
    for walk in quotes.values():
        places = {price.as_tuple().exponent for pair in walk for price in pair}
        assert len(places) == 1
        tick = Decimal(1).scaleb(int(places.pop()))
        steps = {abs(now[0] - then[0]) for then, now in pairwise(walk)}
        assert steps == {Decimal(0), tick}
        assert {(ask - bid) / tick for bid, ask in walk} == {1, 2, 3, 4}


def test_trade_ids_of_an_instrument_have_no_gap() -> None:
    seen: dict[str, list[str]] = defaultdict(list)
    for event in simulator(3).take(2000):
        if event.data.kind == "trade":
            seen[event.key].append(event.data.trade_id or "")
    for numbers in seen.values():
        assert numbers == [str(number) for number in range(1, len(numbers) + 1)]


def test_prices_stay_positive_for_ever() -> None:
    sim = simulator(1, ["SIM:AAA"])
    book = sim._books[0]
    book.bid_ticks = 101
    for _ in range(10):
        book.step(0.0)
    assert (book.bid_ticks, book.ask_ticks) == (100, 101)


def test_times_and_ids_are_fresh_unless_given() -> None:
    one, two = MarketSimulator(1, KEYS).take(2)
    assert one.id != two.id
    assert one.ts_event <= two.ts_event
    assert one.id.version == 7
    assert one.source == "simulator"


@pytest.mark.parametrize("keys", [[], ["A:B", "A:B"], ["AB"], ["A:"], ["A:B C"]])
def test_instruments_must_be_keys_each_once(keys: list[str]) -> None:
    with pytest.raises(InvalidEvent):
        MarketSimulator(1, keys)
