"""Entry ids are ordered as two numbers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamatiq.broker.entry_ids import START, id_after, id_before, id_key

IDS = st.builds("{}-{}".format, st.integers(0, 2**48), st.sampled_from([0, 1, 9, 10, 2**64 - 1]))


@given(IDS)
def test_neighbours(entry_id: str) -> None:
    after = id_after(entry_id)
    assert id_key(after) > id_key(entry_id)
    assert id_before(after) == entry_id
    if entry_id != START:
        assert id_after(id_before(entry_id)) == entry_id
    assert id_key(entry_id.encode()) == id_key(entry_id)


def test_the_first_id() -> None:
    assert id_before(START) == START
    assert id_key("10-2") > id_key("9-11")
    assert id_key("5") == (5, 0)
