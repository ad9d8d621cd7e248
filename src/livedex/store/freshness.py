"""How fresh views were over a time: from samples that workers leave in the store."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg.rows import class_row, dict_row

from livedex.model import Generation, Watermark
from livedex.store.database import Database
from livedex.store.marks import Marks
from livedex.store.statements import load

SQL = load("freshness")
SAMPLE_SECONDS = 5.0
"""One sample a view in each slot of so many seconds; the statements and the migration have the same number."""
KEPT_SECONDS = 7 * 86_400.0
"""Samples are kept for so long: figures and times in a lineage cannot reach further back."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one view over a time, from commit in the source to being searchable (`lag`), and to a deleted document being
    found no more (`delete`), in seconds; None where nothing was committed. `within_target` is the share of time in
    which every source was within the target lag, None before the first load is complete; `stale_retrieval_rate` the
    share of retrievals with a hit of which a newer version was on its way, None where nothing was asked."""

    lag_p50_seconds: float | None
    lag_p95_seconds: float | None
    lag_p99_seconds: float | None
    delete_p50_seconds: float | None
    delete_p95_seconds: float | None
    delete_p99_seconds: float | None
    within_target: float | None
    stale_retrieval_rate: float | None


async def watermarks(database: Database, generation: int) -> tuple[Watermark, ...] | None:
    """Up to where a generation is searchable, per source; None when it is no longer the one that answers."""
    async with database.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(load("catalog")["marks"], {"generation": generation})
        rows = await cursor.fetchall()
    if not rows or rows[0]["active_generation"] != generation:
        return None
    return Marks.of(rows).watermarks()


async def figures(database: Database, generation: Generation, seconds: float) -> Figures:
    """Over the last `seconds`, at most `KEPT_SECONDS`."""
    async with database.connection() as connection, connection.cursor(row_factory=class_row(Figures)) as cursor:
        await cursor.execute(SQL["figures"], {"generation": generation.generation, "seconds": seconds})
        (row,) = await cursor.fetchall()
    return row


async def sample(database: Database) -> None:
    """Note which views are within their target lag now; at most once a slot, whoever asks."""
    async with database.connection() as connection:
        await connection.execute(SQL["sample"])


async def prune(database: Database) -> None:
    """Let go of samples that are older than what is kept."""
    async with database.connection() as connection:
        for statement in ("prune", "prune_lag_samples"):
            await connection.execute(SQL[statement], {"keep": KEPT_SECONDS})
