"""What cuts a view's documents, from its settings: adapters that the composition root needs per view."""

from __future__ import annotations

from livedex import config
from livedex.adapters.chunkers.fixed import FixedChunker
from livedex.adapters.chunkers.markdown import MarkdownChunker
from livedex.adapters.chunkers.text import TextChunker
from livedex.adapters.parsers.html import HtmlParser
from livedex.flow.cut import Cutter, Route
from livedex.ports import Chunker, Parser

PLAIN_TEXT = "text/plain"


def build_cutter(wanted: config.Chunker) -> Cutter:
    """HTML is parsed wherever a media type says that it is some; `html` takes every document for a page, and `auto`
    cuts plain text as such."""
    parser = HtmlParser()
    match wanted:
        case config.HtmlChunker():
            return Cutter(Route(MarkdownChunker(wanted.max_tokens, wanted.min_tokens), parser), {})
        case config.AutoChunker():
            markdown = MarkdownChunker(wanted.max_tokens, wanted.min_tokens)
            plain = Route(TextChunker(wanted.max_tokens, wanted.min_tokens))
            return Cutter(Route(markdown), {**_parsed(parser, markdown), PLAIN_TEXT: plain})
        case config.MarkdownChunker():
            chosen: Chunker = MarkdownChunker(wanted.max_tokens, wanted.min_tokens)
        case config.TextChunker():
            chosen = TextChunker(wanted.max_tokens, wanted.min_tokens)
        case _:
            chosen = FixedChunker(wanted.max_tokens, wanted.overlap_tokens)
    return Cutter(Route(chosen), _parsed(parser, chosen))


def _parsed(parser: Parser, chunker: Chunker) -> dict[str, Route]:
    return {media_type: Route(chunker, parser) for media_type in parser.media_types}
