"""Markdown's blocks, one after the other: what they are nested in, and which of them a blank line parts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

_DEEPEST_INDENT = 12
"""Deeper containers indent no further: a line may not grow with the depth that it stands at."""

_TAKEN_FOR_MARKUP = re.compile(
    r"#{1,6}(?:\s|\Z)|[-+*](?:\s|\Z)|[>|]|`{3}|~{3}|<[A-Za-z/!?]|\[[^\[\]]{1,99}\]:|[=\-][=\- ]*\Z|[-*_][-*_ ]{2,}\Z"
)
_TAKEN_FOR_NUMBER = re.compile(r"(\d{1,9})([.)](?:\s|\Z))")


@dataclass(slots=True)
class Container:
    """A list item or a quote. `marker` stands before its first line, `indent` before the others."""

    marker: str
    indent: str
    is_item: bool
    is_tight: bool
    is_begun: bool = False


@dataclass(slots=True)
class Blocks:
    """Puts Markdown together, block by block."""

    _lines: list[str] = field(default_factory=list)
    _containers: list[Container] = field(default_factory=list)
    _deeper: int = 0

    def open(self, marker: str, *, is_item: bool = True, is_tight: bool = False) -> None:
        """What follows belongs to a list item or quote. `is_tight`: no blank line before it."""
        if len(self._containers) == _DEEPEST_INDENT:
            self._deeper += 1
            return
        indent = " " * len(marker) if is_item else marker
        self._containers.append(Container(marker, indent, is_item, is_tight))

    def close(self) -> None:
        if self._deeper:
            self._deeper -= 1
        else:
            self._containers.pop()

    def add(self, lines: Sequence[str]) -> None:
        """A block, as it is to stand."""
        fresh = next((container for container in self._containers if not container.is_begun), None)
        if self._lines and not (fresh is not None and fresh.is_item and fresh.is_tight):
            self._lines.append(self._indent(begin=False, before=fresh).rstrip())
        self._lines.append(self._indent(begin=True) + lines[0])
        if len(lines) > 1:
            indent = self._indent(begin=False)
            self._lines += [(indent + line) if line else indent.rstrip() for line in lines[1:]]

    def markdown(self) -> str:
        return "\n".join(self._lines) + "\n" if self._lines else ""

    def _indent(self, *, begin: bool, before: Container | None = None) -> str:
        parts: list[str] = []
        for container in self._containers:
            if container is before:
                break
            parts.append(container.marker if begin and not container.is_begun else container.indent)
            container.is_begun = container.is_begun or begin
        return "".join(parts)


def plain_line(text: str) -> str:
    """A line of prose whose first characters Markdown would take for markup, with a backslash before them."""
    if _TAKEN_FOR_MARKUP.match(text):
        return "\\" + text
    number = _TAKEN_FOR_NUMBER.match(text)
    return f"{number[1]}\\{text[number.end(1) :]}" if number else text


def fence(code: str, language: str) -> list[str]:
    """The lines of a code block, between fences that the code cannot close."""
    longest = max((len(run) for run in re.findall(r"`{3,}", code)), default=2)
    ticks = "`" * (longest + 1)
    return [ticks + language, *code.split("\n"), ticks]
