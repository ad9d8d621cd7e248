"""Every chunker keeps what the port promises, and the kit notices one that does not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from livedex.adapters.chunkers.fixed import FixedChunker
from livedex.adapters.chunkers.markdown import MarkdownChunker
from livedex.adapters.chunkers.text import TextChunker
from livedex.model import Chunk
from livedex.testing.chunkers import check_chunker


@pytest.mark.parametrize(
    "make_chunker",
    [
        MarkdownChunker,
        lambda: MarkdownChunker(max_tokens=16, min_tokens=0),
        lambda: MarkdownChunker(max_tokens=64, min_tokens=32),
        lambda: MarkdownChunker(link_targets=True),
    ],
    ids=["defaults", "smallest", "packed", "link targets"],
)
def test_the_markdown_chunker_conforms(make_chunker: Callable[[], MarkdownChunker]) -> None:
    check_chunker(make_chunker)


@pytest.mark.parametrize(
    "make_chunker",
    [TextChunker, lambda: TextChunker(max_tokens=16, min_tokens=0), lambda: TextChunker(max_tokens=64, min_tokens=32)],
    ids=["defaults", "smallest", "packed"],
)
def test_the_text_chunker_conforms(make_chunker: Callable[[], TextChunker]) -> None:
    check_chunker(make_chunker)


@pytest.mark.parametrize(
    ("most", "overlap"), [(200, 20), (16, 8), (16, 0), (300, 150)], ids=["defaults", "smallest", "apart", "half"]
)
def test_the_fixed_chunker_conforms(most: int, overlap: int) -> None:
    check_chunker(lambda: FixedChunker(most, overlap), overlaps=overlap > 0)


class _Careless(MarkdownChunker):
    """A Markdown chunker whose chunks are changed on the way out."""

    def __init__(self, change: Callable[[list[Chunk]], Sequence[Chunk]]) -> None:
        super().__init__()
        self._change = change

    def chunk(self, content: str, title: str) -> Sequence[Chunk]:
        return self._change(list(super().chunk(content, title)))


def _shifted(chunks: list[Chunk]) -> Sequence[Chunk]:
    return [replace(chunk, start=chunk.start + 1, end=chunk.end + 1) for chunk in chunks]


def _reversed(chunks: list[Chunk]) -> Sequence[Chunk]:
    return [replace(chunk, index=index) for index, chunk in enumerate(reversed(chunks))]


def _without_last(chunks: list[Chunk]) -> Sequence[Chunk]:
    return chunks[:-1]


def _twice(chunks: list[Chunk]) -> Sequence[Chunk]:
    return [replace(chunk, index=index) for index, chunk in enumerate([*chunks, *chunks[-1:]])]


def _misnumbered(chunks: list[Chunk]) -> Sequence[Chunk]:
    return [replace(chunk, index=chunk.index + 1) for chunk in chunks]


def _bloated(chunks: list[Chunk]) -> Sequence[Chunk]:
    return [replace(chunk, embedded_text="9" * 201) for chunk in chunks]


@pytest.mark.parametrize(
    ("change", "promise"),
    [
        (_shifted, "is what stands at its offsets"),
        (_reversed, "nothing is left out before"),
        (_without_last, "nothing is left out at the end"),
        (_twice, "does not overlap"),
        (_misnumbered, "numbered from 0"),
        (_bloated, "no chunk has more than 200 tokens"),
    ],
)
def test_the_kit_notices(change: Callable[[list[Chunk]], Sequence[Chunk]], promise: str) -> None:
    with pytest.raises(AssertionError, match=promise):
        check_chunker(lambda: _Careless(change))


def test_the_kit_notices_a_recipe_that_json_cannot_hold() -> None:
    class Unwritable(MarkdownChunker):
        @property
        def recipe(self) -> Mapping[str, Any]:
            return {**super().recipe, "pairs": (1, 2)}

    with pytest.raises(AssertionError, match="survives JSON"):
        check_chunker(Unwritable)


def test_the_kit_notices_chunks_that_change_between_calls() -> None:
    calls = count()

    def unstable(chunks: list[Chunk]) -> Sequence[Chunk]:
        return [replace(chunk, heading_path=(str(next(calls)),)) for chunk in chunks]

    with pytest.raises(AssertionError, match="the same content gives the same chunks"):
        check_chunker(lambda: _Careless(unstable))


def test_the_kit_notices_a_chunk_for_a_blank_document() -> None:
    class Eager(MarkdownChunker):
        def chunk(self, content: str, title: str) -> Sequence[Chunk]:
            return super().chunk(content, title) or [Chunk(0, 0, len(content), content)]

    with pytest.raises(AssertionError, match="blank content gives no chunks"):
        check_chunker(Eager)
