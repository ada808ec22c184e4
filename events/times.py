"""Time is an int: nanoseconds since 1970-01-01 UTC, without leap seconds.

An int is exact, compares and subtracts cheaply, and carries no zone to get wrong. An aware
datetime is accepted where an event is built, and converted exactly (a datetime holds
microseconds); a naive one is refused, because nobody can say which instant it means.
"""

from __future__ import annotations

from datetime import UTC, datetime
from time import time_ns
from typing import Annotated, Any, Final

from pydantic_core import CoreSchema, PydanticCustomError, core_schema

__all__ = ["MAX_TIME_NS", "Time", "now_ns", "to_ns"]

#: Latest time that fits 64 bits, in nanoseconds: the year 2262.
MAX_TIME_NS: Final = (1 << 63) - 1

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def now_ns() -> int:
    """Return the wall clock in nanoseconds since 1970, UTC."""
    return time_ns()


def to_ns(moment: datetime) -> int:
    """Return an aware datetime as nanoseconds since 1970, UTC, exactly.

    Raises:
      ValueError: The datetime is naive.
    """
    if moment.utcoffset() is None:
        raise ValueError(
            f"{moment!r} is naive and could mean any instant; "
            "give it a time zone, as in datetime(..., tzinfo=UTC)"
        )
    since = moment - _EPOCH
    return ((since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds) * 1_000


def _from_python(value: Any) -> Any:
    if not isinstance(value, datetime):
        return value
    if value.utcoffset() is None:
        raise PydanticCustomError(
            "naive_datetime",
            "a naive datetime could mean any instant; give it a time zone (tzinfo=UTC)",
        )
    return to_ns(value)


class _TimeSchema:
    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: Any) -> CoreSchema:
        ns = core_schema.int_schema(strict=True, ge=0, le=MAX_TIME_NS)
        return core_schema.json_or_python_schema(
            json_schema=ns,
            python_schema=core_schema.no_info_before_validator_function(_from_python, ns),
            serialization=core_schema.simple_ser_schema("int"),
        )


#: Field type of a time: int nanoseconds since 1970 UTC, from 0 to 2**63 - 1.
Time = Annotated[int, _TimeSchema]
