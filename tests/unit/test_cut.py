"""A document's way to its chunks, by its media type."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from livedex import config
from livedex.adapters.chunkers.markdown import MarkdownChunker
from livedex.adapters.parsers.html import HtmlParser
from livedex.errors import DocumentError
from livedex.flow.cut import Cutter, Route
from livedex.model import Document, ModelIdentity, Recipe
from livedex.parts import build_cutter
from livedex.rules import section_types
from livedex.store.catalog import recipe_to_json

PAGE = "<main><h1>Refunds</h1><h2>Scope</h2><p>All customers.</p></main><footer>x</footer>"
NOTES = "# Refunds\n\n## Scope\n\nAll customers."


def document(content: str, media_type: str = "") -> Document:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return Document(1, "kb", "docs", "a", 1, "v", "Title", content, False, None, None, now, media_type)


def cut(cutter: Cutter, content: str, media_type: str = "") -> list[tuple[str, tuple[str, ...], str]]:
    chunks = cutter.cut(document(content, media_type)).chunks
    return [(chunk.text, chunk.heading_path, chunk.section_type) for chunk in chunks]


AS_MARKDOWN = [(NOTES, ("Refunds", "Scope"), "scope")]
AS_TEXT: list[tuple[str, tuple[str, ...], str]] = [(NOTES, (), "text")]


@pytest.mark.parametrize(
    ("chosen", "content", "media_type", "chunks"),
    [
        (config.AutoChunker(), NOTES, "", AS_MARKDOWN),
        (config.AutoChunker(), NOTES, "text/markdown", AS_MARKDOWN),
        (config.AutoChunker(), NOTES, "application/x-unknown", AS_MARKDOWN),
        (config.AutoChunker(), NOTES, "text/plain", AS_TEXT),
        (config.AutoChunker(), PAGE, "text/html", AS_MARKDOWN),
        (config.AutoChunker(), PAGE, "application/xhtml+xml", AS_MARKDOWN),
        (config.MarkdownChunker(), NOTES, "text/plain", AS_MARKDOWN),
        (config.MarkdownChunker(), PAGE, "text/html", AS_MARKDOWN),
        (config.TextChunker(), NOTES, "", AS_TEXT),
        (config.TextChunker(), PAGE, "text/html", AS_TEXT),
        (config.FixedChunker(), NOTES, "text/markdown", AS_TEXT),
        (config.HtmlChunker(), PAGE, "", AS_MARKDOWN),
        (config.HtmlChunker(), PAGE, "text/plain", AS_MARKDOWN),
    ],
)
def test_a_document_is_cut_as_the_view_and_its_media_type_say(
    chosen: config.Chunker, content: str, media_type: str, chunks: list[tuple[str, tuple[str, ...], str]]
) -> None:
    assert cut(build_cutter(chosen), content, media_type) == chunks


def test_sizes_hold_for_every_media_type() -> None:
    cutter = build_cutter(config.AutoChunker(max_tokens=50, min_tokens=10))
    counts = [len(cut(cutter, "Some words. " * 100, kind)) for kind in ("", "text/plain", "text/html")]
    assert min(counts) > 4


def test_offsets_refer_to_the_text_that_the_parser_made() -> None:
    found = build_cutter(config.AutoChunker()).cut(document(PAGE, "text/html"))
    assert found.text == NOTES + "\n"
    assert [found.text[chunk.start : chunk.end] for chunk in found.chunks] == [chunk.text for chunk in found.chunks]


def test_a_page_that_cannot_be_read_is_an_error_of_its_document() -> None:
    with pytest.raises(DocumentError, match=r"The parser html refused it: .* 16,384"):
        build_cutter(config.AutoChunker()).cut(document("<div>" * 20_000, "text/html"))


class _Failing(HtmlParser):
    def parse(self, content: str) -> str:
        return content[len(content)]


def test_a_parser_that_fails_is_named_and_the_document_is_not_quoted() -> None:
    with pytest.raises(DocumentError) as failed:
        Cutter(Route(MarkdownChunker(), _Failing()), {}).cut(document(PAGE))
    assert str(failed.value) == "The parser html failed: IndexError."


def recipe(cutter: Cutter) -> Recipe:
    identity = ModelIdentity("m", "1", 3)
    return Recipe(cutter.parser_recipe, cutter.chunker_recipe, identity, extractor=cutter.extractor_recipe)


def test_a_recipe_names_parsers_and_chunkers_of_all_media_types_and_the_extractor() -> None:
    cutter = build_cutter(config.AutoChunker(max_tokens=100, min_tokens=20))
    sizes: Mapping[str, Any] = {"max_tokens": 100, "min_tokens": 20}
    markdown = {"kind": "markdown", "version": 1, **sizes, "link_targets": False}
    html, as_it_is = {"kind": "html", "version": 1}, {"kind": "text", "version": 1}
    assert (dict(cutter.parser_recipe), dict(cutter.chunker_recipe), dict(cutter.extractor_recipe)) == (
        {
            "kind": "auto",
            "version": 1,
            "application/xhtml+xml": html,
            "text/html": html,
            "text/plain": as_it_is,
            "otherwise": as_it_is,
        },
        {
            "kind": "auto",
            "version": 1,
            "application/xhtml+xml": markdown,
            "text/html": markdown,
            "text/plain": {"kind": "text", "version": 1, **sizes},
            "otherwise": markdown,
        },
        {"kind": "section_types", "version": section_types.VERSION},
    )


def test_every_way_to_cut_has_its_own_schema_version() -> None:
    ways: list[config.Chunker] = [
        config.AutoChunker(),
        config.MarkdownChunker(),
        config.HtmlChunker(),
        config.TextChunker(),
        config.FixedChunker(),
        config.FixedChunker(overlap_tokens=0),
    ]
    versions = [recipe(build_cutter(way)).schema_version for way in ways]
    assert len(set(versions)) == len(ways)
    assert [version.partition("-")[0] for version in versions] == [
        "auto",
        "markdown",
        "markdown",
        "text",
        "fixed",
        "fixed",
    ]


def test_another_version_of_the_section_types_is_another_schema_version() -> None:
    identity = ModelIdentity("m", "1", 3)
    parts = {"kind": "text", "version": 1}
    versions = {
        Recipe(parts, parts, identity, extractor=extractor).schema_version
        for extractor in ({}, {"kind": "section_types", "version": 1}, {"kind": "section_types", "version": 2})
    }
    assert len(versions) == 3


def test_a_stored_recipe_keeps_its_extractor() -> None:
    cutter = build_cutter(config.AutoChunker())
    assert recipe_to_json(recipe(cutter))["extractor"] == cutter.extractor_recipe
