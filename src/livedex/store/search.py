"""Finding candidates in one generation, joined to the current documents in the same snapshot."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from psycopg import AsyncConnection, sql
from psycopg.rows import dict_row

from livedex.model import Generation, Query
from livedex.store.database import Database
from livedex.store.entries import EVERYONE, NO_TENANT
from livedex.store.marks import Marks
from livedex.store.statements import Statements, load

STATEMENTS = Statements("search")
CATALOG = load("catalog")

CANDIDATES = 100
MOST_EF_SEARCH = 1000
NEWEST = 100
"""So many of the newest chunks are measured whatever the vector index says."""
NARROW = 1000
"""Where no more documents than this are visible, all their vectors are measured."""


@dataclass(frozen=True, slots=True)
class Found:
    """Rows of the statement `hits`, and how fresh the generation was in the snapshot they were read in.
    Not `complete`: the vector index proposed fewer than were asked for."""

    rows: tuple[Mapping[str, Any], ...]
    complete: bool
    marks: Marks


async def dense(
    database: Database, generation: Generation, query: Query, vector: npt.NDArray[np.float32], *, exact: bool
) -> Found:
    """The nearest visible chunks by cosine distance, at most `query.top_k`, in one journey and one snapshot."""
    limit = max(CANDIDATES, query.top_k)
    narrows = bool(query.filters) or query.tenant is not None or bool(query.principals)
    kind = "exact" if exact else "near_or_exact" if narrows else "near"
    statement = _hits(generation, query, limit, kind)
    values = _values(generation, query, vector)
    async with database.connection() as connection:
        if limit == CANDIDATES and kind != "near_or_exact":
            rows = await _rows(connection, statement, values)
        else:
            async with connection.pipeline(), connection.transaction():
                await connection.execute(STATEMENTS["widen"], {"ef_search": str(min(MOST_EF_SEARCH, limit))})
                if kind == "near_or_exact":
                    await connection.execute(STATEMENTS["plan_for_values"])
                rows = await _rows(connection, statement, values)
    hits = tuple(row for row in rows if row["chunk"] is not None)
    return Found(hits, exact or len(hits) == query.top_k, Marks.of_json(json.loads(rows[0]["marks"])))


async def _rows(connection: AsyncConnection[Any], statement: str, values: Mapping[str, Any]) -> list[dict[str, Any]]:
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(statement, values)
        return await cursor.fetchall()


def _hits(generation: Generation, query: Query, limit: int, kind: str) -> str:
    dimensions = generation.recipe.model.dimensions
    sizes = {
        "dimensions": dimensions,
        "narrow_documents": NARROW,
        "limit": limit,
        "newest": NEWEST,
        "top_k": query.top_k,
    }
    filled = STATEMENTS.for_schema(generation.schema, **sizes)
    visible = filled["visible"]
    for number, name in enumerate(sorted(query.filters)):
        # The name stands in the statement, so that an index on it serves; a percent sign in it is no placeholder.
        literal = sql.SQL(sql.Literal(name).as_string(None).replace("%", "%%"))
        condition = sql.SQL(filled["has_metadata"]).format(
            name=literal, prefixes=sql.SQL(f"prefixes_{number}"), values=sql.SQL(f"values_{number}")
        )
        visible += "\n" + condition.as_string(None)
    narrow = filled["narrow"] if kind == "near_or_exact" else filled["no_narrow"]
    candidates = filled[kind].replace("{near}", filled["near"])
    statement = filled["hits"].replace("{narrow}", narrow).replace("{candidates}", candidates)
    statement = statement.replace("{marks}", CATALOG["marks"])
    return statement.replace("{visible}", visible)


def _values(generation: Generation, query: Query, vector: npt.NDArray[np.float32]) -> dict[str, Any]:
    values: dict[str, Any] = {
        "generation": generation.generation,
        "vector": vector,
        "source_ids": list(generation.source_ids),
        "tenants": [NO_TENANT] if query.tenant is None else [NO_TENANT, query.tenant],
        "principals": [EVERYONE, *query.principals],
    }
    for number, name in enumerate(sorted(query.filters)):
        accepted = list(query.filters[name])
        values[f"prefixes_{number}"] = [value[:64] for value in accepted]
        values[f"values_{number}"] = accepted
    return values
