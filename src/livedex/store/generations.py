"""Building a generation's indexes and keeping the planner informed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import class_row, dict_row

from livedex.faults import Faults
from livedex.model import Generation
from livedex.rules.lexical import K1, LEAST_HEAVIEST, B
from livedex.store.database import Database, translate
from livedex.store.statements import Statements, array_literal
from livedex.store.terms import reweigh

STATEMENTS = Statements("generation")
LEXICON = Statements("lexicon")
PROBED_AT_ONCE = 50
WEIGHED_AT_ONCE = 2000
TOLERANCE = 0.02


@dataclass(frozen=True, slots=True)
class LoadState:
    indexed: bool
    loaded: bool
    """Every shard has reached the end of the log once, with every source's first snapshot complete."""


class GenerationTables:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def state(self, generation: Generation) -> LoadState:
        sql = STATEMENTS.for_schema(generation.schema)["loaded"]
        async with (
            self._database.connection() as connection,
            connection.cursor(row_factory=class_row(LoadState)) as cursor,
        ):
            await cursor.execute(sql, {"generation": generation.generation})
            state = await cursor.fetchone()
        return state or LoadState(indexed=False, loaded=False)

    @asynccontextmanager
    async def sole_builder(self, generation: Generation) -> AsyncIterator[Builder | None]:
        """The right to build a generation's indexes; None while somebody else has it."""
        connection = await self._database.connect()
        try:
            builder = Builder(connection, generation)
            yield builder if await builder.locked() else None
        finally:
            await connection.close()


class Builder:
    """Works on a connection of its own, which an index build occupies."""

    def __init__(self, connection: AsyncConnection[Any], generation: Generation) -> None:
        self._connection = connection
        self._generation = generation
        self._sql = STATEMENTS.for_schema(generation.schema)
        self._values = {"generation": generation.generation, "schema": generation.schema}

    async def locked(self) -> bool:
        return bool((await self._row("lock_index_build"))["locked"])

    async def build(self, faults: Faults) -> None:
        with translate():
            await self._weigh_alike(faults)
            for kind, name in (("text", "terms_tsv"), ("vector", "vectors_embedding")):
                if not (await self._row("index_is_valid", index=name))["valid"]:
                    await self._connection.execute(self._sql[f"drop_invalid_{kind}_index"])
                    await faults.reach("index.before_build")
                    await self._connection.execute(self._sql[f"build_{kind}_index"])
            await self._connection.execute(LEXICON.for_schema(self._generation.schema)["fold"])
            await self._connection.execute(self._sql["analyze"])
            await faults.reach("index.before_mark")
            await self._connection.execute(self._sql["mark_indexed"], self._values)

    async def _weigh_alike(self, faults: Faults) -> None:
        """Have all terms weighed by about the same average length. The first batches of a load knew only their own; as
        long as theirs stood, searches would have to look up more, to be sure."""
        statements = LEXICON.for_schema(self._generation.schema)
        values = {**self._values, "tolerance": TOLERANCE, "k1": K1, "b": B, "limit": WEIGHED_AT_ONCE}
        async with self._connection.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(statements["take_average"], values)
            average = max(1.0, (await cursor.fetchall())[0]["average"] or 1.0)
            while True:
                await cursor.execute(statements["weighed_otherwise"], {**values, "average": average})
                rows = await cursor.fetchall()
                if not rows:
                    return
                anew = await asyncio.to_thread(
                    reweigh,
                    [row["length"] for row in rows],
                    [row["norm"] for row in rows],
                    [bytes(row["weights"]) for row in rows],
                    average,
                )
                await faults.reach("index.before_weigh")
                await cursor.execute(
                    statements["weigh_anew"],
                    {
                        "places": [row["place"] for row in rows],
                        "chunks": [row["chunk"] for row in rows],
                        "norms": list(anew.norms),
                        "weights": list(anew.weights),
                        "terms": array_literal(anew.numbers),
                        "heaviest": array_literal(anew.heaviest),
                        "least_heaviest": LEAST_HEAVIEST,
                    },
                )

    async def probe(self) -> bool:
        """Look up the next chunks by their own vectors and note those the index does not find. False: none are left."""
        with translate():
            async with self._connection.cursor(row_factory=dict_row) as cursor:
                await cursor.execute(self._sql["probe"], {**self._values, "limit": PROBED_AT_ONCE})
                (row,) = await cursor.fetchall()
        return bool(row["probed"])

    async def _row(self, name: str, **values: Any) -> dict[str, Any]:
        async with self._connection.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(self._sql[name], {**self._values, **values})
            (row,) = await cursor.fetchall()
        return row
