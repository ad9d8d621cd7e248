"""TextChunker: cuts plain text where an edit does not move other cuts.

A chunk is some paragraphs. One that is too long is cut between sentences, else between lines (logs, poems and lists
have no sentences), else between words. Nothing is taken for markup, so there are no headings. Which paragraphs share a
chunk depends on what stands at the cut (see `packing`), so a changed paragraph changes one chunk and, seldom, a
neighbour. Front matter is in no chunk; every other character that is not white space is in exactly one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, pairwise
from typing import Any

from livedex.adapters.chunkers.markdown_blocks import with_uniform_line_ends
from livedex.adapters.chunkers.packing import boundary_key, pack
from livedex.adapters.chunkers.pieces import sentences
from livedex.adapters.chunkers.sizes import check_sizes
from livedex.adapters.chunkers.spans import Span, span_chunk
from livedex.adapters.chunkers.tokens import UNITS_PER_TOKEN, count_units
from livedex.front_matter import body_start
from livedex.model import Chunk

_BLANK_LINES = re.compile(r"\n(?:[^\S\n]*+\n)++")
_LINE_END = re.compile(r"\n")
_SENTENCE_ENDS = (".", "!", "?", "…", "。", "！", "？")
_LOOK_BACK = 40
_PARAGRAPH, _SENTENCE, _LINE = range(3)
"""Ranks of boundaries, best first."""


class TextChunker:
    """Cuts plain text between paragraphs, sentences, lines, words.

    `max_tokens`: no chunk's embedded text has more, by the estimate in `tokens`. `min_tokens`: none has less where
    another cut is possible. Time and memory grow with the length of the document only. Never raises DocumentError.
    """

    def __init__(self, max_tokens: int = 200, min_tokens: int = 50) -> None:
        check_sizes(max_tokens, min_tokens)
        self._limit = max_tokens * UNITS_PER_TOKEN
        self._floor = min_tokens * UNITS_PER_TOKEN
        self._recipe = {"kind": "text", "version": 1, "max_tokens": max_tokens, "min_tokens": min_tokens}

    @property
    def recipe(self) -> Mapping[str, Any]:
        return dict(self._recipe)

    def chunk(self, content: str, title: str) -> Sequence[Chunk]:
        text = with_uniform_line_ends(content)
        pieces = list(self._pieces(text, body_start(text)))
        bounds = [*(start for start, _ in pieces), len(text)]
        weights = [count_units(text[start:end]) for start, end in pairwise(bounds)]
        keys = [boundary_key(rank, text, start) for start, rank in pieces]
        chunks: list[Chunk] = []
        for first, stop in pairwise((*pack(weights, keys, self._limit, self._floor), len(pieces))):
            start, end = bounds[first], bounds[stop]
            chunk = span_chunk(content, Span(start, end, (), "text", text[start:end]), len(chunks))
            if chunk:
                chunks.append(chunk)
        return chunks

    def _pieces(self, text: str, start: int) -> Iterator[tuple[int, int]]:
        """Where the pieces start that chunks are put together from, each with the rank of the boundary before it; each
        weighs at most the limit."""
        for first, end in _parts(text, start, len(text), _BLANK_LINES):
            if count_units(text[first:end]) <= self._limit:
                yield first, _PARAGRAPH
                continue
            for line, line_end in _parts(text, first, end, _LINE_END):
                follows = _PARAGRAPH if line == first else _LINE
                if follows == _LINE and text[max(first, line - _LOOK_BACK) : line].rstrip().endswith(_SENTENCE_ENDS):
                    follows = _SENTENCE
                for position in sentences(text, line, line_end, self._limit):
                    yield position, follows if position == line else _SENTENCE


def _parts(text: str, start: int, end: int, gap: re.Pattern[str]) -> Iterator[tuple[int, int]]:
    ends = (found.end() for found in gap.finditer(text, start, end))
    for first, stop in pairwise(chain((start,), (position for position in ends if position < end), (end,))):
        if text[first:stop].strip():
            yield first, stop
