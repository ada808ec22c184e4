"""How a delivery ends: what Dramatiq's worker and middleware do to it, then `ack` or `nack`."""

from __future__ import annotations

from dataclasses import dataclass

import hypothesis.strategies as st
from tests.integration.state_machine.process import Process
from tests.integration.state_machine.shapes import HOUR_MS, QUEUES, effect, message
from tests.integration.state_machine.world import Example

from streamatiq.broker.delivery import Delivery
from streamatiq.broker.settlements import Emit
from streamatiq.events import emit_id
from streamatiq.workers.emitting import collect

__all__ = ["DONE", "EMITS", "FAIL", "LATER", "RETRY", "Ending", "end", "endings"]


@dataclass(frozen=True)
class Ending:
    """What a handler and the middleware after it do."""

    #: done, retry, later (a retry after an hour), fail, skip, back (not begun), undecided (it
    #: raised, and no middleware has said what to do).
    kind: str
    #: Events that the handler emits.
    emits: int
    #: Emit other ids than the first time.
    other: bool
    #: Queue and delay of messages that middleware enqueues afterwards.
    messages: tuple[tuple[str, bool], ...]


#: It is done.
DONE = Ending("done", 0, False, ())
#: It is done, and emits an event.
EMITS = Ending("done", 1, False, ())
#: It failed for good.
FAIL = Ending("fail", 0, False, ())
#: It failed, and is tried again at once.
RETRY = Ending("retry", 0, False, ())
#: It failed, and is tried again after an hour.
LATER = Ending("later", 0, False, ())


def endings() -> st.SearchStrategy[Ending]:
    return st.builds(
        Ending,
        kind=st.sampled_from(
            ("done", "done", "done", "retry", "later", "fail", "skip", "back", "undecided")
        ),
        emits=st.integers(0, 2),
        other=st.booleans(),
        messages=st.lists(st.tuples(st.sampled_from(QUEUES), st.booleans()), max_size=2).map(tuple),
    )


def end(
    process: Process, example: Example, delivery: Delivery, ending: Ending, number: int
) -> None:
    """Ends `delivery`; what it comes to is collected before the committer.

    Parameters:
      number: Names the messages that follow.
    """
    consumer = process.consumer(delivery)
    if ending.kind == "back":
        consumer.requeue([delivery])
        return
    delivery.start(example.logs)
    if delivery.event is not None:
        _emit(example, delivery, ending)
    error = RuntimeError("it failed")
    if ending.kind not in ("done", "skip"):
        delivery._exception = error
    delivery.done()
    if ending.kind in ("retry", "later"):
        delivery.options["retries"] = delivery.options.get("retries", 0) + 1
        delivery.retry_delay_ms = HOUR_MS if ending.kind == "later" else 0
    if ending.kind in ("done", "retry", "later"):
        for place, (queue, later) in enumerate(ending.messages):
            one = message(queue, 10 * number + place + 1_000_000, place)
            work = example.layout.work[queue]
            delivery.messages.append(work.to_enqueue(one, HOUR_MS if later else None))
    if ending.kind in ("fail", "skip"):
        consumer.nack(delivery)
    else:
        consumer.ack(delivery)


def _emit(example: Example, delivery: Delivery, ending: Ending) -> None:
    assert delivery.event is not None
    effects = [effect(1_000 + place) for place in range(ending.emits)]
    if not ending.other:
        collect(delivery, effects)
        return
    for place, one in enumerate(effects):
        derived = emit_id(delivery.event.id, delivery.queue_name, 100 + place)
        caused = one.caused_by(delivery.event, event_id=derived)
        delivery.emits.append(Emit(*example.logs.prepared(caused)))
