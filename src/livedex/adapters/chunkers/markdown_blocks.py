"""Where Markdown's blocks start and end.

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


def _lines_until(interruption: str) -> str:
    """A line, whatever it is, and all after it up to one that is blank or starts like the interruption."""
    return rf"{_LINE}(?:(?!{interruption}){_LINE})*+"


_INDENTED = rf"{_SHALLOW}(?:\ {{4}}|\t)"
_PARAGRAPH = _lines_until(rf"{_SHALLOW}(?:{_ATX}|{_FENCE}|{_RULE}|{_UNDERLINE}|{_BULLET}|1[.)][\ \t]|>|{_RAW})")
_LIST = _lines_until(rf"\ ?(?:{_ATX}|{_RULE}|>)|[\ \t]*+(?:{_FENCE}|{_RAW})")
_QUOTE = _lines_until(rf"{_SHALLOW}(?:{_ATX}|{_FENCE}|{_RULE}|{_BULLET}|{_ORDINAL})")
_HTML = _lines_until(r"[^\S\n]*+\n")

_BLOCK = re.compile(
    rf"""(?: (?P<code>(?:{_INDENTED}{_LINE})++)
           | (?={_SHALLOW}{_ATX})(?P<heading>{_LINE})
           | (?P<fence>{_SHALLOW}{_FENCE})
           | (?P<rule>{_SHALLOW}{_RULE})
           | (?={_SHALLOW}(?:{_BULLET}|{_ORDINAL}))(?P<list>{_LIST})
           | (?={_SHALLOW}>)(?P<quote>{_QUOTE})
           | (?P<raw>{_SHALLOW}{_RAW})
           | (?={_SHALLOW}<[A-Za-z/!?])(?P<html>{_HTML})
           | (?P<paragraph>{_PARAGRAPH}) )
         (?:[^\S\n]*+\n)*+""",
    re.VERBOSE,
)
_NESTED_BLOCK = re.compile(
    rf"""(?: (?P<fence>[\ \t]*+{_FENCE}) | (?P<raw>[\ \t]*+{_RAW}) | (?P<list>{_LIST}) )(?:[^\S\n]*+\n)*+""", re.VERBOSE
)
_SECTION_TYPES = {"paragraph": "text", "rule": "text", "fence": "code", "raw": "html"}

_BLANK_LINES = re.compile(r"(?:[^\S\n]*+\n)*+")
_FENCE_MARK = re.compile(r"`{3,}|~{3,}")
_RAW_END = re.compile(r"</(?:pre|script|style|textarea)>", re.IGNORECASE)
_SETEXT = re.compile(rf"{_SHALLOW}(?P<underline>=++|-++)[\ \t]*+{_END}(?:[^\S\n]*+\n)*+", re.VERBOSE)
_TABLE = re.compile(rf"[^\n]*+\n[\ \t]*+(?=[^\n]*?\|)[|:\-\ \t]++{_END}", re.VERBOSE)


class Block(NamedTuple):
    """`text[start:end]`, whole lines. `level` is a heading's, 1 to 6. `nested`: indented into a list item."""

    section_type: str
    start: int
    end: int
    level: int = 0
    nested: bool = False


def with_uniform_line_ends(content: str) -> str:
    """The same text with a newline for every line end; no offset moves."""
    return content.replace("\r\n", " \n").replace("\r", "\n") if "\r" in content else content


def blocks(text: str, start: int = 0) -> Iterator[Block]:
    """Every block of a text from `with_uniform_line_ends`, in order; between them is nothing but white space."""
    end = len(text.rstrip())
    position = _past_blank_lines(text, start)
    in_list = False
    while position < end:
        nested = in_list and text.startswith(("  ", "\t", " \t"), position)
        found = (_NESTED_BLOCK if nested else _BLOCK).match(text, position, end)
        if found is None or found.lastgroup is None:
            raise AssertionError(f"No rule matches the line at offset {position}.")
        kind = found.lastgroup
        stop, following = found.end(kind), found.end()
        level = 0
        if kind == "fence" or kind == "raw":
            stop = (_fence_end if kind == "fence" else _raw_end)(text, position, end)
            following = _past_blank_lines(text, stop)
        elif kind == "heading":
            level = _marks(text, position)
        elif kind == "paragraph":
            underline = _SETEXT.match(text, stop, end) if stop == following else None
            if underline:
                kind, level = "heading", 1 if underline["underline"][0] == "=" else 2
                stop, following = underline.end("underline"), underline.end()
            elif "|" in text[position:stop] and _is_table(text, position, stop):
                kind = "table"
        yield Block(_SECTION_TYPES.get(kind, kind), position, stop, level, nested)
        in_list = nested or kind == "list"
        position = following


def _past_blank_lines(text: str, position: int) -> int:
    found = _BLANK_LINES.match(text, position)
    return found.end() if found else position


def _is_table(text: str, position: int, end: int) -> bool:
    return text.startswith("|", position) or _TABLE.match(text, position, end) is not None


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
