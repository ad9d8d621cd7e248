"""A view, watched: every change of a document as it becomes searchable."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from psycopg import AsyncConnection, sql

from livedex.demo.following import Following
from livedex.model import Generation

LOOK_SECONDS = 0.05

# As any client of the index may ask: the view is a relation. A chunk keeps its id when its document is renamed.
_LISTING = sql.SQL("""\
SELECT document_id, min(chunk_id), document_version, max(created_at), max(source_time)
FROM {} GROUP BY document_id, document_version""")


@dataclass(frozen=True, slots=True)
class Shelved:
    """A document as the index holds it. `source_time` is when it was last changed, None for one of the first load."""

    first_chunk: str
    version: str
    embedded_at: datetime
    source_time: datetime | None


@dataclass(frozen=True, slots=True)
class Moved:
    """One change that has become searchable. `what` is added, changed, deleted or renamed; `searchable_ms` runs from
    the change at the source to when it was seen to be searchable, None where the source gave no time."""

    what: str
    document_id: str
    was: str | None = None
    searchable_ms: float | None = None


@dataclass(frozen=True, slots=True)
class News:
    """What changed since the last look, and how many texts were embedded for it."""

    changes: tuple[Moved, ...]
    texts_embedded: int


class Watcher:
    """Compares a view with how it was when last looked at."""

    def __init__(self, following: Following, generation: Generation, connection: AsyncConnection[Any]) -> None:
        self._following = following
        self._generation = generation
        self._connection = connection
        self._shelf: Mapping[str, Shelved] = {}
        self._counted: Mapping[str, int] = {}

    async def news(self) -> AsyncIterator[News]:
        """What becomes searchable from now on; endless. Raises what ended the capture."""
        while True:
            self._following.check()
            if (found := await self.look()).changes:
                yield found
            await self._following.clock.sleep(LOOK_SECONDS)

    async def look(self) -> News:
        """What has changed since the last look."""
        counted = await self._following.index.catalog.counters(self._generation)
        if counted == self._counted:
            return News((), 0)
        shelf = await self._listing()
        changes = differences(self._shelf, shelf, datetime.now(UTC))
        texts = counted["texts_embedded"] - self._counted.get("texts_embedded", 0)
        self._shelf, self._counted = shelf, counted
        return News(changes, texts)

    async def _listing(self) -> dict[str, Shelved]:
        schema = self._following.index.settings.views[self._following.view].sql_schema
        cursor = await self._connection.execute(_LISTING.format(sql.Identifier(schema, self._following.view)))
        return {row[0]: Shelved(*row[1:]) for row in await cursor.fetchall()}


@asynccontextmanager
async def watching(following: Following) -> AsyncIterator[Watcher]:
    """A watcher that knows the view as it is now. For a view whose first load is done."""
    generation = await following.index.catalog.active_generation(following.view)
    assert generation is not None, "a view that was loaded has one"
    async with await AsyncConnection.connect(following.index.dsn, autocommit=True) as connection:
        watcher = Watcher(following, generation, connection)
        await watcher.look()
        yield watcher


def differences(before: Mapping[str, Shelved], after: Mapping[str, Shelved], seen: datetime) -> tuple[Moved, ...]:
    """What happened between two listings, by document id. A document that went while another came with its chunks was
    renamed."""
    gone = {before[name].first_chunk: name for name in sorted(before.keys() - after.keys())}
    changes = []
    for name in sorted(after.keys() - before.keys()):
        was = gone.pop(after[name].first_chunk, None)
        changes.append(Moved("added" if was is None else "renamed", name, was, _lag_ms(after[name], seen)))
    kept = [name for name in sorted(before.keys() & after.keys()) if before[name] != after[name]]
    changes += [Moved("changed", name, None, _lag_ms(after[name], seen)) for name in kept]
    return (*changes, *(Moved("deleted", name) for name in gone.values()))


def _lag_ms(document: Shelved, seen: datetime) -> float | None:
    return None if document.source_time is None else (seen - document.source_time).total_seconds() * 1000
