"""The composition root: settings → store, parts, workers."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from livedex import config
from livedex.assembly import Assembly, Report
from livedex.clock import Clock, SystemClock
from livedex.errors import LivedexError, NotFound, QueryError, StoreError, StoreUnavailable
from livedex.faults import Faults, NoFaults
from livedex.flow.audit_now import audit_now
from livedex.flow.keep_up import Counts, Failures, keep_up, sync
from livedex.flow.maintain import Upkeep, maintain
from livedex.flow.purge import Forgetting
from livedex.flow.reconcile import Wanted
from livedex.model import Mode, Query, Retrieval, WhenStale
from livedex.ports import Embedder
from livedex.retrieve import Retrieves
from livedex.retrieve.coverage import Coverage, cover
from livedex.retrieve.past import Past
from livedex.retrieve.replayed import NoTickets, Replay
from livedex.rules.audit import Report as AuditReport
from livedex.rules.contracts import Contract
from livedex.status import (
    WINDOW_SECONDS,
    Progress,
    Status,
    ViewDescription,
    read_descriptions,
    read_progress,
    read_status,
)
from livedex.store.answers import Retrievals
from livedex.store.catalog import Catalog, Identity
from livedex.store.contracts import Contracts
from livedex.store.database import Database
from livedex.store.embedded import EmbeddedServer
from livedex.store.escalations import Escalations
from livedex.store.history import Lineage
from livedex.store.migrate import migrate
from livedex.store.producers import Producers
from livedex.store.vectors import literal

SYNC_HEARTBEAT_SECONDS = 0.1


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
        self._assembly = Assembly(settings, database, catalog, identity, faults, clock, embedders)
        self._retrievers: dict[str, Retrieves] = {}
        kept = settings.record
        self._past = Past(
            database,
            catalog,
            identity.hash_key,
            clock,
            enabled=kept.enabled,
            text=kept.text,
            keep_seconds=kept.keep.total_seconds(),
        )

    async def close(self) -> None:
        await self._past.close()
        await self._assembly.close()

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
        max_staleness_seconds: float | None = None,
        at_least: str | Sequence[str] = (),
        when_stale: WhenStale | str = WhenStale.WAIT,
        wait_seconds: float = 2.0,
    ) -> Retrieval:
        """The `top_k` chunks of a view that answer a text best, best first.

        `mode` says what finds and ranks them: `hybrid` (meaning and words), `dense` or `lexical` alone.
        `filters` maps a metadata name to a value or the accepted values. Documents of a tenant are found only with
        that `tenant`, documents with an access list only with one of its `principals`.

        `max_staleness_seconds` bounds how old what is searched may be, `at_least` holds tokens of writes that must be
        searchable (see `token`). `when_stale` says what to do where that is not so: `wait`, at most `wait_seconds`,
        `serve` all the same, flagged, or `refuse`. Raises NotFound, QueryError and NotFresh.
        """
        accepted = {name: [value] if isinstance(value, str) else list(value) for name, value in (filters or {}).items()}
        if mode not in set(Mode):
            raise QueryError(f"There is no mode {mode!r}. It is one of {', '.join(Mode)}.")
        if when_stale not in set(WhenStale):
            raise QueryError(f"There is no when_stale {when_stale!r}. It is one of {', '.join(WhenStale)}.")
        query = Query(
            text,
            top_k,
            accepted,
            tenant,
            tuple(principals),
            exact,
            Mode(mode),
            max_staleness_seconds,
            (at_least,) if isinstance(at_least, str) else tuple(at_least),
            WhenStale(when_stale),
            wait_seconds,
        )
        return await self.retrieve(view, query)

    async def retrieve(self, view: str, query: Query) -> Retrieval:
        """`search` for a query that is a value already."""
        return await (await self._retriever(view)).retrieve(query)

    async def token(self, source: str) -> str:
        """A token for everything that is committed in a source by now, for `at_least`. Raises NotFound and
        SourceError."""
        asked = self._assembly.asked(source)
        if asked is None:
            known = ", ".join(self.settings.sources)
            raise NotFound(f"There is no source {source}. {self.settings.file} has: {known}.")
        (partition,) = await asked.partitions()
        return f"{source}:{await asked.head(partition)}"

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

        async with self._assembly.work(heartbeat_seconds=SYNC_HEARTBEAT_SECONDS) as work:
            return await sync(self._assembly.workshop(note), work, failures)

    async def up(self, stop: asyncio.Event, report: Report = _say_nothing) -> None:
        """Capture and materialize until `stop` is set, then finish what was captured. Searches may run beside it."""
        async with self._assembly.work() as work:
            await keep_up(self._assembly.workshop(report), work, stop, self._assembly.beside(work))

    async def audit(
        self,
        subject: str | None = None,
        *,
        repair: bool = False,
        deep: bool = False,
        approve_deletions: bool = False,
        report: Report = _say_nothing,
    ) -> AuditReport:
        """Compare sources, log and views, or one of them by its name, and say what was lost or damaged.

        `repair` mends it by the ordinary path. `deep` reads every row of the sources and embeds some texts again.
        `approve_deletions` lets a repair delete many documents. Raises NotFound, and LivedexError while another process
        audits.
        """
        wanted = Wanted(subject, repair, deep, approve_deletions)
        async with self._assembly.work(heartbeat_seconds=SYNC_HEARTBEAT_SECONDS) as work:
            return await audit_now(self._assembly.workshop(report), work, wanted)

    async def maintain(self, *, dry_run: bool = False) -> Upkeep:
        """Vacuum tables, rebuild indexes and let go of what is kept for a time, as far as it is due."""
        return await maintain(
            self._database, await self.catalog.generations(), self._assembly.upkeep(), self._clock, dry_run=dry_run
        )

    async def prepare(self) -> None:
        """Declare sources and views in the store, without following them."""
        async with self._assembly.work():
            return

    async def status(self, window_seconds: float = WINDOW_SECONDS) -> Status:
        """How sources, views and quarantine stand, as the store has it; figures over the last `window_seconds`."""
        return await read_status(self.catalog, window_seconds)

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
                made, now = generation.recipe.model.name, self._assembly.embedder(wanted.embedder).identity.name
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
        await self._assembly.check_recipe(view)

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

    @property
    def forgetting(self) -> Forgetting:
        """Purges: documents taken out for good and kept away."""
        return Forgetting(self._database, self.catalog, self._clock, self._faults)

    @property
    def producers(self) -> Producers:
        """What sources are held for, what became of their columns, and the answers to that."""
        return Producers(self._database, self.catalog)

    async def resync(self, source: str) -> None:
        """Read a source again from the start at the next `sync` or `up`; what is unchanged is not embedded again."""
        known = {row.name: row for row in await self.catalog.sources()}
        if source not in known:
            raise NotFound(f"There is no source {source} in this index. Known: {', '.join(sorted(known)) or 'none'}.")
        await self.catalog.resync(known[source])

    def contract(self, view: str) -> Contract | None:
        """What every hit of a view has to be; None where nothing is promised. Raises NotFound."""
        return self._assembly.contract(view)

    async def check_contract(self, view: str, contract: Contract | None = None) -> Coverage:
        """How much of a view is within a contract, by default its own. Raises NotFound."""
        judged_by = contract or self.contract(view)
        generation = await self.catalog.active_generation(view)
        if judged_by is None or generation is None:
            lacks = "has no contract in livedex.yaml" if judged_by is None else "has not been built yet"
            raise NotFound(f"View {view} {lacks}, so there is nothing to check.")
        lags = {each.view: each.lag_seconds for each in (await self.status()).views}
        contracts = Contracts(self._database)
        return await cover(contracts.documents(generation), judged_by, await contracts.now(), lags[view])

    @property
    def escalations(self) -> Escalations:
        """Questions that a contract left to a person: `list`, `one`, `take` and `resolve`."""
        return Escalations(self._database, self._identity.hash_key, keep_questions=self.settings.record.text)

    async def lineage(self, source: str, document_id: str) -> Lineage:
        """Every version of a document that the history has: when it was committed, captured, searchable and replaced.
        Documents that are deleted have one too, and those that were renamed, by every key they had. Raises NotFound."""
        return await self._past.lineage(source, document_id)

    async def retrievals(self, view: str | None = None, *, last: int = 20) -> Retrievals:
        """The last retrievals that were recorded, of one view or of all, newest first."""
        return await self._past.retrievals(view, last)

    async def replay(self, retrieval_id: str) -> Replay:
        """What a recorded retrieval saw, what the same query on the same behalf sees now, and why they differ. It is
        not recorded and opens no ticket. Raises NotFound."""
        return await self._past.replay(retrieval_id, lambda view: self._assembly.answering(view, NoTickets()))

    async def _retriever(self, view: str) -> Retrieves:
        if view not in self._retrievers:
            self._retrievers[view] = await self._past.recorded(
                view, await self._assembly.answering(view, self.escalations)
            )
        return self._retrievers[view]
