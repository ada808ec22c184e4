"""What CloudEvents 1.0 admits as text, and how a foreign id becomes one of ours."""

from __future__ import annotations

import re
from typing import Final
from uuid import NAMESPACE_URL, uuid5

__all__ = ["id_text", "is_json", "is_reverse_dns", "is_string", "is_uri_reference"]

#: The last two code points of each plane are noncharacters.
_PLANE_ENDS: Final = "".join(f"{chr(p << 16 | 0xFFFE)}{chr(p << 16 | 0xFFFF)}" for p in range(17))
_STRING: Final = re.compile(rf"[^\x00-\x1f\x7f-\x9f\ufdd0-\ufdef\ud800-\udfff{_PLANE_ENDS}]+")
_REVERSE_DNS: Final = re.compile(r"[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*")
_JSON: Final = re.compile(r"\s*[^\s/;]+/(?:[^\s/;]+\+)?json\s*(?:;.*)?", re.IGNORECASE | re.DOTALL)
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")

# RFC 3986, appendix A, without IP literals.
_NAME: Final = r"(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})"
_PCHAR: Final = r"(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})"
_AUTHORITY: Final = rf"//(?:(?:{_NAME}|:)*@)?{_NAME}*(?::[0-9]*)?(?:/{_PCHAR}*)*"
_PATH: Final = rf"(?!//)(?:{_PCHAR}|/)*"
_URI_REFERENCE: Final = re.compile(
    rf"(?:[A-Za-z][A-Za-z0-9+.-]*:|(?![^/?#]*:))(?:{_AUTHORITY}|{_PATH})"
    rf"(?:\?(?:{_PCHAR}|[/?])*)?(?:\#(?:{_PCHAR}|[/?])*)?"
)


def is_string(text: str) -> bool:
    """Whether text is a CloudEvents String that is not empty (CloudEvents 1.0, Type System)."""
    return _STRING.fullmatch(text) is not None


def is_uri_reference(text: str) -> bool:
    """Whether text is a URI-reference (RFC 3986, 4.1) that is not empty and has no IP literal."""
    return bool(text) and _URI_REFERENCE.fullmatch(text) is not None


def is_reverse_dns(text: str) -> bool:
    """Whether text can stand before the name of a type, as `com.example`."""
    return _REVERSE_DNS.fullmatch(text) is not None


def is_json(media_type: str) -> bool:
    """Whether a media type declares JSON (JSON Event Format 1.0, 3.1.1)."""
    return _JSON.fullmatch(media_type) is not None


def id_text(source: str, text: str) -> str:
    """Return a UUID as it is, and for any other id the UUID that source and id decide."""
    return text if _UUID.fullmatch(text) else str(uuid5(uuid5(NAMESPACE_URL, source), text))
