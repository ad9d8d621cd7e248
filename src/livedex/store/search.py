"""Finding candidates in one generation, joined to the current documents in the same snapshot."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from psycopg import AsyncConnection, AsyncRawCursor, sql
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from livedex.model import Fusion, Generation, Mode, Query
from livedex.rules.lexical import K1, B, words
from livedex.rules.ranking import RRF_K
from livedex.store.database import Database
from livedex.store.entries import EVERYONE, NO_TENANT
from livedex.store.lexicon import Lexicon
from livedex.store.marks import Marks
from livedex.store.statements import Statements, load

STATEMENTS = Statements("search")
CATALOG = load("catalog")

CANDIDATES = 100
"""How many each leg proposes, at least."""
MOST_EF_SEARCH = 1000
NEWEST = 100
"""So many of the newest chunks are measured whatever the vector index says."""
NARROW = 1000
"""Where no more documents than this are visible, all of them are candidates."""
LOOKED_UP = 1000
"""Chunks that the text index proposes at first; more follow where the result could change."""

_SCORES = {Fusion.ZSCORE: "by_deviations", Fusion.RRF: "by_ranks"}


@dataclass(frozen=True, slots=True)
class Found:
    """Rows of the statement `hits`, and how fresh the generation was in the snapshot they were read in.
    Not `complete`: the vector index proposed fewer than were asked for. `lexical_only`: so many documents, up to 1000,
    are found by words alone."""

    rows: tuple[Mapping[str, Any], ...]
    complete: bool
    marks: Marks
    lexical_only: int = 0


@dataclass(frozen=True, slots=True)
class Asked:
    """A query's terms: their lexemes, numbers and how often each occurs, in parallel."""

    lexemes: tuple[str, ...] = ()
    numbers: tuple[int, ...] = ()
    occurrences: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class _Shape:
    """All that decides the text of a search's statement."""

    schema: str
    dimensions: int
    mode: Mode
    fusion: Fusion
    near: str
    filters: tuple[str, ...]
    limit: int
    top_k: int
    looked_up: int
    counts_chunks: bool
    expires: bool


async def terms_of(database: Database, lexicon: Lexicon, text: str) -> Asked:
    """What a query is looked up by. A journey only for words that nobody asked for before."""
    written = words(text)
    known = lexicon.recall(written)
    if known is None:
        async with database.connection() as connection:
            known = await lexicon.learn(connection, [written])
    counts = Counter(number for word in written for number in known.numbers[word])
    return Asked(tuple(known.lexemes[number].decode() for number in counts), tuple(counts), tuple(counts.values()))


async def find(
    database: Database,
    generation: Generation,
    query: Query,
    vector: npt.NDArray[np.float32] | None,
    asked: Asked,
    *,
    fusion: Fusion,
    exact: bool,
    looked_up: int = LOOKED_UP,
    counts_chunks: bool = False,
) -> Found:
    """The best visible chunks, at most `query.top_k`, in one journey and one snapshot.

    `vector` is None for a lexical search, `asked` empty for a dense one. `looked_up` bounds how many chunks the text
    index proposes before it is known whether they suffice; it changes the time, not the result.
    `counts_chunks`: say of each hit whether all chunks of its document are there.
    """
    mode = query.mode if query.mode is not Mode.HYBRID or asked.numbers else Mode.DENSE
    limit = max(CANDIDATES, query.top_k)
    narrows = _narrows(query)
    near = "exact" if exact else "near_or_exact" if narrows else "near"
    dimensions = generation.recipe.model.dimensions
    filters = tuple(sorted(query.filters))
    texts = (generation.schema, dimensions, mode, fusion, near, filters)
    shape = _Shape(*texts, limit, query.top_k, looked_up, counts_chunks, generation.expires)
    values = _values(generation, query, vector, asked, exact=exact)
    async with database.connection() as connection:
        if limit == CANDIDATES and near != "near_or_exact":
            rows = await _rows(connection, shape, values)
        else:
            async with connection.pipeline(), connection.transaction():
                await connection.execute(STATEMENTS["widen"], {"ef_search": str(min(MOST_EF_SEARCH, limit))})
                if near == "near_or_exact":
                    await connection.execute(STATEMENTS["plan_for_values"])
                rows = await _rows(connection, shape, values)
    hits = tuple(row for row in rows if row["chunk"] is not None)
    complete = exact or mode is Mode.LEXICAL or rows[0]["few"] or rows[0]["near"] >= query.top_k
    return Found(hits, complete, Marks.of_json(json.loads(rows[0]["marks"])), rows[0]["lexical_only"])


def _narrows(query: Query) -> bool:
    return bool(query.filters) or query.tenant is not None or bool(query.principals)


async def _rows(connection: AsyncConnection[Any], shape: _Shape, values: Mapping[str, Any]) -> list[dict[str, Any]]:
    statement, names = _numbered(shape)
    async with AsyncRawCursor(connection, row_factory=dict_row) as cursor:
        await cursor.execute(statement, [values[name] for name in names])
        return await cursor.fetchall()


@lru_cache(maxsize=256)
def _numbered(shape: _Shape) -> tuple[str, tuple[str, ...]]:
    """A statement with the server's own placeholders, and what belongs to each: psycopg would look for named ones anew
    in every search, in a text as long as this, and take a tenth of a millisecond for it."""
    numbers: dict[str, int] = {}

    def number(found: re.Match[str]) -> str:
        return "%" if found[1] is None else f"${numbers.setdefault(found[1], len(numbers) + 1)}"

    return re.sub(r"%(?:%|\((\w+)\)s)", number, _statement(shape)), tuple(numbers)


def _statement(shape: _Shape) -> str:
    filled = STATEMENTS.for_schema(
        shape.schema,
        dimensions=shape.dimensions,
        narrow_documents=NARROW,
        limit=shape.limit,
        newest=NEWEST,
        bound=shape.looked_up,
        rrf_k=RRF_K,
        top_k=shape.top_k,
    )
    visible = filled["visible"] + ("\n" + filled["not_expired"] if shape.expires else "")
    for number, name in enumerate(shape.filters):
        # The name stands in the statement, so that an index on it serves; a percent sign in it is no placeholder.
        literal = sql.SQL(sql.Literal(name).as_string(None).replace("%", "%%"))
        condition = sql.SQL(filled["has_metadata"]).format(
            name=literal, prefixes=sql.SQL(f"prefixes_{number}"), values=sql.SQL(f"values_{number}")
        )
        visible += "\n" + condition.as_string(None)
    score = {Mode.DENSE: "by_distance", Mode.LEXICAL: "by_words"}.get(shape.mode, _SCORES[shape.fusion])
    parts = {
        "narrow": filled["narrow" if shape.near == "near_or_exact" else "no_narrow"],
        "near_candidates": filled["no_near" if shape.mode is Mode.LEXICAL else shape.near],
        "found": filled["no_found" if shape.mode is Mode.DENSE else "found"],
        "within": filled["within" if shape.near == "near_or_exact" else "no_within"],
        "few": filled["few" if shape.near == "near_or_exact" else "no_few"],
        "distance": filled["no_distance" if shape.mode is Mode.LEXICAL else "distance"],
        "score": filled[score],
        "near": filled["near"],
        "stale_since": filled["stale_since"],
        "complete": filled["complete" if shape.counts_chunks else "not_counted"],
        "marks": CATALOG["marks"],
        "visible": visible,
    }
    statement = filled["hits"]
    for name, part in parts.items():
        statement = statement.replace(f"{{{name}}}", part)
    return statement


def _values(
    generation: Generation, query: Query, vector: npt.NDArray[np.float32] | None, asked: Asked, *, exact: bool
) -> dict[str, Any]:
    values: dict[str, Any] = {
        "generation": generation.generation,
        "vector": vector,
        "source_ids": list(generation.source_ids),
        "tenants": [NO_TENANT] if query.tenant is None else [NO_TENANT, query.tenant],
        "principals": [EVERYONE, *query.principals],
        "k1": K1,
        "b": B,
        "lexemes": list(asked.lexemes),
        "numbers": list(asked.numbers),
        "occurrences": list(asked.occurrences),
        "accepted": Jsonb({name: list(accepted) for name, accepted in query.filters.items()}),
        "narrows": _narrows(query),
        "everything": exact,
        "max_ages": list(generation.max_ages) if generation.expires else None,
    }
    for number, name in enumerate(sorted(query.filters)):
        accepted = list(query.filters[name])
        values[f"prefixes_{number}"] = [value[:64] for value in accepted]
        values[f"values_{number}"] = accepted
    return values
