"""Records of retrievals: written in batches, read for replays, kept for a time."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

import psycopg
from psycopg import AsyncConnection, sql
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from livedex.errors import NotFound
from livedex.model import Dropped, Generation, Hit, Mode, Outcome, Query, Retrieval, WhenStale
from livedex.store.database import Database
from livedex.store.entries import EVERYONE, NO_TENANT
from livedex.store.statements import Statements, load

SQL = Statements("retrievals")
SHORT_SECONDS = 2 * 86400.0
"""What is kept for less than this is deleted row by row within a day; what is kept longer goes with its day."""


@dataclass(frozen=True, slots=True)
class ToldHit:
    """A hit that is to be recorded, or one that was withheld. `keys` are hashes of the keys that its document may have,
    for a chunk that is gone by now. `text` is None where it is not to be kept, or stands in the store already."""

    hit: Hit | Dropped
    source_id: int
    keys: Sequence[bytes]
    text_hash: bytes | None = None
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """A retrieval that is to be recorded. `age_seconds` is how long ago it was, `query_hash` is keyed. Without `text`
    neither the query nor what documents say is written down."""

    query: Query
    retrieval: Retrieval
    age_seconds: float
    query_hash: bytes
    hits: Sequence[ToldHit]
    withheld: Sequence[ToldHit]
    text: bool


@dataclass(frozen=True, slots=True)
class Count:
    """What is counted of one search, or of a refused one. `lost`: there was no room for its record."""

    view: str
    age_seconds: float
    retrievals: int = 1
    stale: int = 0
    abstained: int = 0
    escalated: int = 0
    refused: int = 0
    lost: int = 0

    @classmethod
    def of(cls, retrieval: Retrieval, age_seconds: float) -> Count:
        outcome = None if retrieval.verdict is None else retrieval.verdict.outcome
        return cls(
            view=retrieval.view,
            age_seconds=age_seconds,
            stale=int(any(hit.stale for hit in retrieval.hits)),
            abstained=int(outcome is Outcome.ABSTAINED),
            escalated=int(outcome is Outcome.ESCALATED),
        )


@dataclass(frozen=True, slots=True)
class Summary:
    """One line of a list of retrievals. `query` is None where texts are not kept, or were purged."""

    retrieval_id: str
    at: datetime
    view: str
    generation: int
    query: str | None
    tenant: str | None
    principals: tuple[str, ...]
    top_k: int
    mode: str
    lag_seconds: float | None
    stale: int
    contract: str | None
    outcome: str | None
    hits: int


@dataclass(frozen=True, slots=True)
class Retrievals:
    """The last retrievals, newest first. Of `lost` more no record could be kept."""

    retrievals: tuple[Summary, ...]
    lost: int


@dataclass(frozen=True, slots=True)
class SeenHit:
    """A hit as it was. `document` is livedex's own number of the document, None when it has been purged; `document_id`
    is what it is called now. Of what a contract `withheld` there is neither place nor text."""

    rank: int
    document: int | None
    document_id: str | None
    version: str
    chunk_id: str
    chunk_index: int | None
    start: int | None
    end: int | None
    text_hash: bytes | None
    text: str | None
    score: float
    scores: Mapping[str, float]
    stale: bool
    withheld: bool


@dataclass(frozen=True, slots=True)
class SeenRetrieval:
    """A retrieval as it was recorded. `asked` and `freshness` are about how fresh it had to be and was."""

    retrieval_id: str
    at: datetime
    view: str
    generation: int
    model: str | None
    query: str | None
    tenant: str | None
    principals: tuple[str, ...]
    top_k: int
    mode: str
    exact: bool
    filters: Mapping[str, Sequence[str]] | None
    asked: Mapping[str, Any]
    freshness: Mapping[str, Any]
    watermark: Sequence[Mapping[str, Any]]
    lag_seconds: float | None
    stale: int
    contract: str | None
    outcome: str | None
    violations: Sequence[Mapping[str, str]]
    timings: Mapping[str, float]
    hits: tuple[SeenHit, ...]


class Records:
    """The tables of retrieval records."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def make_days(self) -> None:
        """Have the tables of yesterday, today and tomorrow."""
        async with self._database.transaction() as connection:
            await connection.execute(SQL["make_days"])

    async def write(self, told: Sequence[Told], counts: Sequence[Count], passed: Callable[[], float]) -> None:
        """Write a batch in one transaction. `passed`: how many seconds ago ages were as given. Raises StoreError."""
        by_generation: dict[int, list[Told]] = defaultdict(list)
        for each in told:
            by_generation[each.retrieval.generation].append(each)
        async with self._database.transaction() as connection:
            # The store's time, taken before anything that may have to wait.
            (clock,) = await _one(connection, SQL["now"])
            now = clock - timedelta(seconds=passed())
            await connection.execute(SQL["commit_asynchronously"])
            await connection.execute(load("purge")["hold_back_purges"])
            await connection.execute(SQL["count"], {"now": now, "counts": Jsonb([asdict(count) for count in counts])})
            for generation, group in sorted(by_generation.items()):
                values = {
                    "generation": generation,
                    "now": now,
                    "retrievals": Jsonb([_retrieval(each) for each in group]),
                    "hits": Jsonb([row for each in group for row in _hits(each)]),
                }
                await connection.execute(SQL.for_schema(f"livedex_g{generation}")["record"], values)

    async def forget(self, keep_seconds: float) -> None:
        """Let go of what is older. A day that readers hold stays until the next time."""
        kept = {"keep": keep_seconds}
        async with self._database.transaction() as connection:
            for statement in ("forget_texts", "forget_minutes"):
                await connection.execute(SQL[statement], kept)
            if keep_seconds < SHORT_SECONDS:
                for statement in ("forget_hits", "forget_retrievals"):
                    await connection.execute(SQL[statement], kept)
        for row in await self._rows(SQL["past_days"], kept):
            try:
                async with self._database.transaction() as connection:
                    await connection.execute(SQL["impatient"])
                    drop = sql.SQL(SQL["drop_day"]).format(day=sql.Identifier(row["name"]))
                    await connection.execute(drop)
            except psycopg.errors.LockNotAvailable:
                return

    async def recent(self, view: str | None, last: int, keep_seconds: float) -> Retrievals:
        """The last retrievals, newest first."""
        values = {"view": view, "last": last, "keep": keep_seconds}
        rows = await self._rows(SQL["recent"], values)
        (lost,) = await self._rows(SQL["lost"], values)
        return Retrievals(tuple(Summary(**_named(row)) for row in rows), lost["lost"])

    async def one(self, retrieval_id: str, keep_seconds: float) -> SeenRetrieval:
        """Raises NotFound for one that was not recorded, or not kept."""
        missing = NotFound(
            f"There is no record of a retrieval {retrieval_id}. It is older than what is kept, was not recorded, or is "
            "not written yet. See: livedex retrievals list"
        )
        try:
            number = uuid.UUID(retrieval_id)
        except ValueError:
            raise missing from None
        rows = await self._rows(SQL["retrieval"], {"retrieval_id": number, "keep": keep_seconds})
        if not rows:
            raise missing
        row = rows[0]
        hits = await self._rows(SQL["hits"], {"retrieval_id": number, "at": row["at"]})
        row["violations"] = row["violations"] or []
        return SeenRetrieval(**_named(row), hits=tuple(SeenHit(**hit) for hit in hits))

    async def standing(
        self, generation: Generation, documents: Sequence[int], seen: SeenRetrieval
    ) -> list[dict[str, Any]]:
        """What can be said now of documents to whoever made a retrieval: rows of the statement `standing`."""
        values = {
            "generation": generation.generation,
            "documents": list(documents),
            "tenants": [NO_TENANT] if seen.tenant is None else [NO_TENANT, seen.tenant],
            "principals": [EVERYONE, *seen.principals],
            "filters": Jsonb(seen.filters or {}),
            "source_ids": list(generation.source_ids),
            "max_ages": list(generation.max_ages),
        }
        return await self._rows(SQL.for_schema(generation.schema)["standing"], values)

    async def documents_of(self, generation: Generation, chunks: Sequence[int]) -> dict[int, int]:
        """Chunk → document."""
        statement = SQL.for_schema(generation.schema)["documents_of_chunks"]
        return {row["chunk"]: row["document"] for row in await self._rows(statement, {"chunks": list(chunks)})}

    async def _rows(self, statement: str, values: Mapping[str, Any]) -> list[dict[str, Any]]:
        async with self._database.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(statement, values)
            return await cursor.fetchall()


def chunk_number(chunk_id: str) -> int:
    """The number within its generation of a chunk_id such as `g1-17`."""
    return int(chunk_id.rpartition("-")[2])


def query_of(seen: SeenRetrieval) -> Query | None:
    """The query as it was, but served however stale the view is now; None where it was not kept."""
    if seen.query is None:
        return None
    asked = seen.asked
    return Query(
        text=seen.query,
        top_k=seen.top_k,
        filters=dict(seen.filters or {}),
        tenant=seen.tenant,
        principals=seen.principals,
        exact=seen.exact,
        mode=Mode(seen.mode),
        max_staleness_seconds=asked["max_staleness_seconds"],
        at_least=tuple(asked["at_least"]),
        when_stale=WhenStale.SERVE,
    )


def _retrieval(told: Told) -> dict[str, Any]:
    query, retrieval, verdict = told.query, told.retrieval, told.retrieval.verdict
    violations = () if verdict is None else verdict.violations
    return {
        "retrieval_id": retrieval.retrieval_id,
        "age": told.age_seconds,
        "query": storable(query.text) if told.text else None,
        "query_hash": _hex(told.query_hash),
        "tenant": query.tenant,
        "principals": list(query.principals),
        "top_k": query.top_k,
        "mode": query.mode.value,
        "exact": query.exact,
        "filters": {name: list(values) for name, values in query.filters.items()} if told.text else None,
        "asked": {
            "max_staleness_seconds": query.max_staleness_seconds,
            "at_least": list(query.at_least),
            "when_stale": query.when_stale.value,
            "wait_seconds": query.wait_seconds,
        },
        "freshness": asdict(retrieval.freshness),
        "watermark": [
            {
                "source": mark.source,
                "position": mark.position,
                "time": None if mark.time is None else mark.time.isoformat(),
            }
            for mark in retrieval.watermark
        ],
        "lag_seconds": retrieval.lag_seconds,
        "stale": sum(hit.stale for hit in retrieval.hits),
        "contract": None if verdict is None else verdict.contract,
        "outcome": None if verdict is None else verdict.outcome.value,
        "violations": [asdict(violation) for violation in violations] or None,
        "timings": dict(retrieval.timings),
    }


def _hits(told: Told) -> list[dict[str, Any]]:
    rows = []
    for rank, each in enumerate((*told.hits, *told.withheld), 1):
        hit = each.hit
        row = {
            "retrieval_id": told.retrieval.retrieval_id,
            "age": told.age_seconds,
            "rank": rank,
            "source_id": each.source_id,
            "key_hashes": [_hex(key) for key in each.keys],
            "version": hit.document_version,
            "chunk_id": hit.chunk_id,
            "chunk": chunk_number(hit.chunk_id),
            "score": hit.score,
            "scores": dict(hit.scores),
            "stale": False,
            "withheld": isinstance(hit, Dropped),
        }
        if isinstance(hit, Hit):
            row |= {"chunk_index": hit.chunk_index, "start_offset": hit.start, "end_offset": hit.end,
                    "text_hash": _hex(each.text_hash or b""), "stale": hit.stale, "text": each.text}  # fmt: skip
        rows.append(row)
    return rows


def _named(row: Mapping[str, Any]) -> dict[str, Any]:
    return {**row, "retrieval_id": row["retrieval_id"].hex, "principals": tuple(row["principals"])}


def storable(text: str) -> str:
    """As the store can hold it: half a character becomes a question mark."""
    return text.encode(errors="replace").decode()


def _hex(value: bytes) -> str:
    return "\\x" + value.hex()


async def _one(connection: AsyncConnection[Any], statement: str) -> tuple[Any, ...]:
    row = await (await connection.execute(statement)).fetchone()
    assert row is not None
    return tuple(row)
