"""Replays on the in-process twin of the server: handlers' tests may use them."""

from __future__ import annotations

from typing import Any

from streamatiq import Event, Partitioned, on, replay
from streamatiq.scheduler.replay import Standing, diff_replays, store_of
from streamatiq.scheduler.replay.access import links_of
from streamatiq.testing import TestBroker


class Pulse(Event, type="twin.pulse", log=Partitioned(2)):
    """An event."""

    n: int


def test_a_replay_on_the_twin() -> None:
    broker = TestBroker()
    seen: list[int] = []

    @on(Pulse, name="twin.count", broker=broker)
    def count(event: Pulse) -> None:
        seen.append(event.n)

    for n in range(20):
        broker.publish(Pulse(ts_event=1000 + n, key=f"k{n % 3}", n=n))
    broker.run_until_idle()
    assert sorted(seen) == list(range(20))
    items = list(replay(Pulse, broker=broker))
    assert [one.order for one in items] == sorted(one.order for one in items)
    report = replay(Pulse, broker=broker, target="isolated", replay_id="a").run()
    other = replay(Pulse, broker=broker, target="isolated", replay_id="b").run()
    assert report.count == 20
    assert report.digest == other.digest
    store = store_of(broker)
    assert store.get("a").standing is Standing.DONE
    diff: Any = diff_replays(store, links_of(broker), broker.keys, "a", "b")
    assert diff.same
    again = replay(Pulse, broker=broker, target="subscription:twin.count", replay_id="c").run()
    assert again.count == 20
    broker.run_until_idle()
    assert len(seen) == 40
    assert store.remove("a") > 3
    assert store.ids() == ["b", "c"]
