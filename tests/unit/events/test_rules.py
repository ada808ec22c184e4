"""Declared field types: what an event cannot hold is refused, the rest comes back as it was."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

import pytest
from pydantic import BaseModel, Field, Tag, model_validator
from pydantic_core import core_schema
from typing_extensions import TypedDict

from streamatiq.errors import EventDecodeError, EventDefinitionError, InvalidEvent
from streamatiq.events import Event, Record, decode, decode_as, encode
from streamatiq.events.rules import Rules


class Leg(Record):
    price: Decimal
    legs: list[Leg] = Field(default_factory=list)


class Branch(Record):
    leaves: list[Leaf]


class Leaf(Record):
    branch: Branch | None
    weight: Decimal


class Checked(Record):
    low: int
    high: int

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"field 'low': {self.low} is above high {self.high}")
        return self


class Cat(Record):
    kind: Literal["cat"] = "cat"
    lives: Decimal


class Dog(Record):
    kind: Literal["dog"] = "dog"
    legs: int


class Colour(StrEnum):
    RED = "red"


class Plain(BaseModel):
    x: int = 1


class Validated(BaseModel):
    x: int = 1

    @model_validator(mode="after")
    def _check(self) -> Self:
        return self


@dataclass
class Loose:
    x: float = 1.0


class Typed(TypedDict):
    x: float


class Wide(Event, type="rules.wide"):
    money: Annotated[Decimal, Field(gt=0, decimal_places=2)] = Decimal("1.50")
    list_of: list[Decimal] = Field(default_factory=list)
    mapping: dict[str, Decimal] = Field(default_factory=dict)
    pair: tuple[int, Decimal] = (1, Decimal("2.0"))
    either: Decimal | bool = False
    other: Decimal | bool = False
    tagged: Annotated[Decimal, Tag("number")] | Annotated[bool, Tag("flag")] = False
    leg: Leg | None = None
    checked: Checked | None = None
    pet: Annotated[Cat | Dog, Field(discriminator="kind")] | None = None
    at: datetime | None = None
    day: date | None = None
    clock: time | None = None
    span: timedelta | None = None
    raw: bytes = b""
    flag: bool = False
    colour: Colour = Colour.RED


FULL = {
    "money": "0.10",
    "list_of": [1, "2.00"],
    "mapping": {"a": Decimal("1E-8")},
    "either": "3.0",
    "other": True,
    "tagged": "4.0",
    "leg": Leg(price="1", legs=[{"price": "2.50"}]),
    "checked": {"low": 1, "high": 2},
    "pet": Cat(lives=9),
    "at": datetime(2024, 1, 2, tzinfo=UTC),
    "day": date(2024, 1, 2),
    "clock": time(1, 2, 3),
    "span": timedelta(seconds=1, microseconds=5),
    "raw": b"\xff\x00",
    "flag": True,
    "colour": "red",
}


def test_every_allowed_type_comes_back() -> None:
    wide = Wide(ts_event=1, **FULL)
    data = encode(wide)
    assert decode(data) == wide
    assert encode(decode(data)) == data
    on_the_wire = json.loads(data)
    assert on_the_wire["money"] == "0.10"
    assert (on_the_wire["either"], on_the_wire["other"]) == ("3.0", True)
    assert on_the_wire["mapping"] == {"a": "0.00000001"}
    assert on_the_wire["leg"]["legs"][0]["price"] == "2.50"


@pytest.mark.parametrize(
    "declared",
    [
        float,
        float | None,
        list[float],
        dict[str, tuple[int, float]],
        Annotated[float, Field(gt=0)],
        complex,
        Any,
        dict,
        list[Any],
        Plain,
        list[Plain],
        Validated,
        Loose,
        list[Loose],
        Typed,
    ],
    ids=repr,
)
def test_types_that_no_event_can_hold(declared: Any) -> None:
    with pytest.raises(
        EventDefinitionError, match=r"^Bad\.x (is declared|holds) .*(declare|derive)"
    ):

        class Bad(Event, type="bad"):
            __annotations__ = {"x": declared}  # a class statement with a parameter


def test_a_type_that_is_used_twice_is_refused_too() -> None:
    with pytest.raises(EventDefinitionError, match=r"Bad\.x holds Plain"):

        class Bad(Event, type="bad"):
            x: Plain
            y: Plain


def test_a_float_default_is_refused() -> None:
    with pytest.raises(EventDefinitionError, match=r"Bad\.x: the default 0\.1 is a float.*'0\.1'"):

        class Bad(Event, type="bad"):
            x: Decimal = 0.1  # type: ignore[assignment]  # that is the test


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        ({"money": 1.5}, r"field 'money'.*got 1.5 \(float\)"),
        ({"money": "1.555"}, "field 'money'.*2 decimal places"),
        ({"money": 0}, "field 'money'.*greater than 0"),
        ({"list_of": ["1", 1.5]}, r"field 'list_of.1'.*got 1.5 \(float\)"),
        ({"mapping": {"a": float("nan")}}, r"field 'mapping.a'.*got nan \(float\)"),
        ({"pair": (True, 1)}, r"field 'pair.0'.*got True \(bool\)"),
        ({"leg": {"price": "1", "legs": [{"price": 2.5}]}}, "field 'leg.legs.0.price'.*got 2.5"),
        ({"checked": {"low": 2, "high": 1}}, "field 'checked'.*2 is above high 1"),
        ({"pet": {"kind": "cow"}}, "field 'pet'.*'cow'"),
        ({"pet": {"kind": "cat", "lives": 9.5}}, "field 'pet.cat.lives'.*got 9.5"),
        ({"at": datetime(2024, 1, 2)}, r"field 'at'.*timezone.*2024, 1, 2"),
        ({"at": 1.5}, r"field 'at'.*got 1.5 \(float\)"),
        ({"span": 1.5}, r"field 'span'.*got 1.5 \(float\)"),
        ({"either": 2.5}, r"field 'either'.*got 2.5 \(float\)"),
        ({"flag": 1}, r"field 'flag'.*got 1 \(int\)"),
        ({"colour": "blue"}, "field 'colour'.*got 'blue'"),
    ],
)
def test_refused_values(bad: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InvalidEvent, match=complaint):
        Wide(ts_event=1, **bad)


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("money", "1.5"),
        ("list_of", "[1]"),
        ("mapping", '{"a":1.5}'),
        ("either", "2.5"),
        ("leg", '{"price":1.5}'),
        ("at", "1700000000.5"),
        ("at", '"2024-01-02T00:00:00"'),
        ("span", "1.5"),
        ("day", "19000"),
        ("clock", "5"),
        ("flag", "1"),
    ],
)
def test_refused_on_the_wire(field: str, text: str) -> None:
    wire = json.loads(encode(Wide(ts_event=1)))
    data = json.dumps({**wire, field: "@"}).replace('"@"', text).encode()
    with pytest.raises(EventDecodeError, match=f"Not a rules.wide event: field '{field}"):
        decode_as(Wide, data)


def test_a_part_names_field_and_value_itself() -> None:
    with pytest.raises(InvalidEvent, match=r"^Checked: field 'low': 2 is above high 1"):
        Checked(low=2, high=1)
    with pytest.raises(InvalidEvent, match=r"^Leg: field 'price'.*got 1.5 \(float\)"):
        Leg(price=1.5)


def test_classes_that_hold_each_other() -> None:
    branch = Branch(leaves=[{"weight": "1.0", "branch": {"leaves": []}}])
    assert branch.leaves[0].weight == Decimal("1.0")
    with pytest.raises(InvalidEvent, match=r"field 'leaves\.0\.weight'.*got 1.5 \(float\)"):
        Branch(leaves=[{"weight": 1.5, "branch": None}])


@pytest.mark.parametrize("strict", [True, False])
def test_a_nested_class_may_stand_in_the_schema_itself(strict: bool) -> None:
    """Pydantic writes a reference where it can; a schema of one's own may hold the class."""
    nested = core_schema.model_schema(Plain, core_schema.model_fields_schema({}))
    fields = core_schema.model_fields_schema({"x": core_schema.model_field(nested)})
    rules = Rules("Bad", lambda _cls: strict, lambda schema: schema)
    if strict:
        assert rules.tighten(fields) is fields
        return
    with pytest.raises(EventDefinitionError, match=r"Bad\.x holds Plain"):
        rules.tighten(fields)
