"""Settings → the adapters they ask for. Nothing else chooses an adapter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from livedex import config
from livedex.adapters.chunkers.fixed import FixedChunker
from livedex.adapters.chunkers.markdown import MarkdownChunker
from livedex.adapters.chunkers.text import TextChunker
from livedex.adapters.embedders.hashing import HashingEmbedder
from livedex.adapters.parsers.html import HtmlParser
from livedex.adapters.sources.files import FilesSource
from livedex.adapters.sources.postgres.source import PostgresSource
from livedex.errors import ConfigError
from livedex.faults import Faults
from livedex.flow.cut import Cutter, Route
from livedex.ports import Chunker, Embedder, Parser, Source
from livedex.rules.brake import Limits as Braking
from livedex.rules.budget import Budget, WhenSpent
from livedex.rules.contracts import Contract, OnViolation
from livedex.rules.debounce import Debounce
from livedex.rules.deferral import Limits
from livedex.rules.expectations import Expectations, Likely, NearDuplicates, ValueType
from livedex.rules.mapping import mapped_columns
from livedex.store.entries import SourceRow

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


def build_contract(view: str, wanted: config.Contract) -> Contract:
    """The rule that a view's contract comes to."""
    version, score = wanted.version, wanted.min_score
    scores = {} if score is None else {"dense": score.dense, "lexical": score.lexical}
    return Contract(
        view=view,
        require=wanted.require,
        document_types=dict(wanted.document_types),
        section_types=wanted.section_types,
        min_version=None if version is None else version.min,
        max_version=None if version is None else version.max,
        max_age_seconds=None if wanted.max_age is None else wanted.max_age.total_seconds(),
        max_staleness_seconds=None if wanted.max_staleness is None else wanted.max_staleness.total_seconds(),
        min_characters=wanted.min_characters or 0,
        complete=wanted.complete,
        min_score={leg: least for leg, least in scores.items() if least is not None},
        min_hits=wanted.min_hits,
        on_violation=OnViolation(wanted.on_violation),
    )


def held_to(row: SourceRow, wanted: config.Source) -> SourceRow:
    """A source with what its configuration expects of it. Raises MissingExtra, and ConfigError for a language that
    nothing tells."""
    by_table = {table: wanted.expects.of(table) for table in wanted.tables}
    expects = {table: found for table, each in by_table.items() if (found := _expectations(each)) != Expectations()}
    languages = sorted({language for each in expects.values() for language in each.languages})
    brake = wanted.brake
    limits = Braking(brake.deletes, brake.shrinks, brake.least, brake.window.total_seconds())
    return replace(
        row,
        expects=expects,
        likely=_likely(row.name, languages) if languages else None,
        brake=limits if brake.enabled else None,
    )


def _expectations(wanted: config.TableExpects) -> Expectations:
    near = wanted.near_duplicates
    kinds = {
        column: ValueType(of.kind or ("pattern" if of.pattern else "one_of"), of.values, of.pattern)
        for column, of in wanted.types.items()
    }
    return Expectations(
        required=wanted.required,
        types=kinds,
        least_bytes=wanted.min_bytes,
        most_bytes=wanted.max_bytes,
        utf8=wanted.encoding == "utf-8",
        languages=wanted.language,
        near_duplicates=None if near is None else NearDuplicates(near.limit, near.similarity),
    )


def _likely(source: str, languages: Sequence[str]) -> Likely:
    from livedex.adapters.languages.langid import LanguageDetector  # noqa: PLC0415  # heavy, an extra

    detector = LanguageDetector()
    if unknown := [language for language in languages if language not in detector.languages]:
        raise ConfigError(
            f"sources.{source}.expects.language: {unknown[0]} is none of the languages that can be told. They are: "
            + ", ".join(sorted(detector.languages))
        )
    return detector.likely


def build_limits(wanted: config.View) -> Limits:
    """What a view defers, but for its sources' ages, which the store knows."""
    debounce, budget = wanted.debounce, wanted.budget
    return Limits(
        None if debounce is None else Debounce(debounce.quiet, debounce.longest),
        None if budget is None else Budget(budget.tokens_per_day, WhenSpent(budget.when_spent)),
        shards=wanted.shards,
    )
