"""Settings from a YAML file, each value with its line and column.

Only what a settings file needs is understood: mappings, lists, text, numbers, true, false, null.
YAML 1.1's surprises are left out (`off` is text, not false; `1:30` is text, not 90), and so are
aliases and tags: with them a value could stand in two places, or be anything.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import yaml

from ._config_layer import KeyPath, Layer, dotted, redact

__all__ = ["read_file"]

_TAG = "tag:yaml.org,2002:"


class _Loader(yaml.SafeLoader):
    """SafeLoader with its own, smaller, set of plain scalars, and without aliases."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 - as the base class declares it

    def compose_node(self, parent: Any, index: Any) -> Any:
        """As the base class, but an alias is an error."""
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]  # types-PyYAML
            raise yaml.composer.ComposerError(None, None, "aliases are not supported", mark)
        return super().compose_node(parent, index)


#: More digits than these stay text, which no number accepts.
_Loader.add_implicit_resolver(f"{_TAG}int", re.compile(r"[-+]?[0-9]{1,18}$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    f"{_TAG}float",
    re.compile(r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?$"),
    list("-+.0123456789"),
)
_Loader.add_implicit_resolver(f"{_TAG}bool", re.compile(r"(true|false)$"), list("tf"))
_Loader.add_implicit_resolver(f"{_TAG}null", re.compile(r"(~|null)?$"), ["~", "n", ""])

_SCALARS: dict[str, Callable[[str], Any]] = {
    f"{_TAG}str": str,
    f"{_TAG}int": int,
    f"{_TAG}float": float,
    f"{_TAG}bool": "true".__eq__,
    f"{_TAG}null": lambda text: None,
}


def read_file(path: Path, known: Iterable[tuple[str, ...]]) -> Layer:
    """The settings in the YAML file `path`.

    Parameters:
      path: The file; messages name it as it is given here.
      known: Every key that exists; a section among them may be left empty.

    Returns:
      A layer; what cannot be read is listed in its `problems`, nothing is raised.
    """
    layer = Layer(str(path))
    try:
        node = yaml.compose(path.read_text(encoding="utf-8"), Loader=_Loader)
    except OSError as error:
        layer.problems.append(f"{path}: cannot be read: {error.strerror}")
    except UnicodeDecodeError as error:
        layer.problems.append(f"{path}: is not UTF-8 text: byte {error.start} is not valid")
    except yaml.reader.ReaderError as error:
        layer.problems.append(f"{path}: character {error.position} is not allowed in YAML")
    except yaml.MarkedYAMLError as error:
        layer.problems.append(f"{_place(path, error.problem_mark)}: {redact(str(error.problem))}")
    except RecursionError:
        layer.problems.append(f"{path}: is nested too deeply")
    else:
        sections = {full[:depth] for full in known for depth in range(len(full))}
        values = _Reader(path, layer, sections).value(node, ()) if node is not None else {}
        if isinstance(values, dict):
            layer.values = values
        else:
            layer.problems.append(f"{layer.place(())}: must be a mapping of sections")
    return layer


def _place(path: Path, mark: yaml.Mark | None) -> str:
    return f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)


class _Reader:
    """Turns nodes into values and notes where they stand."""

    def __init__(self, path: Path, layer: Layer, sections: set[tuple[str, ...]]) -> None:
        self._path = path
        self._layer = layer
        self._sections = sections

    def value(self, node: yaml.Node, path: KeyPath) -> Any:
        place = self._layer.value_places[path] = _place(self._path, node.start_mark)
        if isinstance(node, yaml.MappingNode) and node.tag == f"{_TAG}map":
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode) and node.tag == f"{_TAG}seq":
            return [self.value(item, (*path, at)) for at, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode) and node.tag in _SCALARS:
            return self._scalar(node, path)
        self._layer.problems.append(f"{place}: the tag {node.tag!r} is not supported")
        return {}

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key, item in node.value:
            place = _place(self._path, key.start_mark)
            if not isinstance(key, yaml.ScalarNode):
                self._layer.problems.append(f"{place}: a key must be plain text")
                continue
            below = (*path, key.value)
            if key.value in values:
                self._layer.problems.append(
                    f"{place}: duplicate key {redact(dotted(below))!r}, "
                    f"first at {self._layer.key_places[below]}"
                )
                continue
            self._layer.key_places[below] = place
            values[key.value] = self.value(item, below)
        return values

    def _scalar(self, node: yaml.ScalarNode, path: KeyPath) -> Any:
        try:
            value = _SCALARS[node.tag](node.value)
        except ValueError:
            place = self._layer.value_places[path]
            self._layer.problems.append(f"{place}: the text does not fit the tag {node.tag!r}")
            return None
        # A section whose keys are all commented out reads as null, and means: nothing set.
        return {} if value is None and path in self._sections else value
