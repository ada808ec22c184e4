"""The table at the top of `keys.py`, against what schedules leave on a server."""

from __future__ import annotations

import re

import redis
from tests.integration.scheduler.harness import Desk, kind

from streamatiq.broker import keys as module


def test_every_key_of_schedules_is_documented_with_its_type(
    desk: Desk, client: redis.Redis
) -> None:
    held: dict[str, str] = {}

    def look(*_: object) -> None:
        tag = desk.broker.keys.scheduler.tag
        for key in client.scan_iter(match=f"{tag}:*", count=1000):
            name = key.decode().removeprefix(tag)
            held[name.replace(":some", ":SCHEDULE")] = client.type(key).decode().upper()

    desk.add(every="10s", kind=kind("looks", look))
    desk.lead().advance(10_000)
    # Of the lease there is one only while a process leads.
    look()
    assert module.__doc__ is not None
    documented = re.findall(r"^SCHED(:\S+)\s+([A-Z]+) ", module.__doc__, re.MULTILINE)
    assert held == dict(documented)
