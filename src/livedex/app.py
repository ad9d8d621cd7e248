"""The composition root: settings → store, parts, workers."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from livedex import config
from livedex.clock import Clock, SystemClock
from livedex.errors import LivedexError, NotFound, QueryError, StoreError, StoreUnavailable
from livedex.faults import Faults, NoFaults
from livedex.flow.follow import LogSignal, Signal, Workshop
from livedex.flow.keep_up import Built, Counts, Failures, Followed, Work, keep_up, sync
from livedex.flow.materialize import Parts
from livedex.model import Fusion, Mode, Query, Recipe, Retrieval
from livedex.parts import build_cutter, build_embedder, build_source
from livedex.ports import Embedder, Source
from livedex.retrieve import Retriever, Retrieves
from livedex.rules.lexical import recipe as lexical_recipe
from livedex.rules.recipes import check_recipe, check_searchable_by_words
from livedex.status import Progress, Status, ViewDescription, read_descriptions, read_progress, read_status
from livedex.store.catalog import Catalog, Identity
from livedex.store.database import Database
from livedex.store.embedded import EmbeddedServer
from livedex.store.lexicon import Lexicon
from livedex.store.migrate import migrate
from livedex.store.sql_view import create_sql_view
from livedex.store.vectors import literal

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
        self._lexicons: dict[str, Lexicon] = {}
        self._retrievers: dict[str, Retrieves] = {}

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
        mode: Mode | str = Mode.HYBRID,
    ) -> Retrieval:
        """The `top_k` chunks of a view that answer a text best, best first.

        `mode` says what finds and ranks them: `hybrid` (meaning and words), `dense` or `lexical` alone.
        `filters` maps a metadata name to a value or the accepted values. Documents of a tenant are found only with
        that `tenant`, documents with an access list only with one of its `principals`. Raises NotFound and QueryError.
        """
        accepted = {name: [value] if isinstance(value, str) else list(value) for name, value in (filters or {}).items()}
        if mode not in set(Mode):
            raise QueryError(f"There is no mode {mode!r}. It is one of {', '.join(Mode)}.")
        return await self.retrieve(view, Query(text, top_k, accepted, tenant, tuple(principals), exact, Mode(mode)))

    async def retrieve(self, view: str, query: Query) -> Retrieval:
        """`search` for a query that is a value already."""
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

    @property
    def descriptions(self) -> dict[str, str | None]:
        """The views of the configuration, each with what it says that they hold."""
        return {name: view.description for name, view in self.settings.views.items()}

    async def describe(self) -> tuple[ViewDescription, ...]:
        """What each view of the configuration holds, what it can be filtered by, and how fresh it is."""
        return await read_descriptions(self.catalog, self.descriptions)

    async def unready(self) -> dict[str, str]:
        """Why views cannot be searched, by name; empty when all can. Raises StoreError when none can."""
        reasons = {}
        for view, wanted in self.settings.views.items():
            try:
                await self._retriever(view)  # makes the embedder, which may lack packages or weights
                if (generation := await self.catalog.active_generation(view)) is None:
                    raise NotFound(f"View {view} has no generation any more.")
                await self.catalog.marks(generation)
            except StoreError:
                raise
            except LivedexError as error:
                reasons[view] = str(error)
            else:
                made, now = generation.recipe.model.name, self._embedder(wanted.embedder).identity.name
                if made != now:
                    reasons[view] = f"It was embedded with {made}, livedex.yaml asks for {now}."
        return reasons

    @property
    def store_id(self) -> str:
        """What tells this index from others; part of the names of its slots and publications."""
        return self._identity.store_id

    async def check_recipe(self, view: str) -> None:
        """Raises RecipeChanged when a view was built otherwise than the configuration asks for now, NotFound when it
        has not been built, EmbedderError. Changes nothing."""
        wanted = self.settings.views[view]
        generation = await self.catalog.active_generation(view)
        if generation is None:
            raise NotFound(f"View {view} has not been built yet. Run: livedex sync")
        rows = [row for row in await self.catalog.sources() if row.name in wanted.sources]
        check_recipe(generation, self._recipe(wanted), [row.source_id for row in rows], wanted.shards)

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

    async def _retriever(self, view: str) -> Retrieves:
        if view not in self._retrievers:
            if view not in self.settings.views:
                raise NotFound(f"There is no view {view}. {self.settings.file} has: {', '.join(self.settings.views)}.")
            generation = await self.catalog.active_generation(view)
            if generation is None:
                raise NotFound(f"View {view} has not been built yet. Run: livedex sync")
            check_searchable_by_words(generation)
            await self.catalog.ensure_functions(generation)
            names = {row.source_id: row.name for row in await self.catalog.sources()}
            wanted = self.settings.views[view]
            # Words as the chunks have them, whatever language the configuration asks for since.
            embedder, lexicon = self._embedder(wanted.embedder), self._lexicon(generation.recipe.lexical["dictionary"])
            self._retrievers[view] = Retriever(
                self._database, self.catalog, generation, embedder, lexicon, names, Fusion(wanted.fusion)
            )
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
                followed.append(Followed(row, self._source(name, heartbeat_seconds)))
            built = [await self._build(view, followed) for view in self.settings.views]
            yield Work(followed, built)
        finally:
            for each in followed:
                await each.source.close()

    async def _build(self, view: str, followed: Sequence[Followed]) -> Built:
        wanted = self.settings.views[view]
        rows = [each.row for each in followed if each.row.name in wanted.sources]
        cutter, embedder = build_cutter(wanted.chunker), self._embedder(wanted.embedder)
        recipe = self._recipe(wanted)
        lag = wanted.target_lag.total_seconds()
        generation = await self.catalog.declare_view(view, rows, recipe, wanted.shards, lag)
        check_recipe(generation, recipe, [row.source_id for row in rows], wanted.shards)
        metadata = {column for row in rows for table in row.mapping.values() for column in table.metadata_names}
        await create_sql_view(self._database, generation, wanted.sql_schema, sorted(metadata))
        lexicon = self._lexicon(_dictionary(wanted.language))
        parts = Parts(cutter, embedder, lexicon, self._identity.hash_key, self._clock, self._faults)
        return Built(generation, parts)

    def _recipe(self, wanted: config.View) -> Recipe:
        lexical = lexical_recipe(_dictionary(wanted.language))
        cutter, identity = build_cutter(wanted.chunker), self._embedder(wanted.embedder).identity
        return Recipe(cutter.parser_recipe, cutter.chunker_recipe, identity, lexical, cutter.extractor_recipe)

    def _lexicon(self, dictionary: str) -> Lexicon:
        if dictionary not in self._lexicons:
            self._lexicons[dictionary] = Lexicon(dictionary)
        return self._lexicons[dictionary]

    def _source(self, name: str, heartbeat_seconds: float | None) -> Source:
        return build_source(name, self.settings.sources[name], self._identity.store_id, self._faults, heartbeat_seconds)

    def _embedder(self, name: str) -> Embedder:
        if name not in self._embedders:
            self._embedders[name] = build_embedder(self.settings.embedders[name], self.settings.cache_directory)
        return self._embedders[name]


def _dictionary(language: str) -> str:
    return "simple" if language == "simple" else f"{language}_stem"
