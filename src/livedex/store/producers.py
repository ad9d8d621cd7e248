"""What the people who look after a source ask about it, and answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from livedex.errors import IllegalMove, NotFound
from livedex.store.brake import approve, questions, retry
from livedex.store.catalog import Catalog
from livedex.store.database import Database
from livedex.store.entries import SourceRow
from livedex.store.schema_changes import schema_changes


@dataclass(frozen=True, slots=True)
class Hold:
    """What a source was held for. `is_open`: it still is. `kinds` (deletes, shrinks) went beyond their share of the
    `documents` that there were; `examples` are ids of some that would be lost."""

    source: str
    partition: str
    is_open: bool
    reason: str | None
    held_at: datetime
    kinds: Sequence[str]
    deletes: int
    shrinks: int
    documents: int
    examples: Sequence[str]
    approved_at: datetime | None
    approved_by: str | None
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class SchemaChange:
    """A column that was added, dropped or retyped. `resolved_at` is None while a source waits for somebody to deal with
    it."""

    table: str
    column: str
    kind: str
    was: str | None
    became: str | None
    mapped: bool
    seen_at: datetime
    resolved_at: datetime | None


class Producers:
    """Sources by name. Raises NotFound for one that is not in the index."""

    def __init__(self, database: Database, catalog: Catalog) -> None:
        self._database = database
        self._catalog = catalog

    async def holds(self, source: str) -> list[Hold]:
        """What the brake held a source for, the newest first."""
        return [Hold(**row) for row in await questions(self._database, await self._source(source))]

    async def schema_changes(self, source: str) -> list[SchemaChange]:
        """What became of the columns of a source's tables, the newest first."""
        return [SchemaChange(**row) for row in await schema_changes(self._database, await self._source(source))]

    async def resume(self, source: str, by: str) -> None:
        """Let pass what a source is held for, and more of the same until a window has gone by without any. A running
        `up` goes on within a second or two. Raises IllegalMove when it is not held."""
        if not await approve(self._database, await self._source(source), by):
            raise IllegalMove(_not_held(source))

    async def retry(self, source: str) -> None:
        """Look at a held source again without letting anything pass. Raises IllegalMove when it is not held."""
        if not await retry(self._database, await self._source(source)):
            raise IllegalMove(_not_held(source))

    async def _source(self, name: str) -> SourceRow:
        known = {row.name: row for row in await self._catalog.sources()}
        if name not in known:
            raise NotFound(f"There is no source {name} in this index. Known: {', '.join(sorted(known)) or 'none'}.")
        return known[name]


def _not_held(source: str) -> str:
    return f"Source {source} is not held, so there is nothing to answer. See: livedex status"
