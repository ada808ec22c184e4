"""Replies that are lost after the server has done the work; and a server that has no scripts."""

from __future__ import annotations

import pytest
import redis
from tests.integration.scheduler.harness import Desk
from tests.support import CuttingProxy

from streamatiq.broker.calls import script
from streamatiq.scheduler.fencing import _fenced


@pytest.mark.parametrize("keep_bytes", [0, 2])
@pytest.mark.parametrize("name", ["run_begin", "run_publish", "run_enqueue", "run_end"])
def test_what_is_repeated_happens_once(
    desk: Desk, proxy: CuttingProxy, client: redis.Redis, name: str, keep_bytes: int
) -> None:
    desk.add(every="10s")
    desk.add("mail", kind="send", parameters={"actor": "greet", "args": ["you"]})
    desk.add("again", kind="requeue", parameters={"queue": "mail"})
    leader = desk.lead(url=proxy.url)
    leader.broker.actors = desk.broker.actors  # its own process would have declared them
    leader.advance(10_000)
    proxy.cut_reply(_fenced(script(name)).sha.encode(), times=3, keep_bytes=keep_bytes)
    leader.advance(20_000)
    leader.look()
    assert proxy.cuts == 3
    assert len(desk.times()) == len(set(desk.times())) == 3
    for schedule in ("some", "mail", "again"):
        assert desk.outcomes(schedule) == ["done"] * 3
        assert client.exists(desk.broker.keys.scheduler.runs(schedule)) == 0
    assert desk.broker.backlog("mail") == 3


def test_scripts_that_the_server_has_forgotten_are_loaded_again(
    desk: Desk, client: redis.Redis
) -> None:
    desk.add(every="10s")
    leader = desk.lead()
    leader.advance(10_000)
    client.script_flush()
    leader.advance(10_000)
    assert desk.outcomes() == ["done", "done"]
