"""What bounds a view's cost, as the store has it: declared limits, documents that wait, what was embedded, what grew
too old."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from psycopg import AsyncConnection
from psycopg.rows import dict_row, tuple_row
from psycopg.types.json import Jsonb

from livedex.model import Generation
from livedex.rules.deferral import Deferral, Limits, Reason, Standing
from livedex.store.chunk_rows import Outcome, deferred_row
from livedex.store.database import Database
from livedex.store.entries import SourceRow
from livedex.store.statements import Statements, load

STATEMENTS = Statements("cost")
SQL = load("cost")
EXPIRED_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class ViewCost:
    """What a view's limits come to, now. Tokens are estimated, one for every four characters, and count from midnight
    UTC to `goes_on_at`. Of the documents: `debounced` are not quiet yet, `paused` wait for the budget, `lexical_only`
    are found by words alone, `expired` are too old to be shown."""

    debounce_seconds: float | None
    tokens_per_day: int | None
    when_spent: str | None
    tokens_today: int
    ttl_seconds: float | None
    debounced: int
    paused: int
    lexical_only: int
    expired: int
    goes_on_at: datetime


class Found(NamedTuple):
    """What is known of some documents: which wait already; rows of `applied_of` and `recorded_of`."""

    standing: Mapping[int, Standing]
    applied: Sequence[tuple[Any, ...]]
    recorded: Sequence[tuple[Any, ...]]


class Waiters:
    """The documents of a shard that wait, on the shard's own connection."""

    def __init__(self, connection: AsyncConnection[Any], schema: str) -> None:
        self._connection = connection
        self._sql = STATEMENTS.for_schema(schema)

    async def any(self, values: Mapping[str, Any]) -> bool:
        return bool((await self._rows("any_deferred", values))[0][0])

    async def begin(self, values: Mapping[str, Any]) -> None:
        """Take back what a shard said of its budget before, and no other error."""
        await self._connection.execute(self._sql["begin"], values)

    async def revive(self, values: Mapping[str, Any]) -> None:
        """Let go on what waits because it was too old, and is not any more."""
        await self._connection.execute(self._sql["revive"], values)

    async def deferral(self, values: Mapping[str, Any], *, of_next: bool = False) -> Deferral:
        """How the shard's documents stand; `of_next`: with those of the documents that `read_after` reads."""
        rows = await self._rows("deferral", values)
        standing = _standing(await self._rows("standing_after", values)) if of_next else {}
        now, spent, held = rows[0][:3]
        oldest = {source_id: seq for *_, source_id, seq in rows if seq is not None}
        return Deferral(now, int(spent), held, oldest, standing)

    async def due(self, values: Mapping[str, Any], reasons: Sequence[Reason]) -> list[tuple[Any, ...]]:
        """Rows like those of `read_after`."""
        return await self._rows("read_due", {**values, "reasons": [reason.value for reason in reasons]})

    async def found(self, values: Mapping[str, Any]) -> Found:
        standing = _standing(await self._rows("standing_of", values))
        return Found(standing, await self._rows("applied_of", values), await self._rows("recorded_of", values))

    async def embedded(self, values: Mapping[str, Any]) -> set[int]:
        """The chunks of some documents that have vectors."""
        return {chunk for (chunk,) in await self._rows("embedded_of", values)}

    async def note(self, values: Mapping[str, Any], outcomes: Sequence[Outcome]) -> None:
        """Write down, in the transaction of a batch, what it leaves waiting and what waits no more."""
        waiting = [deferred_row(outcome, hold) for outcome in outcomes if (hold := outcome.waits_for) is not None]
        settled = [outcome.source.document.document for outcome in outcomes if outcome.waits_for is None]
        if waiting:
            await self._connection.execute(self._sql["defer"], {**values, "deferred": Jsonb(waiting)})
        if settled:
            await self._connection.execute(self._sql["settle"], {**values, "settled": settled})

    async def _rows(self, name: str, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        async with self._connection.cursor(row_factory=tuple_row) as cursor:
            await cursor.execute(self._sql[name], values)
            return await cursor.fetchall()


def _standing(rows: Sequence[tuple[Any, ...]]) -> dict[int, Standing]:
    return {
        document: Standing(Reason(reason), since_seq, since, due, bytes(content_hash))
        for document, reason, since_seq, since, due, content_hash in rows
    }


async def declare_limits(
    database: Database, generation: Generation, limits: Limits, ttl: timedelta | None
) -> Generation:
    """Record what a view is bounded by, for `status` and for whoever searches it; the generation with its ages."""
    debounce, budget = limits.debounce, limits.budget
    values = {
        "generation": generation.generation,
        "view": generation.view,
        "debounce": debounce and debounce.quiet,
        "at_most": debounce and debounce.at_most,
        "tokens_per_day": budget and budget.tokens_per_day,
        "when_spent": budget and budget.when_spent.value,
        "ttl": ttl,
    }
    async with database.connection() as connection:
        await connection.execute(SQL["declare_view"], values)
        ages = await (await connection.execute(SQL["max_ages"], values)).fetchall()
    return replace(generation, max_ages=tuple(age for (age,) in ages))


async def declare_ttl(database: Database, source: SourceRow, ttl: timedelta | None) -> None:
    """Record how old a source's documents may become. Where that is more than before, those that were taken away for
    their age come back when the source is read again."""
    async with database.transaction() as connection:
        await connection.execute(load("catalog")["lock"])
        for statement in ("release_expired", "declare_source"):
            await connection.execute(SQL[statement], {"source_id": source.source_id, "ttl": ttl})
        index = f"documents_dated_{source.source_id}"
        if ttl is not None:
            # Even IF NOT EXISTS waits for everybody who is writing documents.
            stands = await connection.execute(load("catalog")["stands"], {"name": index})
            if not (await stands.fetchall())[0][0]:
                filled = STATEMENTS.for_schema("livedex", index=index, source_id=source.source_id)
                await connection.execute(filled["index_dates"])


async def expire(database: Database, source: SourceRow, ttl: timedelta) -> int:
    """Make tombstones of a source's documents that are older than this, some at a time; how many it were."""
    statement = STATEMENTS.for_schema("livedex", source_id=source.source_id)["expire"]
    expired = 0
    while True:
        async with database.transaction() as connection:
            await connection.execute(load("purge")["hold_back_purges"])
            cursor = await connection.execute(statement, {"ttl": ttl, "limit": EXPIRED_AT_ONCE})
            gone = int((await cursor.fetchall())[0][0])
            if gone:
                await connection.execute(load("log")["notify"], {"news": " "})
        expired += gone
        if gone < EXPIRED_AT_ONCE:
            return expired


async def read_pause(database: Database, generation: Generation) -> str | None:
    """Why a generation embeds nothing more today, once all shards with documents that wait for that have come to say
    so; None before, and while none wait."""
    async with database.connection() as connection:
        rows = await (await connection.execute(SQL["paused"], {"generation": generation.generation})).fetchall()
    said, busy = rows[0]
    return None if busy else said


async def read_cost(database: Database, generation: Generation) -> ViewCost:
    async with database.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(SQL["of_view"], {"generation": generation.generation})
        (row,) = await cursor.fetchall()
    return ViewCost(**row)
