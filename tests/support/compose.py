"""docker-compose.yml as Compose reads it, to run its services as local processes.

Of Compose's language only what that file uses: anchors and merges (PyYAML's), `${NAME:-default}`,
`$$`, commands as lists or as text, and durations in seconds and minutes.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

__all__ = ["ROOT", "Service", "read_services"]

ROOT = Path(__file__).resolve().parents[2]

_VARIABLE = re.compile(r"\$(?:(?P<dollar>\$)|\{(?P<name>\w+):-(?P<default>[^}]*)\}|(?P<bad>))")
_UNIT_S = {"s": 1.0, "m": 60.0}


@dataclass(frozen=True, slots=True)
class Service:
    """One service, its variables replaced."""

    name: str
    spec: dict[str, Any] = field(repr=False)

    @property
    def is_ours(self) -> bool:
        """Whether it runs our image, not somebody else's."""
        return "build" in self.spec

    @property
    def command(self) -> list[str]:
        """What is executed; there is no shell in between, whichever way it is written."""
        command = self.spec["command"]
        return shlex.split(command) if isinstance(command, str) else list(command)

    @property
    def environment(self) -> dict[str, str]:
        return dict(self.spec.get("environment", {}))

    @property
    def health_check(self) -> list[str]:
        """What is executed in the container to tell whether it is healthy."""
        kind, *rest = self.spec["healthcheck"]["test"]
        if kind == "CMD-SHELL":
            (text,) = rest
            return ["/bin/sh", "-c", str(text)]
        assert kind == "CMD"
        return [str(word) for word in rest]

    @property
    def stop_grace_s(self) -> float:
        """Between SIGTERM and SIGKILL."""
        return seconds(self.spec["stop_grace_period"])

    def option(self, name: str) -> list[str]:
        """The values of an option of the command, up to the next option."""
        begin = self.command.index(name) + 1
        rest = self.command[begin:]
        ends = (at for at, word in enumerate(rest) if word.startswith("--"))
        return rest[: next(ends, len(rest))]


def read_services(variables: Mapping[str, str] | None = None) -> dict[str, Service]:
    """The services of docker-compose.yml.

    Args:
        variables: what stands in the shell or in `.env`.
    """
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    file = _replaced(yaml.safe_load(text), variables or {})
    return {name: Service(name, spec) for name, spec in file["services"].items()}


def seconds(duration: str) -> float:
    """What a duration like `15s` or `1m30s` means."""
    assert re.fullmatch(r"(\d+[sm])+", duration), duration
    return sum(int(n) * _UNIT_S[unit] for n, unit in re.findall(r"(\d+)([sm])", duration))


def _replaced(value: Any, variables: Mapping[str, str]) -> Any:
    """Compose replaces variables in values, after YAML was read."""
    if isinstance(value, dict):
        return {name: _replaced(one, variables) for name, one in value.items()}
    if isinstance(value, list):
        return [_replaced(one, variables) for one in value]
    if not isinstance(value, str):
        return value

    def replacement(found: re.Match[str]) -> str:
        assert found["bad"] is None, f"a variable without a default in {value!r}"
        if found["dollar"]:
            return "$"
        return variables.get(found["name"]) or found["default"]

    return _VARIABLE.sub(replacement, value)
