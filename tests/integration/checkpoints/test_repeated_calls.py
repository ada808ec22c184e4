"""Replies that are lost after the server has done the work: all of it may be repeated."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis
from tests.integration.logs.harness import Bench, Echo, Note, note, texts
from tests.support import CuttingProxy

from streamatiq import Checkpoints, PrunePolicy, Retention
from streamatiq.broker.calls import script
from streamatiq.scheduler.retention_pins import pin, pins, unpin


@pytest.mark.parametrize(
    "what",
    ["positions", "checkpoint_store", "checkpoint_prune", "checkpoint_note", "exclusive", "rewind",
     "unmark", "retain", "seen", "pin"],
)  # fmt: skip
def test_each_call_may_be_repeated(
    open_bench: Callable[..., Bench], proxy: CuttingProxy, client: redis.Redis, what: str
) -> None:
    runs: list[str] = []

    def work() -> None:
        bench = open_bench()

        @bench.on(Note, name="s", start="earliest")
        def handler(event: Note) -> Echo:
            runs.append(event.text)
            return Echo(ts_event=1, text=event.text)

        bench.start(threads=1)
        bench.settled("s")
        bench.stop()

    through = open_bench(
        proxy.url, redis={"retry_delay": 0.02, "max_retries": 30, "stream_max_length": 1}
    )
    checkpoints = Checkpoints(through.broker)
    through.logs.publish(note("a"))
    work()
    # The server knows the script: what is cut is a call, not its loading.
    checkpoints.create("warm")
    checkpoints.restore()
    checkpoints.prune(PrunePolicy(1))
    pin(through.broker, "warm", {})
    unpin(through.broker, "warm")
    Retention(through.broker).run()

    proxy.cut_reply(script(what).sha.encode(), times=2)
    taken = checkpoints.create("a done")
    through.logs.publish_many([note("b"), note("c")])
    work()
    (did,) = checkpoints.restore(taken.id)
    assert (did.again, did.done) == (2, True)
    (copied,) = checkpoints.restore(taken.id, "s", as_name="t")
    assert copied.to_run == 2
    work()
    assert sorted(runs) == ["a", "b", "b", "c", "c"]
    assert sorted(texts(through.read(Echo))) == ["a", "b", "c"]
    pin(through.broker, "7", {"test.note:0": "1-1"})
    assert set(pins(through.logs.links, through.keys)) == {"7"}
    assert Retention(through.broker).run().trimmed == 0
    unpin(through.broker, "7")
    assert [one.id for one in checkpoints.list()][-1] == taken.id
    assert len(checkpoints.prune(PrunePolicy(1))) == 1
    assert proxy.cuts == 2
    assert not client.exists(through.keys.checkpoints.busy)
