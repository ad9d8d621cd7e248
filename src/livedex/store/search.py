"""Finding candidates in one generation, joined to the current documents in the same snapshot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
from psycopg import AsyncConnection, sql
from psycopg.rows import dict_row

from livedex.model import Generation, Query
from livedex.rules.freshness import ShardMark
from livedex.store.database import Database
from livedex.store.entries import EVERYONE, NO_TENANT
from livedex.store.statements import Statements, load

STATEMENTS = Statements("search")
CATALOG = load("catalog")

CANDIDATES = 100
NARROW = 300
"""Where no more documents than this are visible, all their vectors are measured."""


@dataclass(frozen=True, slots=True)
class Found:
    """Rows of the statement `hits`, and what they were read from, all of one snapshot."""

    generation: int | None
    rows: tuple[Mapping[str, Any], ...]
    complete: bool
    """False when the vector index proposed fewer than were asked for."""
    marks: tuple[ShardMark, ...]
    capturing: bool
    now: datetime


async def dense(
    database: Database, generation: Generation, query: Query, vector: npt.NDArray[np.float32], *, exact: bool
) -> Found:
    """The nearest visible chunks by cosine distance, at most `query.top_k`, in one round trip."""
    limit = max(CANDIDATES, query.top_k)
    statement = _hits(generation, query, limit, exact)
    values = _values(generation, query, vector)
    async with database.connection() as connection, connection.pipeline(), connection.transaction():
        await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        if query.top_k > CANDIDATES:
            await connection.execute(STATEMENTS["widen"], {"ef_search": str(min(1000, query.top_k))})
        active = await _ask(connection, CATALOG["active_generation"], {"view": generation.view})
        hits = await _ask(connection, statement, values)
        marks = await _ask(connection, CATALOG["marks"], {"generation": generation.generation})
        capturing = await _ask(connection, CATALOG["capturing"], {"source_ids": list(generation.source_ids)})
        (state,) = await capturing.fetchall()
        rows = await hits.fetchall()
        found = await active.fetchall()
        return Found(
            generation=found[0]["generation"] if found else None,
            rows=tuple(rows),
            complete=exact or len(rows) == query.top_k,
            marks=tuple(ShardMark(**row) for row in await marks.fetchall()),
            capturing=state["capturing"],
            now=state["now"],
        )


async def _ask(connection: AsyncConnection[Any], statement: str, values: Mapping[str, Any]) -> Any:
    cursor = connection.cursor(row_factory=dict_row)
    await cursor.execute(statement, values)
    return cursor


def _hits(generation: Generation, query: Query, limit: int, exact: bool) -> str:
    dimensions = generation.recipe.model.dimensions
    sizes = {"dimensions": dimensions, "narrow_documents": NARROW, "limit": limit}
    filled = STATEMENTS.for_schema(generation.schema, **sizes)
    visible = filled["visible"]
    for number, name in enumerate(sorted(query.filters)):
        condition = sql.SQL(filled["has_metadata"]).format(
            name=sql.Literal(name), prefixes=sql.SQL(f"prefixes_{number}"), values=sql.SQL(f"values_{number}")
        )
        visible += "\n" + condition.as_string(None)
    narrows = bool(query.filters) or query.tenant is not None or bool(query.principals)
    kind = "exact" if exact else "near_or_exact" if narrows else "near"
    narrow = filled["narrow"] if kind == "near_or_exact" else filled["no_narrow"]
    statement = filled["hits"].replace("{narrow}", narrow).replace("{candidates}", filled[kind])
    return statement.replace("{visible}", visible)


def _values(generation: Generation, query: Query, vector: npt.NDArray[np.float32]) -> dict[str, Any]:
    values: dict[str, Any] = {
        "vector": vector,
        "source_ids": list(generation.source_ids),
        "tenants": [NO_TENANT] if query.tenant is None else [NO_TENANT, query.tenant],
        "principals": [EVERYONE, *query.principals],
        "top_k": query.top_k,
    }
    for number, name in enumerate(sorted(query.filters)):
        accepted = list(query.filters[name])
        values[f"prefixes_{number}"] = [value[:64] for value in accepted]
        values[f"values_{number}"] = accepted
    return values
