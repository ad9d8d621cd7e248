"""Reading a source again: by request, or because what is mapped of it changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.world import World, check_view

from livedex.store.embedded import EmbeddedServer


def _world(server: EmbeddedServer, database_on: Callable[[EmbeddedServer], str], directory: Path) -> World:
    world = World.make(database_on(server), database_on(server), directory)
    world.execute("INSERT INTO documents VALUES ('one', 'One', '# One\n\nFirst text.', 'policy')")
    return world


async def test_a_resync_of_an_idle_source_reads_it_again_before_sync_returns(
    server: EmbeddedServer, database_on: Callable[[EmbeddedServer], str], tmp_path: Path
) -> None:
    world = _world(server, database_on, tmp_path)
    async with world.open() as index:
        await index.sync()
        await index.resync("kb")
        counts = await index.sync()
    assert world.stored("SELECT epoch, state FROM livedex.partitions") == [(2, "streaming")]
    assert counts["handbook"].texts_embedded == 0
    await check_view(world)


async def test_a_resync_removes_what_the_source_no_longer_has(
    server: EmbeddedServer, database_on: Callable[[EmbeddedServer], str], tmp_path: Path
) -> None:
    world = _world(server, database_on, tmp_path)
    async with world.open() as index:
        await index.sync()
        with_ghost = (
            "UPDATE livedex.documents SET document_id = 'ghost', key_hash = 'ghost', key = '[\"documents\",\"ghost\"]'"
        )
        world.stored(f"{with_ghost} RETURNING 1")
        await index.resync("kb")
        await index.sync()
    assert world.stored("SELECT document_id FROM handbook") == [("one",)]


async def test_a_second_table_puts_table_names_into_document_ids_without_embedding_again(
    server: EmbeddedServer, database_on: Callable[[EmbeddedServer], str], tmp_path: Path
) -> None:
    world = _world(server, database_on, tmp_path)
    async with world.open() as index:
        await index.sync()
    world.execute("CREATE TABLE notes (id int PRIMARY KEY, body text)")
    world.execute("INSERT INTO notes VALUES (7, 'A note.')")
    tables = "    tables:\n      notes: {key: id, content: body}\n"
    world.config.write_text(world.config.read_text().replace("    tables:\n", tables))
    async with world.open() as index:
        counts = await index.sync()
    assert world.stored("SELECT document_id FROM handbook ORDER BY 1") == [("documents/one",), ("notes/7",)]
    assert counts["handbook"].texts_embedded == 1


async def test_a_metadata_column_that_is_mapped_later_comes_last_in_the_sql_view(
    server: EmbeddedServer, database_on: Callable[[EmbeddedServer], str], tmp_path: Path
) -> None:
    world = _world(server, database_on, tmp_path)
    world.execute("ALTER TABLE documents ADD COLUMN author text DEFAULT 'Ada'")
    async with world.open() as index:
        await index.sync()
    world.config.write_text(world.config.read_text().replace("metadata: [category]", "metadata: [author, category]"))
    async with world.open() as index:
        await index.sync()
    columns = world.stored(
        "SELECT column_name::text FROM information_schema.columns WHERE table_name = 'handbook' "
        "ORDER BY ordinal_position"
    )
    assert [name for (name,) in columns][-2:] == ["category", "author"]
    assert world.stored("SELECT author FROM handbook") == [("Ada",)]


async def test_a_sync_of_an_idle_source_says_that_it_is_as_fresh_as_now(
    server: EmbeddedServer, database_on: Callable[[EmbeddedServer], str], tmp_path: Path
) -> None:
    world = _world(server, database_on, tmp_path)
    async with world.open() as index:
        times = []
        for _ in range(2):
            await index.sync()
            (mark,) = (await index.search("handbook", "text")).watermark
            assert mark.time is not None
            times.append(mark.time)
        ((now,),) = world.stored("SELECT clock_timestamp()")
        assert times[0] < times[1] < now
