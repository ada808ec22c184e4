"""Settings from environment variables and from `.env`.

STREAMATIQ_REDIS__URL sets redis.url: the prefix, then the path in capitals, `__` between its parts.
A variable with the prefix that sets nothing is a problem, since it is almost always a misspelling.
`.env` may hold other programs' variables; those are passed over.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping
from io import StringIO
from pathlib import Path
from typing import Any

from dotenv import dotenv_values
from dotenv.parser import parse_stream

from ._config_layer import Kind, Layer

__all__ = ["CONFIG_VARIABLE", "PREFIX", "RESERVED", "read_dotenv", "read_variables", "variable"]

PREFIX = "STREAMATIQ_"
#: Names the settings file.
CONFIG_VARIABLE = "STREAMATIQ_CONFIG"
#: Variables with our prefix that are not settings.
RESERVED = frozenset(
    {
        CONFIG_VARIABLE,
        "STREAMATIQ_SERVER_BINARY",
        "STREAMATIQ_METRICS_DIR",
        "STREAMATIQ_METRICS_HOST",
        "STREAMATIQ_METRICS_PORT",
    }
)


def variable(path: tuple[str, ...]) -> str:
    """The name of the variable that sets `path`."""
    return PREFIX + "__".join(path).upper()


def read_variables(
    variables: Mapping[str, str],
    known: Mapping[tuple[str, ...], Kind],
    place: Callable[[str], str] = "environment variable {}".format,
) -> Layer:
    """The settings among `variables`.

    Parameters:
      variables: Names and values; names without the prefix are passed over.
      known: Every key that exists, with the kind of its value.
      place: Says where a variable of a name was found.
    """
    layer = Layer("environment")
    paths = {variable(path): path for path in known}
    for name in sorted(variables):
        if not name.upper().startswith(PREFIX) or name in RESERVED:
            continue
        if name not in paths:
            layer.problems.append(f"{place(name)}: {_unknown(name, paths)}")
            continue
        try:
            value = _decoded(variables[name], known[paths[name]])
        except ValueError as error:
            layer.problems.append(f"{place(name)}: {error}")
            continue
        layer.put(paths[name], value, place(name))
    return layer


def read_dotenv(path: Path, known: Mapping[tuple[str, ...], Kind]) -> tuple[Layer, str | None]:
    """The settings in the `.env` file `path`, and the settings file that it names, if any.

    A file that does not exist is an empty one.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Layer(str(path)), None
    except OSError as error:
        return Layer(str(path), problems=[f"{path}: cannot be read: {error.strerror}"]), None
    except UnicodeDecodeError as error:
        problem = f"{path}: is not UTF-8 text: byte {error.start} is not valid"
        return Layer(str(path), problems=[problem]), None

    lines: dict[str, int] = {}
    broken: list[str] = []
    readable: list[str] = []
    for binding in parse_stream(StringIO(text)):
        # The original starts with the line breaks before it.
        original = binding.original.string
        skipped = original[: len(original) - len(original.lstrip())].count("\n")
        line = binding.original.line + skipped
        if not binding.error:
            readable.append(original)
        if binding.key is not None:
            lines[binding.key] = line
        valueless = binding.error or (binding.key is not None and binding.value is None)
        if valueless and PREFIX in original.upper():
            broken.append(f"{path}:{line}: is not of the form NAME=value")
    # Read a second time, because only this resolves ${OTHER} inside values.
    found = dotenv_values(stream=StringIO("".join(readable)))
    values = {name: value for name, value in found.items() if value is not None}
    layer = read_variables(values, known, lambda name: f"{path}:{lines[name]}: variable {name}")
    layer.problems[:0] = broken
    return layer, values.get(CONFIG_VARIABLE)


def _decoded(text: str, kind: Kind) -> Any:
    if kind == "scalar":
        return text
    if kind == "list" and not text.lstrip().startswith("["):
        return [part.strip() for part in text.split(",") if part.strip()]
    what = "a JSON object" if kind == "mapping" else "a JSON list, or words with commas between"
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError(f"must be {what}") from None


def _unknown(name: str, paths: Mapping[str, tuple[str, ...]]) -> str:
    """Why `name` sets nothing, and which name would."""
    if name.upper() in paths:
        return f"is not read; write it in capitals: {name.upper()}"
    below = [known for known in paths if known.startswith(f"{name}__")]
    if below:
        return f"is a section, not a value; set its keys one by one, as {below[0]}"
    close = difflib.get_close_matches(name, [*paths, *RESERVED], 1)
    hint = f"did you mean {close[0]}?" if close else "`streamatiq config show` lists all settings"
    return f"sets nothing; {hint}"
