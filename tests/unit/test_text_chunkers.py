"""How plain text is cut: at paragraphs, sentences, lines; and in windows."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest

from livedex.adapters.chunkers.fixed import FixedChunker
from livedex.adapters.chunkers.text import TextChunker
from livedex.adapters.chunkers.tokens import estimate_tokens
from livedex.errors import ConfigError

PARAGRAPHS = [
    f"Paragraph {number} says something. " + f"It goes on about {number} things. " * 6 for number in range(40)
]


def texts(chunker: TextChunker | FixedChunker, content: str) -> Sequence[str]:
    return [chunk.text for chunk in chunker.chunk(content, "")]


def test_short_paragraphs_share_a_chunk() -> None:
    assert texts(TextChunker(), "One.\n\nTwo.\n \t\nThree.\n") == ["One.\n\nTwo.\n \t\nThree."]


def test_text_is_cut_between_paragraphs_where_they_fit() -> None:
    chunks = texts(TextChunker(max_tokens=120, min_tokens=30), "\n\n".join(PARAGRAPHS))
    assert {text.partition(" ")[0] for text in chunks} == {"Paragraph"}


def test_a_long_paragraph_is_cut_between_sentences_also_where_lines_are_wrapped() -> None:
    wrapped = "\n".join(["This sentence is broken over", "two lines. Here is another one that", "is, too."] * 30)
    chunks = texts(TextChunker(max_tokens=60, min_tokens=15), wrapped)
    assert {text[-1] for text in chunks} == {"."}
    assert len(chunks) > 5


def test_lines_without_sentences_are_cut_between_lines() -> None:
    log = "\n".join(f"12:{number:02} worker {number} took the lease" for number in range(60))
    chunks = texts(TextChunker(max_tokens=60, min_tokens=15), log)
    assert {text[:3] for text in chunks} == {"12:"}


def test_nothing_is_taken_for_markup() -> None:
    (chunk,) = TextChunker().chunk("# not a heading\n\n```\nnot code [a](b)", "")
    assert (chunk.heading_path, chunk.section_type, chunk.embedded_text) == (
        (),
        "text",
        "# not a heading ``` not code [a](b)",
    )


@pytest.mark.parametrize("place", [0, 13, 39])
def test_an_edited_paragraph_changes_its_chunk_and_seldom_a_neighbour(place: int) -> None:
    chunker = TextChunker(max_tokens=120, min_tokens=30)
    edited = [*PARAGRAPHS[:place], "This one is new. " * 8, *PARAGRAPHS[place + 1 :]]
    before, after = (set(texts(chunker, "\n\n".join(each))) for each in (PARAGRAPHS, edited))
    assert len(after - before) <= 2


@pytest.mark.parametrize("chunker", [TextChunker(), FixedChunker()])
def test_front_matter_is_in_no_chunk(chunker: TextChunker | FixedChunker) -> None:
    assert texts(chunker, "\ufeff---\r\nowner: ann\r\n---\r\nThe text.") == ["The text."]


def test_windows_are_full_and_overlap_by_whole_words() -> None:
    content = " ".join(f"word{chr(97 + number % 26)}" for number in range(500))
    chunks = FixedChunker(max_tokens=50, overlap_tokens=10).chunk(content, "")
    overlaps = [first.end - second.start for first, second in pairwise(chunks)]
    assert {estimate_tokens(chunk.text) for chunk in chunks[:-1]} == {50}
    assert set(overlaps) == {len("worda " * 10) - 1}


def test_windows_without_overlap_meet() -> None:
    content = "word " * 500
    assert " ".join(texts(FixedChunker(max_tokens=50, overlap_tokens=0), content)) == content.rstrip()


def test_a_last_window_is_no_part_of_the_one_before() -> None:
    content = "word " * 62
    assert [len(text.split()) for text in texts(FixedChunker(50, 10), content)] == [62]


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: TextChunker(max_tokens=15), "max_tokens is 15"),
        (lambda: TextChunker(max_tokens=100, min_tokens=51), "min_tokens is 51"),
        (lambda: FixedChunker(max_tokens=100, overlap_tokens=51), "overlap_tokens is 51"),
        (lambda: FixedChunker(max_tokens=100, overlap_tokens=-1), "overlap_tokens is -1"),
    ],
)  # fmt: skip
def test_sizes_without_sense_are_refused(make: type[TextChunker], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        make()
