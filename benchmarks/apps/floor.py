"""The floor: what redis-py itself can do. No promises: a failed handler would lose its batch.

As a script (`python -m benchmarks.apps.floor`) it is the worker process: XREADGROUP COUNT 100,
json.loads of each entry, one XACK a batch.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from typing import Any

import redis

from ..ticks import Tick, encode, number_of
from .base import BULK_CALL, QUEUE, Producer, Target, handling

__all__ = ["FloorProducer", "connect", "main"]

#: Entries read at once.
_COUNT = 100

#: How long a read waits for entries, in ms.
_BLOCK_MS = 1000

#: Seconds between two looks at the group while it drains.
_POLL_S = 0.02


class FloorProducer:
    """XADD, and a pipeline of XADDs for bulk."""

    abilities = frozenset({BULK_CALL})

    def __init__(self, target: Target) -> None:
        self._redis = redis.Redis.from_url(target.url)
        self._stream = _stream(target)

    def prepare(self) -> None:
        try:
            self._redis.xgroup_create(self._stream, QUEUE, id="0", mkstream=True)
        except redis.ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):  # prepared before
                raise

    def send(self, tick: Tick) -> None:
        self._redis.xadd(self._stream, {"d": encode(tick)})

    def send_many(self, ticks: Sequence[Tick]) -> None:
        with self._redis.pipeline(transaction=False) as pipeline:
            for tick in ticks:
                pipeline.xadd(self._stream, {"d": encode(tick)})
            pipeline.execute()

    def send_delayed(self, ticks: Sequence[Tick], delay_ms: int) -> None:
        raise NotImplementedError("a bare stream delays nothing")

    def wait_settled(self, timeout_s: float, delayed: int = 0) -> bool:
        deadline = time.monotonic() + timeout_s
        while True:
            group = self._redis.xinfo_groups(self._stream)[0]
            if group["pending"] == 0 and group["lag"] == 0:
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_S)


def connect() -> Producer:
    """Connect the producer to the target in the environment."""
    return FloorProducer(Target.from_env())


def main() -> None:
    """Read, decode, note, acknowledge, until killed."""
    target = Target.from_env()
    handle = handling(target)
    client = redis.Redis.from_url(target.url, socket_timeout=_BLOCK_MS / 1000 + 5)
    stream, consumer = _stream(target), f"floor-{os.getpid()}"
    while True:
        # redis-py's type of the reply is a union over both protocols; this is what arrives.
        reply: Any = client.xreadgroup(
            QUEUE, consumer, {stream: ">"}, count=_COUNT, block=_BLOCK_MS
        )
        for _, entries in reply or ():
            for _, fields in entries:
                handle(number_of(json.loads(fields[b"d"])))
            client.xack(stream, QUEUE, *[entry_id for entry_id, _ in entries])


def _stream(target: Target) -> str:
    return f"{target.namespace}:{QUEUE}"


if __name__ == "__main__":
    main()
