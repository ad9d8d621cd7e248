"""PostgreSQL as a source, against real servers: every case that DESIGN section 6 names."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg import AsyncConnection, sql
from psycopg.conninfo import make_conninfo
from psycopg.rows import TupleRow

from livedex.adapters.sources.postgres import PostgresSource
from livedex.errors import PositionLost, SchemaChanged, SourceError, SourceMisconfigured, SourceUnavailable
from livedex.model import Change, Op, TableMapping
from livedex.ports import Changes, Heartbeat, SnapshotFinished, SnapshotRows, SnapshotStarted, SourceEvent
from livedex.rules.mapping import mapped_columns
from livedex.store.embedded import EmbeddedServer

PATIENCE_SECONDS = 20.0
DOCS = {"docs": TableMapping(key=("id",), title="title", content="body")}
CREATE_DOCS: LiteralString = "CREATE TABLE docs (id int PRIMARY KEY, title text, body text, views int)"
INSERT_BIG: LiteralString = """
    INSERT INTO docs SELECT 1, 'a', string_agg(md5(i::text), ''), 0 FROM generate_series(1, 400) i
"""
"""A body of 12,800 characters that do not compress well, so that they are TOASTed."""

Key = tuple[str, tuple[str, ...]]


@pytest.fixture(params=["server", "server_16", "server_15"])
def any_database(request: pytest.FixtureRequest, database_on: Callable[[EmbeddedServer], str]) -> str:
    """DSN of a new empty database on each version in turn."""
    return database_on(request.getfixturevalue(request.param))


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[AsyncConnection[TupleRow]]:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        yield connection


async def execute(dsn: str, *statements: LiteralString) -> None:
    async with connected(dsn) as connection:
        for statement in statements:
            await connection.execute(statement)


async def fetch(dsn: str, query: LiteralString) -> Any:
    async with connected(dsn) as connection:
        row = await (await connection.execute(query)).fetchone()
        assert row is not None
        return row[0]


def source_of(dsn: str, tables: Mapping[str, TableMapping] = DOCS, **options: Any) -> PostgresSource:
    columns = {name: mapped_columns(mapping) for name, mapping in tables.items()}
    options = {"name": "kb", "store_id": "0123456789", "heartbeat_seconds": 0.05, **options}
    return PostgresSource(dsn, tables, columns, **options)


class Follower:
    """A consumer with a copy of the tables and the position that it would have stored."""

    def __init__(self, source: PostgresSource, resume: str | None = None) -> None:
        self.source = source
        self.position = resume
        self.rows: dict[Key, dict[str, Any]] = {}
        self.events: list[SourceEvent] = []
        self._events = source.open("main", resume)

    async def __aenter__(self) -> Follower:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._events.aclose()
        await self.source.close()

    @property
    def changes(self) -> list[Change]:
        return [change for event in self.events if isinstance(event, Changes) for change in event.changes]

    async def next(self) -> SourceEvent:
        async with asyncio.timeout(PATIENCE_SECONDS):
            event = await anext(self._events)
        self.events.append(event)
        if isinstance(event, SnapshotRows | Changes):
            for change in event.changes:
                self._apply(change)
        if isinstance(event, SnapshotFinished | Heartbeat) or (isinstance(event, Changes) and event.complete):
            self.position = event.position
        return event

    async def snapshot(self) -> Follower:
        while not isinstance(await self.next(), SnapshotFinished):
            pass
        return self

    async def catch_up(self) -> list[Change]:
        """Everything that is committed by now; returns the changes of this call."""
        seen = len(self.changes)
        head = await self.source.head("main")
        while not self.source.reached(self.position, head):
            await self.next()
        return self.changes[seen:]

    async def follow_to_its_end(self) -> None:
        """Until the source raises, as a consumer that stores and acknowledges what it gets."""
        while True:
            await self.next()
            await self.acknowledge()

    async def acknowledge(self) -> None:
        assert self.position is not None
        await self.source.acknowledge(self.position)

    def _apply(self, change: Change) -> None:
        if change.op is Op.TRUNCATE:
            self.rows = {key: row for key, row in self.rows.items() if key[0] != change.table}
            return
        before = self.rows.pop((change.table, change.old_key or change.key), {})
        if change.op is not Op.DELETE:
            kept = {name: before[name] for name in change.unchanged}
            self.rows[change.table, change.key] = {**kept, **change.columns}


async def table_rows(dsn: str) -> dict[Key, dict[str, Any]]:
    async with connected(dsn) as connection:
        rows = await (await connection.execute("SELECT id, title, body FROM docs")).fetchall()
    return {("docs", (str(key),)): {"id": key, "title": title, "body": body} for key, title, body in rows}


# Snapshot and stream


async def test_snapshot_and_stream_have_no_gap_and_no_double_under_concurrent_writes(any_database: str) -> None:
    await execute(any_database, CREATE_DOCS, "INSERT INTO docs SELECT i, 'old', 'b', 0 FROM generate_series(1, 3000) i")
    stop = asyncio.Event()

    async def write() -> None:
        async with connected(any_database) as connection:
            number = 0
            while not stop.is_set():
                number += 1
                await connection.execute("INSERT INTO docs VALUES (%s, 'new', '', 0)", [10_000 + number])
                await connection.execute("UPDATE docs SET title = %s WHERE id = %s", [str(number), number])
                await connection.execute("DELETE FROM docs WHERE id = %s", [3001 - number])
                await asyncio.sleep(0.001)

    writer = asyncio.create_task(write())
    async with Follower(source_of(any_database, batch_changes=100)) as follower:
        await follower.snapshot()
        await asyncio.sleep(0.3)
        stop.set()
        await writer
        await follower.catch_up()
        inserted = [change.key for event in follower.events for change in changes_of(event) if change.op in "rc"]
    assert follower.rows == await table_rows(any_database)
    assert len(inserted) == len(set(inserted))


def changes_of(event: SourceEvent) -> list[Change]:
    return list(event.changes) if isinstance(event, SnapshotRows | Changes) else []


async def test_a_stream_goes_on_after_the_stored_position(fresh_database: str) -> None:
    await execute(fresh_database, CREATE_DOCS)
    async with Follower(source_of(fresh_database)) as follower:
        await follower.snapshot()
        await execute(fresh_database, "INSERT INTO docs VALUES (1, 'a', 'b', 0)")
        await follower.catch_up()
        await follower.acknowledge()
    await execute(fresh_database, "INSERT INTO docs VALUES (2, 'a', 'b', 0)")
    async with Follower(source_of(fresh_database), follower.position) as resumed:
        changes = await resumed.catch_up()
    assert [change.key for change in changes] == [("2",)]


async def test_a_large_table_is_read_in_ranges(fresh_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("livedex.adapters.sources.postgres.snapshot.RANGE_BLOCKS", 3)
    await execute(fresh_database, CREATE_DOCS, "INSERT INTO docs SELECT i, 't', 'b', 0 FROM generate_series(1, 5000) i")
    async with Follower(source_of(fresh_database)) as follower:
        await follower.snapshot()
    keys = [change.key for event in follower.events for change in changes_of(event)]
    assert (len(keys), set(follower.rows)) == (5000, set(await table_rows(fresh_database)))


async def test_a_snapshot_goes_no_faster_than_its_consumer(fresh_database: str) -> None:
    await execute(fresh_database, CREATE_DOCS, "INSERT INTO docs SELECT i, 't', 'b', 0 FROM generate_series(1, 100) i")
    async with Follower(source_of(fresh_database, batch_changes=10)) as follower:
        await follower.snapshot()
    sizes = [len(event.changes) for event in follower.events if isinstance(event, SnapshotRows)]
    assert sizes == [10] * 10


async def test_an_unfinished_snapshot_is_started_over_with_a_new_slot(fresh_database: str) -> None:
    await execute(fresh_database, CREATE_DOCS, "INSERT INTO docs VALUES (1, 'a', 'b', 0), (2, 'a', 'b', 0)")
    async with Follower(source_of(fresh_database)) as broken:
        assert isinstance(await broken.next(), SnapshotStarted)
    first = await fetch(fresh_database, "SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name ~ 'kb'")
    await execute(fresh_database, "DELETE FROM docs WHERE id = 1")
    async with Follower(source_of(fresh_database)) as follower:
        await follower.snapshot()
    second = await fetch(fresh_database, "SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name ~ 'kb'")
    assert (list(follower.rows), first != second) == ([("docs", ("2",))], True)


async def test_a_truncate_waits_for_the_snapshot_to_end(fresh_database: str) -> None:
    await execute(fresh_database, CREATE_DOCS, "INSERT INTO docs VALUES (1, 'a', 'b', 0)")
    async with Follower(source_of(fresh_database)) as follower:
        await follower.next()
        truncate = asyncio.create_task(execute(fresh_database, "TRUNCATE docs"))
        await follower.snapshot()
        snapshot = dict(follower.rows)
        await follower.next()
        await truncate
        await follower.catch_up()
    assert (len(snapshot), follower.rows) == (1, {})


# What is in a change


TYPES: LiteralString = """
    CREATE TYPE mood AS ENUM ('sad', 'ok');
    CREATE DOMAIN names AS text[];
    CREATE TABLE typed (
        id bigint PRIMARY KEY, b bool, i2 int2, o oid, j json, jb jsonb, f4 float4, f8 float8, nan float8,
        ta text[], va varchar[], dom names, n numeric, ts timestamp, tz timestamptz, d date, iv interval, u uuid,
        by bytea, e mood, r int4range, ia int[], inet inet, mo money, txt text, ch char(4), vc varchar(9), nul text
    )
"""
TYPED_ROW: LiteralString = r"""
    INSERT INTO typed VALUES (
        5, true, -3, 4000000000, '{"b": [1, 2.50], "a": null}', '{"b": [1, 2.50], "a": null}', 0.1, 1e300, 'NaN',
        ARRAY['a,b', NULL, 'c"d\e', ''], '{x}', '{ann,"b c"}', 1.50, '2026-01-02 03:04:05.6', '2026-01-02 03:04:05+05',
        '2026-01-02', '1 mon 2 days 03:00', 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', '\xdeadbeef', 'ok', '[1,5)',
        '{1,2}', '10.0.0.1', 12.5, E'tab\tnew\nline\\N ü 東 👩', 'ab', 'v', NULL
    )
"""
TYPED_VALUES: dict[str, Any] = {
    "id": 5,
    "b": True,
    "i2": -3,
    "o": 4000000000,
    "j": {"b": [1, 2.5], "a": None},
    "jb": {"b": [1, 2.5], "a": None},
    "f4": 0.1,
    "f8": 1e300,
    "nan": "NaN",
    "ta": ["a,b", None, 'c"d\\e', ""],
    "va": ["x"],
    "dom": ["ann", "b c"],
    "n": "1.50",
    "ts": "2026-01-02 03:04:05.6",
    "tz": "2026-01-01 22:04:05+00",
    "d": "2026-01-02",
    "iv": "1 mon 2 days 03:00:00",
    "u": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
    "by": "\\xdeadbeef",
    "e": "ok",
    "r": "[1,5)",
    "ia": "{1,2}",
    "inet": "10.0.0.1",
    "txt": "tab\tnew\nline\\N ü 東 👩",
    "ch": "ab  ",
    "vc": "v",
    "nul": None,
}


async def test_values_are_the_same_in_snapshot_and_stream_whatever_the_database_is_set_to(any_database: str) -> None:
    async with connected(any_database) as connection:
        name = sql.Identifier(connection.info.dbname)
        for setting in (
            "DateStyle = 'German'",
            "TimeZone = 'Asia/Tokyo'",
            "IntervalStyle = 'iso_8601'",
            "bytea_output = 'escape'",
            "extra_float_digits = -15",
        ):
            await connection.execute(sql.SQL("ALTER DATABASE {} SET ").format(name) + sql.SQL(setting))
    await execute(any_database, TYPES, TYPED_ROW)
    tables = {"typed": TableMapping(key=("id",), content="txt", metadata=tuple(TYPED_VALUES))}
    async with Follower(source_of(any_database, tables)) as follower:
        await follower.snapshot()
        snapshot = dict(follower.rows)
        await execute(any_database, "DELETE FROM typed", TYPED_ROW)
        _, streamed = await follower.catch_up()
    assert snapshot == {("typed", ("5",)): TYPED_VALUES}
    assert (streamed.key, dict(streamed.columns)) == (("5",), TYPED_VALUES)


async def test_only_mapped_columns_are_sent(fresh_database: str) -> None:
    await execute(fresh_database, CREATE_DOCS, "INSERT INTO docs VALUES (1, 'a', 'b', 7)")
    async with Follower(source_of(fresh_database)) as follower:
        await follower.snapshot()
    assert follower.rows == {("docs", ("1",)): {"id": 1, "title": "a", "body": "b"}}


async def test_an_unchanged_toasted_column_is_named_and_left_out(fresh_database: str) -> None:
    await execute(fresh_database, CREATE_DOCS, INSERT_BIG)
    async with Follower(source_of(fresh_database)) as follower:
        await follower.snapshot()
        await execute(fresh_database, "UPDATE docs SET title = 'b'")
        (change,) = await follower.catch_up()
    assert (change.columns, change.unchanged) == ({"id": 1, "title": "b"}, frozenset({"body"}))
    assert follower.rows == await table_rows(fresh_database)


async def test_replica_identity_full_sends_unchanged_toasted_columns_too(any_database: str) -> None:
    await execute(
        any_database,
        CREATE_DOCS,
        "ALTER TABLE docs REPLICA IDENTITY FULL",
        INSERT_BIG,
    )
    async with Follower(source_of(any_database)) as follower:
        await follower.snapshot()
        await execute(any_database, "UPDATE docs SET title = 'b'")
        (change,) = await follower.catch_up()
    assert (change.unchanged, len(change.columns["body"])) == (frozenset(), 12_800)


@pytest.mark.parametrize("identity", ["DEFAULT", "FULL"])
async def test_a_change_of_key_names_the_old_one(any_database: str, identity: str) -> None:
    await execute(any_database, CREATE_DOCS, "INSERT INTO docs VALUES (1, 'a', 'b', 0)")
    async with connected(any_database) as connection:
        await connection.execute(sql.SQL("ALTER TABLE docs REPLICA IDENTITY ") + sql.SQL(identity))
    async with Follower(source_of(any_database)) as follower:
        await follower.snapshot()
        await execute(any_database, "UPDATE docs SET id = 2", "UPDATE docs SET title = 'c'")
        changes = await follower.catch_up()
    assert [(change.key, change.old_key) for change in changes] == [(("2",), ("1",)), (("2",), None)]


async def test_a_long_key_is_known_when_it_does_not_change(fresh_database: str) -> None:
    await execute(
        fresh_database,
        "CREATE TABLE docs (id text PRIMARY KEY, title text, body text)",
        "ALTER TABLE docs ALTER id SET STORAGE EXTERNAL",
        "INSERT INTO docs SELECT string_agg(md5(i::text), ''), 'a', repeat('b', 9999) FROM generate_series(1, 75) i",
    )
    async with Follower(source_of(fresh_database)) as follower:
        await follower.snapshot()
        await execute(fresh_database, "UPDATE docs SET title = 'b'")
        (change,) = await follower.catch_up()
    assert (len(change.key[0]), change.old_key, change.columns["title"]) == (2400, None, "b")


async def test_a_truncate_is_one_change_for_each_table(fresh_database: str) -> None:
    await execute(fresh_database, CREATE_DOCS, "CREATE TABLE more (id int PRIMARY KEY, title text, body text)")
    await execute(fresh_database, "INSERT INTO docs VALUES (1)", "INSERT INTO more VALUES (1)")
    tables = {**DOCS, "more": DOCS["docs"]}
    async with Follower(source_of(fresh_database, tables)) as follower:
        await follower.snapshot()
        await execute(
            fresh_database, "INSERT INTO docs VALUES (2)", "INSERT INTO more VALUES (2)", "TRUNCATE docs, more"
        )
        changes = await follower.catch_up()
    truncates = sorted((change.table, change.key) for change in changes if change.op is Op.TRUNCATE)
    assert (truncates, follower.rows) == ([("docs", ()), ("more", ())], {})


async def test_several_tables_schemas_and_composite_keys_in_one_source(fresh_database: str) -> None:
    await execute(
        fresh_database,
        CREATE_DOCS,
        'CREATE SCHEMA "Kb"',
        'CREATE TABLE "Kb"."Odd ""name" (lang text, body text, "Nr" int, PRIMARY KEY (lang, "Nr"))',
        "INSERT INTO docs VALUES (1, 'a', 'b', 0)",
        """INSERT INTO "Kb"."Odd ""name" VALUES ('en', 'x', 1), ('de', 'y', 1)""",
    )
    odd = 'Kb.Odd "name'
    tables = {**DOCS, odd: TableMapping(key=("Nr", "lang"), content="{body}")}
    async with Follower(source_of(fresh_database, tables)) as follower:
        await follower.snapshot()
        await execute(
            fresh_database,
            "BEGIN; UPDATE docs SET title = 'z';"
            """UPDATE "Kb"."Odd ""name" SET "Nr" = 2 WHERE lang = 'de';"""
            """DELETE FROM "Kb"."Odd ""name" WHERE lang = 'en'; COMMIT""",
        )
        changes = await follower.catch_up()
    assert [(change.op, change.table, change.key, change.old_key) for change in changes] == [
        (Op.UPDATE, "docs", ("1",), None),
        (Op.UPDATE, odd, ("2", "de"), ("1", "de")),
        (Op.DELETE, odd, ("1", "en"), None),
    ]
    assert len({(change.position, change.time) for change in changes}) == 1


async def test_a_partitioned_table_is_one_table(any_database: str) -> None:
    await execute(
        any_database,
        "CREATE TABLE docs (id int PRIMARY KEY, title text, body text) PARTITION BY RANGE (id)",
        "CREATE TABLE docs_low PARTITION OF docs FOR VALUES FROM (0) TO (100)",
        "CREATE TABLE docs_high PARTITION OF docs FOR VALUES FROM (100) TO (200)",
        "INSERT INTO docs VALUES (1, 'a', 'b'), (101, 'a', 'b')",
    )
    async with Follower(source_of(any_database)) as follower:
        await follower.snapshot()
        await execute(
            any_database,
            "UPDATE docs SET title = 'c' WHERE id = 1",
            "UPDATE docs SET id = 102 WHERE id = 1",
            "CREATE TABLE docs_top PARTITION OF docs FOR VALUES FROM (200) TO (300)",
            "INSERT INTO docs VALUES (201, 'n', 'n')",
        )
        changes = await follower.catch_up()
        assert follower.rows == await table_rows(any_database)
        await execute(any_database, "TRUNCATE docs")
        await follower.catch_up()
    assert ({change.table for change in changes}, follower.rows) == ({"docs"}, {})


# Large transactions, slow consumers, idle sources


async def test_a_large_transaction_comes_in_parts_that_end_with_a_complete_one(any_database: str) -> None:
    await execute(any_database, CREATE_DOCS)
    async with Follower(source_of(any_database, batch_changes=500, batch_bytes=64 * 1024)) as follower:
        await follower.snapshot()
        await execute(
            any_database,
            "INSERT INTO docs VALUES (0, 'before', '', 0)",
            "INSERT INTO docs SELECT i, 't', repeat('x', 50), 0 FROM generate_series(1, 20000) i",
            "INSERT INTO docs VALUES (20001, 'after', '', 0)",
        )
        changes = await follower.catch_up()
    events = [event for event in follower.events if isinstance(event, Changes)]
    parts = [event for event in events if not event.complete]
    assert [change.key for change in changes] == [(str(number),) for number in range(20_002)]
    assert max(len(event.changes) for event in events) <= 500
    assert len(parts) >= 39
    assert len({part.position for part in parts}) == 1


async def test_a_source_that_broke_within_a_large_transaction_sends_all_of_it_again(fresh_database: str) -> None:
    await execute(fresh_database, CREATE_DOCS)
    async with Follower(source_of(fresh_database, batch_changes=100)) as follower:
        await follower.snapshot()
        stored = follower.position
        await execute(fresh_database, "INSERT INTO docs SELECT i, 't', '', 0 FROM generate_series(1, 1000) i")
        while not follower.changes:
            await follower.next()
    async with Follower(source_of(fresh_database, batch_changes=100), stored) as resumed:
        await resumed.catch_up()
    assert len(resumed.rows) == 1000


async def test_a_consumer_that_is_busy_for_long_keeps_its_connection_and_bounded_memory(
    database_on: Callable[[EmbeddedServer], str], server: EmbeddedServer
) -> None:
    dsn = database_on(server)
    await execute(dsn, CREATE_DOCS)
    async with connected(dsn) as connection:
        # The role that the source connects as; the walsender reads the setting when it starts.
        role = sql.Identifier(connection.info.user)
        database = sql.Identifier(connection.info.dbname)
        await connection.execute(
            sql.SQL("ALTER ROLE {} IN DATABASE {} SET wal_sender_timeout = '600ms'").format(role, database)
        )
    async with Follower(source_of(dsn, batch_bytes=64 * 1024)) as follower:
        await follower.snapshot()
        await execute(dsn, "INSERT INTO docs SELECT i, 't', repeat('x', 1000), 0 FROM generate_series(1, 20000) i")
        while not follower.changes:
            await follower.next()
        await asyncio.sleep(2)  # three times what the server waits for a sign of life
        stream = follower.source._streaming
        assert stream is not None
        assert stream._buffered_bytes < 2 * 64 * 1024
        await follower.catch_up()
    assert len(follower.rows) == 20_000


async def test_an_idle_source_moves_on_while_other_tables_are_written(any_database: str) -> None:
    await execute(any_database, CREATE_DOCS, "CREATE TABLE other (id int)")
    async with Follower(source_of(any_database)) as follower:
        await follower.snapshot()
        before = follower.position
        await execute(any_database, "INSERT INTO other SELECT generate_series(1, 1000)")
        assert await follower.catch_up() == []
        await follower.acknowledge()
        assert before is not None
        assert follower.position is not None
        await eventually(
            any_database,
            "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name ~ 'kb'",
            follower.position.split(":")[2],
        )
    beats = [event for event in follower.events if isinstance(event, Heartbeat)]
    assert sorted(beats, key=lambda each: each.time) == beats
    assert not follower.source.reached(before, follower.position)


async def eventually(dsn: str, query: LiteralString, value: Any) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await fetch(dsn, query) != value:  # noqa: ASYNC110  # nothing announces that a slot has moved
            await asyncio.sleep(0.02)


async def test_nothing_is_confirmed_beyond_what_was_acknowledged(fresh_database: str) -> None:
    await execute(fresh_database, CREATE_DOCS)
    slot: LiteralString = "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name ~ 'kb'"
    async with Follower(source_of(fresh_database)) as follower:
        await follower.snapshot()
        confirmed = await fetch(fresh_database, slot)
        await execute(fresh_database, "INSERT INTO docs VALUES (1, 'a', 'b', 0)")
        await follower.catch_up()
        for _ in range(3):
            await follower.next()
        assert await fetch(fresh_database, slot) == confirmed
        await follower.acknowledge()
    assert follower.position is not None
    await eventually(fresh_database, slot, follower.position.split(":")[2])


async def test_positions_of_another_timeline_or_server_do_not_compare(fresh_database: str) -> None:
    source = source_of(fresh_database)
    pairs = [("1:1:0/20", "1:1:0/10"), ("1:1:0/10", "1:1:0/10"), ("1:1:0/9", "1:1:0/10")]
    others = [("1:2:0/20", "1:1:0/10"), ("2:1:0/20", "1:1:0/10"), (None, "1:1:0/10")]
    reached = [source.reached(position, target) for position, target in [*pairs, *others]]
    assert reached == [True, True, False, False, False, False]


# Interruptions


async def test_a_killed_walsender_is_a_source_that_is_unavailable_for_now(any_database: str) -> None:
    await execute(any_database, CREATE_DOCS)
    async with Follower(source_of(any_database)) as follower:
        await follower.snapshot()
        await execute(any_database, "INSERT INTO docs VALUES (1, 'a', 'b', 0)")
        await follower.catch_up()
        await execute(
            any_database,
            "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE database = current_database()",
            "INSERT INTO docs VALUES (2, 'a', 'b', 0)",
        )
        with pytest.raises(SourceUnavailable, match="PostgreSQL at"):
            await follower.follow_to_its_end()
    async with Follower(source_of(any_database), follower.position) as resumed:
        assert [change.key for change in await resumed.catch_up()] == [("2",)]


async def test_a_slot_in_use_is_unavailable_and_names_who_holds_it(
    fresh_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("livedex.adapters.sources.postgres.slots.RELEASE_SECONDS", 0.1)
    await execute(fresh_database, CREATE_DOCS)
    async with Follower(source_of(fresh_database)) as follower:
        await follower.snapshot()
        await follower.next()
        holder = await fetch(
            fresh_database, "SELECT active_pid FROM pg_replication_slots WHERE database = current_database()"
        )
        for resume in (follower.position, None):
            async with Follower(source_of(fresh_database), resume) as second:
                with pytest.raises(SourceUnavailable, match=f"pid {holder}"):
                    await second.next()


async def test_an_unreachable_source_is_unavailable_and_its_password_is_not_told() -> None:
    url = "postgresql://reader:s3cret@127.0.0.1:1/shop"
    with pytest.raises(SourceUnavailable) as caught:
        await source_of(url).head("main")
    assert "PostgreSQL at 127.0.0.1:1/shop cannot be reached" in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_a_url_that_is_none_is_refused_without_repeating_it() -> None:
    with pytest.raises(SourceMisconfigured) as caught:
        source_of("host=db password=s3cret oops")
    assert "s3cret" not in str(caught.value)


@pytest.fixture
async def own_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Callable[..., Any]]:
    """Starts servers that a test may break."""
    async with AsyncExitStack() as stack:

        async def start(directory: str = "own", **settings: str) -> EmbeddedServer:
            path = tmp_path_factory.getbasetemp() / directory
            running = await EmbeddedServer.start(path, settings={"fsync": "off", **settings})
            stack.push_async_callback(running.stop)
            return running

        yield start


async def test_a_restart_of_the_server_loses_nothing_and_does_not_wait_for_us(own_server: Callable[..., Any]) -> None:
    server = await own_server()
    await execute(server.dsn, CREATE_DOCS)
    async with Follower(source_of(server.dsn)) as follower:
        await follower.snapshot()
        await execute(server.dsn, "INSERT INTO docs VALUES (1, 'a', 'b', 0)")
        stopping = asyncio.create_task(server.stop())
        with pytest.raises(SourceUnavailable):
            await follower.follow_to_its_end()
        await stopping
    again = await own_server()
    await execute(again.dsn, "INSERT INTO docs VALUES (2, 'a', 'b', 0)")
    async with Follower(source_of(again.dsn), follower.position) as resumed:
        await resumed.catch_up()
    assert [change.key for change in [*follower.changes, *resumed.changes]] == [("1",), ("2",)]


async def test_a_change_of_timeline_reads_the_source_again(own_server: Callable[..., Any]) -> None:
    server = await own_server("promoted")
    await execute(server.dsn, CREATE_DOCS, "INSERT INTO docs VALUES (1, 'a', 'b', 0)")
    async with Follower(source_of(server.dsn)) as follower:
        await follower.snapshot()
    signal = server.data / "standby.signal"
    owner = server.data.stat()
    await server.stop()
    signal.touch()
    os.chown(signal, owner.st_uid, owner.st_gid)
    again = await own_server("promoted")
    await execute(again.dsn, "SELECT pg_promote()")
    async with Follower(source_of(again.dsn), follower.position) as resumed:
        first = await resumed.next()
        await resumed.snapshot()
    assert isinstance(first, SnapshotStarted)
    assert [part.split(":")[1] for part in (follower.position or "", resumed.position or "")] == ["1", "2"]


# What makes a position worthless


async def test_a_dropped_slot_needs_a_resync(fresh_database: str) -> None:
    await execute(fresh_database, CREATE_DOCS)
    async with Follower(source_of(fresh_database)) as follower:
        await follower.snapshot()
    await source_of(fresh_database).remove()
    await lost(fresh_database, follower.position, "is gone .* Run: livedex source resync kb")


async def lost(dsn: str, position: str | None, message: str) -> None:
    async with Follower(source_of(dsn), position) as follower:
        with pytest.raises(PositionLost, match=message):
            await follower.next()


async def test_a_slot_that_someone_else_read_needs_a_resync(fresh_database: str) -> None:
    await execute(fresh_database, CREATE_DOCS)
    async with Follower(source_of(fresh_database)) as follower:
        await follower.snapshot()
    await execute(
        fresh_database,
        "SET synchronous_commit = on",  # a slot advances over what is flushed only
        "INSERT INTO docs VALUES (1, 'a', 'b', 0)",
        "SELECT pg_replication_slot_advance(slot_name, pg_current_wal_lsn()) FROM pg_replication_slots "
        "WHERE database = current_database()",
    )
    await lost(fresh_database, follower.position, "someone else has read from it. Run: livedex source resync kb")


@pytest.mark.parametrize(
    ("position", "message"),
    [("1:1:0/1", "another server"), ("{system}:1:FFFF/0", "restored from an older copy")],
)
async def test_a_position_of_another_server_or_future_needs_a_resync(
    fresh_database: str, position: str, message: str
) -> None:
    await execute(fresh_database, CREATE_DOCS)
    async with Follower(source_of(fresh_database)) as follower:
        await follower.snapshot()
    system = (follower.position or "").split(":")[0]
    await lost(fresh_database, position.format(system=system), message)


async def test_an_invalidated_slot_needs_a_resync(own_server: Callable[..., Any]) -> None:
    server = await own_server("invalidated", max_slot_wal_keep_size="1MB", max_wal_size="32MB", min_wal_size="32MB")
    await execute(server.dsn, CREATE_DOCS)
    async with Follower(source_of(server.dsn)) as follower:
        await follower.snapshot()
    for _ in range(3):
        await execute(server.dsn, "INSERT INTO docs VALUES (1) ON CONFLICT DO NOTHING", "SELECT pg_switch_wal()")
    await execute(server.dsn, "CHECKPOINT")
    await lost(server.dsn, follower.position, "has invalidated replication slot .* Run: livedex source resync kb")


async def test_a_table_taken_out_of_the_publication_is_noticed_while_following(any_database: str) -> None:
    await execute(any_database, CREATE_DOCS)
    async with Follower(source_of(any_database)) as follower:
        await follower.snapshot()
        await follower.next()
        await execute(any_database, "ALTER PUBLICATION livedex_01234567_kb DROP TABLE docs")
        with pytest.raises(PositionLost, match='does not cover table "docs" any more'):
            await follower.follow_to_its_end()


# Changes of schema


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("ALTER TABLE docs DROP COLUMN body", 'Column "body" of table "docs" is gone'),
        ("ALTER TABLE docs RENAME body TO text", 'Column "body" of table "docs" is gone'),
        ("ALTER TABLE docs ALTER body TYPE json USING to_json(body)", 'Column "body" of table "docs" has another type'),
    ],
)
async def test_a_change_of_a_mapped_column_pauses_the_source_and_loses_nothing(
    fresh_database: str, statement: LiteralString, message: str
) -> None:
    await execute(fresh_database, CREATE_DOCS)
    async with Follower(source_of(fresh_database)) as follower:
        await follower.snapshot()
        await execute(
            fresh_database,
            "INSERT INTO docs VALUES (1, 'a', 'b', 0)",
            statement,
            "INSERT INTO docs (id) VALUES (2)",
        )
        with pytest.raises(SchemaChanged, match=message):
            await follower.follow_to_its_end()
    assert [change.key for change in follower.changes] == [("1",)]


async def test_a_renamed_column_is_found_where_it_happened_after_a_restart(fresh_database: str) -> None:
    await execute(fresh_database, CREATE_DOCS)
    async with Follower(source_of(fresh_database)) as follower:
        await follower.snapshot()
    await execute(
        fresh_database,
        "INSERT INTO docs VALUES (1, 'a', 'b', 0)",
        "ALTER TABLE docs RENAME body TO text",
        "INSERT INTO docs VALUES (2, 'a', 'b', 0)",
    )
    async with Follower(source_of(fresh_database), follower.position) as resumed:
        with pytest.raises(SchemaChanged, match='Column "body" of table "docs" is gone'):
            await resumed.follow_to_its_end()
    assert [change.key for change in resumed.changes] == [("1",)]
    await execute(fresh_database, "ALTER TABLE docs RENAME text TO body")


async def test_a_change_of_an_unmapped_column_is_nothing(any_database: str) -> None:
    await execute(any_database, CREATE_DOCS)
    async with Follower(source_of(any_database)) as follower:
        await follower.snapshot()
        await execute(
            any_database,
            "ALTER TABLE docs DROP COLUMN views",
            "ALTER TABLE docs ADD COLUMN extra jsonb",
            "INSERT INTO docs VALUES (1, 'a', 'b', '{}')",
        )
        await follower.catch_up()
    assert follower.rows == {("docs", ("1",)): {"id": 1, "title": "a", "body": "b"}}


async def test_a_renamed_table_is_named(fresh_database: str) -> None:
    await execute(fresh_database, CREATE_DOCS)
    async with Follower(source_of(fresh_database)) as follower:
        await follower.snapshot()
        await execute(fresh_database, "ALTER TABLE docs RENAME TO papers", "INSERT INTO papers VALUES (1)")
        with pytest.raises(SourceError, match=r'[Tt]able "docs"'):
            await follower.follow_to_its_end()


# Requirements


async def refused(dsn: str, message: str, tables: Mapping[str, TableMapping] = DOCS, **options: Any) -> None:
    async with Follower(source_of(dsn, tables, **options)) as follower:
        with pytest.raises(SourceMisconfigured) as caught:
            await follower.next()
    assert message in str(caught.value)


async def test_a_table_without_primary_key_is_refused_with_the_remedy(fresh_database: str) -> None:
    await execute(fresh_database, "CREATE TABLE notes (id int NOT NULL, body text)")
    notes = {"notes": TableMapping(key=("id",), content="body")}
    await refused(
        fresh_database,
        'Table "notes" has no primary key, so its deletes cannot be followed. Add one, or set REPLICA IDENTITY FULL '
        "and name key columns in livedex.yaml under sources.kb.tables.notes.key.",
        notes,
    )
    await execute(fresh_database, "ALTER TABLE notes REPLICA IDENTITY FULL", "INSERT INTO notes VALUES (1, 'a')")
    async with Follower(source_of(fresh_database, notes)) as follower:
        await follower.snapshot()
        await execute(fresh_database, "DELETE FROM notes")
        await follower.catch_up()
    assert follower.rows == {}


@pytest.mark.parametrize(
    ("create", "message"),
    [
        (
            "CREATE TABLE docs (nr int PRIMARY KEY, id int NOT NULL, title text, body text)",
            'ALTER TABLE "public"."docs" REPLICA IDENTITY FULL;',
        ),
        (
            "CREATE TABLE docs (id int PRIMARY KEY, title text, body text);ALTER TABLE docs REPLICA IDENTITY NOTHING",
            'ALTER TABLE "public"."docs" REPLICA IDENTITY DEFAULT;',
        ),
        (
            "CREATE TABLE docs (id int, title text, body text); ALTER TABLE docs REPLICA IDENTITY FULL",
            'ALTER TABLE "public"."docs" ALTER COLUMN "id" SET NOT NULL;',
        ),
        ("CREATE TABLE doc (id int PRIMARY KEY)", "Did you mean doc?"),
        ("CREATE TABLE docs (id int PRIMARY KEY, title text, bodi text)", "Did you mean bodi?"),
        (
            "CREATE TABLE docs (id int PRIMARY KEY, title text, body text GENERATED ALWAYS AS (title || '!') STORED)",
            'Column "body" of table "docs" is generated',
        ),
    ],
)
async def test_what_cannot_be_followed_is_refused_with_what_to_do(
    database_on: Callable[[EmbeddedServer], str], server_16: EmbeddedServer, create: LiteralString, message: str
) -> None:
    dsn = database_on(server_16)
    await execute(dsn, create)
    await refused(dsn, message)


async def test_a_stored_generated_column_is_followed_where_the_server_can(fresh_database: str) -> None:
    await execute(
        fresh_database,
        "CREATE TABLE docs (id int PRIMARY KEY, title text, body text GENERATED ALWAYS AS (title || '!') STORED)",
    )
    async with Follower(source_of(fresh_database)) as follower:
        await follower.snapshot()
        await execute(fresh_database, "INSERT INTO docs VALUES (1, 'a')")
        await follower.catch_up()
    assert follower.rows == {("docs", ("1",)): {"id": 1, "title": "a", "body": "a!"}}


async def test_a_unique_index_may_be_the_identity(fresh_database: str) -> None:
    await execute(
        fresh_database,
        "CREATE TABLE docs (nr int PRIMARY KEY, id int NOT NULL UNIQUE, title text, body text)",
        "ALTER TABLE docs REPLICA IDENTITY USING INDEX docs_id_key",
        "INSERT INTO docs VALUES (1, 7, 'a', 'b')",
    )
    async with Follower(source_of(fresh_database)) as follower:
        await follower.snapshot()
        await execute(fresh_database, "UPDATE docs SET id = 8", "DELETE FROM docs")
        changes = await follower.catch_up()
    assert [(change.key, change.old_key) for change in changes] == [(("8",), ("7",)), (("8",), None)]


async def test_missing_rights_are_named_with_the_statement_that_grants_them(fresh_database: str) -> None:
    await execute(fresh_database, CREATE_DOCS, "DROP ROLE IF EXISTS reader", "CREATE ROLE reader LOGIN PASSWORD 'pw'")
    dsn = make_conninfo(fresh_database, user="reader", password="pw")
    try:
        await refused(dsn, 'ALTER ROLE "reader" REPLICATION;')
        await execute(fresh_database, "ALTER ROLE reader REPLICATION")
        await refused(dsn, 'GRANT SELECT ON "public"."docs" TO "reader";')
        await execute(fresh_database, "GRANT SELECT ON docs TO reader")
        await refused(dsn, 'CREATE PUBLICATION "livedex_01234567_kb" FOR TABLE ONLY "public"."docs"')
        await execute(
            fresh_database, "CREATE PUBLICATION given FOR TABLE docs WITH (publish_via_partition_root = true)"
        )
        async with Follower(source_of(dsn, publication="given")) as follower:
            await follower.snapshot()
            await execute(fresh_database, "INSERT INTO docs VALUES (1)")
            assert len(await follower.catch_up()) == 1
    finally:
        await execute(fresh_database, "DROP OWNED BY reader", "DROP ROLE reader")


async def test_a_server_without_logical_wal_or_free_slots_is_refused_with_the_statement(
    own_server: Callable[..., Any],
) -> None:
    server = await own_server("replica", wal_level="replica")
    await execute(server.dsn, CREATE_DOCS)
    await refused(server.dsn, "ALTER SYSTEM SET wal_level = 'logical'; and restart the server.")
    await server.stop()
    server = await own_server("slots", wal_level="logical", max_replication_slots="1")
    await execute(server.dsn, CREATE_DOCS, "SELECT pg_create_physical_replication_slot('taken')")
    await refused(server.dsn, "ALTER SYSTEM SET max_replication_slots = 6;")


async def test_a_given_slot_and_publication_are_used_and_kept(any_database: str) -> None:
    await execute(
        any_database,
        CREATE_DOCS,
        "CREATE PUBLICATION given FOR TABLE docs WHERE (id < 100)",
        "SELECT pg_create_logical_replication_slot('given_' || current_database(), 'pgoutput')",
        "INSERT INTO docs VALUES (1, 'a', 'b', 0), (100, 'a', 'b', 0)",
    )
    slot = f"given_{await fetch(any_database, 'SELECT current_database()')}"
    async with Follower(source_of(any_database, slot=slot, publication="given")) as follower:
        await follower.snapshot()
        await execute(any_database, "INSERT INTO docs VALUES (2, 'a', 'b', 0), (101, 'a', 'b', 0)")
        changes = await follower.catch_up()
        await follower.acknowledge()
    await follower.source.remove()
    slots = await fetch(
        any_database, "SELECT array_agg(slot_name::text) FROM pg_replication_slots WHERE database = current_database()"
    )
    assert ([change.key for change in changes], set(follower.rows), slots) == (
        [("2",)],
        {("docs", ("1",)), ("docs", ("2",))},
        [slot],
    )


@pytest.mark.parametrize(
    ("publication", "message"),
    [
        ("CREATE PUBLICATION given", 'Publication "given" does not cover table "docs"'),
        ("CREATE PUBLICATION other", 'Publication "given" does not exist'),
        (
            "CREATE PUBLICATION given FOR TABLE docs WITH (publish = 'insert, update, truncate')",
            'Publication "given" does not publish delete',
        ),
        (
            "CREATE PUBLICATION given FOR TABLE docs (id, title)",
            'Publication "given" leaves out column "body" of table "docs"',
        ),
    ],
)
async def test_a_given_publication_that_leaves_something_out_is_refused(
    fresh_database: str, publication: LiteralString, message: str
) -> None:
    await execute(fresh_database, CREATE_DOCS, publication)
    await refused(fresh_database, message, publication="given")


async def test_a_given_slot_must_be_there(fresh_database: str) -> None:
    await execute(fresh_database, CREATE_DOCS)
    await refused(fresh_database, 'Replication slot "absent" does not exist', slot="absent")


async def test_rows_hidden_by_a_policy_are_refused_rather_than_left_out(fresh_database: str) -> None:
    await execute(
        fresh_database,
        CREATE_DOCS,
        "DROP ROLE IF EXISTS limited",
        "CREATE ROLE limited LOGIN REPLICATION PASSWORD 'pw'",
        "GRANT SELECT ON docs TO limited",
        "ALTER TABLE docs ENABLE ROW LEVEL SECURITY",
        "CREATE PUBLICATION given FOR TABLE docs",
    )
    dsn = make_conninfo(fresh_database, user="limited", password="pw")
    try:
        async with Follower(source_of(dsn, publication="given")) as follower:
            with pytest.raises(SourceMisconfigured, match="row-level security"):
                await follower.snapshot()
    finally:
        await execute(fresh_database, "DROP OWNED BY limited", "DROP ROLE limited")
