"""Decimals: the same plain texts are read in Python and from the wire, digits and all."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamatiq.errors import EventDecodeError, InvalidEvent
from streamatiq.events import Event, Price, Quantity, Size, decode_as, encode
from streamatiq.events.decimals import MAX_DECIMAL_CHARS, decimal_text

NORMAL = settings(derandomize=True, deadline=None, database=None)
PLAIN = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?")


class Probe(Event, type="decimals.probe"):
    price: Price | None = None
    size: Size | None = None
    quantity: Quantity | None = None
    bare: Decimal | None = None


EMPTY = json.loads(encode(Probe(ts_event=1)))


def from_wire(field: str, value: Any) -> Probe:
    return decode_as(Probe, json.dumps({**EMPTY, field: value}).encode())


def allowed(field: str, text: str) -> bool:
    if not PLAIN.fullmatch(text) or len(text) > MAX_DECIMAL_CHARS:
        return False
    if field == "size":
        return not text.startswith("-")
    return field != "quantity" or Decimal(text) > 0


texts = st.one_of(
    st.from_regex(PLAIN, fullmatch=True),
    st.text("0123456789.-+eE_ \n٣", max_size=12),
    st.sampled_from(["NaN", "sNaN", "Infinity", "-Infinity", "", "1E+2", "0x10"]),
)


@NORMAL
@given(st.sampled_from(["price", "size", "quantity", "bare"]), texts)
@example("price", "1\n")
@example("size", "-0")
@example("quantity", "0.000")
@example("price", "9" * (MAX_DECIMAL_CHARS + 1))
def test_texts(field: str, text: str) -> None:
    if not allowed(field, text):
        with pytest.raises(InvalidEvent, match=f"field '{field}'"):
            Probe(ts_event=1, **{field: text})
        with pytest.raises(EventDecodeError, match=f"field '{field}'"):
            from_wire(field, text)
        return
    for probe in (Probe(ts_event=1, **{field: text}), from_wire(field, text)):
        value = getattr(probe, field)
        assert isinstance(value, Decimal)
        assert decimal_text(value) == text
        assert json.loads(encode(probe))[field] == text


@NORMAL
@given(
    st.decimals(places=8, allow_nan=False, allow_infinity=False, min_value=-1000, max_value=1000)
)
def test_decimals_keep_their_digits(value: Decimal) -> None:
    back = decode_as(Probe, encode(Probe(ts_event=1, price=value))).price
    assert back is not None
    assert back.as_tuple() == value.as_tuple()


@pytest.mark.parametrize("text", ["0.10", "0.00000001", "100.00", "-37.63", "0", "-0", "0.000"])
def test_trailing_zeros_and_small_amounts_survive(text: str) -> None:
    probe = Probe(ts_event=1, price=Decimal(text), bare=Decimal(text))
    assert json.loads(encode(probe))["price"] == text
    assert json.loads(encode(probe))["bare"] == text
    assert decode_as(Probe, encode(probe)) == probe


def test_an_int_is_taken() -> None:
    probe = Probe(ts_event=1, price=-3, size=0, quantity=7, bare=1)
    assert (probe.price, probe.size, probe.quantity, probe.bare) == (-3, 0, 7, 1)
    assert type(probe.quantity) is Decimal


@pytest.mark.parametrize("field", ["price", "size", "quantity", "bare"])
@pytest.mark.parametrize(
    ("value", "named"),
    [
        (1.5, "1.5 (float)"),
        (float("nan"), "nan (float)"),
        (True, "True (bool)"),
        (b"1", "b'1' (bytes)"),
        ([1], "[1] (list)"),
        (Decimal("NaN"), "Decimal('NaN') (Decimal)"),
        (Decimal("sNaN"), "Decimal('sNaN') (Decimal)"),
        (Decimal("-Infinity"), "Decimal('-Infinity') (Decimal)"),
        (Decimal("1E+2"), "Decimal('1E+2') (Decimal)"),
        (Decimal("1E-999999999999"), "Decimal('1E-999999999999') (Decimal)"),
        (Decimal("1E-60"), "Decimal('1E-60') (Decimal)"),
        (10**48, f"{10**48} (int)"),
        pytest.param(10**5000, "<unprintable> (int)", id="huge int"),
    ],
)
def test_what_python_may_not_pass(field: str, value: object, named: str) -> None:
    with pytest.raises(InvalidEvent) as caught:
        Probe(ts_event=1, **{field: value})
    assert f"field '{field}': give a" in str(caught.value)
    assert str(caught.value).endswith(f"got {named}")


@pytest.mark.parametrize("field", ["price", "size", "quantity", "bare"])
@pytest.mark.parametrize("value", [1.5, 1, True, [], {}])
def test_a_number_on_the_wire_is_refused(field: str, value: object) -> None:
    with pytest.raises(EventDecodeError) as caught:
        from_wire(field, value)
    assert f"field '{field}': give a" in str(caught.value)
    assert f"got {value!r} ({type(value).__name__})" in str(caught.value)
