"""The columns of a source's tables as they were read, and what became of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from livedex.errors import SchemaChanged
from livedex.rules.mapping import mapped_columns
from livedex.rules.schema_changes import ColumnChange, compare, explained
from livedex.store.database import Database
from livedex.store.entries import SourceRow
from livedex.store.statements import load

SQL = load("schema_changes")


async def see_columns(
    connection: AsyncConnection[Any],
    source: SourceRow,
    table: str,
    columns: Mapping[str, str],
    *,
    is_read_anew: bool,
) -> None:
    """Compare a table's columns, by name with their types, with those it had, and write down what differs.

    A mapped column that is gone or has another type raises SchemaChanged, unless the table `is_read_anew`, which makes
    the new columns the known ones. Until then the old ones are kept, so that every start finds the difference.
    """
    mapping = source.mapping.get(table)
    if mapping is None:
        return
    mapped = set(mapped_columns(mapping))
    values = {"source_id": source.source_id, "table": table}
    async with connection.transaction(), connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(SQL["known"], values)
        known = {row["column_name"]: row["type"] for row in await cursor.fetchall()}
        if known == columns:
            await cursor.execute(SQL["resolve"], values | {"still": []})
            return
        changes = compare(table, known, columns, mapped)
        stopping = [] if is_read_anew else [change for change in changes if change.stops]
        if changes:
            await cursor.execute(SQL["note"], values | {"changes": Jsonb([_noted(c, stopping) for c in changes])})
        held = {change.column for change in stopping}
        await cursor.execute(SQL["resolve"], values | {"still": sorted(held)})
        learnt = {name: type_ for name, type_ in columns.items() if name not in held}
        await cursor.execute(SQL["forget_columns"], values | {"keep": sorted({*learnt, *held})})
        await cursor.execute(SQL["learn_columns"], values | {"columns": Jsonb(learnt)})
    if stopping:
        raise SchemaChanged(explained(stopping, source.name))


async def schema_changes(database: Database, source: SourceRow, limit: int = 100) -> list[dict[str, Any]]:
    """What became of a source's columns, the newest first."""
    async with database.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(SQL["changes"], {"source_id": source.source_id, "limit": limit})
        return await cursor.fetchall()


def _noted(change: ColumnChange, stopping: Collection[ColumnChange]) -> dict[str, Any]:
    return {
        "column_name": change.column,
        "kind": change.kind,
        "was": change.was,
        "became": change.became,
        "mapped": change.mapped,
        "stops": change in stopping,
    }
