"""Every source keeps the promises of its port."""

from __future__ import annotations

from collections.abc import AsyncIterator

import psycopg
import pytest
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from livedex.adapters.sources.postgres import PostgresSource
from livedex.errors import PositionLost, SourceUnavailable
from livedex.model import Change, Op, TableMapping
from livedex.ports import SourceEvent
from livedex.testing.fake_source import FakeDatabase, FakeSource
from livedex.testing.sources import Replica, check_source

MAPPING = {"documents": TableMapping(key=("id",), content="body")}
COLUMNS = {"documents": ("body", "id")}


class FakeActions:
    def __init__(self, database: FakeDatabase) -> None:
        self._database = database

    async def put(self, **documents: str) -> None:
        self._database.commit(*(self._change(key, body) for key, body in documents.items()))

    async def delete(self, *keys: str) -> None:
        self._database.commit(*(Change(Op.DELETE, "documents", (key,)) for key in keys))

    def text(self, change: Change) -> str:
        return str(change.columns["body"])

    def _change(self, key: str, body: str) -> Change:
        known = ("documents", (key,)) in self._database.rows
        return Change(Op.UPDATE if known else Op.CREATE, "documents", (key,), {"id": key, "body": body})


class PostgresActions:
    def __init__(self, connection: AsyncConnection[TupleRow]) -> None:
        self._connection = connection

    async def put(self, **documents: str) -> None:
        async with self._connection.transaction(), self._connection.cursor() as cursor:
            await cursor.executemany(
                "INSERT INTO documents (id, body) VALUES (%s, %s) ON CONFLICT (id) DO UPDATE SET body = excluded.body",
                list(documents.items()),
            )

    async def delete(self, *keys: str) -> None:
        await self._connection.execute("DELETE FROM documents WHERE id = ANY(%s)", [list(keys)])

    def text(self, change: Change) -> str:
        return str(change.columns["body"])


@pytest.fixture
async def postgres_actions(fresh_database: str) -> AsyncIterator[PostgresActions]:
    async with await psycopg.AsyncConnection.connect(fresh_database, autocommit=True) as connection:
        await connection.execute("CREATE TABLE documents (id text PRIMARY KEY, body text)")
        yield PostgresActions(connection)


async def test_postgres_keeps_the_promises_of_a_source(fresh_database: str, postgres_actions: PostgresActions) -> None:
    def make_source() -> PostgresSource:
        return PostgresSource(
            fresh_database, MAPPING, COLUMNS, name="kb", store_id="0123456789", heartbeat_seconds=0.05
        )

    await check_source(make_source, postgres_actions)


async def test_the_fake_keeps_the_promises_of_a_source() -> None:
    database = FakeDatabase(("documents",))
    await check_source(lambda: FakeSource(database), FakeActions(database))


async def test_the_fake_keeps_its_promises_in_parts_of_one_change() -> None:
    database = FakeDatabase(("documents",))
    await check_source(lambda: FakeSource(database, batch_changes=1), FakeActions(database))


async def test_the_kit_notices_a_source_that_forgets_what_was_not_acknowledged() -> None:
    database = FakeDatabase(("documents",))

    class Forgetful(FakeSource):
        async def close(self) -> None:
            await self.acknowledge(await self.head("main"))

    with pytest.raises(PositionLost):
        await check_source(lambda: Forgetful(database), FakeActions(database))


async def test_the_kit_notices_a_source_that_sends_the_stored_change_again() -> None:
    database = FakeDatabase(("documents",))

    class OffByOne(FakeSource):
        def open(self, partition: str, resume: str | None) -> AsyncIterator[SourceEvent]:
            earlier = None if resume is None else f"fake:{int(resume.removeprefix('fake:')) - 1}"
            return super().open(partition, earlier)

    with pytest.raises(AssertionError, match="none is missing, none comes twice"):
        await check_source(lambda: OffByOne(database), FakeActions(database))


async def test_a_fake_that_breaks_off_goes_on_after_the_stored_position() -> None:
    database = FakeDatabase(("documents",))
    actions = FakeActions(database)
    for key in ("a", "b", "c"):
        await actions.put(**{key: "x"})
    database.fail_after(2)
    replica = Replica(actions)
    broken = FakeSource(database).open("main", "fake:0")
    replica.apply(await anext(broken))
    replica.apply(await anext(broken))
    with pytest.raises(SourceUnavailable):
        await anext(broken)
    async for event in FakeSource(database).open("main", replica.position):
        replica.apply(event)
        if replica.position == "fake:3":
            break
    assert [change.key for change in replica.changes] == [("a",), ("b",), ("c",)]
