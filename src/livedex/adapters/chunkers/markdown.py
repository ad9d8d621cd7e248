"""MarkdownChunker: cuts Markdown where an edit does not move other cuts.

A chunk is a section: a heading with its text. Headings without text of their own stand in the chunk of the first
section below them. Short neighbouring sections share a chunk, longer ones are cut between blocks, then list items and
lines, then sentences, then words; fences, tables and list items stay whole where they fit. Every cut depends on the
text near it (see `packing`), so a changed paragraph changes one chunk.

YAML front matter is in no chunk: it is metadata, and belongs to the parser that reads it as such. Every other character
that is not white space (or the byte order mark) is in exactly one chunk. Link definitions and comments stay where they stand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from livedex.adapters.chunkers.markdown_blocks import Block, front_matter_end, with_uniform_line_ends
from livedex.adapters.chunkers.markdown_sections import Section, sections
from livedex.adapters.chunkers.packing import boundary_key, pack
from livedex.adapters.chunkers.pieces import sentences
from livedex.adapters.chunkers.tokens import UNITS_PER_TOKEN, count_units
from livedex.errors import ConfigError
from livedex.model import Chunk

_WHOLE = frozenset({"code", "table"})
_BLOCK, _ITEM, _LINE, _SENTENCE = range(4)
"""Ranks of boundaries, best first: between blocks, list items, lines, sentences."""

_LEAST_MAX_TOKENS = 16


class _Span(NamedTuple):
    start: int
    end: int
    path: tuple[str, ...]
    section_type: str


class _Piece(NamedTuple):
    start: int
    rank: int
    section_type: str


class MarkdownChunker:
    """Cuts Markdown at headings, then blocks, then inside blocks that are too long.

    `max_tokens`: no chunk has more, by the estimate in `tokens`; the default suits models that read 256 tokens.
    `min_tokens`: neighbouring sections that are shorter share a chunk, as long as they stand under the same heading;
    and cuts inside a section do not leave less on either side where another cut is possible. 0 keeps all apart.

    Time and memory grow with the length of the document only, whatever stands in it. Never raises DocumentError.
    """

    def __init__(self, max_tokens: int = 200, min_tokens: int = 50) -> None:
        if max_tokens < _LEAST_MAX_TOKENS:
            raise ConfigError(f"max_tokens is {max_tokens}; a chunk needs at least {_LEAST_MAX_TOKENS}.")
        if not 0 <= min_tokens <= max_tokens // 2:
            raise ConfigError(f"min_tokens is {min_tokens}; it must be between 0 and half of max_tokens ({max_tokens}).")
        self._recipe = {"kind": "markdown", "version": 1, "max_tokens": max_tokens, "min_tokens": min_tokens}
        self._limit = max_tokens * UNITS_PER_TOKEN
        self._floor = min_tokens * UNITS_PER_TOKEN
        self._fill = self._limit

    @property
    def recipe(self) -> Mapping[str, Any]:
        return dict(self._recipe)

    def chunk(self, content: str, title: str) -> Sequence[Chunk]:
        text = with_uniform_line_ends(content)
        chunks: list[Chunk] = []
        for span in self._spans(text, front_matter_end(text)):
            chunk = _chunk(content, span, len(chunks))
            if chunk:
                chunks.append(chunk)
        return chunks

    def _spans(self, text: str, start: int) -> Iterator[_Span]:
        short: list[Section] = []
        weights: list[int] = []
        for section in sections(text, start):
            weight = count_units(text[section.start : section.end])
            joins = weight < self._floor
            if short and not (joins and section.level >= short[0].level):
                yield from self._grouped(text, short, weights)
                short, weights = [], []
            if joins:
                short.append(section)
                weights.append(weight)
            elif weight <= self._limit:
                yield _Span(section.start, section.end, section.path, _main_type(section.blocks))
            else:
                yield from self._split(text, section)
        yield from self._grouped(text, short, weights)

    def _grouped(self, text: str, short: Sequence[Section], weights: Sequence[int]) -> Iterator[_Span]:
        """Short neighbouring sections, several to a chunk."""
        keys = [boundary_key(section.level, text, section.start) for section in short]
        firsts = pack(weights, keys, self._fill, self._floor)
        for first, end in _runs(firsts, len(short)):
            group = short[first:end]
            blocks = [block for section in group for block in section.blocks]
            yield _Span(group[0].start, group[-1].end, _shared_path(group), _main_type(blocks))

    def _split(self, text: str, section: Section) -> Iterator[_Span]:
        """A section that is too long, in several chunks."""
        pieces = list(self._pieces(text, section))
        starts = [section.start, *(piece.start for piece in pieces[1:]), section.end]
        weights = [count_units(text[start:end]) for start, end in pairwise(starts)]
        keys = [boundary_key(piece.rank, text, piece.start) for piece in pieces]
        for first, end in _runs(pack(weights, keys, self._limit, self._floor), len(pieces)):
            types: Counter[str] = Counter()
            for piece, weight in zip(pieces[first:end], weights[first:end], strict=True):
                types[piece.section_type] += weight
            yield _Span(starts[first], starts[end], section.path, types.most_common(1)[0][0])

    def _pieces(self, text: str, section: Section) -> Iterator[_Piece]:
        """What a section's chunks are put together from; each weighs at most the limit. The first piece of the body
        leaves room for the headings, which it is to carry."""
        body = section.blocks[sum(block.level > 0 for block in section.blocks) :]
        body_start = body[0].start if body else section.end
        head = count_units(text[section.start : body_start])
        if head > self._limit // 2 or not body:
            yield from self._cut(text, Block("heading", section.start, body_start), _BLOCK, self._limit)
            head = 0
        previous = Block("heading", section.start, body_start)
        for block in body:
            weight = count_units(text[block.start : block.end])
            if head and block.section_type in _WHOLE and self._limit - head < weight <= self._limit:
                yield _Piece(section.start, _BLOCK, "heading")
                head = 0
            rank = _LINE if block.nested else _ITEM if block.section_type == previous.section_type == "list" else _BLOCK
            if weight <= self._limit - head:
                yield _Piece(block.start, rank, block.section_type)
            else:
                yield from self._cut(text, block, rank, self._limit - head)
            head = 0
            previous = block

    def _cut(self, text: str, block: Block, rank: int, limit: int) -> Iterator[_Piece]:
        """A block that is too long, by lines or, where lines mean nothing, by sentences."""
        if block.section_type in ("text", "heading"):
            lines: Iterable[tuple[int, int]] = [(block.start, block.end)]
        else:
            lines = _lines(text, block.start, block.end)
        margin = _indent(text, block.start)
        for start, end in lines:
            if start > block.start:
                is_item = block.section_type == "list" and _indent(text, start) <= margin
                rank = _ITEM if is_item and not block.nested else _LINE
            for position in sentences(text, start, end, limit) if count_units(text[start:end]) > limit else (start,):
                yield _Piece(position, rank if position == start else _SENTENCE, block.section_type)


def _runs(firsts: Sequence[int], end: int) -> Iterator[tuple[int, int]]:
    return pairwise([*firsts, end])


def _lines(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    while start < end:
        stop = text.find("\n", start, end) + 1 or end
        yield start, stop
        start = stop


def _indent(text: str, position: int) -> int:
    line = text[position : position + 40]
    return len(line) - len(line.lstrip(" \t"))


def _main_type(blocks: Sequence[Block]) -> str:
    """The type of what takes most of the room; headings count only where there is nothing else."""
    if len(blocks) <= 2:
        return blocks[-1].section_type
    lengths: Counter[str] = Counter()
    for block in blocks:
        lengths[block.section_type] += 0 if block.level else block.end - block.start
    return lengths.most_common(1)[0][0]


def _shared_path(group: Sequence[Section]) -> tuple[str, ...]:
    """The headings that all sections of a group stand under."""
    shared = group[0].path
    for section in group[1:]:
        agree = 0
        for mine, theirs in zip(shared, section.path):
            if mine != theirs:
                break
            agree += 1
        shared = shared[:agree]
    return shared


def _chunk(content: str, span: _Span, index: int) -> Chunk | None:
    """None when there is nothing but white space, which a very long gap between two words can leave."""
    text = content[span.start : span.end].rstrip()
    body = text.lstrip()
    if not body:
        return None
    gap = text[: len(text) - len(body)]
    start = span.start + gap.rfind("\n") + 1   # an indentation stays
    text = text[start - span.start :]
    return Chunk(index, start, start + len(text), text, span.path, span.section_type, text)
