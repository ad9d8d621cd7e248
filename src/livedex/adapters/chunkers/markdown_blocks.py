"""Where Markdown's blocks and sections start and end.

A full Markdown parser was not used: those that keep positions give lines, not characters, build a tree of every inline
element, and take many times as long. Chunking needs the boundaries of blocks only, exactly, so one regular expression
tells from its first line what a block is, and one for each kind finds its end. All are linear: what repeats is
possessive, so no character is tried twice by the same rule.

The scanner reads CommonMark and GitHub's tables, with these liberties, all on the side of keeping a text together: a
code fence inside a list goes on to its closing fence even where a line of it is indented less than the list; a heading
that is indented into a list item is part of the list; a heading in a block quote is part of the quote.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

_END = r"(?:\n|\Z)"
_LINE = r"[^\S\n]*+\S[^\n]*+\n?"
_SHALLOW = r"\ {0,3}"
_ATX = r"\#{1,6}(?=[\ \t\n]|\Z)"
_FENCE = r"(?:`{3,}+(?=[^`\n]*+(?:\n|\Z))|~{3,}+)"
_RULE = rf"(?:(?:\*[\ \t]*+){{3,}}+|(?:-[\ \t]*+){{3,}}+|(?:_[\ \t]*+){{3,}}+){_END}"
_UNDERLINE = rf"(?:=++|-++)[\ \t]*+{_END}"
_BULLET = r"[-*+](?=[\ \t\n]|\Z)"
_ORDINAL = r"[0-9]{1,9}[.)](?=[\ \t\n]|\Z)"
_RAW = r"<(?:!--|(?i:pre|script|style|textarea)\b)"

_FIRST_LINE = re.compile(
    rf"""(?P<indented>\ {{0,3}}(?:\ {{4}}|\t))
    | {_SHALLOW}(?: (?P<heading>{_ATX})
                  | (?P<fence>{_FENCE})
                  | (?P<rule>{_RULE})
                  | (?P<list>{_BULLET}|{_ORDINAL})
                  | (?P<quote>>)
                  | (?P<raw>{_RAW})
                  | (?P<html></?[A-Za-z]|<[!?])
                  | (?P<paragraph>) )""",
    re.VERBOSE,
)


def _lines_until(interruption: str) -> re.Pattern[str]:
    """A line, whatever it is, and all after it up to one that is blank or starts like the interruption."""
    return re.compile(rf"{_LINE}(?:(?!{interruption}){_LINE})*+", re.VERBOSE)


_LINES = {
    "heading": re.compile(_LINE),
    "rule": re.compile(_LINE),
    "paragraph": _lines_until(rf"{_SHALLOW}(?:{_ATX}|{_FENCE}|{_RULE}|{_UNDERLINE}|{_BULLET}|1[.)][\ \t]|>|{_RAW})"),
    "list": _lines_until(rf"\ ?(?:{_ATX}|{_RULE}|>)|[\ \t]*+(?:{_FENCE}|{_RAW})"),
    "quote": _lines_until(rf"{_SHALLOW}(?:{_ATX}|{_FENCE}|{_RULE}|{_BULLET}|{_ORDINAL})"),
    "html": _lines_until(r"[^\S\n]*+\n"),
    "indented": re.compile(rf"(?:{_SHALLOW}(?:\ {{4}}|\t){_LINE})++", re.VERBOSE),
}
_SECTION_TYPES = {"paragraph": "text", "rule": "text", "indented": "code", "fence": "code", "raw": "html"}

_BLANK_LINES = re.compile(r"(?:[^\S\n]*+\n)*+")
_NESTED_FENCE_OR_RAW = re.compile(rf"[\ \t]*+(?:(?P<fence>{_FENCE})|(?P<raw>{_RAW}))", re.VERBOSE)
_FENCE_MARK = re.compile(r"`{3,}|~{3,}")
_RAW_END = re.compile(r"</(?:pre|script|style|textarea)>", re.IGNORECASE)
_SETEXT = re.compile(rf"{_SHALLOW}(?P<underline>=++|-++)[\ \t]*+{_END}", re.VERBOSE)
_TABLE = re.compile(rf"[^\n]*+\n[\ \t]*+(?=[^\n]*?\|)[|:\-\ \t]++{_END}", re.VERBOSE)
_FRONT_MATTER = re.compile(
    rf"---[ \t]*+\n(?P<body>(?:(?!(?:---|\.\.\.)[ \t]*+{_END})[^\n]*+\n)*+)(?:---|\.\.\.)[ \t]*+{_END}"
)
_YAML_KEY = re.compile(r"^[\w\"'][^:\n]*+:(?:\s|\Z)", re.MULTILINE)


class Block(NamedTuple):
    """`text[start:end]`, whole lines. `level` is a heading's, 1 to 6. `nested`: indented into a list item."""

    section_type: str
    start: int
    end: int
    level: int = 0
    nested: bool = False


def with_uniform_line_ends(content: str) -> str:
    """The same text with every line end a newline and a byte order mark blanked; no offset moves."""
    if "\r" in content:
        content = content.replace("\r\n", " \n").replace("\r", "\n")
    return f" {content[1:]}" if content.startswith("\ufeff") else content


def front_matter_end(text: str) -> int:
    """Where the text starts after YAML front matter; 0 when there is none."""
    opening = 1 if text.startswith(" ---") else 0
    found = _FRONT_MATTER.match(text, opening)
    if found is None or (found["body"].strip() and not _YAML_KEY.search(found["body"])):
        return 0
    return found.end()


def blocks(text: str, start: int = 0) -> Iterator[Block]:
    """Every block of a text from `with_uniform_line_ends`, in order; between them is nothing but white space."""
    end = len(text.rstrip())
    position = _past_blank_lines(text, start)
    in_list = False
    while position < end:
        nested = in_list and text.startswith(("  ", "\t", " \t"), position)
        kind = _nested_kind(text, position, end) if nested else _kind(text, position, end)
        in_list = nested or kind == "list"
        block = _read(text, position, end, kind, nested)
        yield block
        position = _past_blank_lines(text, block.end)


def _past_blank_lines(text: str, position: int) -> int:
    return _end(_BLANK_LINES, text, position, len(text))


def _end(pattern: re.Pattern[str], text: str, position: int, end: int) -> int:
    found = pattern.match(text, position, end)
    return position if found is None else found.end()


def _kind(text: str, position: int, end: int) -> str:
    found = _FIRST_LINE.match(text, position, end)
    return found.lastgroup or "paragraph" if found else "paragraph"


def _nested_kind(text: str, position: int, end: int) -> str:
    found = _NESTED_FENCE_OR_RAW.match(text, position, end)
    return found.lastgroup or "list" if found else "list"


def _read(text: str, position: int, end: int, kind: str, nested: bool) -> Block:
    if kind == "fence":
        return Block("code", position, _fence_end(text, position, end), nested=nested)
    if kind == "raw":
        return Block("html", position, _raw_end(text, position, end), nested=nested)
    stop = _end(_LINES[kind], text, position, end)
    if kind == "heading":
        return Block("heading", position, stop, level=_marks(text, position))
    if kind == "paragraph":
        underline = _SETEXT.match(text, stop, end)
        if underline:
            return Block("heading", position, underline.end(), level=1 if underline["underline"][0] == "=" else 2)
        if text.startswith("|", position) or _TABLE.match(text, position, stop):
            return Block("table", position, stop)
    return Block(_SECTION_TYPES.get(kind, kind), position, stop, nested=nested)


def _marks(text: str, position: int) -> int:
    line = text[position : position + 10].lstrip()
    return len(line) - len(line.lstrip("#"))


def _fence_end(text: str, position: int, end: int) -> int:
    """The end of the line that closes the fence; the text's end when none does."""
    opening = _FENCE_MARK.search(text, position, end)
    if opening is None:
        return end
    closing = _closing_fence(opening[0][0], len(opening[0])).search(text, opening.end(), end)
    return closing.end() if closing else end


@lru_cache(maxsize=64)
def _closing_fence(mark: str, length: int) -> re.Pattern[str]:
    # The literal newline in front lets the search skip from line to line instead of trying every character.
    return re.compile(rf"\n[ \t>]*+{mark}{{{length},}}+[ \t]*+{_END}")


def _raw_end(text: str, position: int, end: int) -> int:
    """The end of the line where a comment or an element of raw text closes; the text's end when it never does."""
    if text.startswith("<!--", text.index("<", position)):
        closing = text.find("-->", position, end)
    else:
        closed = _RAW_END.search(text, position, end)
        closing = closed.start() if closed else -1
    line_end = -1 if closing < 0 else text.find("\n", closing, end)
    return end if line_end < 0 else line_end + 1
