"""Forgetting documents: which tables hold something of them, and the transaction that takes it out of all of them.

`IN_STORE` and `IN_GENERATIONS` list every table that can hold a document's text, its key or a query. Whoever adds a
column that can adds it here, with a statement in queries/purge.sql; a test compares the list with the tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from livedex.model import Generation
from livedex.rules.forgetting import place_of
from livedex.store.database import Database
from livedex.store.entries import SourceRow, key_hash
from livedex.store.statements import Statements

STATEMENTS = Statements("purge")


@dataclass(frozen=True, slots=True)
class Held:
    """A table, without its schema, that can hold something of a document.

    `columns` can hold its text, key or vector, or a query: they have STATISTICS 0. `traces` are hashes and names of
    versions. `forget` names the statement that removes what the table holds of `documents`, which returns a number.
    """

    table: str
    columns: tuple[str, ...]
    forget: str
    traces: tuple[str, ...] = ()


IN_GENERATIONS = (
    Held("terms", ("tsv", "weights"), "forget_terms"),
    Held("chunks", ("text", "heading_path"), "forget_chunks", ("shown_hash", "text_hash", "terms_hash")),
    Held("vectors", ("embedding",), "forget_vectors"),
    Held("strays", (), "forget_strays"),
    Held("applied", (), "forget_applied", ("version", "content_hash")),
)
IN_STORE = (
    Held("embeddings", ("embedding",), "forget_embeddings", ("text_hash",)),
    Held("staged", ("change",), "forget_staged"),
    Held("quarantine", ("reason",), "forget_quarantine", ("version",)),
    Held("lag_samples", (), "forget_lag_samples"),
    Held("changes", (), "forget_changes", ("key_hash", "version")),
    Held("deferred", (), "forget_deferred", ("content_hash",)),
    Held("fingerprints", (), "forget_fingerprints", ("value", "fingerprint")),
    Held("retrieval_texts", ("text",), "forget_retrieval_texts", ("text_hash",)),
    # In this order: which queries are meant is found through the hits.
    Held("retrievals", ("query", "filters"), "forget_retrievals"),
    Held("retrieval_hits", (), "forget_retrieval_hits", ("version", "chunk_id", "text_hash")),
    Held("escalations", ("question", "resolution"), "forget_escalations"),
    Held("escalation_nearest", ("document_id", "document_version"), "forget_escalation_nearest", ("chunk_id",)),
    Held("audit_examples", ("document_id",), "forget_audit_examples", ("key_hash",)),
    Held("audits", ("report", "error"), "forget_audit_errors"),
    Held("repairs", ("key", "error"), "forget_repairs", ("key_hash",)),
    Held("partitions", ("error",), "forget_source_errors"),
    Held("cursors", ("error",), "forget_shard_errors"),
    # Last: the others are found through it.
    Held(
        "documents",
        ("key", "document_id", "title", "metadata", "raw"),
        "forget_documents",
        ("key_hash", "version", "raw_hash", "content_hash"),
    ),
)


@dataclass(frozen=True, slots=True)
class Found:
    """A document that is to be forgotten. `deleted`: it is a tombstone, or was one that upkeep dropped. `formerly`: its
    key is another one now."""

    document: int
    key_hash: bytes
    document_id: str
    deleted: bool
    formerly: bool = False


@dataclass(frozen=True, slots=True)
class Wanted:
    """Keys to forget: their hashes, what people call them, and the documents that they stand for; `unknown` are those
    that stand for none."""

    key_hashes: frozenset[bytes]
    names: frozenset[str]
    found: tuple[Found, ...]
    unknown: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was removed: rows per table. `keys` are kept away from now on. `finished_at`: since then the store's files
    do not hold it either. `remains`: what could not be done, and where copies may be that livedex does not reach."""

    purge_id: int
    action: str
    source: str
    made_at: datetime
    made_by: str
    reason: str
    documents: int
    removed: Mapping[str, int]
    keys: int
    finished_at: datetime | None
    remains: tuple[str, ...] = field(default=())

    @property
    def complete(self) -> bool:
        return self.finished_at is not None


class Transaction:
    """One transaction that forgets. No worker writes while it runs, and none afterwards what it had read before."""

    def __init__(self, connection: AsyncConnection[Any], source: SourceRow) -> None:
        self._connection = connection
        self._source = source
        self._values: dict[str, Any] = {"source_id": source.source_id, "source": source.name}

    async def begin(self) -> None:
        """Wait for workers that are writing. Raises LockNotAvailable when one of them takes long."""
        await self._execute("wait_briefly")
        await self._execute("exclude_workers")

    async def end_leases(self) -> None:
        """What workers of the source and its views read so far is never written; they read anew."""
        await self._execute("end_leases")

    async def wanted(self, keys: Sequence[str]) -> Wanted:
        """What some document_ids, or keys in JSON, stand for. Raises NotFound for one that could be several keys."""
        named = await self._rows("named", document_ids=list(keys))
        hashes: dict[str, set[bytes]] = {key: set() for key in keys}
        for row in named:
            hashes[row["document_id"]].add(bytes(row["key_hash"]))
        for key in keys:
            hashes[key] = hashes[key] or {key_hash(place_of(key, self._source.mapping, self._source.name))}
        every = set().union(*hashes.values())
        found = [_found(row, formerly=False) for row in await self._rows("standing", key_hashes=list(every))]
        vacant = every - {each.key_hash for each in found}
        found += [_found(row, formerly=True) for row in await self._rows("formerly", key_hashes=list(vacant))]
        called = {hashed: key for key, hashed_keys in hashes.items() for hashed in hashed_keys}
        found += [
            Found(row["document"], bytes(row["key_hash"]), called[bytes(row["key_hash"])], deleted=True)
            for row in await self._rows("vanished", key_hashes=list(every))
        ]
        there = {each.key_hash for each in found}
        distinct = {each.document: each for each in reversed(found)}
        return Wanted(
            frozenset(every),
            frozenset(keys),
            tuple(distinct[number] for number in sorted(distinct)),
            tuple(key for key in keys if hashes[key].isdisjoint(there)),
        )

    async def forget(self, wanted: Wanted) -> dict[str, int]:
        """Take documents out of every table; rows per table."""
        documents = sorted({found.document for found in wanted.found})
        older = await self._rows("older_keys", documents=documents)
        self._values |= {
            "documents": documents,
            "key_hashes": sorted({*wanted.key_hashes, *(bytes(row["key_hash"]) for row in older)}),
            "names": sorted(name for name in wanted.names | {found.document_id for found in wanted.found} if name),
        }
        removed: dict[str, int] = {}
        for generation in await self._rows("generations_with_tables"):
            schema = f"livedex_g{generation['generation']}"
            removed |= await self._forget_generation(schema, lexical=generation.pop("lexical"), **generation)
        for held in IN_STORE:
            removed[f"livedex.{held.table}"] = await self._gone(held.forget)
        return removed

    async def suppress(self, action: str, by: str, reason: str, documents: int, removed: Mapping[str, int]) -> int:
        """Keep the keys away, those that the documents had before included, and write the receipt."""
        purge_id = await self.note(action, by, reason, documents, removed, finished=False)
        await self._execute("suppress", purge_id=purge_id)
        return purge_id

    async def note(
        self, action: str, by: str, reason: str, documents: int, removed: Mapping[str, int], *, finished: bool
    ) -> int:
        """Write a receipt; its number."""
        there = {table: rows for table, rows in removed.items() if rows}
        (row,) = await self._rows(
            "add_receipt",
            action=action,
            by=by,
            reason=reason,
            documents=documents,
            removed=Jsonb(there),
            finished=finished,
        )
        return int(row["purge_id"])

    async def lift(self, wanted: Wanted) -> int:
        """Keep keys away no more; how many were."""
        return len(await self._rows("lift", key_hashes=sorted(wanted.key_hashes)))

    async def _forget_generation(self, schema: str, *, lexical: bool, **values: Any) -> dict[str, int]:
        removed: dict[str, int] = {}
        sql = STATEMENTS.for_schema(schema)
        numbers = await self._rows("term_numbers", sql=sql) if lexical else []
        for held in IN_GENERATIONS:
            if lexical or held.table != "terms":
                removed[f"{schema}.{held.table}"] = await self._gone(held.forget, sql=sql, **values)
        if lexical:
            await self._gone("settle_frequencies", sql=sql, terms=[row["term"] for row in numbers])
        return removed

    async def _gone(self, name: str, *, sql: Mapping[str, str] | None = None, **values: Any) -> int:
        (row,) = await self._rows(name, sql=sql, **values)
        return int(row["gone"])

    async def _execute(self, name: str, **values: Any) -> None:
        await self._connection.execute(STATEMENTS[name], {**self._values, **values})

    async def _rows(self, name: str, *, sql: Mapping[str, str] | None = None, **values: Any) -> list[dict[str, Any]]:
        statement = STATEMENTS[name] if sql is None else sql[name]
        async with self._connection.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(statement, {**self._values, **values})
            return await cursor.fetchall()


async def receipts(database: Database, purge_ids: Sequence[int] | None = None) -> list[Receipt]:
    """Receipts, all by default, oldest first."""
    rows = await _read(database, STATEMENTS["receipts"], purge_ids=purge_ids)
    return [Receipt(**{**row, "remains": tuple(row["remains"])}) for row in rows]


async def documents_with(database: Database, source: SourceRow, name: str, value: str) -> list[str]:
    """Documents, by document_id, whose metadata `name` is a value or a list with it."""
    rows = await _read(database, STATEMENTS["with_metadata"], source_id=source.source_id, name=name, value=value)
    return [row["document_id"] for row in rows]


async def documents_with_words(
    database: Database, source: SourceRow, generation: Generation, lexemes: Sequence[str]
) -> list[str]:
    """Documents, by document_id, in which every lexeme stands."""
    statement = STATEMENTS.for_schema(generation.schema)["with_words"]
    rows = await _read(database, statement, source_id=source.source_id, lexemes=lexemes)
    return [row["document_id"] for row in rows]


async def _read(database: Database, statement: str, **values: Any) -> list[dict[str, Any]]:
    async with database.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(statement, values)
        return await cursor.fetchall()


def _found(row: Mapping[str, Any], *, formerly: bool) -> Found:
    return Found(row["document"], bytes(row["key_hash"]), row["document_id"], row["deleted"], formerly)
