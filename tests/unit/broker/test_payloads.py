"""Messages are decoded as Dramatiq's encoder decodes them, however it is done."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import dramatiq
import pytest
from dramatiq.encoder import Encoder, JSONEncoder
from hypothesis import given
from hypothesis import strategies as st

from streamatiq.broker.payloads import decode_data

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    # Bounded: most of what is longer has too many leaves, and is drawn in vain.
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@pytest.fixture
def other_encoder() -> Iterator[None]:
    class Upper(Encoder):
        def encode(self, data: dict[str, Any]) -> bytes:
            return json.dumps(data).upper().encode()

        def decode(self, data: bytes) -> dict[str, Any]:
            return {"decoded": data}

    before = dramatiq.get_encoder()
    dramatiq.set_encoder(Upper())
    yield
    dramatiq.set_encoder(before)


@given(st.dictionaries(st.text(), VALUES))
def test_the_same_as_dramatiqs_encoder(value: dict[str, Any]) -> None:
    data = JSONEncoder().encode(value)
    assert repr(decode_data(data)) == repr(JSONEncoder().decode(data))


@pytest.mark.parametrize("text", [r'{"a": "\ud800"}', '{"a": NaN}', '{"a": Infinity}', "[1]"])
def test_what_the_encoder_accepts_is_accepted(text: str) -> None:
    assert repr(decode_data(text.encode())) == repr(json.loads(text))


@pytest.mark.parametrize("data", [b"junk", b"", b"{", b"\xff"])
def test_what_the_encoder_refuses_is_refused(data: bytes) -> None:
    with pytest.raises(Exception) as ours:  # noqa: PT011 - the encoder's, whatever it is
        decode_data(data)
    with pytest.raises(type(ours.value)):
        JSONEncoder().decode(data)


@pytest.mark.usefixtures("other_encoder")
def test_another_encoder_is_used() -> None:
    assert decode_data(b"x") == {"decoded": b"x"}
