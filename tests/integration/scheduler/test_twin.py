"""The same on the in-process twin, and every script on both servers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from tests.integration.scheduler.harness import Desk

from streamatiq.broker import scripts as broker_scripts
from streamatiq.broker.connections import Endpoint, Link
from streamatiq.broker.keys import Keys
from streamatiq.scheduler import scripts
from streamatiq.scheduler.fencing import FencedLink
from streamatiq.scheduler.planning import Fire, Plan
from streamatiq.scheduler.scripts import Change, RunEnd
from streamatiq.testing import Twin


@pytest.fixture
def twin() -> Iterator[Twin]:
    with Twin() as made:
        yield made


def test_schedules_on_the_twin(twin: Twin) -> None:
    with Desk(twin.url, "twin") as desk:
        desk.add(every="10s")
        desk.add("mail", kind="send", parameters={"actor": "greet", "args": ["you"]})
        desk.add("again", kind="requeue", parameters={"queue": "mail"})
        leader = desk.lead("one")
        leader.advance(20_000)
        desk.lead("two").advance(10_000)
        leader.look()
        assert len(desk.ticks()) == len(set(desk.times())) == 3
        assert desk.broker.backlog("mail") == 3
        assert desk.outcomes("again") == ["done"] * 3


def _played(url: str) -> list[Any]:
    """What one server says to each script, in turn."""
    keys, said = Keys("alike"), []
    scheduler = keys.scheduler
    log, queue = keys.log("alike.tick", "0"), keys.queue("mail")
    event = broker_scripts.publish(log, 3_600_000, [(b"0123456789abcdef", b"{}")])
    message = broker_scripts.enqueue(
        [f"{queue.tag}:entries.{lane}" for lane in ("high", "normal", "low")],
        broker_scripts.DelayedKeys(queue.delayed, queue.delayed_messages, queue.cancelled),
        queue.wake, queue.producer("0a"), 1, [(2, -1, "2x:m", b"message")],
    )  # fmt: skip

    def begin(cursor: int, plan: Plan, asked: str = "") -> Any:
        return scripts.begin(
            scheduler, "a", definition="D", cursor=cursor, plan=plan, asked=asked, max_running=1,
            who="1 one", history=3,
        )  # fmt: skip

    with (
        closing(Link(Endpoint(url))) as link,
        closing(FencedLink(Endpoint(url), scheduler.leader, "1 one")) as leader,
        closing(FencedLink(Endpoint(url), scheduler.leader, "0 none")) as other,
    ):
        calls: list[tuple[Link, Any]] = [
            (link, scripts.leads(scheduler)),
            (link, scripts.lead(scheduler, "one", 60_000, 60_000)),
            (link, scripts.lead(scheduler, "two", 60_000, 60_000)),
            (leader, scripts.leads(scheduler)),
            (other, scripts.leads(scheduler)),
            (link, scripts.apply(scheduler, "me", 9, [Change("a", "", "D", "t")])),
            (link, scripts.apply(scheduler, "me", 9, [Change("a", "", "E", "t")])),
            (link, scripts.apply(scheduler, "me", 1, [Change("b", "", "E", "t")])),
            (link, scripts.act(scheduler, "a", "pause", "me")),
            (link, scripts.act(scheduler, "a", "resume", "me")),
            (link, scripts.act(scheduler, "a", "run", "me")),
            (link, scripts.act(scheduler, "b", "run", "me")),
            (leader, begin(1, Plan(Fire(2, 2), 2))),
        ]
        for via, call in calls:
            said.append(_said(via, call))
        cursor = int(link.send("HGET", scheduler.state("a"), "cursor"))
        end = RunEnd("a", 1, "failed", "why", 3)
        for via, call in [
            (other, begin(cursor, Plan(Fire(2, 2), 2))),
            (leader, begin(cursor, Plan(Fire(2, 2), 7, 3, 1, 3))),
            (leader, begin(7, Plan(Fire(8, 8), 8))),
            (leader, scripts.repeat(scheduler, "a", 1, "1 one")),
            (leader, scripts.end(scheduler, end)),
            (leader, scripts.end(scheduler, end)),
            (leader, begin(7, Plan(Fire(8, 8), 8))),
            (leader, scripts.publish(scheduler, end._replace(number=2), event)),
            (leader, scripts.publish(scheduler, end._replace(number=2), event)),
            (leader, begin(8, Plan(Fire(9, 9), 9))),
            (leader, scripts.enqueue(scheduler, end._replace(number=3), message)),
            (leader, scripts.enqueue(scheduler, end._replace(number=3), message)),
            (leader, begin(9, Plan(None, 10, 2, 9, 10))),
            (link, scripts.apply(scheduler, "me", 9, [Change("a", "D", None)])),
            (link, scripts.abdicate(scheduler, "two")),
            (link, scripts.abdicate(scheduler, "one")),
        ]:
            said.append(_said(via, call))
        for key in sorted(link.send("KEYS", "*alike*")):
            kind = link.send("TYPE", key)
            read = {
                b"hash": ("HGETALL", key), b"stream": ("XRANGE", key, "-", "+"),
                b"string": ("GET", key),
            }[kind]  # fmt: skip
            held = link.send(*read)
            said.append((key, sorted(held) if kind == b"hash" else held))
    return said


def _said(link: Link, call: Any) -> Any:
    try:
        return call.script.name, repr(link.run(call)).encode()
    except Exception as error:  # noqa: BLE001 - compared
        return call.script.name, f"{type(error).__name__} {error}".partition(": ")[2].encode()


def test_every_script_says_the_same_on_both_servers(own_server: Any, twin: Twin) -> None:
    server = _played(own_server().url)
    ours = _played(twin.url)
    assert len(server) > 30
    for real, made in zip(server, ours, strict=True):
        assert _without_times(real) == _without_times(made)


def _without_times(value: Any) -> str:
    """Ids and times that a server chooses itself differ."""
    return re.sub(r"\d{16}|\d{13}(-\d+)?|left_ms=\d+|/\S+sock|unix:\S+", "T", repr(value))
