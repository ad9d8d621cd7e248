"""What the store knows of one document over time: its versions, and what was searchable when."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import combinations, islice, pairwise
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import dict_row

from livedex.errors import NotFound
from livedex.model import Generation
from livedex.rules.folding import Place
from livedex.rules.lineage import DocumentVersion, Reader, Recorded, Sample, versions
from livedex.store.database import Database
from livedex.store.entries import SourceRow, key_hash
from livedex.store.freshness import KEPT_SECONDS
from livedex.store.statements import Statements

SQL = Statements("history")
MOST_READINGS = 64


@dataclass(frozen=True, slots=True)
class Quarantined:
    """Why a version could not be processed: by capture (`view` is None), or for one view."""

    view: str | None
    stage: str
    reason: str
    version: str
    first_at: datetime
    last_at: datetime


@dataclass(frozen=True, slots=True)
class Lineage:
    """The history of one document, oldest version first. `document_id` is what it is called now, which is another than
    what was asked for after a rename. `state` is `live`, `deleted`, `expired` (its time to live was over) or `purged`,
    of which nothing else is known."""

    source: str
    document_id: str
    state: str
    versions: tuple[DocumentVersion, ...] = ()
    quarantine: tuple[Quarantined, ...] = ()


def places_of(document_id: str, source: SourceRow) -> Iterator[Place]:
    """The keys that a source calls by this document_id. Slashes within values make it more than one."""
    tables = source.mapping
    for table, mapping in tables.items():
        if len(tables) == 1:
            written = document_id
        elif document_id.startswith(f"{table}/"):
            written = document_id.removeprefix(f"{table}/")
        else:
            continue
        for parts in _splits(written.split("/"), len(mapping.key)):
            yield table, parts


def _splits(words: list[str], count: int) -> Iterator[tuple[str, ...]]:
    """Every way to join words to so many parts."""
    for cuts in combinations(range(1, len(words)), count - 1):
        ends = [0, *cuts, len(words)]
        yield tuple("/".join(words[start:end]) for start, end in pairwise(ends))


def key_hashes(document_id: str, source: SourceRow) -> list[bytes]:
    return [key_hash(place) for place in islice(places_of(document_id, source), MOST_READINGS)]


class History:
    """Reads in one snapshot, so that what it says fits together."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def lineage(self, source: SourceRow, document_id: str, generations: list[Generation]) -> Lineage:
        """Raises NotFound for a document that the source never had here, or so long ago that nothing is left of it."""
        values = {
            "source_id": source.source_id,
            "document_id": document_id,
            "key_hashes": key_hashes(document_id, source),
        }
        async with self._database.transaction() as connection:
            await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            (forgotten,) = await _rows(connection, SQL["is_forgotten"], values)
            if forgotten["forgotten"]:
                return Lineage(source.name, document_id, "purged")
            found = await _rows(connection, SQL["holder"], values)
            found = found or await _rows(connection, SQL["former_holder"], values)
            if not found:
                raise NotFound(
                    f"Source {source.name} never had a document {document_id}, or so long ago that nothing is left of "
                    "it. KEY is the document_id that hits have."
                )
            holder = found[0]
            readers = [g for g in generations if source.source_id in g.source_ids]
            return Lineage(
                source=source.name,
                document_id=holder["document_id"],
                state=_state(holder),
                versions=await _versions(connection, holder["document"], readers),
                quarantine=await _quarantined(connection, holder["document"]),
            )


def _state(holder: Mapping[str, Any]) -> str:
    if not holder["deleted"]:
        return "live"
    return "expired" if holder["expired"] else "deleted"


async def _versions(
    connection: AsyncConnection[Any], document: int, generations: list[Generation]
) -> tuple[DocumentVersion, ...]:
    asked = {"document": document}
    states = [Recorded(**row) for row in await _rows(connection, SQL["states"], asked)]
    samples = await _rows(connection, SQL["samples"], asked)
    (kept,) = await _rows(connection, SQL["kept_since"], {"keep": KEPT_SECONDS})
    readers = []
    for generation in generations:
        statement = SQL.for_schema(generation.schema)["reader"]
        (row,) = await _rows(connection, statement, {**asked, "generation": generation.generation})
        own = [
            Sample(*(sample[name] for name in ("seq", "searchable_at", "embedded_at", "chunks_written")))
            for sample in samples
            if sample["generation"] == generation.generation
        ]
        readers.append(Reader(generation.generation, generation.view, samples=own, **row))
    return versions(states, readers, kept["since"])


async def _quarantined(connection: AsyncConnection[Any], document: int) -> tuple[Quarantined, ...]:
    return tuple(Quarantined(**row) for row in await _rows(connection, SQL["quarantined"], {"document": document}))


async def _rows(connection: AsyncConnection[Any], statement: str, values: Mapping[str, Any]) -> list[dict[str, Any]]:
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(statement, values)
        return await cursor.fetchall()
