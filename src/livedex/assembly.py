"""Settings → retrievers and workers, put together from their parts."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial

from livedex import config
from livedex.clock import Clock
from livedex.errors import LivedexError, NotFound
from livedex.faults import Faults
from livedex.flow.audit_now import audits
from livedex.flow.follow import LogSignal, Signal, Workshop
from livedex.flow.forget_records import forget_records
from livedex.flow.keep_up import Beside, Built, Followed, Work
from livedex.flow.maintain import Policy, keep_maintained
from livedex.flow.materialize import Parts
from livedex.flow.sample_freshness import sample_freshness
from livedex.model import Fusion, Recipe
from livedex.parts import build_contract, build_cutter, build_embedder, build_limits, build_source, held_to
from livedex.ports import Embedder, Source
from livedex.retrieve import Retriever, Retrieves
from livedex.retrieve.contracted import Contracted, Tickets
from livedex.retrieve.fresh import Fresh
from livedex.rules.contracts import Contract
from livedex.rules.lexical import recipe as lexical_recipe
from livedex.rules.recipes import check_recipe, check_searchable_by_words
from livedex.store.catalog import Catalog, Identity
from livedex.store.contracts import Contracts
from livedex.store.cost import declare_limits, declare_ttl
from livedex.store.database import Database
from livedex.store.lexicon import Lexicon
from livedex.store.sql_view import create_sql_view

Report = Callable[[str, LivedexError], None]


class Assembly:
    """Makes what an open index works with, each thing once; belongs to one event loop."""

    def __init__(
        self,
        settings: config.Settings,
        database: Database,
        catalog: Catalog,
        identity: Identity,
        faults: Faults,
        clock: Clock,
        embedders: Mapping[str, Embedder],
    ) -> None:
        self.settings = settings
        self.catalog = catalog
        self._database = database
        self._identity = identity
        self._faults = faults
        self._clock = clock
        self._embedders = dict(embedders)
        self._lexicons: dict[str, Lexicon] = {}
        self._about_tokens: dict[str, Source] = {}

    async def close(self) -> None:
        for embedder in self._embedders.values():
            await embedder.close()
        for source in self._about_tokens.values():
            await source.close()

    def contract(self, view: str) -> Contract | None:
        """What every hit of a view has to be; None where nothing is promised. Raises NotFound."""
        if view not in self.settings.views:
            raise NotFound(f"There is no view {view}. {self.settings.file} has: {', '.join(self.settings.views)}.")
        wanted = self.settings.views[view].contract
        return None if wanted is None else build_contract(view, wanted)

    async def check_recipe(self, view: str) -> None:
        """Raises RecipeChanged when a view was built otherwise than the configuration asks for now, NotFound when it
        has not been built, EmbedderError. Changes nothing."""
        wanted = self.settings.views[view]
        generation = await self.catalog.active_generation(view)
        if generation is None:
            raise NotFound(f"View {view} has not been built yet. Run: livedex sync")
        rows = [row for row in await self.catalog.sources() if row.name in wanted.sources]
        check_recipe(generation, self.recipe(wanted), [row.source_id for row in rows], wanted.shards)

    async def answering(self, view: str, tickets: Tickets) -> Retrieves:
        """What answers queries over a view, in the state that it has now. Raises NotFound and RecipeChanged."""
        if view not in self.settings.views:
            raise NotFound(f"There is no view {view}. {self.settings.file} has: {', '.join(self.settings.views)}.")
        generation = await self.catalog.active_generation(view)
        if generation is None:
            raise NotFound(f"View {view} has not been built yet. Run: livedex sync")
        check_searchable_by_words(generation)
        await self.catalog.ensure_functions(generation)
        wanted = self.settings.views[view]
        # Words as the chunks have them, whatever language the configuration asks for since.
        embedder, lexicon = self.embedder(wanted.embedder), self._lexicon(generation.recipe.lexical["dictionary"])
        contract = self.contract(view)
        found: Retrieves = Retriever(
            self._database,
            self.catalog,
            generation,
            embedder,
            lexicon,
            Fusion(wanted.fusion),
            counts_chunks=contract is not None and contract.complete,
        )
        found = Fresh(found, self._database, self.asked, self._clock)
        if contract is not None:
            await Contracts(self._database).remember(contract)
            found = Contracted(found, contract, tickets)
        return found

    def beside(self, work: Work) -> list[Beside]:
        """What `up` does besides capturing and materializing."""
        workers: list[Beside] = []
        if self.settings.upkeep.enabled:
            workers.append(partial(keep_maintained, policy=self.upkeep()))
        workers.append(partial(forget_records, keep_seconds=self.settings.record.keep.total_seconds()))
        if (audit := self.settings.audit).enabled:
            workers.append(audits(work, audit.every.total_seconds(), repair=audit.repair))
        return [sample_freshness, *workers]

    def upkeep(self) -> Policy:
        """When a store is worth looking after."""
        wanted = self.settings.upkeep
        return Policy(wanted.every.total_seconds(), wanted.history.total_seconds(), wanted.tombstones.total_seconds())

    def workshop(self, report: Report) -> Workshop:
        """What the workers of one run share."""
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
    async def work(self, heartbeat_seconds: float | None = None) -> AsyncIterator[Work]:
        """Everything the configuration asks for, declared in the store; sources are closed at the end."""
        followed: list[Followed] = []
        try:
            for name, wanted in self.settings.sources.items():
                row, _ = await self.catalog.declare_source(name, wanted.kind, wanted.tables)
                await self.catalog.note_heartbeat(row, wanted.heartbeat.total_seconds())
                await declare_ttl(self._database, row, wanted.ttl)
                followed.append(Followed(held_to(row, wanted), self._source(name, heartbeat_seconds), wanted.ttl))
            built = [await self._build(view, followed) for view in self.settings.views]
            yield Work(followed, built)
        finally:
            for each in followed:
                await each.source.close()

    async def _build(self, view: str, followed: Sequence[Followed]) -> Built:
        wanted = self.settings.views[view]
        rows = [each.row for each in followed if each.row.name in wanted.sources]
        cutter, embedder = build_cutter(wanted.chunker), self.embedder(wanted.embedder)
        recipe = self.recipe(wanted)
        limits = build_limits(wanted)
        lag = limits.lag_seconds(wanted.target_lag)
        generation = await self.catalog.declare_view(view, rows, recipe, wanted.shards, lag)
        generation = await declare_limits(self._database, generation, limits, wanted.ttl)
        limits = limits.with_ages(generation.source_ids, generation.max_ages)
        check_recipe(generation, recipe, [row.source_id for row in rows], wanted.shards)
        metadata = {column for row in rows for table in row.mapping.values() for column in table.metadata_names}
        await create_sql_view(self._database, generation, wanted.sql_schema, sorted(metadata))
        lexicon = self._lexicon(_dictionary(wanted.language))
        parts = Parts(cutter, embedder, lexicon, self._identity.hash_key, self._clock, self._faults, limits=limits)
        return Built(generation, parts)

    def recipe(self, wanted: config.View) -> Recipe:
        """What the configuration asks a view to be built with."""
        lexical = lexical_recipe(_dictionary(wanted.language))
        cutter, identity = build_cutter(wanted.chunker), self.embedder(wanted.embedder).identity
        return Recipe(cutter.parser_recipe, cutter.chunker_recipe, identity, lexical, cutter.extractor_recipe)

    def _lexicon(self, dictionary: str) -> Lexicon:
        if dictionary not in self._lexicons:
            self._lexicons[dictionary] = Lexicon(dictionary)
        return self._lexicons[dictionary]

    def _source(self, name: str, heartbeat_seconds: float | None) -> Source:
        return build_source(name, self.settings.sources[name], self._identity.store_id, self._faults, heartbeat_seconds)

    def asked(self, name: str) -> Source | None:
        """The adapter of a source, not followed: to be asked about tokens. None for one that is not configured."""
        if name not in self._about_tokens and name in self.settings.sources:
            self._about_tokens[name] = self._source(name, None)
        return self._about_tokens.get(name)

    def embedder(self, name: str) -> Embedder:
        """One embedder of the configuration, made when it is first asked for."""
        if name not in self._embedders:
            self._embedders[name] = build_embedder(self.settings.embedders[name], self.settings.cache_directory)
        return self._embedders[name]


def _dictionary(language: str) -> str:
    return "simple" if language == "simple" else f"{language}_stem"
