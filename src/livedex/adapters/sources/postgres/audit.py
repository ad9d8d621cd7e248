"""One look at the source's tables, as an audit compares them: digests are computed by the server, in one snapshot.

`livedex.digests` says what is computed. A column's text is what the server's output function writes, which is what
snapshot and stream carry; `json` is left out, because the server keeps it as it was written and the log does not.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

from psycopg import AsyncConnection, errors, sql
from psycopg.rows import TupleRow

from livedex.adapters.sources.postgres import catalog
from livedex.adapters.sources.postgres.catalog import Publication, Table
from livedex.adapters.sources.postgres.connection import Server, Session
from livedex.adapters.sources.postgres.snapshot import RawExpression
from livedex.adapters.sources.postgres.tables import Layout
from livedex.digests import key_of, key_text
from livedex.model import Change
from livedex.ports import Compared

_BOOL, _TEXT, _VARCHAR = 16, 25, 1043
_INTEGERS = (20, 21, 23, 26)
_FLOATS = (700, 701)
_JSON, _JSONB = 114, 3802
_TEXT_ARRAYS = (1009, 1015)
_KEYS_AT_ONCE: Final = 500
_AGAIN_SECONDS: Final = 0.02


class PostgresLook:
    """Implements `livedex.ports.Look` on a connection in one REPEATABLE READ transaction."""

    def __init__(
        self,
        server: Server,
        session: Session,
        connection: AsyncConnection[TupleRow],
        tables: Mapping[str, Table],
        layouts: Mapping[str, Layout],
        publication: Publication | None,
        *,
        settled: bool,
    ) -> None:
        self._server = server
        self._session = session
        self._connection = connection
        self._tables = tables
        self._layouts = layouts
        self._publication = publication
        self.settled = settled
        self.received_bytes = 0

    async def compare(self, table: str) -> Compared:
        query = sql.SQL(
            "SELECT range, count(*)::int, bit_xor({digest}) FROM ({rows}) AS r GROUP BY range"
        ).format(digest=_DIGEST, rows=self._rows(table))  # fmt: skip
        found = await self._fetch(query)
        return Compared(tuple(self._compared(table)), {number: (rows, digest) for number, rows, digest in found})

    async def digests(self, table: str, ranges: Collection[int]) -> Mapping[str, int]:
        query = sql.SQL("SELECT key, {digest} FROM ({rows}) AS r WHERE range = ANY({ranges})").format(
            digest=_DIGEST, rows=self._rows(table), ranges=sql.Literal(sorted(ranges))
        )
        return dict(await self._fetch(query))

    async def rows(self, table: str, keys: Collection[str]) -> Sequence[Change]:
        wanted = sorted(keys)
        return [
            change
            for start in range(0, len(wanted), _KEYS_AT_ONCE)
            for change in await self._read(table, [key_of(key)[1] for key in wanted[start : start + _KEYS_AT_ONCE]])
        ]

    async def position(self) -> str:
        return str((await catalog.written_position(self._session)).position)

    async def _read(self, table: str, keys: Sequence[tuple[str, ...]]) -> list[Change]:
        with self._server.translated_errors(f'did not send rows of table "{table}"'):
            try:
                async with self._connection.transaction():
                    return await self._copy(table, self._keys_as_values(table, keys))
            except errors.DataError:
                # A key that the log holds need not be a value of the column's type; then nothing stands under it.
                return await self._copy(table, self._keys_as_text(table, keys))

    async def _copy(self, table: str, condition: sql.Composable) -> list[Change]:
        layout = self._layouts[table]
        columns = sql.SQL(", ").join(sql.Identifier(name) for name in layout.table.columns)
        query = sql.SQL("COPY (SELECT {} FROM {} WHERE {}) TO STDOUT").format(
            columns, self._from(table), sql.SQL(" AND ").join([condition, *self._row_filter(table)])
        )
        changes = []
        async with self._connection.cursor().copy(query) as copy:
            async for row in copy.rows():
                self.received_bytes += sum(len(text) for text in row if text is not None)
                changes.append(layout.read(row))
        return changes

    async def _fetch(self, query: sql.Composed) -> list[TupleRow]:
        with self._server.translated_errors("did not compute digests"):
            rows = await (await self._connection.execute(query)).fetchall()
        self.received_bytes += sum(len(str(value)) for row in rows for value in row)
        return rows

    def _rows(self, table: str) -> sql.Composed:
        """Key text, range, and what is said of every row. Fenced, so that what is computed once stays so."""
        layout = self._layouts[table]
        said = [self._said(table, name) for name in self._compared(table)]
        return sql.SQL(
            "SELECT k.key, (get_byte(h.hash, 0) << 4) | (get_byte(h.hash, 1) >> 4) AS range, k.said FROM ("
            "SELECT {key} AS key, {said} AS said FROM {source} WHERE {condition} OFFSET 0) AS k "
            "CROSS JOIN LATERAL (SELECT sha256(convert_to(k.key, 'UTF8')) AS hash OFFSET 0) AS h OFFSET 0"
        ).format(
            key=_key_expression(table, layout),
            said=sql.SQL("concat_ws(chr(31), {})").format(sql.SQL(", ").join(said)) if said else sql.SQL("NULL::text"),
            source=self._from(table),
            condition=sql.SQL(" AND ").join([sql.SQL("true"), *self._row_filter(table)]),
        )

    def _compared(self, table: str) -> list[str]:
        layout = self._layouts[table]
        return sorted(name for name, type_oid in layout.underlying.items() if type_oid != _JSON)

    def _said(self, table: str, name: str) -> sql.Composed:
        column, type_oid = sql.Identifier(name), self._layouts[table].underlying[name]
        return sql.SQL("coalesce('=' || ({}), '!')").format(_text(column, type_oid))

    def _from(self, table: str) -> sql.Composed:
        found = self._tables[table]
        source = sql.Identifier(found.schema, found.relation)
        return sql.SQL("{}").format(source) if found.partitioned else sql.SQL("ONLY {}").format(source)

    def _row_filter(self, table: str) -> Iterator[sql.Composed]:
        """What the publication leaves out of the stream is not looked at either."""
        found = self._tables[table]
        published = self._publication.tables.get((found.schema, found.relation)) if self._publication else None
        if published is not None and published.row_filter is not None:
            yield sql.Composed([sql.SQL("("), RawExpression(published.row_filter), sql.SQL(")")])

    def _keys_as_values(self, table: str, keys: Sequence[tuple[str, ...]]) -> sql.Composed:
        """Without a type a literal takes that of its column, so that an index serves."""
        columns = [sql.Identifier(name) for name in self._layouts[table].table.key]
        return _one_of(columns, keys)

    def _keys_as_text(self, table: str, keys: Sequence[tuple[str, ...]]) -> sql.Composed:
        columns = [sql.SQL("concat({})").format(sql.Identifier(name)) for name in self._layouts[table].table.key]
        return _one_of(columns, keys)


_DIGEST = sql.SQL(
    "('x' || encode(substr(sha256(convert_to(concat_ws(chr(31), key, said), 'UTF8')), 1, 8), 'hex'))::bit(64)::bigint"
)


@asynccontextmanager
async def looking(
    server: Server,
    session: Session,
    tables: Mapping[str, Table],
    layouts: Mapping[str, Layout],
    publication: Publication | None,
    patience_seconds: float,
) -> AsyncIterator[PostgresLook]:
    connection = await server.connect()
    try:
        settled = await _begin(server, session, connection, patience_seconds)
        yield PostgresLook(server, session, connection, tables, layouts, publication, settled=settled)
    finally:
        await connection.close()


async def _begin(
    server: Server, session: Session, connection: AsyncConnection[TupleRow], patience_seconds: float
) -> bool:
    """Begin a transaction whose snapshot shows whatever was decoded before, if that can be had in time.

    A commit may be decoded, and sent to us, before others see it: with synchronous replication long before. What was
    decoded by now has a lower transaction id than the one that is taken here; once none of those is in progress any
    more, all of it is seen.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience_seconds
    ((next_id,),) = await session.fetch("SELECT pg_current_xact_id()::text::numeric")
    with server.translated_errors("did not give a snapshot"):
        while True:
            await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            cursor = await connection.execute("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::numeric")
            ((oldest,),) = await cursor.fetchall()
            if oldest >= next_id or loop.time() >= deadline:
                return bool(oldest >= next_id)
            await connection.execute("ROLLBACK")
            await asyncio.sleep(_AGAIN_SECONDS)


def _key_expression(table: str, layout: Layout) -> sql.Composed:
    """`livedex.digests.key_text` in SQL."""
    parts: list[sql.Composable] = [sql.Literal(key_text(table, ())[:-1])]
    for name in layout.table.key:
        parts.append(sql.SQL("','"))
        parts.append(sql.SQL("to_json(concat({}))::text").format(sql.Identifier(name)))
    return sql.SQL("concat({})").format(sql.SQL(", ").join([*parts, sql.SQL("']'")]))


def _text(column: sql.Identifier, type_oid: int) -> sql.Composed:
    """What the log would say of a column's value; NULL for NULL."""
    if type_oid in (_TEXT, _VARCHAR, _BOOL, *_INTEGERS):
        return sql.SQL("{}::text").format(column)
    if type_oid in _FLOATS:
        # NaN and the infinities are text in the log, and have no other digits to trim either.
        return sql.SQL(
            "CASE WHEN {0}::text ~ '[a-zA-Z]{{2}}' THEN {0}::text ELSE trim_scale({0}::text::numeric)::text END"
        ).format(column)
    if type_oid == _JSONB or type_oid in _TEXT_ARRAYS:
        return sql.SQL("to_jsonb({}) #>> '{{}}'").format(column)
    return sql.SQL("CASE WHEN {0} IS NOT NULL THEN concat({0}) END").format(column)


def _one_of(columns: Sequence[sql.Composable], keys: Sequence[tuple[str, ...]]) -> sql.Composed:
    rows = [sql.SQL("({})").format(sql.SQL(", ").join(map(sql.Literal, key))) for key in keys]
    return sql.SQL("({}) IN ({})").format(sql.SQL(", ").join(columns), sql.SQL(", ").join(rows))
