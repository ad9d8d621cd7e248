"""The rows as one snapshot shows them: COPY on several connections, large tables in ranges of blocks."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final

from psycopg import AsyncConnection, sql
from psycopg.abc import AdaptContext
from psycopg.rows import TupleRow

from livedex.adapters.sources.postgres import catalog
from livedex.adapters.sources.postgres.catalog import Publication, Storage, Table
from livedex.adapters.sources.postgres.connection import Server, Session
from livedex.adapters.sources.postgres.tables import Layout
from livedex.model import Change

RANGE_BLOCKS: Final = 8192
"""Blocks that one COPY reads: 64 MB of 8 kB blocks."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One COPY's share of a table."""

    layout: Layout
    query: sql.Composed


async def plan(
    session: Session, tables: Iterable[Table], layouts: Mapping[str, Layout], publication: Publication | None
) -> list[Piece]:
    """`publication` is given when it may filter rows: what it leaves out of the stream stays out of the snapshot."""
    pieces: list[Piece] = []
    for table in tables:
        layout = layouts[table.name]
        published = publication.tables.get((table.schema, table.relation)) if publication else None
        row_filter = published.row_filter if published else None
        stores = await catalog.storage(session, table)
        if table.partitioned and not all(store.readable for store in stores):
            # Rights on the root are enough to read all partitions through it, not one by one.
            root = sql.Identifier(table.schema, table.relation)
            pieces.append(Piece(layout, _select(layout, root, row_filter)))
            continue
        for store in stores:
            source = sql.SQL("ONLY {}").format(sql.Identifier(store.schema, store.relation))
            pieces += [Piece(layout, _select(layout, source, row_filter, *bounds)) for bounds in _ranges(store)]
    return pieces


async def lock(connection: AsyncConnection[TupleRow], server: Server, tables: Iterable[Table]) -> None:
    """Keep the tables from being rewritten or truncated until the connection is closed.

    To a snapshot that is older than the rewriting, the table would look empty.
    """
    names = sql.SQL(", ").join(sql.Identifier(table.schema, table.relation) for table in tables)
    with server.translated_errors("did not lock the tables for their snapshot"):
        await connection.execute("BEGIN")
        await connection.execute(sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(names))


async def open_readers(
    server: Server, snapshot: str, count: int, resources: AsyncExitStack
) -> list[AsyncConnection[TupleRow]]:
    """Connections that see exactly the exported snapshot; `resources` closes them."""
    readers = []
    for _ in range(count):
        reader = await server.connect()
        resources.push_async_callback(reader.close)
        with server.translated_errors("did not hand over its snapshot"):
            await reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            await reader.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(snapshot)))
        readers.append(reader)
    return readers


async def read(
    server: Server,
    readers: Sequence[AsyncConnection[TupleRow]],
    pieces: Sequence[Piece],
    *,
    batch_changes: int,
    batch_bytes: int,
) -> AsyncGenerator[list[Change]]:
    """Batches of rows as READ changes, in any order. Each reader is at most one batch ahead of the consumer."""
    waiting = deque(pieces)
    streams = [_copy_pieces(server, reader, waiting, batch_changes, batch_bytes) for reader in readers]
    upcoming = {asyncio.ensure_future(anext(stream, None)): stream for stream in streams}
    try:
        while upcoming:
            done, _ = await asyncio.wait(upcoming, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                stream = upcoming.pop(task)
                if (batch := task.result()) is not None:
                    upcoming[asyncio.ensure_future(anext(stream, None))] = stream
                    yield batch
    finally:
        for task in upcoming:
            task.cancel()
        await asyncio.gather(*upcoming, return_exceptions=True)
        for stream in streams:
            await stream.aclose()


async def _copy_pieces(
    server: Server, reader: AsyncConnection[TupleRow], waiting: deque[Piece], batch_changes: int, batch_bytes: int
) -> AsyncGenerator[list[Change]]:
    while waiting:
        piece = waiting.popleft()
        batch: list[Change] = []
        size = 0
        with server.translated_errors(f'did not send the snapshot of table "{piece.layout.table.name}"'):
            async with reader.cursor().copy(piece.query) as copy:
                async for row in copy.rows():
                    batch.append(piece.layout.read(row))
                    size += sum(len(text) for text in row if text is not None)
                    if len(batch) >= batch_changes or size >= batch_bytes:
                        yield batch
                        batch, size = [], 0
        if batch:
            yield batch


def _select(layout: Layout, source: sql.Composable, row_filter: str | None, *bounds: sql.Composed) -> sql.Composed:
    conditions = list(bounds)
    if row_filter is not None:
        # The server's own text of an expression, made with our search_path.
        conditions.append(sql.Composed([sql.SQL("("), RawExpression(row_filter), sql.SQL(")")]))
    columns = sql.SQL(", ").join(sql.Identifier(name) for name in layout.table.columns)
    where = sql.SQL(" WHERE ") + sql.SQL(" AND ").join(conditions) if conditions else sql.SQL("")
    return sql.SQL("COPY (SELECT {} FROM {}{}) TO STDOUT").format(columns, source, where)


def _ranges(store: Storage) -> Iterator[tuple[sql.Composed, ...]]:
    """Conditions on ctid; the last range is open, for blocks that were added meanwhile."""
    if store.blocks is None or store.blocks <= RANGE_BLOCKS:
        yield ()
        return
    for start in range(0, store.blocks, RANGE_BLOCKS):
        end = start + RANGE_BLOCKS
        lower = sql.SQL("ctid >= {}::tid").format(sql.Literal(f"({start},0)"))
        upper = sql.SQL("ctid < {}::tid").format(sql.Literal(f"({end},0)"))
        yield (lower, upper) if end < store.blocks else (lower,)


class RawExpression(sql.Composable):
    """SQL text that came from the server."""

    def as_bytes(self, context: AdaptContext | None = None) -> bytes:
        return str(self._obj).encode()
