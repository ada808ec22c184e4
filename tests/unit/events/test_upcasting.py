"""Stored events of older schema versions: read as the present one, or refused with the reason."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any, Self
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import model_validator

from streamatiq.errors import EventDecodeError, EventDefinitionError, SchemaVersionError
from streamatiq.events import Event, Side, decode, decode_as, encode, event_class, upcast
from streamatiq.events import upcasting as upcasting_module

FIXTURES = Path(__file__).parent / "fixtures"

Stored = dict[str, Any]


class Position(Event, type="upcasting.position", version=4):
    """Version 1 had `qty` with a sign; 2 side and quantity; 3 text for a map; 4 a strategy."""

    side: Side | None
    quantity: Decimal
    limits: dict[str, Decimal]
    strategy: str

    @upcast(2)
    @staticmethod
    def _limits_as_map(stored: Stored) -> Stored:
        pairs = [pair.split("=") for pair in stored["limits"].split(",") if pair]
        return {**stored, "limits": dict(pairs)}

    @upcast(1)
    @staticmethod
    def _split_sign(stored: Stored) -> Stored:
        signed = stored.pop("qty")
        side = None if Decimal(signed) == 0 else "sell" if signed.startswith("-") else "buy"
        return {**stored, "side": side, "quantity": signed.lstrip("-")}

    @upcast(3)
    @staticmethod
    def _name_strategy(stored: Stored) -> Stored:
        stored["strategy"] = stored.get("source", "unknown")
        return stored


def fixture(name: str) -> tuple[bytes, Position]:
    """The bytes as they were stored, and the event that they have to become."""
    held = json.loads((FIXTURES / name).read_text())
    return json.dumps(held["stored"]).encode(), Position(**held["present"])


@pytest.mark.parametrize("path", sorted(FIXTURES.glob("position_v*.json")), ids=lambda p: p.stem)
def test_stored_events_of_older_versions(path: Path) -> None:
    data, present = fixture(path.name)
    for event in (decode(data), decode_as(Position, data)):
        assert type(event) is Position
        assert event == present
        assert encode(event) == encode(present), "digits and key order are the present version's"


def test_there_is_a_fixture_of_each_version() -> None:
    assert {path.stem for path in FIXTURES.glob("position_v*.json")} == {
        f"position_v{version}" for version in range(1, Position.schema_version + 1)
    }
    assert list(Position.upcasters) == [1, 2, 3]


@settings(
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    units=st.integers(-(10**20), 10**20),
    places=st.integers(0, 12),
    limits=st.dictionaries(st.sampled_from("abc"), st.sampled_from(["0.10", "5", "-1.5"])),
    envelope=st.fixed_dictionaries(
        {"id": st.uuids(), "ts_event": st.integers(0, 2**63 - 1)},
        optional={
            "ts_published": st.integers(0, 2**63 - 1),
            "key": st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
            "correlation_id": st.uuids(),
            "causation_id": st.uuids(),
            "priority": st.sampled_from(["high", "normal", "low"]),
            "valid_for_ms": st.integers(1, 10**6),
            "trace": st.dictionaries(st.sampled_from("xy"), st.text("ab"), max_size=2),
        },
    ),
)
def test_any_event_of_version_1_becomes_what_it_meant(
    units: int, places: int, limits: dict[str, str], envelope: dict[str, Any]
) -> None:
    quantity = Decimal(abs(units)).scaleb(-places)
    text = format(quantity, "f")
    stored = {
        "type": "upcasting.position",
        "v": 1,
        **{n: str(value) if isinstance(value, UUID) else value for n, value in envelope.items()},
        "qty": f"-{text}" if units < 0 else text,
        "limits": ",".join(f"{name}={value}" for name, value in limits.items()),
    }
    event = decode(json.dumps(stored).encode())
    expected = Position(
        **envelope,
        side=None if not units else Side.SELL if units < 0 else Side.BUY,
        quantity=quantity,
        limits={name: Decimal(value) for name, value in limits.items()},
        strategy="unknown",
    )
    assert event == expected
    assert encode(event) == encode(expected)


def test_the_present_version_never_asks_for_an_older_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def look(*_args: object) -> None:
        raise AssertionError("the hot path must not come here")

    from streamatiq.events import codec

    _, present = fixture("position_v4.json")
    monkeypatch.setattr(codec, "lifted", look)
    assert decode(encode(present)) == present
    with pytest.raises(AssertionError):
        decode(fixture("position_v1.json")[0])


def test_a_newer_version_and_no_version() -> None:
    data, _ = fixture("position_v4.json")
    for version in ("5", "0", "1.0", "true", "null", '"1"', "[]"):
        other = data.replace(b'"v": 4', f'"v": {version}'.encode())
        with pytest.raises(
            SchemaVersionError, match=r"Position reads versions 1 to 4; deploy the code"
        ):
            decode(other)
    with pytest.raises(EventDecodeError, match=r"^Not a upcasting.position event: field 'id'"):
        decode(data.replace(b'"id": "', b'"id": "x'))


def test_bytes_that_no_upcaster_can_mend() -> None:
    data, _ = fixture("position_v1.json")
    for broken, complaint in (
        (data[:-5], "invalid JSON"),
        (b"[]", "got \\[\\]"),
        (
            data.replace(b"upcasting.position", b"upcasting.other"),
            r"^Not a upcasting.position event: field 'type'",
        ),
    ):
        with pytest.raises(EventDecodeError, match=complaint):
            decode_as(Position, broken)


def test_the_oldest_versions_may_be_forgotten() -> None:
    class Late(Event, type="late", version=3):
        n: int

        @upcast(2)
        @staticmethod
        def _up(stored: Stored) -> Stored:
            return {**stored, "n": 1}

    late = Late(ts_event=1, n=1)
    wire = json.loads(encode(late))
    assert decode(json.dumps({**wire, "v": 2}).encode()) == late
    with pytest.raises(
        SchemaVersionError, match=r"v=1 \(int\), and Late reads versions 2 to 3; declare @upcast\(1"
    ):
        decode(json.dumps({**wire, "v": 1}).encode())


def failing(stored: Stored) -> Stored:
    return {**stored, "n": stored["missing"]}


def changing(field: str, value: object) -> Any:
    return lambda stored: {**stored, field: value}


def without_id(stored: Stored) -> Stored:
    del stored["id"]
    return stored


@pytest.mark.parametrize(
    ("function", "complaint"),
    [
        (failing, r"upcaster .*failing from version 1 to 2 failed with KeyError\('missing'\)"),
        (lambda stored: None, r"from version 1 to 2 returned no dict, but None \(NoneType\)"),
        (lambda stored: [stored], r"returned no dict, but \[\{"),
        (changing("id", "x"), "changed field 'id', which it must leave alone: .* became 'x'"),
        (without_id, "changed field 'id'.* became None"),
        (changing("type", "x"), "changed field 'type'"),
        (changing("ts_event", 2), r"changed field 'ts_event'.*: 1 \(int\) became 2"),
        (changing("ts_published", 2), r"changed field 'ts_published'.*: None .* became 2"),
        (changing("correlation_id", "x"), "changed field 'correlation_id'"),
        (changing("causation_id", "x"), "changed field 'causation_id'"),
        (changing("n", object()), "upcast from version 1 to 2: it is no JSON any more: Unable"),
        (changing("n", "1"), "upcast from version 1 to 2: field 'n'.*got '1'"),
        (changing("n", 0), "upcast from version 1 to 2: a validator of Odd failed with ZeroDiv"),
        (changing("m", 0), "upcast from version 1 to 2: field 'm' is unknown"),
    ],
)
def test_an_upcaster_that_makes_no_event(function: Any, complaint: str) -> None:
    class Odd(Event, type="odd", version=2):
        n: int

        up = upcast(1)(function)

        @model_validator(mode="after")
        def _check(self) -> Self:
            assert 1 // self.n
            return self

    odd = Odd(ts_event=1, n=1)
    stored = json.dumps({**json.loads(encode(odd)), "v": 1}).encode()
    with pytest.raises(EventDecodeError, match=complaint) as caught:
        decode(stored)
    assert type(caught.value) is EventDecodeError
    assert str(odd.id) in str(caught.value)
    assert "odd event" in str(caught.value)


def test_an_upcaster_s_own_error_is_kept() -> None:
    class Odd(Event, type="odd", version=2):
        up = upcast(1)(failing)

    stored = json.dumps({**json.loads(encode(Odd(ts_event=1))), "v": 1}).encode()
    with pytest.raises(EventDecodeError) as caught:
        decode(stored)
    assert isinstance(caught.value.__cause__, KeyError)


def test_a_validator_that_cannot_read_an_older_version_does_not_hide_it() -> None:
    class Early(Event, type="early", version=2):
        n: int

        @model_validator(mode="before")
        @classmethod
        def _look(cls, data: Any) -> Any:
            assert data["n"] is not None
            return data

        @upcast(1)
        @staticmethod
        def _up(stored: Stored) -> Stored:
            return {**stored, "n": 7}

    stored = json.loads(encode(Early(ts_event=1, n=7)))
    del stored["n"]
    event = decode(json.dumps({**stored, "v": 1}).encode())
    assert (event.v, event.n) == (2, 7)  # type: ignore[attr-defined]  # it is an Early
    with pytest.raises(EventDecodeError, match="validator of Early failed with KeyError"):
        decode(json.dumps(stored).encode())


def test_upcasters_are_a_class_s_own() -> None:
    class Child(Position, type="child", version=2):
        pass

    assert dict(Child.upcasters) == dict(Event.upcasters) == {}
    assert event_class("child") is Child
    with pytest.raises(TypeError):
        Position.upcasters[9] = failing  # type: ignore[index]  # that is the test


def test_an_upcaster_can_be_called_by_itself() -> None:
    assert Position._name_strategy({"source": "s"}) == {"source": "s", "strategy": "s"}
    assert upcasting_module.declared_upcasters(Position) == Position.upcasters


def up(*versions: int) -> dict[str, Any]:
    """The body of a class with these upcasters."""
    return {f"up_{place}": upcast(version)(failing) for place, version in enumerate(versions)}


@pytest.mark.parametrize(
    ("version", "versions", "complaint"),
    [
        (1, (1,), r"Bad\.up_0: @upcast\(1\) is on version 1, and there is none before it"),
        (3, (0,), r"@upcast\(0\) reads no older version of a class of version 3; .* from 1 to 2"),
        (3, (3,), r"@upcast\(3\) reads no older version"),
        (3, (1, 2, 4), r"Bad\.up_2: @upcast\(4\) reads no older version"),
        (3, (1, 2, 1), r"Bad\.up_2: @upcast\(1\) comes twice: failing reads that version too"),
        (4, (1, 3), r"Bad: versions 1, 3 have an upcaster and version 2 has none.*@upcast\(2\)"),
        (4, (1, 2), r"versions 1, 2 have an upcaster and version 3 has none.*to version 4"),
    ],
)
def test_chains_that_lead_nowhere(version: int, versions: tuple[int, ...], complaint: str) -> None:
    with pytest.raises(EventDefinitionError, match=complaint):
        type("Bad", (Event,), up(*versions), type="bad", version=version)


def test_an_abstract_event_has_no_versions() -> None:
    with pytest.raises(EventDefinitionError, match=r"Bad\.up_0: @upcast\(1\) is on an abstract"):
        type("Bad", (Event,), up(1), version=2)


@pytest.mark.parametrize("version", [True, "1", 1.0, None, staticmethod(failing)])
def test_the_version_is_an_int(version: Any) -> None:
    with pytest.raises(EventDefinitionError, match=r"give the schema version that it reads"):
        upcast(version)
