"""Schedules in a YAML file: a mapping `schedules` of name to definition."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

from ..errors import InvalidSchedule
from .definition import Schedule

__all__ = ["read_schedule_file"]


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice in a mapping; times stay text, so that zones are ours."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[object] = set()
        for key, _ in node.value:
            name = self.construct_object(key, deep=True)
            if name in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"{name!r} stands here twice", problem_mark=key.start_mark
                )
            seen.add(name)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_schedule_file(path: str | os.PathLike[str]) -> list[Schedule]:
    """The schedules of a file, in its order.

    Raises:
      InvalidSchedule: It cannot be read, or a schedule is wrong; every wrong one is named.
    """
    try:
        data = yaml.load(Path(path).read_text(encoding="utf-8"), _Loader)
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSchedule(f"{path} cannot be read: {error}.") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = "" if mark is None else f":{mark.line + 1}:{mark.column + 1}"
        raise InvalidSchedule(f"{path}{where}: {error.problem or error}.") from error
    except yaml.YAMLError as error:
        raise InvalidSchedule(f"{path}: {error}.") from error
    entries = data.get("schedules") if isinstance(data, dict) else None
    if not isinstance(entries, dict) or set(data) != {"schedules"}:
        raise InvalidSchedule(
            f"{path}: it must be a mapping with `schedules` alone, which holds a mapping of names "
            "to definitions."
        )
    schedules, faults = [], []
    for name, values in entries.items():
        if not isinstance(values, dict) or "name" in values:
            faults.append(f"Schedule {name!r}: it must be a mapping of fields, without a name.")
            continue
        try:
            fields = {str(field): value for field, value in values.items()}
            schedules.append(Schedule(name=str(name), **fields))
        except InvalidSchedule as error:
            faults.append(str(error))
    if faults:
        raise InvalidSchedule(f"{path}: {' '.join(faults)}")
    return schedules
