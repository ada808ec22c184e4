"""Keys: what a settle touches is in one Redis Cluster slot, and no two things share a key."""

from __future__ import annotations

from dataclasses import fields

from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from streamatiq import Lane
from streamatiq.broker.keys import LANES, Keys, SourceKeys

NAMES = st.from_regex(r"[a-zA-Z_][a-zA-Z0-9._-]{0,30}", fullmatch=True)


def _source_keys(source: SourceKeys) -> list[str]:
    found = [getattr(source, one.name) for one in fields(source) if one.name != "tag"]
    return [*found, source.fence("h:1:t"), source.batch("w"), source.operator("t")]


def _one_slot(keys: list[str]) -> bool:
    return len({key_slot(key.encode()) for key in keys}) == 1


@given(NAMES, NAMES, NAMES, st.sampled_from(["0", "7", "high", "low"]))
def test_all_of_a_logs_keys_are_in_one_slot(
    namespace: str, type_name: str, name: str, part: str
) -> None:
    log = Keys(namespace).log(type_name, part)
    source = log.subscription(name)
    keys = [log.entries, log.ids, log.ids_old, *_source_keys(source)]
    assert _one_slot(keys)
    assert len(set(keys)) == len(keys) - 1  # both have the entries
    assert all(key.startswith(f"{{{namespace}:log:{type_name}:{part}}}:") for key in keys)


@given(NAMES, NAMES)
def test_all_of_a_queues_keys_are_in_one_slot(namespace: str, name: str) -> None:
    queue = Keys(namespace).queue(name)
    keys = [queue.delayed, queue.delayed_messages, queue.cancelled, queue.producer("s")]
    own = {one for lane in LANES for one in _source_keys(queue.lane(lane))}
    assert _one_slot([*keys, *own])
    assert own.isdisjoint(keys)
    # Three lanes: what is not a lane's (dead letters, wake-ups, business keys, ...) is the queue's.
    assert len(own) == 3 * 11 + 9


@given(NAMES)
def test_who_lives_is_known_in_one_slot(namespace: str) -> None:
    members = Keys(namespace).members
    keys = [members.alive, members.lease, members.arrivals, members.known]
    keys.append(members.reads("h:1:t"))
    assert _one_slot(keys)
    assert len(set(keys)) == 5


@given(NAMES, NAMES)
def test_schedules_are_in_one_slot(namespace: str, name: str) -> None:
    own = Keys(namespace).scheduler
    keys = [own.lease, own.leader, own.members, own.schedules, own.changes]
    keys += [own.state(name), own.runs(name), own.history(name)]
    assert _one_slot(keys)
    assert len(set(keys)) == 8


def test_what_differs_has_other_keys() -> None:
    keys = Keys("ns")
    several = [
        keys.log("t", "0").subscription("a"),
        keys.log("t", "0").subscription("b"),
        keys.log("t", "1").subscription("a"),
        keys.log("u", "0").subscription("a"),
        Keys("other").log("t", "0").subscription("a"),
        keys.queue("a").lane(Lane.HIGH),
        keys.queue("a").lane(Lane.LOW),
        keys.queue("b").lane(Lane.HIGH),
    ]
    assert len({one.parked for one in several}) == len(several)
    assert keys.layout("t") != keys.layout("u")
    assert several[0].fence("x") != several[0].fence("y")
