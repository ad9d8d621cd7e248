"""HTML's events as Markdown.

Kept is what says something: headings, paragraphs, lists, definitions, quotes, code, tables, links and images' texts;
struck-out text stays struck out, because it no longer holds. Emphasis goes. Left out is what stands around the text on
every page (navigation, banners, asides), what is hidden, and what is no text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from livedex.adapters.parsers.html_blocks import Blocks, fence, plain_line
from livedex.adapters.parsers.html_events import HEADINGS, Element, End, Event
from livedex.adapters.parsers.html_tables import Cell, Row, table_blocks

_LEFT_OUT_TAGS = """
aside audio button canvas datalist dialog footer frame frameset head iframe input map menu meter nav noscript
object progress rp script select style svg template textarea title video
"""
_LEFT_OUT = frozenset(_LEFT_OUT_TAGS.split())
_LEFT_OUT_ROLES = frozenset({"banner", "complementary", "contentinfo", "navigation", "search"})
_HIDING = re.compile(r"(?:^|;)\s*(?:display\s*:\s*none|visibility\s*:\s*hidden)", re.IGNORECASE)
_BLOCK_TAGS = """
address article blockquote body caption center dd details div dl dt fieldset figcaption figure form header
hgroup html legend li main ol p section summary tbody td tfoot th thead tr ul
"""
_BLOCKS = frozenset(_BLOCK_TAGS.split())
_CODE = frozenset({"code", "kbd", "samp", "tt"})
_STRUCK = frozenset({"del", "s", "strike"})

_SPACES = re.compile(r"[ \t\n\r\f\v\u00a0]+")
_AROUND_LINE_ENDS = re.compile(r" *\n *")
_HEADING_MARKUP = re.compile(r"[\\`*\[\]<~]|&(?=#?\w+;)|(?<!\w)_")
_LANGUAGE = re.compile(r"(?:^|\s)(?:language-|lang-|highlight-source-|brush:\s*)([\w+#.-]{1,30})")
_IN_A_TARGET = {" ": "%20", "(": "%28", ")": "%29", "<": "%3C", ">": "%3E", "\t": "", "\n": "", "\r": "", "\f": ""}
_TARGET_ESCAPES = str.maketrans(_IN_A_TARGET)


@dataclass(slots=True)
class _Mark:
    """A link or struck-out text that is open: where its text starts in the line, and what to put around it."""

    element: Element
    start: int
    before: str
    after: str


def to_markdown(events: Sequence[Event], ranges: Sequence[tuple[int, int]], *, in_main: bool, forms: bool) -> str:
    """The text of some ranges of events. `in_main`: they are a page's main content, whose headers hold its title; the
    header of a page is left out. `forms`: read what stands in forms too."""
    writer = _Writer(events, in_main=in_main, forms=forms)
    for start, end in ranges:
        writer.write(start, end)
    return writer.markdown()


class _Writer:
    def __init__(self, events: Sequence[Event], *, in_main: bool, forms: bool) -> None:
        self._events = events
        self._in_main = in_main
        self._forms = forms
        self._blocks = Blocks()
        self._line: list[str] = []
        self._heading = 0
        self._header_end = -1
        self._marks: list[_Mark] = []
        self._lists: list[int | None] = []
        self._tables: list[list[Row] | None] = []
        self._in_head = False
        self._cell: Element | None = None
        self._openers: Mapping[str, Callable[[Element, int], int | None]] = {
            "a": self._open_link,
            "blockquote": self._open_quote,
            "br": self._break_line,
            "dd": self._open_definition,
            "hr": self._rule,
            "img": self._image,
            "li": self._open_item,
            "ol": self._open_list,
            "pre": self._code_block,
            "sup": self._raise,
            "table": self._open_table,
            "td": self._open_cell,
            "th": self._open_cell,
            "thead": self._open_head,
            "tr": self._open_row,
            "ul": self._open_list,
            **dict.fromkeys(HEADINGS, self._open_heading),
            **dict.fromkeys(_CODE, self._code),
            **dict.fromkeys(_STRUCK, self._open_struck),
        }
        self._closers: Mapping[str, Callable[[Element], None]] = {
            "a": self._close_mark,
            "blockquote": self._close_container,
            "dd": self._close_container,
            "li": self._close_container,
            "ol": self._close_list,
            "table": self._close_table,
            "td": self._close_cell,
            "th": self._close_cell,
            "thead": self._close_head,
            "ul": self._close_list,
            **dict.fromkeys(HEADINGS, self._close_heading),
            **dict.fromkeys(_STRUCK, self._close_mark),
        }

    def markdown(self) -> str:
        self._end_line()
        return self._blocks.markdown()

    def write(self, start: int, end: int) -> None:
        index = start
        while index < end:
            event = self._events[index]
            following = index + 1
            if isinstance(event, str):
                self._text(event, index)
            elif isinstance(event, End):
                self._close(event.element)
            elif self._is_left_out(event):
                following = event.end + 1
            else:
                following = self._open(event, index) or following
            index = following
        self._end_line()

    def _is_left_out(self, element: Element) -> bool:
        tag, attributes = element.tag, element.attributes
        if tag in _LEFT_OUT or (tag == "form" and not self._forms) or (tag == "header" and not self._in_main):
            return True
        if not attributes:
            return False
        return (
            "hidden" in attributes
            or attributes.get("aria-hidden") == "true"
            or attributes.get("role") in _LEFT_OUT_ROLES
            or _HIDING.search(attributes.get("style", "")) is not None
        )

    def _open(self, element: Element, index: int) -> int | None:
        """Begin an element; returns where to go on where it is done with as a whole."""
        if element.tag in _BLOCKS:
            self._end_line()
        if element.tag == "header" and index > self._header_end:
            self._header_end = element.end
        opener = self._openers.get(element.tag)
        return None if opener is None else opener(element, index)

    def _close(self, element: Element) -> None:
        if element.tag in _BLOCKS:
            self._end_line()
        closer = self._closers.get(element.tag)
        if closer is not None:
            closer(element)

    # Lines

    def _text(self, text: str, index: int) -> None:
        if index < self._header_end and not self._heading:
            return  # who wrote it, when, and how to share it
        text = _SPACES.sub(" ", text).replace("\u00ad", "")
        self._line.append(_HEADING_MARKUP.sub(r"\\\g<0>", text) if self._heading else text)

    def _end_line(self) -> None:
        """What was gathered becomes a paragraph; in a table's cell, where there are none, a space."""
        if self._is_one_line:
            self._line.append(" ")
            return
        text = self._take_line()
        if text:
            self._blocks.add([plain_line(line) for line in text.split("\n")])

    @property
    def _is_one_line(self) -> bool:
        """In a heading or a table's cell."""
        return self._heading > 0 or self._cell is not None

    def _take_line(self) -> str:
        for mark in reversed(self._marks):
            self._wrap(mark)
        text = _AROUND_LINE_ENDS.sub("\n", re.sub(" {2,}", " ", "".join(self._line))).strip()
        self._line.clear()
        return re.sub(r"\n{2,}", "\n", text)

    def _break_line(self, element: Element, index: int) -> None:
        self._line.append(" " if self._is_one_line else "\n")

    # Inline elements

    def _open_link(self, element: Element, index: int) -> None:
        target = element.attributes.get("href", "").strip().translate(_TARGET_ESCAPES)
        if target and not target.lower().startswith(("javascript:", "data:")):
            self._mark(element, "[", f"]({target})")

    def _open_struck(self, element: Element, index: int) -> None:
        self._mark(element, "~~", "~~")

    def _mark(self, element: Element, before: str, after: str) -> None:
        if all(mark.before != before for mark in self._marks):
            self._marks.append(_Mark(element, len(self._line), before, after))

    def _close_mark(self, element: Element) -> None:
        if self._marks and self._marks[-1].element is element:
            self._wrap(self._marks.pop())

    def _wrap(self, mark: _Mark) -> None:
        """Put a mark around what the line has of its text; around the first line of a link only."""
        text = "".join(self._line[mark.start :])
        visible = text.strip()
        is_anchor = mark.after.startswith("](#") and not any(letter.isalnum() for letter in visible)
        if visible and mark.after:
            blank = len(text) - len(text.lstrip())
            wrapped = "" if is_anchor else f"{mark.before}{visible}{mark.after}"
            self._line[mark.start :] = [text[:blank] + wrapped + text[blank + len(visible) :]]
            if mark.before == "[":
                mark.after = ""
        mark.start = 0

    def _code(self, element: Element, index: int) -> int:
        text = " ".join(self._plain(index, element.end).split())
        if text and (index > self._header_end or self._heading):
            ticks = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
            padding = " " if text[0] == "`" or text[-1] == "`" else ""
            self._line.append(f"{ticks}{padding}{text}{padding}{ticks}")
        return element.end + 1

    def _raise(self, element: Element, index: int) -> None:
        """A power is marked, 10^2 and not 102; a note's number is not."""
        exponent = self._events[index + 1] if element.end == index + 2 else None
        if isinstance(exponent, str) and len(exponent) <= 4 and self._line and self._line[-1][-1:].isalnum():
            self._line.append("^")

    def _image(self, element: Element, index: int) -> None:
        self._text(element.attributes.get("alt", ""), index)

    # Blocks

    def _open_heading(self, element: Element, index: int) -> None:
        self._end_line()
        if not self._is_one_line:
            self._heading = HEADINGS[element.tag]

    def _close_heading(self, element: Element) -> None:
        if self._heading:
            level, text = self._heading, self._take_line()
            self._heading = 0
            if text:
                self._blocks.add(["#" * level + " " + text])

    def _open_quote(self, element: Element, index: int) -> None:
        self._blocks.open("> ", is_item=False)

    def _open_list(self, element: Element, index: int) -> None:
        start = element.attributes.get("start", "1").strip()
        self._lists.append((int(start) if start.isdecimal() and len(start) < 9 else 1) if element.tag == "ol" else None)

    def _close_list(self, element: Element) -> None:
        self._lists.pop()

    def _open_item(self, element: Element, index: int) -> None:
        if self._cell is not None and any(not part.isspace() for part in self._line):
            self._line.append("; ")
        number = self._lists[-1] if self._lists else None
        self._blocks.open("- " if number is None else f"{number}. ", is_tight=self._follows_item(index))
        if number is not None:
            self._lists[-1] = number + 1

    def _follows_item(self, index: int) -> bool:
        """Whether a list item stands next to another, or in one."""
        before = index - 1
        while before > 0 and isinstance(text := self._events[before], str) and not text.strip():
            before -= 1
        previous = self._events[before]
        return len(self._lists) > 1 or (isinstance(previous, End) and previous.element.tag == "li")

    def _open_definition(self, element: Element, index: int) -> None:
        self._blocks.open(": ", is_tight=True)

    def _close_container(self, element: Element) -> None:
        self._blocks.close()

    def _rule(self, element: Element, index: int) -> None:
        self._end_line()
        if not self._is_one_line and index > self._header_end:
            self._blocks.add(["***"])  # a line of dashes could begin front matter

    def _code_block(self, element: Element, index: int) -> int | None:
        if self._is_one_line or index < self._header_end:
            return None
        self._end_line()
        code = self._plain(index, element.end).strip("\n").rstrip()
        if code:
            self._blocks.add(fence(code, self._language(element, index)))
        return element.end + 1

    # Tables

    def _open_table(self, element: Element, index: int) -> None:
        self._end_line()
        self._tables.append(None if element.is_layout or self._is_one_line else [])

    def _open_head(self, element: Element, index: int) -> None:
        self._in_head = True

    def _close_head(self, element: Element) -> None:
        self._in_head = False

    def _open_row(self, element: Element, index: int) -> None:
        if self._tables and (rows := self._tables[-1]) is not None:
            rows.append(Row(self._in_head))

    def _open_cell(self, element: Element, index: int) -> None:
        if self._tables and self._tables[-1] and self._cell is None:
            self._cell = element

    def _close_cell(self, element: Element) -> None:
        if element is not self._cell:
            return
        text = self._take_line().replace(" ; ", "; ")
        self._cell = None
        if rows := self._tables[-1]:
            spans = _span(element, "rowspan"), _span(element, "colspan")
            rows[-1].cells.append(Cell(text, element.tag == "th", *spans))

    def _close_table(self, element: Element) -> None:
        self._end_line()
        for block in table_blocks(self._tables.pop() or ()):
            self._blocks.add(block)

    def _language(self, element: Element, index: int) -> str:
        inner = self._events[index + 1]
        for each in (element, inner):
            if isinstance(each, Element) and (found := _LANGUAGE.search(each.attributes.get("class", ""))):
                return found[1]
        return ""

    def _plain(self, index: int, end: int) -> str:
        """What an element says, as it is."""
        parts: list[str] = []
        while index < end:
            event = self._events[index]
            if isinstance(event, str):
                parts.append(event)
            elif isinstance(event, Element):
                if event.tag == "br":
                    parts.append("\n")
                elif self._is_left_out(event):
                    index = event.end
            index += 1
        return "".join(parts).replace("\r\n", "\n").replace("\r", "\n")


def _span(element: Element, name: str) -> int:
    written = element.attributes.get(name, "").strip()
    return int(written) if written.isdecimal() and len(written) <= 5 else 1
