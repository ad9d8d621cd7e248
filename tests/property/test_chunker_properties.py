"""What holds for every text, however it was put together."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from livedex.adapters.chunkers.fixed import FixedChunker
from livedex.adapters.chunkers.markdown import MarkdownChunker
from livedex.adapters.chunkers.markdown_blocks import with_uniform_line_ends
from livedex.adapters.chunkers.packing import pack
from livedex.adapters.chunkers.text import TextChunker
from livedex.adapters.chunkers.tokens import estimate_tokens
from livedex.adapters.parsers.html import HtmlParser
from livedex.front_matter import body_start, read
from livedex.testing.chunkers import check_chunks

_FRAGMENTS = (
    "# A\n", "## B ##\n", "Title\n===\n", "x\n---\n", "\n", "\n\n", "\r\n", "\r", "text. More! ", "- item\n",
    "1. one\n", "  - nested\n", "    code\n", "\t", "```\n", "~~~py\n", "| a | b |\n", "|---|---|\n", "> quote\n",
    "***\n", "---\n", "key: value\n", "<!-- c", "-->", "<div>\n", "<pre>", "</pre>\n", "[a](b)", "![i](x)", "   ",
    '[x](http://e.com/a(b)c "t")', "\u00a0", "\ufeff", "\u2028", "\x0c", "\ud800", "🚀", "e\u0301", "字。", "`", "\\",
    "a" * 50, "word " * 60,
)  # fmt: skip
_MARKDOWN = st.lists(st.sampled_from(_FRAGMENTS) | st.text(max_size=20), max_size=50).map("".join)
_ENDLESS = ("`", "~~~", "<", "---")  # what they open may hold all that follows; three backticks in a row are a fence
_CLOSED = st.lists(st.sampled_from([part for part in _FRAGMENTS if not part.startswith(_ENDLESS)]), max_size=50).map(
    "".join
)
_PARAGRAPHS = st.lists(st.text("abcdefgh. ", min_size=5, max_size=300).filter(str.strip), min_size=1, max_size=60)
_CHUNKERS = st.builds(
    lambda most, least: MarkdownChunker(max_tokens=most, min_tokens=most * least // 100),
    st.integers(16, 300),
    st.integers(0, 50),
)


_WINDOWS = st.builds(
    lambda most, overlap: FixedChunker(most, most * overlap // 100), st.integers(16, 300), st.integers(0, 50)
)
_TAGS = (
    "p", "div", "main", "article", "h2", "ul", "ol", "li", "dl", "dd", "blockquote", "pre", "code", "a href='/x'",
    "table", "thead", "tr", "td colspan=3", "th rowspan=0", "b", "del", "sup", "br", "form", "header", "script", "span",
)  # fmt: skip
_HTML = st.lists(
    st.sampled_from([*(f"<{tag}>" for tag in _TAGS), *(f"</{tag.split()[0]}>" for tag in _TAGS)])
    | st.sampled_from(("word ", "\n", "&lt;", "&#0;", "<!--", "-->", "<", "'", "\0", "\ud800", "# x", "| a |", "é"))
    | st.text(max_size=8),
    max_size=40,
).map("".join)


@given(_MARKDOWN)
@settings(max_examples=300, deadline=None)
def test_front_matter_ends_at_the_same_place_whatever_the_line_ends(content: str) -> None:
    read(content)

    assert body_start(content) == body_start(with_uniform_line_ends(content))


@given(_MARKDOWN, st.integers(16, 300), st.integers(0, 50))
@settings(max_examples=300, deadline=None)
def test_chunks_of_plain_text_hold_all_of_it_within_the_limit(content: str, most: int, least: int) -> None:
    chunks = TextChunker(most, most * least // 100).chunk(content, "")

    check_chunks(content, chunks, start=body_start(content))
    assert [chunk for chunk in chunks if estimate_tokens(chunk.embedded_text) > most] == []


@given(_MARKDOWN, _WINDOWS)
@settings(max_examples=300, deadline=None)
def test_windows_hold_all_of_a_text_within_the_limit(content: str, chunker: FixedChunker) -> None:
    chunks = chunker.chunk(content, "")

    check_chunks(content, chunks, overlaps=True, start=body_start(content))
    most = chunker.recipe["max_tokens"]
    assert [chunk for chunk in chunks if estimate_tokens(chunk.embedded_text) > most] == []


@given(_HTML)
@settings(max_examples=500, deadline=None)
def test_every_page_has_a_text_and_its_chunks_hold_all_of_it(page: str) -> None:
    text = HtmlParser().parse(page)

    assert text.encode().decode() == text
    check_chunks(text, MarkdownChunker().chunk(text, ""))


@given(_MARKDOWN, _CHUNKERS)
@settings(max_examples=400, deadline=None)
def test_chunks_hold_all_of_a_document_at_exact_offsets(content: str, chunker: MarkdownChunker) -> None:
    start = body_start(with_uniform_line_ends(content))

    check_chunks(content, chunker.chunk(content, ""), start=start)


@given(_MARKDOWN, st.integers(16, 300))
@settings(max_examples=300, deadline=None)
def test_no_chunk_has_more_than_the_most_tokens(content: str, most: int) -> None:
    chunks = MarkdownChunker(max_tokens=most, min_tokens=most // 4).chunk(content, "")

    assert [chunk for chunk in chunks if estimate_tokens(chunk.embedded_text) > most] == []


@given(_CLOSED)
@settings(max_examples=200, deadline=None)
def test_a_section_is_cut_the_same_whatever_stands_in_front_of_it(content: str) -> None:
    chunker = MarkdownChunker(min_tokens=0)
    section = "# A section of its own\n\n" + "\n\n".join(f"Paragraph {number}. " + "word " * 40 for number in range(9))
    expected = Counter(chunk.text for chunk in chunker.chunk(section, ""))

    assert (
        expected - Counter(chunk.text for chunk in chunker.chunk(f"{content}\n\n# Before it\n\nx\n\n{section}", ""))
        == Counter()
    )


@given(_PARAGRAPHS, st.data())
@settings(max_examples=150, deadline=None)
def test_taking_a_paragraph_back_restores_every_chunk(paragraphs: list[str], data: st.DataObject) -> None:
    chunker = MarkdownChunker()
    place = data.draw(st.integers(0, len(paragraphs)))
    before = chunker.chunk("\n\n".join(paragraphs), "")
    chunker.chunk("\n\n".join([*paragraphs[:place], "An added one.", *paragraphs[place:]]), "")

    assert chunker.chunk("\n\n".join(paragraphs), "") == before


@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 3)), min_size=1, max_size=200),
    st.integers(50, 200),
    st.integers(0, 60),
)
def test_runs_of_pieces_stay_within_the_limit(pieces: list[tuple[int, int]], limit: int, floor: int) -> None:
    weights = [weight for weight, _ in pieces]
    firsts = pack(weights, [key for _, key in pieces], limit, floor)
    sums = [sum(weights[first:end]) for first, end in zip(firsts, [*firsts[1:], len(pieces)], strict=True)]

    assert (sum(sums), max(sums, default=0) <= limit, firsts == sorted(set(firsts))) == (sum(weights), True, True)
