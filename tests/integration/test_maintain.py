"""Upkeep on a real store: what is worn is mended while searches go on, what is kept for a time goes, nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from tests.world import World, check_view

from livedex.clock import SystemClock
from livedex.flow.maintain import Policy, Upkeep, maintain
from livedex.rules.upkeep import Kind, Thresholds
from livedex.store.embedded import EmbeddedServer

EAGER = Policy(thresholds=Thresholds(dead_share=0.1, least_dead_rows=50, growth=1.5, least_index_bytes=0))
NEVER = Policy(thresholds=Thresholds(least_dead_rows=10**9, least_index_bytes=10**12, self_recall=0.0))


@pytest.fixture
def world(server: EmbeddedServer, database_on: Callable[[EmbeddedServer], str], tmp_path: Path) -> World:
    return World.make(database_on(server), database_on(server), tmp_path)


async def fill(world: World, documents: int = 60) -> None:
    """Documents of several chunks; autovacuum would be in the way of what is counted here."""
    for number in range(documents):
        sections = "\n\n".join(f"## Part {n}\n\nParcel {number} goes to place {n} on day {n}." for n in range(4))
        world.execute("INSERT INTO documents VALUES (%s, %s, %s, 'c')", f"doc-{number}", f"Title {number}", sections)
    async with world.open() as index:
        await index.sync()
    with psycopg.connect(world.store_dsn, autocommit=True) as connection:
        for table in ("vectors", "terms", "chunks"):
            connection.execute(f"ALTER TABLE livedex_g1.{table} SET (autovacuum_enabled = off)")


async def churn(world: World, rounds: int = 3) -> None:
    for number in range(rounds):
        world.execute("UPDATE documents SET content = replace(content, ' goes ', %s)", f" in round {number} goes ")
        async with world.open() as index:
            await index.sync()
    world.stored("SELECT pg_stat_force_next_flush()")


async def upkeep(world: World, policy: Policy, *, dry_run: bool = False) -> Upkeep:
    async with world.open() as index:
        generations = await index.catalog.generations()
        return await maintain(index._database, generations, policy, SystemClock(), dry_run=dry_run)


def dead_rows(world: World, table: str) -> int:
    ((dead,),) = world.stored(
        "SELECT n_dead_tup FROM pg_stat_user_tables WHERE schemaname = 'livedex_g1' AND relname = %s", table
    )
    return int(dead)


async def until_dead(world: World, table: str, least: int) -> None:
    """Backends tell the statistics a moment after they are done."""
    async with asyncio.timeout(30):
        while dead_rows(world, table) < least:  # noqa: ASYNC110  # the store's statistics ring no bell
            await asyncio.sleep(0.2)


async def test_worn_tables_and_indexes_are_mended_and_the_view_stays_what_it_was(world: World) -> None:
    await fill(world)
    assert (await upkeep(world, NEVER)).actions == ()  # what indexes take is noted here
    await churn(world)
    await until_dead(world, "vectors", 100)

    due = await upkeep(world, EAGER, dry_run=True)
    assert dead_rows(world, "vectors") >= 100
    done = await upkeep(world, EAGER)

    assert done.actions == due.actions
    kinds = {(action.kind, action.target) for action in done.actions}
    assert (Kind.VACUUM, "livedex_g1.vectors") in kinds
    assert (Kind.REINDEX, "livedex_g1.vectors_embedding") in kinds
    world.stored("SELECT pg_stat_force_next_flush()")
    assert dead_rows(world, "vectors") == 0
    await check_view(world)
    assert (await upkeep(world, EAGER)).actions == ()
    noted = world.stored("SELECT action, target, bytes_after < bytes_before FROM livedex.upkeep ORDER BY upkeep_id")
    assert {(action, target) for action, target, _ in noted} == {(k.value, target) for k, target in kinds}
    assert ("reindex", "livedex_g1.vectors_embedding", True) in noted


async def test_a_rebuilt_vector_index_finds_every_chunk_or_has_it_among_the_strays(world: World) -> None:
    await fill(world)
    await upkeep(world, NEVER)
    await churn(world)
    world.stored(
        "INSERT INTO livedex_g1.strays SELECT chunk, document FROM livedex_g1.vectors ORDER BY chunk LIMIT 5 "
        "ON CONFLICT DO NOTHING RETURNING 1"
    )
    done = await upkeep(world, EAGER)
    assert (Kind.REINDEX, "livedex_g1.vectors_embedding") in {(a.kind, a.target) for a in done.actions}
    missed = world.stored(
        "SELECT v.chunk FROM livedex_g1.vectors v WHERE (SELECT o.embedding <=> v.embedding FROM livedex_g1.vectors o "
        "ORDER BY o.embedding <=> v.embedding LIMIT 1) > 1e-5 EXCEPT SELECT chunk FROM livedex_g1.strays"
    )
    assert missed == []
    assert world.stored(
        "SELECT probed_chunk = (SELECT max(chunk) FROM livedex_g1.vectors) FROM livedex.generations"
    ) == [(True,)]


async def test_an_index_that_an_interrupted_rebuild_left_behind_is_dropped(world: World) -> None:
    await fill(world, 10)
    with (
        psycopg.connect(world.store_dsn, autocommit=True) as connection,
        pytest.raises(psycopg.errors.UniqueViolation),
    ):
        connection.execute("CREATE UNIQUE INDEX CONCURRENTLY terms_document_ccnew ON livedex_g1.terms ((1))")
    done = await upkeep(world, NEVER)
    assert [(action.kind, action.target) for action in done.actions] == [
        (Kind.DROP_INDEX, "livedex_g1.terms_document_ccnew")
    ]
    assert world.stored("SELECT to_regclass('livedex_g1.terms_document_ccnew')") == [(None,)]


async def test_one_process_at_a_time_looks_after_a_store(world: World) -> None:
    await fill(world, 2)
    with psycopg.connect(world.store_dsn, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(hashtext('livedex.upkeep'))")
        assert await upkeep(world, EAGER) == Upkeep(elsewhere=True)
    assert (await upkeep(world, EAGER)).elsewhere is False


async def test_searches_and_edits_go_on_during_a_rebuild(world: World) -> None:
    await fill(world)
    await upkeep(world, NEVER)
    await churn(world)
    async with world.open() as index:
        stop = asyncio.Event()
        following = asyncio.create_task(index.up(stop))
        generations = await index.catalog.generations()
        rebuilding = asyncio.create_task(maintain(index._database, generations, EAGER, SystemClock()))
        answers = 0
        while not rebuilding.done():
            world.execute("UPDATE documents SET content = content || ' and on' WHERE doc_id = 'doc-1'")
            answers += bool((await index.search("handbook", "parcel to place 3")).hits)
        assert (await rebuilding).actions
        stop.set()
        await following
        await index.sync()
    assert answers > 0
    await check_view(world)


async def test_history_beyond_its_time_is_dropped_by_the_week(world: World) -> None:
    await fill(world, 3)
    with psycopg.connect(world.store_dsn, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE livedex.changes_20240101 PARTITION OF livedex.changes "
            "FOR VALUES FROM ('2024-01-01') TO ('2024-01-08')"
        )
        connection.execute(
            "INSERT INTO livedex.changes (seq, source_id, document, key_hash, op, version, captured_at) VALUES "
            "(1, 1, 1, '', 'c', '', '2024-01-02'), (2, 1, 1, '', 'c', '', '2023-01-02')"
        )
    done = await upkeep(world, Policy(history_seconds=86400 * 30, thresholds=NEVER.thresholds))
    assert done.partitions_dropped == ("changes_20240101",)
    assert world.stored("SELECT count(*) FROM livedex.changes") == [(3,)]


async def test_a_tombstone_goes_once_it_is_old_and_every_generation_has_read_it(world: World) -> None:
    await fill(world, 4)
    world.execute("DELETE FROM documents WHERE doc_id IN ('doc-0', 'doc-1')")
    async with world.open() as index:
        await index.sync()
    at_once = Policy(tombstone_seconds=0.0, thresholds=NEVER.thresholds)
    assert (await upkeep(world, NEVER)).tombstones_dropped == 0  # young
    with psycopg.connect(world.store_dsn, autocommit=True) as connection:
        connection.execute("UPDATE livedex.cursors SET seq = seq - 1")
        connection.execute("UPDATE livedex.cursors SET seq = seq - 1 WHERE shard = 0")
        assert (await upkeep(world, at_once)).tombstones_dropped == 0  # unread
        connection.execute("UPDATE livedex.cursors SET seq = seq + 1")
        connection.execute("UPDATE livedex.cursors SET seq = seq + 1 WHERE shard = 0")
    assert (await upkeep(world, at_once)).tombstones_dropped == 2
    world.execute("INSERT INTO documents VALUES ('doc-0', 'Again', 'It is back.', 'c')")
    async with world.open() as index:
        await index.sync()
    await check_view(world)
