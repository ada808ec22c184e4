"""The kinds of values that settings have, and what each accepts.

Text is accepted for a number, since variables hold only text; a fraction is never accepted for a
whole number, nor true or false for any number.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, TypeAlias
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints

__all__ = [
    "MAX_ENTRIES",
    "MAX_SECONDS_S",
    "AuditLevel",
    "CheckpointInterval",
    "Count",
    "EventTypeName",
    "Lifetime",
    "ModuleName",
    "Namespace",
    "Port",
    "Seconds",
    "ServerUrl",
    "SheddableType",
    "WhenFull",
]

#: Seconds in 30 days: nothing here sensibly lasts longer.
MAX_SECONDS_S = 30 * 24 * 3600.0
#: Seconds in ten years: the longest that something may be kept, unless it is kept for ever.
MAX_LIFETIME_S = 3650 * 24 * 3600.0
#: Most entries that a limit may name.
MAX_ENTRIES = 1_000_000_000

#: Events that are never thrown away.
UNSHEDDABLE = ("order", "fill")

AuditLevel: TypeAlias = Literal["full", "counts", "off"]
WhenFull: TypeAlias = Literal["reject", "block"]


def _whole(value: object) -> object:
    """Refuse what pydantic would turn into an int although it is another type."""
    if isinstance(value, bool | float) or (
        isinstance(value, str) and not re.fullmatch(r"[-+]?[0-9]+", value)
    ):
        raise ValueError("must be a whole number")
    return value


def _number(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("must be a number of seconds")
    if isinstance(value, str):
        try:
            float(value)
        except ValueError:
            raise ValueError("must be a number of seconds, as in 3600") from None
    return value


def _or_null(value: object) -> object:
    """Text cannot be null; the word stands for it in a variable."""
    return None if value == "null" else value


def _server_url(value: str) -> str:
    scheme, separator, rest = value.partition("://")
    if not separator or scheme not in ("redis", "rediss", "unix", "embedded"):
        raise ValueError("must start with redis://, rediss://, unix:// or embedded://")
    if scheme == "embedded":
        if not rest:
            raise ValueError("must name a directory for the server's data: embedded://PATH")
        return value
    try:
        parts = urlsplit(value)
    except ValueError:
        raise ValueError(
            "must be a URL; write the signs []/?#@: of a password as %5B and so on"
        ) from None
    if scheme == "unix":
        if not parts.path.strip("/"):
            raise ValueError("must name a socket: unix:///path/to/redis.sock")
        return value
    if re.search(r"\s", value):
        raise ValueError("must not hold blanks; write one in a password as %20")
    try:
        known_port = parts.port
    except ValueError:
        raise ValueError("must have a port from 1 to 65535, as in redis://host:6379") from None
    if not parts.hostname or known_port == 0:
        raise ValueError("must name a host and a port, as in redis://host:6379")
    if not re.fullmatch(r"/?|/[0-9]+", parts.path):
        raise ValueError("must have a database number or nothing after the host, as in /0")
    return value


def _module_name(value: str) -> str:
    if not all(part.isidentifier() for part in value.split(".")):
        raise ValueError("must be the dotted name of a module, as in my_app.handlers")
    return value


def _sheddable(value: str) -> str:
    if value in UNSHEDDABLE:
        raise ValueError("must not name orders or fills, which are never thrown away")
    return value


Count: TypeAlias = Annotated[int, BeforeValidator(_whole)]
Seconds: TypeAlias = Annotated[
    float, BeforeValidator(_number), Field(gt=0, le=MAX_SECONDS_S, allow_inf_nan=False)
]
Lifetime: TypeAlias = Annotated[
    Annotated[float, BeforeValidator(_number), Field(gt=0, le=MAX_LIFETIME_S, allow_inf_nan=False)]
    | None,
    BeforeValidator(_or_null),
]
CheckpointInterval: TypeAlias = Annotated[
    Annotated[float, BeforeValidator(_number), Field(ge=1, le=MAX_SECONDS_S, allow_inf_nan=False)]
    | None,
    BeforeValidator(_or_null),
]
Port: TypeAlias = Annotated[
    Annotated[int, BeforeValidator(_whole), Field(ge=0, le=65_535)] | None,
    BeforeValidator(_or_null),
]
ServerUrl: TypeAlias = Annotated[str, AfterValidator(_server_url)]
ModuleName: TypeAlias = Annotated[str, AfterValidator(_module_name)]
EventTypeName: TypeAlias = Annotated[str, StringConstraints(min_length=1)]
SheddableType: TypeAlias = Annotated[EventTypeName, AfterValidator(_sheddable)]
Namespace: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
