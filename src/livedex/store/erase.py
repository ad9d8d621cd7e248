"""Taking what was deleted out of the store's files too.

A deleted row's bytes stay in its page, in index pages, in TOAST and in the planner's statistics until something else
is written there, which may be never. Tables that can hold text are therefore written anew, with their indexes. Vectors
are not: pgvector overwrites those in its graph when it is vacuumed, and writing the graph anew takes minutes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from livedex.clock import Clock
from livedex.errors import StoreError
from livedex.faults import Faults
from livedex.store.database import Database, translate
from livedex.store.purge import IN_GENERATIONS, IN_STORE, Held
from livedex.store.statements import Statements

STATEMENTS = Statements("erase")
NOT_REWRITTEN = frozenset({"vectors", "retrieval_hits"})
"""Vectors, see above; the hits hold numbers and keyed hashes, and are many."""
ONLY_IF_TOUCHED = frozenset({"changes", "retrievals"})
"""They lose rows by whole partitions, so nothing lies in their free space but what purges took out of them."""
ATTEMPTS = 20
PAUSE_SECONDS = 0.5
WAITS = 120
FIRST_TO_CLEAR_STATISTICS = 180000
"""The version of PostgreSQL from which a table's owner may."""


@dataclass(frozen=True, slots=True)
class Erased:
    """Which purges it finished, and what could not be done or is not livedex's to do."""

    purge_ids: Sequence[int]
    remains: Sequence[str]


@asynccontextmanager
async def eraser(database: Database, clock: Clock, faults: Faults) -> AsyncIterator[Eraser]:
    """The right to rewrite the store's tables, on a connection of its own; waits while somebody else has it."""
    connection = await database.connect()
    try:
        with translate():
            await connection.execute(STATEMENTS["lock"])
            await connection.execute(STATEMENTS["wait_briefly"])
            yield Eraser(connection, clock, faults)
    finally:
        await connection.close()


class Eraser:
    def __init__(self, connection: AsyncConnection[Any], clock: Clock, faults: Faults) -> None:
        self._connection = connection
        self._clock = clock
        self._faults = faults

    async def finish(self) -> Erased:
        """Write anew what purges have left behind, and note on their receipts that it is done.

        Searches of a table wait while it is written. Safe to kill at any point, and to run again. Raises StoreError
        when a table stays in use.
        """
        unfinished = await self._rows("unfinished")
        purges = [row["purge_id"] for row in unfinished]
        if not purges:
            return Erased((), ())
        generations = [f"livedex_g{row['generation']}" for row in await self._rows("generations")]
        held = [*_within("livedex", IN_STORE), *(name for g in generations for name in _within(g, IN_GENERATIONS))]
        touched = {table for row in unfinished for table in row["removed"]}
        await self._outlive_older_snapshots()
        written = await self._tables([name for name, each in held if _is_written_anew(name, each, touched)])
        tables = await self._tables([name for name, _ in held])
        rights = (await self._rows("rights"))[0]
        for schema, table in written:
            await self._patiently("rewrite", of=schema, table=table)
        await self._faults.reach("purge.rewritten")
        await self._remove_statistics(
            [*(f"{schema}.{table}" for schema, table in tables), *(n for n, _ in held)], rights
        )
        for schema, table in tables:
            await self._patiently("clean", of=schema, table=table)
        for schema, table in await self._named("partitioned"):
            await self._patiently("analyze", of=schema, table=table)
        for generation in generations:
            await self._connection.execute(STATEMENTS.for_schema(generation)["sweep_strays"])
        remains = [*await self._last_traces(rights), *await self._elsewhere()]
        await self._connection.execute(STATEMENTS["finish"], {"purge_ids": purges, "remains": Jsonb(remains)})
        return Erased(purges, remains)

    async def _tables(self, names: Sequence[str]) -> list[tuple[str, str]]:
        """Schema and name of each, partitions in place of what is partitioned."""
        return await self._named("tables", tables=names)

    async def _outlive_older_snapshots(self) -> None:
        """Wait for the transactions of now: what one of them may still read, no rewriting leaves out."""
        running = [row["transaction"] for row in await self._rows("running")]
        for _ in range(WAITS):
            if not await self._rows("still_running", transactions=running):
                return
            await self._clock.sleep(PAUSE_SECONDS)
        raise StoreError(
            "A transaction that began before the purge stays open, so the server keeps what it may read. End it "
            "(pg_stat_activity shows it) and run: livedex purge --finish"
        )

    async def _remove_statistics(self, tables: Sequence[str], rights: Mapping[str, Any]) -> None:
        if rights["superuser"]:
            await self._connection.execute(STATEMENTS["remove_statistics"], {"tables": tables})
        elif rights["version"] >= FIRST_TO_CLEAR_STATISTICS:
            await self._connection.execute(STATEMENTS["clear_statistics"], {"tables": tables})

    async def _last_traces(self, rights: Mapping[str, Any]) -> list[str]:
        """Statistics and pages that only now and only some users can have written anew; what could not be is told."""
        remains = [
            f"The planner's statistics of {row['table']}, which has no row any more, may hold its last values. "
            "Let a superuser delete them from pg_statistic."
            for row in await self._rows("statistics_of_nothing")
        ]
        if rights["owner"]:
            await self._patiently("rewrite_statistics")
        else:
            remains.append(
                "Earlier statistics lie in free space of pg_statistic. Let the owner of the database run: "
                "VACUUM (FULL) pg_statistic, pg_statistic_ext_data;"
            )
        if rights["checkpoint"]:
            await self._connection.execute(STATEMENTS["checkpoint"])
        else:
            remains.append(
                "Pages on disk follow with the server's next checkpoint; a member of pg_checkpoint may run one at once."
            )
        return remains

    async def _elsewhere(self) -> list[str]:
        facts = (await self._rows("elsewhere"))[0]
        said = [
            "The source: livedex deletes nothing there.",
            f"The server's write-ahead log, until it is recycled and overwritten (max_wal_size {facts['wal_size']}"
            + (f"; {facts['slots']} replication slots may hold it longer)." if facts["slots"] else ")."),
            "Backups and snapshots of the store's disk, as long as you keep them.",
        ]
        if facts["logical_slots"]:
            said.append(
                f"{facts['logical_slots']} logical replication slots of this server, which keep earlier states of the "
                "planner's statistics until they have moved on."
            )
        if facts["archives"]:
            said.append("The archive of write-ahead logs, as long as you keep it.")
        if facts["replicas"]:
            said.append(f"{facts['replicas']} replicas or followers, until they have replayed what this server did.")
        if facts["logs"]:
            said.append("The server's own log: it is set to write statements with their parameters.")
        return said

    async def _patiently(self, name: str, **names: str) -> None:
        statement = STATEMENTS.for_schema("livedex", **names)[name]
        for attempt in range(1, ATTEMPTS + 1):
            try:
                await self._connection.execute(statement)
                return
            except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
                if attempt == ATTEMPTS:
                    where = ".".join(names.values()) or "pg_statistic"
                    raise StoreError(
                        f"{where} was in use all the time, so its file still holds what was purged. End long "
                        "transactions on it and run: livedex purge --finish"
                    ) from None
                await self._clock.sleep(PAUSE_SECONDS)

    async def _named(self, name: str, **values: Any) -> list[tuple[str, str]]:
        return [(row["schema"], row["table"]) for row in await self._rows(name, **values)]

    async def _rows(self, name: str, **values: Any) -> list[dict[str, Any]]:
        async with self._connection.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(STATEMENTS[name], values)
            return await cursor.fetchall()


def _within(schema: str, tables: Iterable[Held]) -> list[tuple[str, Held]]:
    return [(f"{schema}.{held.table}", held) for held in tables]


def _is_written_anew(name: str, held: Held, touched: Collection[str]) -> bool:
    if held.table in ONLY_IF_TOUCHED:
        return name in touched
    return bool(held.columns or held.traces) and held.table not in NOT_REWRITTEN
