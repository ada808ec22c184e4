"""A server whose memory is full, or that is another one than it should be."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.integration.faults.servers import PrivateServer
from tests.integration.scheduler.harness import Desk

from streamatiq.errors import OutOfMemory


def test_full_memory_fails_the_run_and_pausing_goes_on(
    private: PrivateServer, namespace: str, tmp_path: Path
) -> None:
    with Desk(private.url, namespace) as desk, private.client() as client:
        desk.add(every="10s")
        leader = desk.lead()
        leader.advance(10_000)
        client.config_set("maxmemory", "1mb")
        leader.advance(10_000)
        assert desk.outcomes() == ["done", "failed"]
        assert "is at maxmemory and refused script run_publish" in (
            desk.schedules.history("some")[0].detail
        )
        with pytest.raises(OutOfMemory):
            desk.add("another")
        assert desk.schedules.pause("some") is True
        client.config_set("maxmemory", "0")
        assert desk.schedules.resume("some") is True
        leader.look()
        leader.advance(10_000)
        assert desk.outcomes()[-1] == "done"
        assert len(desk.ticks()) == 2


def test_data_that_is_gone_ends_the_term(desk: Desk) -> None:
    """Nobody leads as far as the server knows; nothing is written until somebody does again."""
    desk.add(every="10s")
    leader = desk.lead("one")
    with desk.broker.client() as client:
        client.delete(desk.broker.keys.scheduler.leader)
    leader.advance(10_000)
    assert desk.ticks() == []
    assert leader.links.ended.is_set()
    desk.lead("one").work()
    assert len(desk.ticks()) == 1
