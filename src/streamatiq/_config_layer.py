"""One source of settings: its values, where each of them stands, and what is wrong with it.

The file, `.env` and the environment each become a `Layer`. A layer is checked on its own before
layers are merged, so that a wrong value is reported even where another layer hides it, and so that
every problem can name its own place.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_origin

from pydantic import BaseModel, ValidationError

__all__ = ["KeyPath", "Kind", "Layer", "by_line", "dotted", "explain", "leaves", "redact", "shown"]

KeyPath: TypeAlias = tuple[str | int, ...]
#: What a key holds: decides how the text of a variable is read.
Kind: TypeAlias = Literal["scalar", "list", "mapping"]

#: Characters of a bad value that a message repeats.
SHOWN_LIMIT = 80

#: Up to the last "@": a password may itself hold "@", ":", "/" or blanks.
_LOGIN = re.compile(r"(^['\"]?[a-zA-Z][\w+.-]*://)?.*@", re.DOTALL)
#: Where a port belongs but no port is: most likely a password whose "@" was forgotten.
_NO_PORT = re.compile(r"((?:://|@)[^/@:\[]*:)(?!\d{1,5}(?:[/?'\"]|$))[^/?'\"]+")
_SECRET_OPTION = re.compile(r"([?&][^=&]*password[^=&]*=)[^&'\"]*", re.IGNORECASE)


@dataclass(slots=True)
class Layer:
    """Values from one source.

    Attributes:
      name: What the source is called where no closer place is known.
      values: Nested values, as they were read.
      key_places: Where each key stands.
      value_places: Where each value stands.
      problems: What could not be read at all, one line each.
    """

    name: str
    values: dict[str, Any] = field(default_factory=dict)
    key_places: dict[KeyPath, str] = field(default_factory=dict)
    value_places: dict[KeyPath, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def put(self, path: tuple[str, ...], value: Any, place: str) -> None:
        """Store `value` under `path`, making the sections above it."""
        section = self.values
        for name in path[:-1]:
            section = section.setdefault(name, {})
        section[path[-1]] = value
        self.key_places[path] = self.value_places[path] = place

    def place(self, path: KeyPath, *, of_key: bool = False) -> str:
        """Where `path` stands, or the nearest thing around it that has a place."""
        places = self.key_places if of_key else self.value_places
        for length in range(len(path), -1, -1):
            if path[:length] in places:
                return places[path[:length]]
        return self.name


def leaves(model: type[BaseModel], above: tuple[str, ...] = ()) -> dict[tuple[str, ...], Kind]:
    """Every key of `model` that holds a value, in order, with the kind of that value."""
    found: dict[tuple[str, ...], Kind] = {}
    for name, info in model.model_fields.items():
        annotation = info.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            found |= leaves(annotation, (*above, name))
        elif get_origin(annotation) is tuple:
            found[*above, name] = "list"
        elif get_origin(annotation) is Mapping:
            found[*above, name] = "mapping"
        else:
            found[*above, name] = "scalar"
    return found


def dotted(path: KeyPath) -> str:
    """`path` as a user writes it: redis.url."""
    return ".".join(str(part) for part in path)


def by_line(problem: str) -> tuple[int, int]:
    """Sorts the problems of one file by the line and column that they start with."""
    found = re.match(r"[^\n]*?:(\d+):(?:(\d+):)? ", problem)
    return (int(found[1]), int(found[2] or 0)) if found else (0, 0)


def redact(text: str) -> str:
    """`text` without any login or password, also where it only resembles a URL."""
    text = _LOGIN.sub(lambda found: f"{found[1] or ''}***@", text, count=1)
    return _SECRET_OPTION.sub(r"\1***", _NO_PORT.sub(r"\1***", text))


def shown(value: object) -> str:
    """`value` for a message: redacted, then shortened."""
    text = redact(repr(value))
    return text if len(text) <= SHOWN_LIMIT else f"{text[: SHOWN_LIMIT - 3]}..."


def explain(error: ValidationError, layer: Layer, known: Iterable[tuple[str, ...]]) -> list[str]:
    """What is wrong in `layer`, one line a problem: place, key, reason, value."""
    paths = list(known)
    lines = []
    for detail in error.errors(include_url=False):
        path = detail["loc"]
        if detail["type"] == "extra_forbidden":
            lines.append(f"{layer.place(path, of_key=True)}: {_unknown(path, paths)}")
            continue
        if path[-1:] == ("[key]",):
            path = path[:-1]
        if detail["type"] == "model_type":
            reason = "must be a section with keys of its own"
        else:
            reason = detail["msg"].removeprefix("Value error, ")
            reason = re.sub("^(Input|String) should", "must", reason).replace("tuple", "list")
        found = detail["input"]
        hint = f"; write [{redact(found)}]" if _is_lone_item(detail["type"], found) else ""
        lines.append(f"{layer.place(path)}: {dotted(path)} {reason}, got {shown(found)}{hint}")
    return lines


def _is_lone_item(kind: str, value: object) -> bool:
    return kind == "tuple_type" and isinstance(value, str) and value.isprintable() and value != ""


def _unknown(path: KeyPath, known: list[tuple[str, ...]]) -> str:
    above, name = path[:-1], str(path[-1])
    depth = len(above)
    beside = [full[depth] for full in known if full[:depth] == above]
    beside = list(dict.fromkeys(beside))
    close = difflib.get_close_matches(name, beside, 1)
    elsewhere = [dotted(full) for full in known if full[-1] == name]
    if close:
        hint = f"did you mean {dotted((*above, close[0]))!r}?"
    elif elsewhere:
        hint = f"did you mean {elsewhere[0]!r}?"
    else:
        hint = f"known here: {', '.join(beside)}"
    return f"unknown key {redact(dotted(path))!r}; {hint}"
