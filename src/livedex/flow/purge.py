"""Forgetting documents for good: out of every table, out of the files, and kept away from then on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import psycopg

from livedex.clock import Clock
from livedex.errors import NotFound, QueryError, StoreError
from livedex.faults import Faults
from livedex.model import Generation
from livedex.rules.lexical import words
from livedex.store.catalog import Catalog
from livedex.store.database import Database
from livedex.store.entries import SourceRow
from livedex.store.erase import Erased, eraser
from livedex.store.lexicon import Lexicon
from livedex.store.purge import Found, Receipt, Transaction, documents_with, documents_with_words, receipts

_Made = TypeVar("_Made")
ATTEMPTS = 30
PAUSE_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Preview:
    """What a purge would remove. `unknown` are keys without a document here: they would be kept away all the same."""

    documents: tuple[Found, ...]
    unknown: tuple[str, ...]
    removed: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Forgetting:
    """What purges need of an index."""

    database: Database
    catalog: Catalog
    clock: Clock
    faults: Faults

    async def preview(self, source: str, keys: Sequence[str]) -> Preview:
        """What `purge` would remove now. Changes nothing: it is done and undone."""
        return await self._together(source, keys, _preview, undo=True)

    async def purge(
        self, source: str, keys: Sequence[str], *, by: str, reason: str = "", rewrite: bool = True
    ) -> Receipt:
        """Remove every trace of some documents, and keep their keys away.

        `keys` are document_ids; livedex need not know them. Workers, here and elsewhere, begin anew. With `rewrite`
        the tables are written anew afterwards, during which searches wait; without it the receipt stays open until
        `finish`. Killed at any point, all of it is done or none, up to the rewriting, which `finish` does again.
        Raises NotFound for a source that is not known or a key that could be several, and StoreError.
        """

        async def forget(transaction: Transaction, keys: Sequence[str]) -> int:
            wanted = await transaction.wanted(keys)
            removed = await transaction.forget(wanted)
            purge_id = await transaction.suppress("purge", by, reason, len(wanted.found), removed)
            await transaction.end_leases()
            await self.faults.reach("purge.before_commit")
            return purge_id

        purge_id = await self._together(source, keys, forget)
        await self.faults.reach("purge.after_commit")
        if rewrite:
            await self.finish()
        return (await receipts(self.database, [purge_id]))[0]

    async def finish(self) -> Erased:
        """Write the tables anew after purges that were made without, or were interrupted. Raises StoreError."""
        async with eraser(self.database, self.clock, self.faults) as erasing:
            return await erasing.finish()

    async def unpurge(self, source: str, keys: Sequence[str], *, by: str, reason: str = "") -> int:
        """Keep some keys away no more; how many were. What was removed comes from the source only: with the next
        change of the row, or when the source is read again. Raises NotFound when none of them was kept away."""

        async def lift(transaction: Transaction, keys: Sequence[str]) -> int:
            lifted = await transaction.lift(await transaction.wanted(keys))
            if not lifted:
                raise NotFound(f"None of these keys of source {source} was purged. See: livedex receipts")
            await transaction.note("unpurge", by, reason, 0, {}, finished=True)
            await transaction.end_leases()
            return lifted

        return await self._together(source, keys, lift)

    async def receipts(self) -> Sequence[Receipt]:
        """What was purged and lifted, oldest first."""
        return await receipts(self.database)

    async def with_metadata(self, source: str, name: str, value: str) -> list[str]:
        """Documents of a source, by document_id, whose metadata `name` is a value or a list with it."""
        return await documents_with(self.database, await self._source(source), name, value)

    async def with_words(self, source: str, text: str) -> list[str]:
        """Documents of a source, by document_id, in which every word of a text stands, as a view indexed it: in any
        form, wherever in the document. Whoever may see them. Raises QueryError for a text without words to look up."""
        row = await self._source(source)
        found: set[str] = set()
        for generation in await self.catalog.generations():
            if row.source_id in generation.source_ids and generation.recipe.lexical:
                found.update(await self._with_words(row, generation, text))
        return sorted(found)

    async def _with_words(self, row: SourceRow, generation: Generation, text: str) -> list[str]:
        asked = words(text)
        async with self.database.connection() as connection:
            known = await Lexicon(generation.recipe.lexical["dictionary"]).learn(connection, [asked])
        lexemes = {known.lexemes[number].decode() for word in asked for number in known.numbers[word]}
        if not lexemes:
            raise QueryError(f"{text!r} holds no words that are looked up. Name some others.")
        return await documents_with_words(self.database, row, generation, sorted(lexemes))

    async def _source(self, name: str) -> SourceRow:
        known = {row.name: row for row in await self.catalog.sources()}
        if name not in known:
            raise NotFound(f"There is no source {name} in this index. Known: {', '.join(sorted(known)) or 'none'}.")
        return known[name]

    async def _together(
        self,
        source: str,
        keys: Sequence[str],
        work: Callable[[Transaction, Sequence[str]], Awaitable[_Made]],
        *,
        undo: bool = False,
    ) -> _Made:
        """Work in one transaction beside which no worker writes; tried again while one of them takes long."""
        row = await self._source(source)
        for generation in await self.catalog.generations():
            if generation.recipe.lexical:
                await self.catalog.ensure_functions(generation)
        for _ in range(ATTEMPTS):
            try:
                async with (
                    self.database.connection() as connection,
                    connection.transaction(force_rollback=undo),
                ):
                    transaction = Transaction(connection, row)
                    await transaction.begin()
                    return await work(transaction, keys)
            except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
                await self.clock.sleep(PAUSE_SECONDS)
        raise StoreError("Workers were writing all the time, so nothing was purged. Try again when they are quieter.")


async def _preview(transaction: Transaction, keys: Sequence[str]) -> Preview:
    wanted = await transaction.wanted(keys)
    return Preview(wanted.found, wanted.unknown, await transaction.forget(wanted))
