"""A table's cells as a Markdown table: spans are filled, so that every cell stands under its header."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile

from livedex.adapters.parsers.html_blocks import plain_line

_MOST_COLUMNS_SPANNED = 64
_FREE_REPEATS = 10_000
"""Repeated text, in characters, that any table may have; beyond it, as much as it has text. So no page grows large."""


@dataclass(frozen=True, slots=True)
class Cell:
    """`text` is one line. A `row_span` of 0 reaches to the table's end."""

    text: str
    is_header: bool
    row_span: int
    column_span: int


@dataclass(slots=True)
class Row:
    in_head: bool
    cells: list[Cell] = field(default_factory=list)

    @property
    def is_header(self) -> bool:
        return bool(self.cells) and (self.in_head or all(cell.is_header for cell in self.cells))


def table_blocks(rows: Sequence[Row]) -> list[list[str]]:
    """The lines of a Markdown table as one block; of a table with a single column, each cell as one. Empty where no
    cell has text."""
    shown = [(row, texts) for row, texts in zip(rows, _filled(rows), strict=True) if any(texts)]
    filled = [texts for _, texts in shown]
    width = max((len(texts) for texts in filled), default=0)
    if width <= 1:
        return [[plain_line("".join(texts))] for texts in filled]
    headers = sum(1 for _ in takewhile(lambda pair: pair[0].is_header, shown))
    # A table of headers only is a table whose author marked up everything so: its first row is the header.
    headers = headers if headers < len(filled) else 1
    names = _names(filled[:headers], width)
    return [[_line(names), "|" + " --- |" * width, *(_line(texts) for texts in filled[headers:])]]


def _names(headers: Sequence[Sequence[str]], width: int) -> list[str]:
    """One name for each column: of several header rows, what they say from the top, each once."""
    names: list[dict[str, None]] = [{} for _ in range(width)]
    for row in headers:
        for name, text in zip(names, row, strict=False):
            if text:
                name[text] = None
    return [" / ".join(name) for name in names]


def _filled(rows: Sequence[Row]) -> Iterator[list[str]]:
    """Each row's texts by column, with those of cells that reach into it."""
    allowance = _FREE_REPEATS + sum(len(cell.text) for row in rows for cell in row.cells)
    reaching: dict[int, tuple[str, int]] = {}
    for number, row in enumerate(rows):
        rest = len(rows) - number
        texts: list[str] = []
        for cell in row.cells:
            _take_over(texts, reaching)
            columns = max(1, min(cell.column_span, _MOST_COLUMNS_SPANNED))
            below = min(cell.row_span or rest, rest) - 1
            # What does not fit the allowance stands where it is written only.
            cost = (len(cell.text) + 1) * (columns * (below + 1) - 1)
            if cost > allowance:
                columns, below, cost = 1, 0, 0
            allowance -= cost
            for _ in range(columns):
                if below:
                    reaching[len(texts)] = (cell.text, below)
                texts.append(cell.text)
        _take_over(texts, reaching)
        yield texts


def _take_over(texts: list[str], reaching: dict[int, tuple[str, int]]) -> None:
    while (reach := reaching.pop(len(texts), None)) is not None:
        text, below = reach
        if below > 1:
            reaching[len(texts)] = (text, below - 1)
        texts.append(text)


def _line(texts: Sequence[str]) -> str:
    return "| " + " | ".join(text.replace("|", "\\|") for text in texts) + " |"
