"""HTML as a flat list of events, so that nothing that walks it can run out of stack.

libxml2's tree refuses what is nested deeper than 2,048 levels and loses the rest of the document without a word; its
events have no such limit. They come balanced, whatever the page forgot to close.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from lxml import etree

from livedex.errors import DocumentError

DEEPEST = 16_384
"""Deeper nesting is refused: an end tag that closes nothing costs a look at every element that is open."""
_PIECE = 2**16

HEADINGS: Mapping[str, int] = {f"h{level}": level for level in range(1, 7)}
_NO_CELL_HOLDS = frozenset(HEADINGS) | {"pre", "table"}


@dataclass(slots=True, eq=False)
class Element:
    """A start tag. `end` is the index of its `End`. `is_layout`: a table that holds what a cell of a Markdown table
    cannot, so that its cells are only places on the page."""

    tag: str
    attributes: Mapping[str, str]
    end: int = 0
    is_layout: bool = False


@dataclass(frozen=True, slots=True)
class End:
    element: Element


Event = Element | End | str


@dataclass(slots=True)
class _Target:
    """What lxml calls for each event."""

    events: list[Event] = field(default_factory=list)
    deepest: int = 0
    _open: list[Element] = field(default_factory=list)
    _tables: list[Element] = field(default_factory=list)

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        element = Element(tag, dict(attributes))
        self.events.append(element)
        self._open.append(element)
        self.deepest = max(self.deepest, len(self._open))
        if tag in _NO_CELL_HOLDS and self._tables:
            self._tables[-1].is_layout = True
        if tag == "table":
            element.is_layout = attributes.get("role") in ("presentation", "none")
            self._tables.append(element)

    def end(self, tag: str) -> None:
        element = self._open.pop()
        element.end = len(self.events)
        self.events.append(End(element))
        if tag == "table":
            self._tables.pop()

    def data(self, text: str) -> None:
        self.events.append(text)

    def comment(self, text: str) -> None:
        pass

    def pi(self, target: str, text: str | None = None) -> None:
        pass

    def close(self) -> None:
        while self._open:
            self.end(self._open[-1].tag)


def read_events(content: str) -> list[Event]:
    """Every event of a page, in order. Time and memory grow with its length. Raises DocumentError for a page that is
    nested deeper than `DEEPEST`."""
    target = _Target()
    parser = etree.HTMLParser(target=target, encoding="utf-8", huge_tree=True)
    encoded = content.removeprefix("\ufeff").replace("\0", "\ufffd").encode("utf-8", "replace")
    for position in range(0, len(encoded), _PIECE):
        parser.feed(encoded[position : position + _PIECE])
        if target.deepest > DEEPEST:
            raise DocumentError(
                f"The page nests its elements more than {DEEPEST:,} levels deep; no browser shows that."
            )
    if encoded:
        parser.close()
    return target.events


def main_content(events: Sequence[Event]) -> list[tuple[int, int]]:
    """The ranges of events that hold what the page is about: inside its `main` elements, failing these its articles;
    none where it has neither."""
    for is_main in (_is_main, _is_article):
        found = list(_outermost(events, is_main))
        if found:
            return found
    return []


def body(events: Sequence[Event]) -> tuple[int, int]:
    """The range of events inside the body, or of all where there is none."""
    return next(_outermost(events, lambda element: element.tag == "body"), (0, len(events)))


def _is_main(element: Element) -> bool:
    return element.tag == "main" or element.attributes.get("role") == "main"


def _is_article(element: Element) -> bool:
    return element.tag == "article"


def _outermost(events: Sequence[Event], wanted: Callable[[Element], bool]) -> Iterator[tuple[int, int]]:
    index = 0
    while index < len(events):
        event = events[index]
        if isinstance(event, Element) and wanted(event):
            yield index + 1, event.end
            index = event.end
        index += 1
