"""Settings → the adapters they ask for. Nothing else chooses an adapter."""

from __future__ import annotations

from pathlib import Path

from livedex import config
from livedex.adapters.chunkers.fixed import FixedChunker
from livedex.adapters.chunkers.markdown import MarkdownChunker
from livedex.adapters.chunkers.text import TextChunker
from livedex.adapters.embedders.hashing import HashingEmbedder
from livedex.adapters.parsers.html import HtmlParser
from livedex.adapters.sources.files import FilesSource
from livedex.adapters.sources.postgres.source import PostgresSource
from livedex.faults import Faults
from livedex.flow.cut import Cutter, Route
from livedex.ports import Chunker, Embedder, Parser, Source
from livedex.rules.mapping import mapped_columns

PLAIN_TEXT = "text/plain"


def build_source(
    name: str, wanted: config.Source, store_id: str, faults: Faults, heartbeat_seconds: float | None = None
) -> Source:
    """Connects to nothing yet. `heartbeat_seconds` goes before the configured heartbeat."""
    heartbeat = heartbeat_seconds or wanted.heartbeat.total_seconds()
    match wanted:
        case config.FilesSource():
            return FilesSource(
                wanted.path,
                name=name,
                include=wanted.include,
                exclude=wanted.exclude,
                metadata=wanted.metadata,
                max_bytes=wanted.max_bytes,
                polling=wanted.polling,
                heartbeat_seconds=heartbeat,
                rescan_seconds=wanted.rescan.total_seconds(),
                faults=faults,
            )
        case config.PostgresSource():
            return PostgresSource(
                wanted.url.get_secret_value(),
                wanted.tables,
                {table: mapped_columns(mapping) for table, mapping in wanted.tables.items()},
                name=name,
                store_id=store_id,
                slot=wanted.slot,
                publication=wanted.publication,
                heartbeat_seconds=heartbeat,
                faults=faults,
            )


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


def build_embedder(wanted: config.Embedder, cache: Path) -> Embedder:
    """The adapter for an embedder's settings. Heavy packages are loaded only for the kind that needs them."""
    match wanted:
        case config.HashingEmbedder():
            return HashingEmbedder(wanted.dimensions)
        case config.LocalEmbedder():
            from livedex.adapters.embedders.local import LocalEmbedder  # noqa: PLC0415  # heavy, an extra

            return LocalEmbedder(
                wanted.model,
                cache_directory=cache,
                precision=wanted.precision,
                threads=wanted.threads,
                path=wanted.path,
            )
        case config.ApiEmbedder():
            from livedex.adapters.embedders.api import ApiEmbedder  # noqa: PLC0415  # loads an HTTP client

            return ApiEmbedder(
                wanted.base_url,
                wanted.model,
                wanted.dimensions,
                None if wanted.api_key is None else wanted.api_key.get_secret_value(),
                batch_size=wanted.batch_size,
                concurrency=wanted.concurrency,
                timeout_seconds=wanted.timeout.total_seconds(),
                requests_per_minute=wanted.requests_per_minute,
                tokens_per_minute=wanted.tokens_per_minute,
                query_prefix=wanted.query_prefix,
                document_prefix=wanted.document_prefix,
                send_dimensions=wanted.send_dimensions,
            )
