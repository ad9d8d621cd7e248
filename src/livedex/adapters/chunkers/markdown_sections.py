"""A Markdown document as sections: a heading with what follows it up to the next one."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from livedex.adapters.chunkers.markdown_blocks import Block, blocks

TITLE_LENGTH = 200
"""A heading's text is cut here in a heading path: a line of megabytes must not be repeated on every chunk below it."""

_MARKUP = re.compile(r"[\\`*_~\[<&{\n]")
_CLOSING_MARKS = re.compile(r"(?:^|[ \t]+)#+$")
_UNDERLINE = re.compile(r"\n[ \t]*(?:=+|-+)$")
_ATTRIBUTES = re.compile(r"[ \t]*\{[#.:][^{}]*\}$")
_LITERAL = re.compile(r"(?P<ticks>`+)(?P<code>.+?)(?<!`)(?P=ticks)(?!`)|\\(?P<escaped>[!-/:-@\[-`{-~])", re.DOTALL)
_LINK = re.compile(r"!?\[([^\[\]]*)\](?:\((?:[^()]|\([^()]*\))*\)|\[[^\[\]]*\])?")
_AUTOLINK = re.compile(r"<((?:https?://|mailto:)[^<>\s]*)>")
_TAG = re.compile(r"<!--.*?-->|</?[A-Za-z][^<>]*>", re.DOTALL)
_EMPHASIS = re.compile(r"(\*{1,3}|~~)(?=\S)(.+?)(?<=\S)\1|(?<!\w)(_{1,3})(?=\S)(.+?)(?<=\S)\3(?!\w)", re.DOTALL)


@dataclass(slots=True)
class Section:
    """`text[start:end]`. `level` is its outermost heading's, 0 before the first one. `path` leads to its innermost
    heading: headings that have no text of their own open the same section as the first heading below them."""

    level: int
    path: tuple[str, ...]
    start: int
    end: int
    blocks: list[Block] = field(default_factory=list)

    @property
    def is_bare(self) -> bool:
        """Nothing but headings."""
        return self.blocks[-1].level > 0


def sections(text: str, start: int = 0) -> Iterator[Section]:
    """Every section of a text from `with_uniform_line_ends`, in order; none is blank."""
    trail: list[tuple[int, str]] = []
    section: Section | None = None
    for block in blocks(text, start):
        if block.level:
            while trail and trail[-1][0] >= block.level:
                trail.pop()
            opens_below = bool(trail)
            trail.append((block.level, plain_title(text[block.start : block.end])))
            path = tuple(title for _, title in trail if title)
            if section is not None and opens_below and section.is_bare:
                section.path = path
            else:
                if section is not None:
                    yield section
                section = Section(block.level, path, block.start, block.end)
        elif section is None:
            section = Section(0, (), block.start, block.end)
        section.blocks.append(block)
        section.end = block.end
    if section is not None:
        yield section


def plain_title(heading: str) -> str:
    """A heading's text without marks, inline markup and link targets: "## [Set *up*](x) ##" is "Set up"."""
    line = heading[: 4 * TITLE_LENGTH].strip()
    if line.startswith("#"):
        line = line.lstrip("#")
        if line.endswith("#"):
            line = _CLOSING_MARKS.sub("", line)
    else:
        line = _UNDERLINE.sub("", line)
    if _MARKUP.search(line):
        line = _without_markup(_ATTRIBUTES.sub("", line))
    return " ".join(line.split())[:TITLE_LENGTH].rstrip()


def _without_markup(line: str) -> str:
    literals: list[str] = []

    def set_aside(found: re.Match[str]) -> str:
        literals.append(found["code"] or found["escaped"])
        return "\0"

    line = _LITERAL.sub(set_aside, line.replace("\0", ""))
    line = _TAG.sub("", _AUTOLINK.sub(r"\1", line))
    for _ in range(2):  # an image in a link, strong emphasis in emphasis
        line = _EMPHASIS.sub(lambda found: found[2] or found[4], _LINK.sub(r"\1", line))
    line = html.unescape(line)
    for literal in literals:
        line = line.replace("\0", literal, 1)
    return line
