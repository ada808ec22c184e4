"""Turns what pydantic-core found wrong into one sentence: which field, which value, what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import ValidationError

__all__ = ["cause_of", "describe", "fields_of", "shown"]

#: Longest excerpt of an offending value in a message, in characters.
MAX_SHOWN: Final = 80
#: Further fields named after the first one.
MAX_NAMED: Final = 5


def shown(value: object) -> str:
    """Return a value for a message, cut to a readable length, with its type."""
    # Cut first: what is refused may be megabytes long.
    short = value[: MAX_SHOWN + 1] if isinstance(value, str | bytes) else value
    try:
        text = repr(short)
    except Exception:  # noqa: BLE001  # a message must not fail on what it is about
        text = "<unprintable>"
    if len(text) > MAX_SHOWN:
        text = f"{text[:MAX_SHOWN]}..."
    return f"{text} ({type(value).__name__})"


def fields_of(error: ValidationError) -> list[str]:
    """Return the dotted path of every wrong field, in the order of the fields."""
    return [_path(item["loc"]) for item in error.errors(include_url=False)]


def cause_of(error: ValidationError) -> object:
    """Return the exception that a validator raised as the first problem, or None."""
    context = error.errors(include_url=False)[0].get("ctx", {})
    return context.get("error")


def describe(subject: str, error: ValidationError) -> str:
    """Return one sentence on the first problem, which also names the other wrong fields.

    Parameters:
      subject: What was being built or read, such as a class name.
      error: What pydantic-core reports.
    """
    problems = error.errors(include_url=False)
    first, others = problems[0], [_path(item["loc"]) for item in problems[1:]]
    sentence = f"{subject}: {_sentence(first)}"
    if others:
        named = ", ".join(others[:MAX_NAMED])
        sentence += f"; {len(others)} more wrong: {named}{', ...' * (len(others) > MAX_NAMED)}"
    return sentence


def _sentence(problem: Mapping[str, Any]) -> str:
    path, kind, value = _path(problem["loc"]), problem["type"], problem["input"]
    if kind == "missing":
        return f"field {path!r} is missing"
    if kind == "extra_forbidden":
        return f"field {path!r} is unknown (value {shown(value)}); remove it or declare it"
    if kind == "value_error" and not path:  # a check of the whole names field and value itself
        return str(problem["ctx"]["error"])
    message = problem["msg"][:1].lower() + problem["msg"][1:]
    if not path:
        return f"{message}, got {shown(value)}"
    return f"field {path!r}: {message}, got {shown(value)}"


def _path(loc: Sequence[int | str]) -> str:
    # A choice of a union has a label; one that spells out a schema tells a reader nothing.
    return ".".join(part for part in map(str, loc) if "[" not in part)
