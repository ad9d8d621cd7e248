"""How large and how worn the store's tables are, and the statements that mend them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg import AsyncConnection, sql
from psycopg.rows import dict_row

from livedex.errors import StoreDamaged
from livedex.model import Generation
from livedex.rules.upkeep import Action, IndexSize, Kind, Measured, TableSize
from livedex.store.database import Database, translate
from livedex.store.statements import Statements, load

STATEMENTS = Statements("upkeep")
SQL = load("upkeep")
SAMPLE = 100
"""Chunks that are looked up by their own vectors. Where 99.5 % can be found, fewer than 97 are one time in 600."""
TOMBSTONES_AT_ONCE = 5000


@dataclass(frozen=True, slots=True)
class Size:
    """What a generation takes on disk, in bytes, its indexes included. `dead_share` is of the vectors' rows.
    `maintained_at` is when upkeep last did something."""

    bytes: int
    vector_index_bytes: int
    text_index_bytes: int
    dead_share: float
    maintained_at: datetime | None


async def read_size(database: Database, generation: Generation) -> Size:
    async with database.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
        values = {"vector_index": _vector_index(generation), "text_index": f"{generation.schema}.terms_tsv"}
        await cursor.execute(SQL["summary"], {**_values(generation), **values})
        (row,) = await cursor.fetchall()
    return Size(**row)


@asynccontextmanager
async def sole_keeper(database: Database, *, gently: bool) -> AsyncIterator[Keeper | None]:
    """The right to look after the store; None while another process has it. `gently` costs time and spares the disk."""
    connection = await database.connect()
    try:
        keeper = Keeper(connection)
        yield keeper if await keeper.locked(gently=gently) else None
    finally:
        await connection.close()


class Keeper:
    """Works on a connection of its own, which a vacuum occupies."""

    def __init__(self, connection: AsyncConnection[Any]) -> None:
        self._connection = connection

    async def locked(self, *, gently: bool) -> bool:
        (row,) = await self._rows(SQL["lock"])
        if row["locked"] and gently:
            await self._rows(SQL["gently"])
        return bool(row["locked"])

    async def measure(self, generation: Generation) -> Measured:
        """Takes note of what indexes take per row where nothing is known of that yet."""
        values = _values(generation)
        tables = [TableSize(**row) for row in await self._rows(SQL["tables"], **values)]
        indexes = [IndexSize(**row) for row in await self._rows(SQL["indexes"], **values)]
        (building,) = await self._rows(SQL["is_building"])
        if building["building"]:
            indexes = [index for index in indexes if index.valid]
        await self._note_baselines(generation, [i for i in indexes if i.valid and i.usual_bytes_per_row is None])
        return Measured(tables, indexes, _vector_index(generation), await self._self_recall(generation))

    async def act(self, action: Action, generation: Generation | None) -> None:
        """Do it, and take note of it."""
        (began,) = await self._rows(SQL["now"])
        before = await self._bytes(action.target)
        target = sql.Identifier(*action.target.split("."))
        statement = {Kind.DROP_INDEX: "drop_index", Kind.VACUUM: "vacuum", Kind.REINDEX: "reindex"}[action.kind]
        with translate():
            await self._connection.execute(sql.SQL(SQL[statement]).format(target=target))
        if action.kind is Kind.REINDEX and generation is not None:
            await self._rebuilt(action.target, generation)
        await self.note(action, generation, began["now"], before, await self._bytes(action.target))

    async def note(
        self,
        action: Action,
        generation: Generation | None,
        began_at: datetime,
        bytes_before: int | None = None,
        bytes_after: int | None = None,
    ) -> None:
        await self._rows(
            SQL["note"],
            generation=None if generation is None else generation.generation,
            action=action.kind.value,
            target=action.target,
            reason=action.reason,
            began_at=began_at,
            bytes_before=bytes_before,
            bytes_after=bytes_after,
        )

    async def drop_history(self, keep_seconds: float) -> list[str]:
        """Drop what the history holds beyond that age; the names of the partitions that went."""
        gone = []
        for row in await self._rows(SQL["past_partitions"], seconds=keep_seconds):
            statement = sql.SQL(SQL["drop_partition"]).format(name=sql.Identifier(row["name"]))
            with translate():
                try:
                    async with self._connection.transaction():
                        await self._connection.execute(SQL["lock_briefly"])
                        await self._connection.execute(statement)
                except psycopg.errors.LockNotAvailable:
                    continue  # somebody reads it; next time, then
            gone.append(row["name"])
        await self._rows(SQL["prune_history"], seconds=keep_seconds)
        await self._rows(SQL["forget_upkeep"], seconds=keep_seconds)
        return gone

    async def drop_tombstones(self, keep_seconds: float) -> int:
        """Remove tombstones of that age which every generation has read; how many there were."""
        dropped = 0
        while True:
            rows = await self._rows(SQL["old_tombstones"], seconds=keep_seconds, limit=TOMBSTONES_AT_ONCE)
            await self._rows(SQL["drop_tombstones"], documents=[row["document"] for row in rows])
            dropped += len(rows)
            if len(rows) < TOMBSTONES_AT_ONCE:
                return dropped

    async def _self_recall(self, generation: Generation) -> float | None:
        try:
            (probed,) = await self._rows(STATEMENTS.for_schema(generation.schema)["self_recall"], sample=SAMPLE)
        except StoreDamaged:
            return 0.0  # an index that cannot be read finds nothing
        return probed["found"] / probed["asked"] if probed["asked"] else None

    async def _rebuilt(self, index: str, generation: Generation) -> None:
        indexes = [IndexSize(**row) for row in await self._rows(SQL["indexes"], **_values(generation))]
        await self._note_baselines(generation, [each for each in indexes if each.name == index])
        if index == _vector_index(generation):
            await self._rows(STATEMENTS.for_schema(generation.schema)["probe_again"], **_values(generation))

    async def _note_baselines(self, generation: Generation, indexes: Sequence[IndexSize]) -> None:
        filled = [index for index in indexes if index.rows]
        if filled:
            sizes = [index.bytes / index.rows for index in filled]
            names = [index.name for index in filled]
            await self._rows(SQL["note_baselines"], **_values(generation), names=names, bytes_per_row=sizes)

    async def _bytes(self, target: str) -> int | None:
        with translate():
            try:
                (row,) = await self._rows(SQL["bytes"], target=target)
            except psycopg.errors.UndefinedTable:
                return None  # an index that was dropped
        return int(row["bytes"])

    async def _rows(self, statement: str, **values: Any) -> list[dict[str, Any]]:
        with translate():
            async with self._connection.cursor(row_factory=dict_row) as cursor:
                await cursor.execute(statement, values)
                return await cursor.fetchall() if cursor.description else []


def _vector_index(generation: Generation) -> str:
    return f"{generation.schema}.vectors_embedding"


def _values(generation: Generation) -> dict[str, Any]:
    return {"generation": generation.generation, "schema": generation.schema}
