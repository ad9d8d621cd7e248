"""Contracts in the store: which versions of them were enforced, and what they ask about every chunk."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from livedex.model import Generation
from livedex.rules.contracts import Contract
from livedex.store.database import Database
from livedex.store.statements import Statements

STATEMENTS = Statements("contracts")
SEARCH = Statements("search")
READ_AT_ONCE = 2000


class Contracts:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def remember(self, contract: Contract) -> None:
        """Keep a contract's clauses under its name, as long as the store stands."""
        values = {"contract": contract.name, "view": contract.view, "clauses": Jsonb(contract.clauses)}
        async with self._database.connection() as connection:
            await connection.execute(STATEMENTS["remember"], values)

    async def now(self) -> datetime:
        """The store's time."""
        async with self._database.connection() as connection:
            row = await (await connection.execute(STATEMENTS["now"])).fetchone()
        assert row is not None  # the statement has one row
        now: datetime = row[0]
        return now

    async def documents(self, generation: Generation) -> AsyncIterator[dict[str, Any]]:
        """Every document that can be found, in no order, in one snapshot and little memory: the statement `facts`."""
        shared = SEARCH.for_schema(generation.schema)
        statement = STATEMENTS.for_schema(generation.schema)["facts"]
        statement = statement.replace("{stale_since}", shared["stale_since"])
        statement = statement.replace("{not_expired}", shared["not_expired"] if generation.expires else "")
        values = {
            "generation": generation.generation,
            "source_ids": list(generation.source_ids),
            "max_ages": list(generation.max_ages),
        }
        async with (
            self._database.transaction() as connection,
            connection.cursor(name="livedex_facts", row_factory=dict_row) as cursor,
        ):
            cursor.itersize = READ_AT_ONCE
            await cursor.execute(statement, values)
            async for row in cursor:
                yield row
