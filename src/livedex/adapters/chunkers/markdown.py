"""MarkdownChunker: cuts Markdown where an edit does not move other cuts.

A chunk is a section: a heading with its text. Headings without text of their own stand in the chunk of the first
section below them. Short neighbouring sections share a chunk, longer ones are cut between blocks, then list items and
lines, then sentences, then words; fences, tables and list items stay whole where they fit. Every cut depends on the
text near it (see `packing`), so a changed paragraph changes one chunk.

What is embedded leaves out what says nothing: the targets of links, and, except in code, white space beyond a blank. It
is also what is weighed. Targets are a sixth of the weight of developer documentation, a fifth of that of a handbook;
without them chunks hold more text, the model sees less noise, and a page that moved changes no vector of the pages that
link to it. `text` keeps every character, so it can be longer than `max_tokens`.

YAML front matter is in no chunk: it is metadata, and belongs to the parser that reads it as such. Every other character
that is not white space (or the byte order mark) is in exactly one chunk.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise, takewhile
from typing import Any, NamedTuple

from livedex.adapters.chunkers.markdown_blocks import Block, with_uniform_line_ends
from livedex.adapters.chunkers.markdown_sections import Section, sections
from livedex.adapters.chunkers.packing import boundary_key, pack
from livedex.adapters.chunkers.pieces import sentences
from livedex.adapters.chunkers.sizes import check_sizes
from livedex.adapters.chunkers.spans import Span, span_chunk
from livedex.adapters.chunkers.tokens import UNITS_PER_TOKEN, count_units
from livedex.front_matter import body_start
from livedex.model import Chunk

_WHOLE = frozenset({"code", "table"})
_PROSE = frozenset({"text", "heading"})
_BLOCK, _ITEM, _LINE, _SENTENCE = range(4)
"""Ranks of boundaries, best first: between blocks, list items, lines, sentences."""

_LINK_TARGET = re.compile(
    r"\]\((?:[^()\s]|\([^()\s]{0,100}+\)){1,300}+(?:[ \t]++(?:\"[^\"\n]{0,200}+\"|'[^'\n]{0,200}+'))?\)"
)


class _Weighed(NamedTuple):
    section: Section
    visible: str
    weight: int


class _Piece(NamedTuple):
    start: int
    rank: int
    section_type: str


class MarkdownChunker:
    """Cuts Markdown at headings, then blocks, then inside blocks that are too long.

    `max_tokens`: no chunk's embedded text has more, by the estimate in `tokens`; the default suits models that read
    256 tokens. `min_tokens`: neighbouring sections that are shorter share a chunk, as long as they stand under the same
    heading, and cuts inside a section leave no less on either side where another cut is possible. `link_targets`:
    embed, and count, the targets of links too.

    Time and memory grow with the length of the document only, whatever stands in it. Never raises DocumentError.
    """

    def __init__(self, max_tokens: int = 200, min_tokens: int = 50, *, link_targets: bool = False) -> None:
        check_sizes(max_tokens, min_tokens)
        self._limit = max_tokens * UNITS_PER_TOKEN
        self._floor = min_tokens * UNITS_PER_TOKEN
        self._link_targets = link_targets
        self._recipe = {
            "kind": "markdown",
            "version": 1,
            "max_tokens": max_tokens,
            "min_tokens": min_tokens,
            "link_targets": link_targets,
        }

    @property
    def recipe(self) -> Mapping[str, Any]:
        return dict(self._recipe)

    def chunk(self, content: str, title: str) -> Sequence[Chunk]:
        text = with_uniform_line_ends(content)
        chunks: list[Chunk] = []
        for span in self._spans(text, body_start(text)):
            chunk = span_chunk(content, span, len(chunks))
            if chunk:
                chunks.append(chunk)
        return chunks

    def _spans(self, text: str, start: int) -> Iterator[Span]:
        short: list[_Weighed] = []
        for section in sections(text, start):
            visible = text[section.start : section.end] if self._link_targets else _visible(text, section)
            weighed = _Weighed(section, visible, count_units(visible))
            joins = weighed.weight < self._floor
            if short and not (joins and section.level >= short[0].section.level):
                yield from self._grouped(short)
                short = []
            if joins:
                short.append(weighed)
            elif weighed.weight <= self._limit:
                yield Span(section.start, section.end, section.path, _main_type(section.blocks), visible)
            else:
                yield from self._split(section, visible)
        yield from self._grouped(short)

    def _grouped(self, short: Sequence[_Weighed]) -> Iterator[Span]:
        """Short neighbouring sections, several to a chunk."""
        keys = [boundary_key(section.level, visible, 0) for section, visible, _ in short]
        firsts = pack([weight for *_, weight in short], keys, self._limit, self._floor)
        for first, end in pairwise((*firsts, len(short))):
            members = [section for section, *_ in short[first:end]]
            blocks = [block for section in members for block in section.blocks]
            visible = "\n\n".join(visible for _, visible, _ in short[first:end])
            yield Span(members[0].start, members[-1].end, _shared_path(members), _main_type(blocks), visible)

    def _split(self, section: Section, visible: str) -> Iterator[Span]:
        """A section that is too long, in several chunks. Positions inside count from the section's start."""
        blocks = [
            block._replace(start=block.start - section.start, end=block.end - section.start) for block in section.blocks
        ]
        pieces = list(self._pieces(visible, blocks))
        bounds = [0, *(piece.start for piece in pieces[1:]), len(visible)]
        weights = [count_units(visible[start:end]) for start, end in pairwise(bounds)]
        keys = [boundary_key(piece.rank, visible, piece.start) for piece in pieces]
        for first, stop in pairwise((*pack(weights, keys, self._limit, self._floor), len(pieces))):
            types: Counter[str] = Counter()
            for piece, weight in zip(pieces[first:stop], weights[first:stop], strict=True):
                types[piece.section_type] += weight
            start, end = bounds[first], bounds[stop]
            yield Span(
                section.start + start,
                section.start + end,
                section.path,
                types.most_common(1)[0][0],
                visible[start:end],
            )

    def _pieces(self, visible: str, blocks: Sequence[Block]) -> Iterator[_Piece]:
        """What a section's chunks are put together from; each weighs at most the limit. The first piece of the body
        leaves room for the headings, which it is to carry."""
        body = blocks[sum(block.level > 0 for block in blocks) :]
        headings = Block("heading", 0, body[0].start if body else len(visible))
        head = count_units(visible[: headings.end])
        if head > self._limit // 2 or not body:
            yield from self._cut(visible, headings, _BLOCK, self._limit)
            head = 0
        previous = headings
        for block in body:
            weight = count_units(visible[block.start : block.end])
            if head and block.section_type in _WHOLE and self._limit - head < weight <= self._limit:
                yield _Piece(0, _BLOCK, "heading")
                head = 0
            rank = _rank(previous, block)
            if weight <= self._limit - head:
                yield _Piece(block.start, rank, block.section_type)
            else:
                yield from self._cut(visible, block, rank, self._limit - head)
            head = 0
            previous = block

    def _cut(self, visible: str, block: Block, rank: int, limit: int) -> Iterator[_Piece]:
        """A block that is too long, by lines or, where lines mean nothing, by sentences."""
        margin = _indent(visible, block.start)
        for start, end in _lines(visible, block):
            if start > block.start:
                is_item = block.section_type == "list" and not block.nested and _indent(visible, start) <= margin
                rank = _ITEM if is_item else _LINE
            if count_units(visible[start:end]) <= limit:
                yield _Piece(start, rank, block.section_type)
                continue
            for position in sentences(visible, start, end, limit):
                yield _Piece(position, rank if position == start else _SENTENCE, block.section_type)


def _visible(text: str, section: Section) -> str:
    """A section with the targets of its links blanked, outside of code, where brackets mean something else."""
    if text.find("](", section.start, section.end) < 0:
        return text[section.start : section.end]
    parts: list[str] = []
    position = section.start
    for block in section.blocks:
        if block.section_type == "code":
            parts += (_without_targets(text[position : block.start]), text[block.start : block.end])
            position = block.end
    parts.append(_without_targets(text[position : section.end]))
    return "".join(parts)


def _without_targets(text: str) -> str:
    return _LINK_TARGET.sub(lambda found: "]" + " " * (len(found[0]) - 1), text)


def _rank(previous: Block, block: Block) -> int:
    if block.nested:
        return _LINE
    return _ITEM if previous.section_type == block.section_type == "list" else _BLOCK


def _lines(visible: str, block: Block) -> Iterator[tuple[int, int]]:
    start = block.start
    while start < block.end:
        is_prose = block.section_type in _PROSE
        stop = block.end if is_prose else visible.find("\n", start, block.end) + 1 or block.end
        yield start, stop
        start = stop


def _indent(text: str, position: int) -> int:
    line = text[position : position + 40]
    return len(line) - len(line.lstrip(" \t"))


def _main_type(blocks: Sequence[Block]) -> str:
    """The type of what takes most of the room; headings count only where there is nothing else."""
    if len(blocks) == 1 or (len(blocks) == 2 and blocks[0].level):
        return blocks[-1].section_type
    lengths: Counter[str] = Counter()
    for block in blocks:
        lengths[block.section_type] += 0 if block.level else block.end - block.start
    return lengths.most_common(1)[0][0]


def _shared_path(members: Sequence[Section]) -> tuple[str, ...]:
    """The headings that all of them stand under."""
    shared = members[0].path
    for section in members[1:]:
        agreeing = takewhile(lambda pair: pair[0] == pair[1], zip(shared, section.path, strict=False))
        shared = tuple(title for title, _ in agreeing)
    return shared
