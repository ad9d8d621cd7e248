"""FixedChunker: windows of equal size, each beginning with the end of the one before.

For comparing with other systems, and for text without any structure. Every cut depends on all that stands before it,
so an edit moves the cuts of everything behind it, and most of an edited document is embedded again. Front matter is in
no window.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

from livedex.adapters.chunkers.markdown_blocks import with_uniform_line_ends
from livedex.adapters.chunkers.pieces import sentences
from livedex.adapters.chunkers.sizes import check_sizes
from livedex.adapters.chunkers.spans import Span, span_chunk
from livedex.adapters.chunkers.tokens import UNITS_PER_TOKEN, count_units
from livedex.front_matter import body_start
from livedex.model import Chunk

_WORD = re.compile(r"\S++\s*+")


class FixedChunker:
    """Cuts between words into windows of up to `max_tokens` estimated tokens. `overlap_tokens`, at most half as many,
    is how much of a window stands at the start of the next one too, rounded down to whole words.

    Time grows with the length of the document only. Never raises DocumentError.
    """

    def __init__(self, max_tokens: int = 200, overlap_tokens: int = 20) -> None:
        check_sizes(max_tokens, overlap_tokens, "overlap_tokens")
        self._limit = max_tokens * UNITS_PER_TOKEN
        self._overlap = overlap_tokens * UNITS_PER_TOKEN
        self._recipe = {"kind": "fixed", "version": 1, "max_tokens": max_tokens, "overlap_tokens": overlap_tokens}

    @property
    def recipe(self) -> Mapping[str, Any]:
        return dict(self._recipe)

    def chunk(self, content: str, title: str) -> Sequence[Chunk]:
        text = with_uniform_line_ends(content)
        words = list(self._words(text, body_start(text)))
        totals = [0, *accumulate(weight for _, _, weight in words)]
        chunks: list[Chunk] = []
        for first, stop in self._windows(totals):
            start, end = words[first][0], words[stop - 1][1]
            chunk = span_chunk(content, Span(start, end, (), "text", text[start:end]), len(chunks))
            if chunk:
                chunks.append(chunk)
        return chunks

    def _windows(self, totals: Sequence[int]) -> Iterator[tuple[int, int]]:
        """Ranges of words; `totals` is what all words before each weigh."""
        count = len(totals) - 1
        first = stop = 0
        while stop < count:
            # A word weighs no more than a window, so each window takes one at least.
            stop = bisect_right(totals, totals[first] + self._limit, first + 1) - 1
            yield first, stop
            # Overlap, but no further back than leaves room for one new word.
            room = totals[min(stop + 1, count)] - self._limit
            first = bisect_left(totals, max(totals[stop] - self._overlap, room), first + 1, stop)

    def _words(self, text: str, start: int) -> Iterator[tuple[int, int, int]]:
        """Start, end and weight of each word with the space after it; of a word too long for a window, its parts."""
        for found in _WORD.finditer(text, start):
            weight = count_units(found[0].rstrip())
            if weight <= self._limit:
                yield found.start(), found.end(), weight
                continue
            starts = list(sentences(text, found.start(), found.end(), self._limit))
            for part, end in zip(starts, [*starts[1:], found.end()], strict=True):
                yield part, end, count_units(text[part:end].rstrip())
