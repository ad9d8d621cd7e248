"""How fresh views are, as figures: in `status`, in retrievals and in SQL, with clocks that do not agree."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.unit.test_freshness import CASES, NOW, TARGET_SECONDS
from tests.world import World

import livedex
from livedex.clock import SystemClock
from livedex.faults import NoFaults
from livedex.flow.capture import capture
from livedex.model import Change, Op, SourceState, TableMapping
from livedex.ports import Source
from livedex.store.catalog import Catalog
from livedex.store.database import Database, translate
from livedex.store.documents import Log
from livedex.store.embedded import EmbeddedServer
from livedex.store.freshness import SAMPLE_SECONDS, sample
from livedex.store.leases import acquire
from livedex.store.migrate import migrate
from livedex.testing.fake_source import FakeDatabase, FakeSource

PATIENCE_SECONDS = 30
HOUR = timedelta(hours=1)


@pytest.fixture
def world(server: EmbeddedServer, database_on: Callable[[EmbeddedServer], str], tmp_path: Path) -> World:
    made = World.make(database_on(server), database_on(server), tmp_path)
    made.execute("INSERT INTO documents VALUES ('a', 'A', 'the first text', 'c'), ('b', 'B', 'the other text', 'c')")
    return made


@asynccontextmanager
async def following(index: livedex.Index) -> AsyncIterator[None]:
    stop = asyncio.Event()
    running = asyncio.create_task(index.up(stop))
    try:
        yield
    finally:
        stop.set()
        await running


async def until(happened: Callable[[], Any]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            if happened():
                return
            await asyncio.sleep(0.02)


def fresh(world: World, columns: str) -> tuple[Any, ...]:
    """The one row of the SQL view; nothing before there is one."""
    rows = world.stored(f"SELECT {columns} FROM livedex.freshness")
    assert len(rows) <= 1
    return rows[0] if rows else ()


# The same rule twice


def test_the_store_and_the_rule_agree_on_every_case(fresh_database: str) -> None:
    async def set_up() -> None:
        database = await Database.open(fresh_database)
        await migrate(database)
        await database.close()

    asyncio.run(set_up())
    with psycopg.connect(fresh_database) as store:
        said = {
            name: store.execute(
                "SELECT livedex.source_state(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
                [
                    captured.state,
                    captured.failing,
                    captured.followed,
                    captured.heartbeat_at,
                    captured.heartbeat_seconds,
                    captured.time,
                    captured.serial,
                    time,
                    serial,
                    NOW,
                    TARGET_SECONDS,
                ],
            ).fetchone()
            for name, (captured, time, serial, _) in CASES.items()
        }
    assert said == {name: (state.value,) for name, (_, _, _, state) in CASES.items()}


# What is told


async def test_status_retrievals_and_sql_tell_the_same(world: World) -> None:
    async with world.open() as index:
        await index.sync()
        (view,) = (await index.status()).views
        retrieval = await index.search("handbook", "text")
    names = "position, data_timestamp, target_lag_seconds, state"
    (mark,) = view.watermark
    assert fresh(world, names) == (mark.position, view.data_timestamp, view.target_lag_seconds, "unfollowed")
    assert (retrieval.watermark[0].position, retrieval.data_timestamp) == (mark.position, view.data_timestamp)


async def test_an_idle_source_is_current_and_one_that_nobody_follows_is_not(world: World) -> None:
    async with world.open() as index:
        async with following(index):
            await until(lambda: fresh(world, "state") == ("current",))
            assert (await index.search("handbook", "text")).watermark[0].state == SourceState.CURRENT
        assert (await index.search("handbook", "text")).watermark[0].state == SourceState.UNFOLLOWED


async def test_a_source_that_died_is_told_from_an_idle_one(
    server: EmbeddedServer, database_on: Callable[[EmbeddedServer], str], tmp_path: Path
) -> None:
    world = World.make(database_on(server), database_on(server), tmp_path)
    async with world.open() as index:
        await index.sync()
    name = psycopg.conninfo.conninfo_to_dict(world.source_dsn)["dbname"]
    with psycopg.connect(server.dsn, autocommit=True) as admin:
        async with world.open() as index, following(index):
            await until(lambda: fresh(world, "state") == ("current",))
            admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
            admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
            await until(lambda: fresh(world, "state, error IS NOT NULL") == ("silent", True))
            admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')


async def test_commits_and_deletes_have_their_figures_apart(world: World) -> None:
    async with world.open() as index:
        async with following(index):
            await until(lambda: fresh(world, "state") == ("current",))
            assert fresh(world, "lag_p50_seconds, delete_p50_seconds") == (None, None)
            world.execute("DELETE FROM documents WHERE doc_id = 'a'")
            await until(lambda: fresh(world, "delete_p50_seconds") != (None,))
            assert fresh(world, "lag_p50_seconds") == (None,)
            world.execute("UPDATE documents SET content = 'another text'")
            await until(lambda: fresh(world, "lag_p50_seconds") != (None,))
        figures = asdict((await index.status()).views[0])
        earlier = asdict((await index.status(window_seconds=1e-6)).views[0])
    names = [f"{what}_p{share}_seconds" for what in ("lag", "delete") for share in (50, 95, 99)]
    assert fresh(world, ", ".join(names)) == tuple(figures[name] for name in names)
    assert [earlier[name] for name in names] == [None] * 6


async def test_a_delete_is_timed_by_the_log_while_the_view_has_not_come_by(world: World) -> None:
    """It is unsearchable with its tombstone, whatever waits before it in the log."""

    class Held:
        async def reach(self, name: str) -> None:
            if name == "materialize.read" and held.is_set():
                await asyncio.Event().wait()

    held = asyncio.Event()
    async with world.open(Held()) as index:
        await index.sync()
        held.set()
        stop = asyncio.Event()
        running = asyncio.create_task(index.up(stop))
        world.execute("UPDATE documents SET content = 'a text that waits' WHERE doc_id = 'b'")
        world.execute("DELETE FROM documents WHERE doc_id = 'a'")
        await until(lambda: fresh(world, "delete_p99_seconds") != (None,))
        assert world.stored("SELECT document_id FROM livedex_g1.applied JOIN livedex.documents d USING (document) "
                            "WHERE d.deleted") == [("a",)]  # fmt: skip
        assert {hit.document_id for hit in (await index.search("handbook", "text")).hits} == {"b"}
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_who_may_read_the_view_alone_reads_it_all(world: World) -> None:
    async with world.open() as index:
        await index.sync()
    with psycopg.connect(world.store_dsn, autocommit=True) as store, store.transaction(force_rollback=True):
        store.execute("CREATE ROLE monitoring_of_freshness")
        store.execute("GRANT USAGE ON SCHEMA livedex TO monitoring_of_freshness")
        store.execute("GRANT SELECT ON livedex.freshness TO monitoring_of_freshness")
        store.execute("SET LOCAL ROLE monitoring_of_freshness")
        assert store.execute("SELECT view, source FROM livedex.freshness").fetchall() == [("handbook", "kb")]


# Share of time


def sampled(world: World, slots: list[tuple[int, bool]]) -> None:
    """Samples so many slots of 5 s ago, in place of those that there are."""
    world.stored("WITH gone AS (DELETE FROM livedex.freshness_samples) SELECT 1")
    world.stored(
        "INSERT INTO livedex.freshness_samples SELECT view_id, date_bin('5 s', now(), '2000-01-01Z') - ago * "
        "interval '5 s', within FROM livedex.views, unnest(%s::int[], %s::bool[]) AS s(ago, within) RETURNING 1",
        [ago for ago, _ in slots],
        [within for _, within in slots],
    )


async def test_time_without_a_sample_counts_as_late(world: World) -> None:
    async with world.open() as index:
        await index.sync()
        assert (await index.status()).views[0].within_target is None
        sampled(world, [(100, True)])
        share = (await index.status()).views[0].within_target
        assert share == pytest.approx(1 / 100, abs=0.001)
        sampled(world, [(n, n % 4 != 0) for n in range(1, 101)])
        share = (await index.status()).views[0].within_target
        assert share == pytest.approx(0.75, abs=0.015)


async def test_what_was_before_the_window_does_not_count(world: World) -> None:
    async with world.open() as index:
        await index.sync()
        sampled(world, [(n, n <= 12) for n in range(1, 101)])
        assert (await index.status(window_seconds=60)).views[0].within_target == pytest.approx(1.0, abs=0.1)


async def test_a_running_livedex_leaves_samples_one_a_slot(world: World) -> None:
    async with world.open() as index:
        await index.sync()
        async with following(index):
            await until(lambda: world.stored("SELECT FROM livedex.freshness_samples"))
            await until(lambda: fresh(world, "state") == ("current",))
        world.stored("WITH gone AS (DELETE FROM livedex.freshness_samples) SELECT 1")
    database = await Database.open(world.store_dsn)
    for _ in range(10):
        await sample(database)
    await database.close()
    ((samples, seconds),) = world.stored("SELECT count(*), extract(epoch FROM max(at) - min(at))::float "
                                         "FROM livedex.freshness_samples")  # fmt: skip
    assert samples == seconds / SAMPLE_SECONDS + 1


async def test_the_stale_retrieval_rate_is_the_share_of_searches_with_a_stale_hit(world: World) -> None:
    async with world.open() as index:
        await index.sync()
        assert (await index.status()).views[0].stale_retrieval_rate is None
        world.stored(
            "INSERT INTO livedex.retrieval_minutes (view_id, minute, retrievals, stale, abstained, escalated, refused) "
            "SELECT view_id, date_trunc('minute', now()), 40, 4, 0, 0, 0 FROM livedex.views UNION ALL "
            "SELECT view_id, date_trunc('minute', now()) - interval '2 h', 100, 100, 0, 0, 0 FROM livedex.views "
            "RETURNING 1"
        )
        assert (await index.status()).views[0].stale_retrieval_rate == pytest.approx(0.1)
        assert fresh(world, "stale_retrieval_rate") == (pytest.approx(0.1),)


# Clocks


async def captured(dsn: str, now: Callable[[], datetime]) -> tuple[datetime, float | None, datetime]:
    """What the store makes of a source with that clock, once it has been heard of: the time of its position, the offset
    of its clock, and the store's time."""
    database = await Database.open(dsn)
    await migrate(database)
    catalog = Catalog(database)
    source = FakeDatabase(("documents",), now=now)
    source.commit(Change(Op.CREATE, "documents", ("a",), {"id": "a", "body": "text"}))
    mapping = {"documents": TableMapping(("id",), "body")}
    row, _ = await catalog.declare_source("kb", "fake", mapping)
    stored = await catalog.partition(row, "main")
    connection = await database.connect()
    try:
        lease = await acquire(connection, f"source:{row.source_id}:main", "test")
        assert lease is not None
        log = Log(connection, row, "main", lease, NoFaults(), committed=lambda slots: None)
        with translate():
            await Log.prepare(connection)
            reading = asyncio.create_task(_read(FakeSource(source), stored, log))
            await until_heard(database, reading)
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        return await heard(database)
    finally:
        await connection.close()
        await database.close()


async def _read(source: Source, stored: Any, log: Log) -> None:
    await capture(source, "main", stored, log, SystemClock(), NoFaults())


async def until_heard(database: Database, reading: asyncio.Task[None]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS), database.connection() as connection:
        while not reading.done():
            row = await (await connection.execute("SELECT position_serial FROM livedex.partitions")).fetchone()
            if row is not None and row[0] >= 5:
                return
            await asyncio.sleep(0.02)
    reading.result()


async def heard(database: Database) -> tuple[datetime, float | None, datetime]:
    async with database.connection() as connection:
        statement = "SELECT position_time, clock_offset_seconds, clock_timestamp() FROM livedex.partitions"
        row = await (await connection.execute(statement)).fetchone()
    assert row is not None
    return row[0], row[1], row[2]


async def test_a_clock_that_is_ahead_makes_nothing_look_fresh(fresh_database: str) -> None:
    time, offset, now = await captured(fresh_database, lambda: datetime.now(UTC) + HOUR)
    assert offset == pytest.approx(3600, abs=30)
    assert timedelta(0) <= now - time < timedelta(seconds=30)


async def test_old_data_of_a_clock_that_is_ahead_is_as_old_as_it_is(fresh_database: str) -> None:
    """Its heartbeats say what was true half an hour ago; taken as they are they would lie in the future."""

    database = await Database.open(fresh_database)
    await migrate(database)
    catalog = Catalog(database)
    row, _ = await catalog.declare_source("kb", "fake", {"documents": TableMapping(("id",), "body")})
    await catalog.partition(row, "main")
    connection = await database.connect()
    lease = await acquire(connection, f"source:{row.source_id}:main", "test")
    assert lease is not None
    log = Log(connection, row, "main", lease, NoFaults(), committed=lambda slots: None)
    ahead = datetime.now(UTC) + HOUR
    await log.heartbeat("fake:1", ahead - HOUR / 2, clock=ahead)
    time, _, now = await heard(database)
    await connection.close()
    await database.close()
    assert (now - time).total_seconds() == pytest.approx(1800, abs=30)


async def test_a_clock_that_is_behind_makes_data_look_older_never_younger(fresh_database: str) -> None:
    time, offset, now = await captured(fresh_database, lambda: datetime.now(UTC) - HOUR)
    assert offset == pytest.approx(-3600, abs=30)
    assert now - time >= HOUR
