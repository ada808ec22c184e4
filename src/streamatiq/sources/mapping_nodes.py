"""Strict reading of small YAML files by node: every problem is named with file and line.

Scalars are taken as the text that stands there, so that `on`, `1_000` or `2024-08-08` are never
turned into something else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import yaml

from ..errors import IngestError

__all__ = ["Branch", "read_yaml"]

T = TypeVar("T", bound=str)


class Branch:
    """A node of the file, with its place.

    Every method raises `IngestError` where the node is not of the kind that it asks for.

    Attributes:
      place: `file:line`.
    """

    def __init__(self, path: Path, node: yaml.Node, name: str) -> None:
        self._path = path
        self._node = node
        self._name = name
        self.place = f"{path}:{node.start_mark.line + 1}"

    def wrong(self, problem: str) -> IngestError:
        """An error about this node."""
        return IngestError(f"{self.place}: {self._name} {problem}")

    @property
    def is_text(self) -> bool:
        """Whether it is a scalar."""
        return isinstance(self._node, yaml.ScalarNode)

    @property
    def is_list(self) -> bool:
        """Whether it is a list."""
        return isinstance(self._node, yaml.SequenceNode)

    def text(self) -> str:
        """The text of a scalar that is not empty."""
        if not isinstance(self._node, yaml.ScalarNode) or not self._node.value:
            raise self.wrong("must be a text")
        return str(self._node.value)

    def flag(self) -> bool:
        """True or false."""
        return self.one_of(("true", "false")) == "true"

    def one_of(self, words: Sequence[T]) -> T:
        """One of these words."""
        text = self.text()
        for word in words:
            if word == text:
                return word
        raise self.wrong(f"is {text!r}; it must be one of {', '.join(words)}")

    def items(self) -> list[Branch]:
        """The items of a list that is not empty; of a scalar, itself."""
        if self.is_text:
            return [self]
        if not isinstance(self._node, yaml.SequenceNode) or not self._node.value:
            raise self.wrong("must be a list that is not empty")
        return [Branch(self._path, item, self._name) for item in self._node.value]

    def texts(self) -> list[str]:
        """As `items`, their texts."""
        return [item.text() for item in self.items()]

    def entries(
        self, *, allowed: Sequence[str] = (), required: Sequence[str] = ()
    ) -> Mapping[str, Branch]:
        """The entries of a mapping.

        Parameters:
          allowed: Keys that may stand there; without any, every key may.
          required: Keys that must stand there.
        """
        if not isinstance(self._node, yaml.MappingNode):
            raise self.wrong("must be a mapping")
        found: dict[str, Branch] = {}
        for key_node, value_node in self._node.value:
            key = Branch(self._path, key_node, f"a key of {self._name}").text()
            at = f"{self._path}:{key_node.start_mark.line + 1}"
            if allowed and key not in allowed:
                raise IngestError(
                    f"{at}: unknown key {key!r} in {self._name}; known: {', '.join(allowed)}"
                )
            if key in found:
                raise IngestError(
                    f"{at}: {self._name} has the key {key!r} twice, first at {found[key].place}"
                )
            found[key] = Branch(self._path, value_node, f"{key!r}")
        for key in required:
            if key not in found:
                raise self.wrong(f"lacks the key {key!r}")
        return found


def read_yaml(path: Path) -> Branch:
    """The root of a YAML file.

    Raises:
      IngestError: It cannot be read, or is no YAML.
    """
    try:
        node = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except OSError as error:
        raise IngestError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise IngestError(f"{path}: is not UTF-8 text at byte {error.start + 1}") from None
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise IngestError(f"{path}{line}: is no YAML: {error.problem}") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise IngestError(f"{path}: is no YAML: {' '.join(str(error).split())}") from None
    if node is None:
        raise IngestError(f"{path}: is empty; it should hold a column mapping")
    return Branch(path, node, "the mapping")
