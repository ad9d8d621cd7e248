"""The composition root: settings → store, adapters, workers. Nothing else builds an adapter."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from livedex import config
from livedex.adapters.chunkers.markdown import MarkdownChunker
from livedex.adapters.embedders.hashing import HashingEmbedder
from livedex.adapters.sources.postgres.source import PostgresSource
from livedex.clock import Clock, SystemClock
from livedex.errors import LivedexError, NotFound, RecipeChanged, StoreUnavailable
from livedex.faults import Faults, NoFaults
from livedex.flow.follow import LogSignal, Signal, Workshop
from livedex.flow.keep_up import Built, Counts, Failures, Followed, Work, keep_up, sync
from livedex.flow.materialize import Parts
from livedex.model import Generation, Query, Recipe, Retrieval
from livedex.ports import Chunker, Embedder
from livedex.retrieve import Retriever
from livedex.rules.mapping import mapped_columns
from livedex.status import Progress, Status, read_progress, read_status
from livedex.store.catalog import Catalog, Identity
from livedex.store.database import Database
from livedex.store.embedded import EmbeddedServer
from livedex.store.entries import SourceRow
from livedex.store.migrate import migrate
from livedex.store.sql_view import create_sql_view
from livedex.store.vectors import literal

PARSER = {"kind": "text", "version": 1}
SYNC_HEARTBEAT_SECONDS = 0.1

Report = Callable[[str, LivedexError], None]


def _say_nothing(worker: str, error: LivedexError) -> None:
    """Failures stand in the store's status anyway."""


@asynccontextmanager
async def open_index(
    path: str | Path | None = None,
    *,
    environ: Mapping[str, str] = os.environ,
    embedders: Mapping[str, Embedder] | None = None,
    faults: Faults | None = None,
    clock: Clock | None = None,
) -> AsyncIterator[Index]:
    """Open the index that a livedex.yaml describes; starts the embedded server where one is used.

        async with livedex.open("livedex.yaml") as index:
            await index.sync()
            retrieval = await index.search("handbook", "How long do refunds take?")

    `path` defaults to $LIVEDEX_CONFIG, then ./livedex.yaml. `embedders` are adapters of your own by name, which go
    before those of the configuration and are closed with the index. Raises ConfigError and StoreError.
    """
    settings = config.load(None if path is None else Path(path), environ)
    async with AsyncExitStack() as stack:
        server: EmbeddedServer | None = None
        if settings.database_url is None:
            server = await EmbeddedServer.start(settings.store_directory)
            stack.push_async_callback(server.stop)
            own, public = server.dsn, server.public_dsn
        else:
            own = public = settings.database_url.get_secret_value()
        database = await Database.open(own)
        stack.push_async_callback(database.close)
        faults = faults or NoFaults()
        await migrate(database, faults=faults)
        catalog = Catalog(database)
        index = Index(
            settings,
            database,
            catalog,
            await catalog.identity(),
            public,
            faults,
            clock or SystemClock(),
            embedders or {},
        )
        stack.push_async_callback(index.close)
        try:
            yield index
        except StoreUnavailable as error:
            raise error if server is None else server.why_gone(error) from error


class Index:
    """An open index. Use `livedex.open`; belongs to one event loop."""

    def __init__(
        self,
        settings: config.Settings,
        database: Database,
        catalog: Catalog,
        identity: Identity,
        public_dsn: str,
        faults: Faults,
        clock: Clock,
        embedders: Mapping[str, Embedder],
    ) -> None:
        self.settings = settings
        self.catalog = catalog
        self.dsn = public_dsn
        self._database = database
        self._identity = identity
        self._faults = faults
        self._clock = clock
        self._embedders = dict(embedders)
        self._retrievers: dict[str, Retriever] = {}

    async def close(self) -> None:
        for embedder in self._embedders.values():
            await embedder.close()

    async def search(
        self,
        view: str,
        text: str,
        *,
        top_k: int = 10,
        filters: Mapping[str, str | Sequence[str]] | None = None,
        tenant: str | None = None,
        principals: Sequence[str] = (),
        exact: bool = False,
    ) -> Retrieval:
        """The `top_k` chunks of a view that are nearest to a text, best first.

        `filters` maps a metadata name to a value or the accepted values. Documents of a tenant are found only with
        that `tenant`, documents with an access list only with one of its `principals`. Raises NotFound and QueryError.
        """
        accepted = {name: [value] if isinstance(value, str) else list(value) for name, value in (filters or {}).items()}
        query = Query(text, top_k, accepted, tenant, tuple(principals), exact)
        return await (await self._retriever(view)).retrieve(query)

    async def embed(self, view: str, text: str) -> tuple[str, str]:
        """A text's query vector as an SQL literal, and the name of the model that made it."""
        retriever = await self._retriever(view)
        return literal(await retriever.embed(text)), retriever.model

    async def sync(self, report: Report = _say_nothing) -> dict[str, Counts]:
        """Make everything that is committed in the sources by now searchable, and say what that came to, per view."""
        failures = Failures()

        def note(worker: str, error: LivedexError) -> None:
            failures.note(worker, error)
            report(worker, error)

        async with self._work(heartbeat_seconds=SYNC_HEARTBEAT_SECONDS) as work:
            return await sync(self._workshop(note), work, failures)

    async def up(self, stop: asyncio.Event, report: Report = _say_nothing) -> None:
        """Capture and materialize until `stop` is set, then finish what was captured. Searches may run beside it."""
        async with self._work() as work:
            await keep_up(self._workshop(report), work, stop)

    async def prepare(self) -> None:
        """Declare sources and views in the store, without following them."""
        async with self._work():
            return

    async def status(self) -> Status:
        """How sources, views and quarantine stand, as the store has it."""
        return await read_status(self.catalog)

    async def progress(self) -> tuple[Progress, ...]:
        """How far each view has come in reading what its sources hold; may be asked while `sync` or `up` runs."""
        return await read_progress(self.catalog)

    async def quarantined(self) -> list[dict[str, Any]]:
        """Documents that could not be processed, with the reason."""
        return await self.catalog.quarantined()

    async def retry(self, quarantine_ids: Sequence[int] | None = None) -> int:
        """Send quarantined documents (all by default) through the log again; the number sent. Raises NotFound."""
        rows = await self.catalog.quarantined()
        unknown = set(quarantine_ids or ()) - {row["quarantine_id"] for row in rows}
        if unknown:
            raise NotFound(f"Nothing in quarantine has the number {min(unknown)}. See: livedex quarantine list")
        chosen = [row for row in rows if quarantine_ids is None or row["quarantine_id"] in quarantine_ids]
        await self.catalog.retry(sorted({row["document"] for row in chosen}))
        return len(chosen)

    async def resync(self, source: str) -> None:
        """Read a source again from the start at the next `sync` or `up`; what is unchanged is not embedded again."""
        known = {row.name: row for row in await self.catalog.sources()}
        if source not in known:
            raise NotFound(f"There is no source {source} in this index. Known: {', '.join(sorted(known)) or 'none'}.")
        await self.catalog.resync(known[source])

    async def _retriever(self, view: str) -> Retriever:
        if view not in self._retrievers:
            if view not in self.settings.views:
                raise NotFound(f"There is no view {view}. {self.settings.file} has: {', '.join(self.settings.views)}.")
            generation = await self.catalog.active_generation(view)
            if generation is None:
                raise NotFound(f"View {view} has not been built yet. Run: livedex sync")
            names = {row.source_id: row.name for row in await self.catalog.sources()}
            embedder = self._embedder(self.settings.views[view].embedder)
            self._retrievers[view] = Retriever(self._database, self.catalog, generation, embedder, names)
        return self._retrievers[view]

    def _workshop(self, report: Report) -> Workshop:
        return Workshop(
            database=self._database,
            catalog=self.catalog,
            owner=f"{socket.gethostname()}:{os.getpid()}",
            clock=self._clock,
            faults=self._faults,
            log_changed=LogSignal(),
            applied=Signal(),
            report=report,
        )

    @asynccontextmanager
    async def _work(self, heartbeat_seconds: float | None = None) -> AsyncIterator[Work]:
        """Everything the configuration asks for, declared in the store; sources are closed at the end."""
        followed: list[Followed] = []
        try:
            for name, wanted in self.settings.sources.items():
                row, _ = await self.catalog.declare_source(name, wanted.kind, wanted.tables)
                followed.append(Followed(row, self._source(name, wanted, heartbeat_seconds)))
            built = [await self._build(view, followed) for view in self.settings.views]
            yield Work(followed, built)
        finally:
            for each in followed:
                await each.source.close()

    async def _build(self, view: str, followed: Sequence[Followed]) -> Built:
        wanted = self.settings.views[view]
        rows = [each.row for each in followed if each.row.name in wanted.sources]
        chunker, embedder = self._chunker(wanted.chunker), self._embedder(wanted.embedder)
        recipe = Recipe(PARSER, chunker.recipe, embedder.identity)
        lag = wanted.target_lag.total_seconds()
        generation = await self.catalog.declare_view(view, rows, recipe, wanted.shards, lag)
        _check_recipe(generation, recipe, rows, wanted.shards)
        metadata = {column for row in rows for table in row.mapping.values() for column in table.metadata}
        await create_sql_view(self._database, generation, wanted.sql_schema, sorted(metadata))
        parts = Parts(chunker, embedder, self._identity.hash_key, self._clock, self._faults)
        return Built(generation, parts)

    def _source(self, name: str, wanted: config.PostgresSource, heartbeat_seconds: float | None) -> PostgresSource:
        return PostgresSource(
            wanted.url.get_secret_value(),
            wanted.tables,
            {table: mapped_columns(mapping) for table, mapping in wanted.tables.items()},
            name=name,
            store_id=self._identity.store_id,
            slot=wanted.slot,
            publication=wanted.publication,
            heartbeat_seconds=heartbeat_seconds or wanted.heartbeat.total_seconds(),
            faults=self._faults,
        )

    def _chunker(self, wanted: config.MarkdownChunker) -> Chunker:
        return MarkdownChunker(max_tokens=wanted.max_tokens, min_tokens=wanted.min_tokens)

    def _embedder(self, name: str) -> Embedder:
        if name not in self._embedders:
            self._embedders[name] = build_embedder(self.settings.embedders[name], self.settings.cache_directory)
        return self._embedders[name]


def build_embedder(wanted: config.LocalEmbedder | config.ApiEmbedder | config.HashingEmbedder, cache: Path) -> Embedder:
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


def _check_recipe(generation: Generation, wanted: Recipe, sources: Sequence[SourceRow], shards: int) -> None:
    built = generation.recipe
    differences = []
    if dict(built.chunker) != dict(wanted.chunker) or dict(built.parser) != dict(wanted.parser):
        differences.append(
            f"was cut with {_settings(built.chunker)}, livedex.yaml asks for {_settings(wanted.chunker)}"
        )
    if built.model != wanted.model:
        differences.append(f"was embedded with {built.model.name}, livedex.yaml asks for {wanted.model.name}")
    if generation.shards != shards:
        differences.append(f"was built with {generation.shards} shards, livedex.yaml asks for {shards}")
    if set(generation.source_ids) != {row.source_id for row in sources}:
        differences.append("was built from other sources than livedex.yaml names")
    if differences:
        raise RecipeChanged(
            f"View {generation.view} {'; it '.join(differences)}. Undo the change, or give the changed view a new name "
            "so that both stand side by side."
        )


def _settings(recipe: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in recipe.items())
