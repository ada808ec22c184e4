"""What stands in a stream entry: the event or message, and when it was appended."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from dramatiq.encoder import JSONEncoder
from dramatiq.message import get_encoder
from pydantic_core import from_json

from ..errors import EventDecodeError
from ..events import decode_as
from .claimed import Claimed

__all__ = [
    "appended_ns",
    "decode_data",
    "decode_message",
    "event_id",
    "id_of_data",
    "payload",
    "with_event",
]


def payload(claimed: Claimed) -> bytes:
    """The event or message of an entry, as it was encoded."""
    name = b"d" if claimed.source.is_log else b"m"
    fields = claimed.fields
    if fields[0] == name:  # as we write them
        return fields[1]
    for at in range(0, len(fields), 2):
        if fields[at] == name:
            return fields[at + 1]
    return b" ".join(fields)  # not ours: the dead letter keeps what it says


def appended_ns(claimed: Claimed) -> int:
    """When the server appended it, ns; 0 if it does not say."""
    fields = claimed.fields
    if len(fields) == 4 and fields[2] == b"a" and fields[3].isdigit():
        return int(fields[3]) * 1000
    return 0


def event_id(claimed: Claimed) -> bytes:
    """16 bytes of the id of a log's event, without a look at the rest of it; empty where that is
    no event, as whoever hands it out will find."""
    return id_of_data(claimed.fields)


def id_of_data(fields: list[bytes]) -> bytes:
    """16 bytes of the id of the event in an entry of a log; empty where there is none."""
    try:
        data = fields[1] if fields[0] == b"d" else fields[fields.index(b"d") + 1]
        return UUID(from_json(data)["id"]).bytes
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        return b""  # no event; or its id alone was kept


def decode_data(data: bytes) -> dict[str, Any]:
    """Decodes a message as Dramatiq's encoder does.

    Raises:
      Exception: Whatever the encoder raises.
    """
    encoder = get_encoder()
    if type(encoder) is JSONEncoder:
        try:
            decoded: dict[str, Any] = from_json(data, cache_strings="keys")
        except ValueError:
            pass  # the encoder decides: it is more lenient, with half of a surrogate pair
        else:
            return decoded  # the same, in less than half of the time
    return encoder.decode(data)


def decode_message(claimed: Claimed) -> dict[str, Any] | None:
    """The fields of a message; None for what is none."""
    try:
        decoded = decode_data(payload(claimed))
    except Exception:  # noqa: BLE001 - a user's own encoder may raise anything
        # Whoever hands it out meets the same error, and dead-letters it.
        return None
    return decoded if isinstance(decoded, dict) else None


def with_event(claimed: Claimed) -> Claimed:
    """`claimed` with its event and its key; without them where it is no event."""
    cls = claimed.source.event_class
    if claimed.event is not None or cls is None:
        return claimed
    try:
        event = decode_as(cls, payload(claimed))
    except EventDecodeError:
        return claimed  # whoever hands it out meets the same error, and dead-letters it
    return claimed._replace(event=event, key=event.key)
