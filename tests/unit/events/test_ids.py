"""Ids: time-ordered ones strictly increase whatever the clock does; derived ones repeat."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID, uuid5

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamatiq.events import UuidV7, emit_id, new_id, now_ns

#: 2024-08-08 23:54:13.937 UTC in ms.
MS = 1_723_161_253_937


def zeros(count: int) -> bytes:
    return bytes(count)


def ones(count: int) -> bytes:
    return b"\xff" * count


def stopped_at(ms: int) -> Callable[[], int]:
    return lambda: ms * 1_000_000 + 999_999


def test_layout_of_rfc_9562() -> None:
    made = UuidV7(stopped_at(MS), ones)()
    assert (made.version, made.variant) == (7, "specified in RFC 4122")
    assert made.int >> 80 == MS
    assert (made.int >> 64) & 0xFFF == 0x7FF, "the counter starts in its lower half"
    assert made.int & ((1 << 62) - 1) == (1 << 62) - 1


def test_is_an_ordinary_uuid() -> None:
    made = new_id()
    again = UUID(str(made))
    assert made == again
    assert hash(made) == hash(again)
    assert repr(made) == repr(again)
    assert made.is_safe == again.is_safe


def test_increases_within_a_millisecond_and_past_the_counter() -> None:
    make = UuidV7(stopped_at(MS), zeros)
    made = [make() for _ in range(4096 * 2 + 1)]
    assert made == sorted(set(made))
    assert [one.int >> 80 for one in (made[0], made[4095], made[4096], made[-1])] == [
        MS,
        MS,
        MS + 1,
        MS + 2,
    ]


@settings(derandomize=True, deadline=None, database=None)
@given(st.lists(st.integers(0, 5), min_size=2, max_size=50))
def test_increases_whatever_the_clock_does(steps: list[int]) -> None:
    clock = iter(steps)
    make = UuidV7(lambda: next(clock) * 1_000_000, zeros)
    made = [make() for _ in steps]
    assert made == sorted(set(made))


def test_follows_the_real_clock() -> None:
    before = now_ns() // 1_000_000
    made = UuidV7()()
    assert before <= made.int >> 80 <= now_ns() // 1_000_000


def test_threads_share_no_id() -> None:
    make = UuidV7(stopped_at(MS))
    with ThreadPoolExecutor(4) as pool:
        made = [
            one
            for part in pool.map(lambda _: [make() for _ in range(500)], range(8))
            for one in part
        ]
    assert len(set(made)) == len(made) == 4000


def test_randomness_is_read_in_blocks_and_again_after_a_reseed() -> None:
    asked: list[int] = []

    def source(count: int) -> bytes:
        asked.append(count)
        return bytes(count)

    make = UuidV7(stopped_at(MS), source)
    for _ in range(128):
        make()
    assert asked == [1280]
    make()
    assert asked == [1280, 1280]
    make.reseed()
    make()
    assert len(asked) == 3


def test_a_forked_child_has_randomness_of_its_own() -> None:
    script = """
import os
from streamatiq.events import new_id
new_id()
read, write = os.pipe()
child = os.fork()
if child == 0:
    os.write(write, new_id().bytes)
    os._exit(0)
os.waitpid(child, 0)
tails = [int.from_bytes(b, "big") & ((1 << 62) - 1) for b in (os.read(read, 16), new_id().bytes)]
assert tails[0] != tails[1], tails
print("apart")
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=20, check=False
    )
    assert done.stdout == "apart\n", done.stderr


@settings(derandomize=True, deadline=None, database=None)
@given(st.uuids(), st.text(max_size=30), st.integers(0, 10_000))
def test_emit_id_is_uuid5(cause: UUID, subscription: str, ordinal: int) -> None:
    made = emit_id(cause, subscription, ordinal)
    assert made == uuid5(cause, f"{subscription}:{ordinal}")
    assert made.version == 5


def test_emit_id_differs_by_every_argument() -> None:
    cause = new_id()
    made = {emit_id(cause, "a", 0), emit_id(cause, "a", 1), emit_id(cause, "b", 0)}
    assert len(made | {emit_id(new_id(), "a", 0)}) == 4


def test_emit_id_refuses_text_that_is_no_text() -> None:
    with pytest.raises(UnicodeEncodeError):
        emit_id(new_id(), "\ud800", 0)
