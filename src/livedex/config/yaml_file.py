"""From the text of livedex.yaml to plain values, each with the line it stands on, environment variables filled in.

Variables are replaced after the text was parsed as YAML, so no value can add keys, close quotes or start a comment.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from livedex.errors import ConfigError

Place = tuple[str | int, ...]
"""Where a value stands: the keys and list indexes that lead to it from the top of the file."""

# A reference is taken out before YAML sees the text, because its braces would end a plain scalar inside { }. What
# stands in for it is two characters that YAML takes as letters and that no configuration has a use for.
_OPEN, _CLOSE = "\ue000", "\ue001"
_REFERENCE = re.compile(r"\$\$|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}\n]*))?\}")
_STAND_IN = re.compile(rf"\$\$|\$\{{|{_OPEN}(?P<index>\d+){_CLOSE}")

_PLAIN_TAGS = frozenset(f"tag:yaml.org,2002:{tag}" for tag in ("str", "int", "float", "bool", "null", "timestamp"))
_NULL_TAG = "tag:yaml.org,2002:null"
_MERGE_TAG = "tag:yaml.org,2002:merge"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, at one place."""

    place: Place
    line: int | None
    message: str

    @property
    def key(self) -> str | None:
        """The place as people write it: `views.handbook.from[0]`."""
        return dotted(self.place) or None


@dataclass(frozen=True, slots=True)
class Parsed:
    """A file's values. Scalars stay the text that was written (None for null): the field decides what it means.

    `from_environment` names the places whose value came at least partly from a variable.
    """

    values: dict[str, Any]
    lines: Mapping[Place, int]
    from_environment: frozenset[Place]
    problems: tuple[Problem, ...]

    def line(self, place: Place) -> int:
        """The line of a place or, when it is not in the file, of the nearest thing around it."""
        while place not in self.lines:
            place = place[:-1]
        return self.lines[place]


def dotted(place: Place) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).removeprefix(".")


def parse(text: str, file: Path, environ: Mapping[str, str]) -> Parsed:
    """Read one YAML document whose top is a mapping.

    Raises ConfigError when there is nothing to go on: no valid YAML, an empty file, another shape. Everything else
    that is wrong is collected in `problems`.
    """
    for mark in (_OPEN, _CLOSE):
        if mark in text:
            line = text.count("\n", 0, text.index(mark)) + 1
            raise ConfigError("holds a character from Unicode's private use area; remove it", file=file, line=line)
    references: list[re.Match[str]] = []
    root = _compose(_REFERENCE.sub(lambda match: _stand_in(match, references), text), file)
    if root is None or root.tag == _NULL_TAG:
        raise ConfigError("is empty. It needs at least sources and views; docs/quickstart.md shows one", file=file)
    if not isinstance(root, MappingNode):
        raise ConfigError("must be a mapping with the keys sources and views", file=file, line=root.start_mark.line + 1)
    builder = _Builder(references, environ)
    values = builder.mapping(root, ())
    return Parsed(values, builder.lines, frozenset(builder.from_environment), tuple(builder.problems))


def _stand_in(match: re.Match[str], references: list[re.Match[str]]) -> str:
    if match["name"] is None:
        return match[0]
    references.append(match)
    return f"{_OPEN}{len(references) - 1}{_CLOSE}"


def _compose(text: str, file: Path) -> Node | None:
    try:
        root: Node | None = YAML().compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = None if mark is None else mark.line + 1
        raise ConfigError(_syntax_message(error), file=file, line=line) from None  # its text quotes the file
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError("holds a control character; remove it", file=file, line=line) from None
    except (YAMLError, RecursionError) as error:
        raise ConfigError(f"is not valid YAML ({type(error).__name__})", file=file) from None
    return root


def _syntax_message(error: MarkedYAMLError) -> str:
    problem = " ".join(part for part in (error.context, error.problem) if part)
    if r"'\t'" in problem:
        return "a tab stands where YAML wants spaces; indent with spaces"
    if "undefined alias" in problem:
        return "a value begins with *, which means a YAML alias; put it in quotes"
    if "another document" in problem:
        return "a second YAML document begins here; keep one"
    if "mapping values are not allowed" in problem:
        return "a key stands where none can be; check the indentation, and put a value that holds ': ' in quotes"
    without_content = re.sub(r"'[^']{2,}'|\"[^\"]{2,}\"", "…", problem)
    return f"is not valid YAML {without_content}"


@dataclass(slots=True)
class _Builder:
    references: list[re.Match[str]]
    environ: Mapping[str, str]
    lines: dict[Place, int] = field(default_factory=lambda: {(): 1})
    from_environment: set[Place] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)
    _ancestors: list[Node] = field(default_factory=list)

    def mapping(self, node: MappingNode, place: Place) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            key = self._key(key_node, place, line)
            if key is None:
                continue
            here = (*place, key)
            if key in values:
                self._report(here, line, f"is given twice, first on line {self.lines[here]}; keep one")
                continue
            self.lines[here] = line
            values[key] = self._value(value_node, here)
        return values

    def _key(self, node: Node, place: Place, line: int) -> str | None:
        if node.tag == _MERGE_TAG:
            self._report((*place, "<<"), line, "merge keys are not supported; write the keys out")
        elif not isinstance(node, ScalarNode) or node.tag == _NULL_TAG:
            self._report(place, line, "has a key that is not text")
        elif _OPEN in node.value:
            self._report(place, line, "has a variable in a key; variables are filled into values only")
        else:
            return str(node.value)
        return None

    def _value(self, node: Node, place: Place) -> Any:
        if any(node is ancestor for ancestor in self._ancestors):
            self._report(place, self.lines[place], "contains itself")
            return None
        self._ancestors.append(node)
        try:
            if isinstance(node, MappingNode):
                return self.mapping(node, place)
            if isinstance(node, SequenceNode):
                return [self._item(item, (*place, index)) for index, item in enumerate(node.value)]
            return self._scalar(node, place)
        finally:
            self._ancestors.pop()

    def _item(self, node: Node, place: Place) -> Any:
        self.lines[place] = node.start_mark.line + 1
        return self._value(node, place)

    def _scalar(self, node: Node, place: Place) -> str | None:
        if node.tag == _NULL_TAG:
            return None
        if node.tag not in _PLAIN_TAGS:
            self._report(place, self.lines[place], "has a YAML tag; if the value begins with !, put it in quotes")
            return None
        return _STAND_IN.sub(lambda match: self._filled_in(match, place), str(node.value))

    def _filled_in(self, match: re.Match[str], place: Place) -> str:
        if match[0] == "$$":
            return "$"
        line = self.lines[place]
        if match["index"] is None:
            self._report(place, line, "has a malformed variable; write ${NAME}, ${NAME:-default}, or $$ for a dollar")
            return ""
        reference = self.references[int(match["index"])]
        name, default = reference["name"], reference["default"]
        self.from_environment.add(place)
        if default is not None:
            return self.environ.get(name) or str(default)
        if name not in self.environ:
            self._report(
                place, line, f"the environment variable {name} is not set; set it, or write ${{{name}:-default}}"
            )
        return self.environ.get(name, "")

    def _report(self, place: Place, line: int, message: str) -> None:
        self.problems.append(Problem(place, line, message))
