"""Columns that change: what is not mapped is noted, what is mapped stops the source until somebody deals with it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.running import until, up
from tests.world import World, check_view

from livedex.errors import SchemaChanged
from livedex.store.embedded import EmbeddedServer
from livedex.store.producers import SchemaChange

PATIENCE_SECONDS = 30.0
MAPPED = [
    ("ALTER TABLE documents ALTER category TYPE varchar", "category", "retyped", "has type character varying"),
    ("ALTER TABLE documents DROP category", "category", "dropped", "is gone"),
    ("ALTER TABLE documents RENAME category TO kind", "category", "dropped", "is gone"),
]
BACK = "ALTER TABLE documents ALTER category TYPE text"


@pytest.fixture
async def world(server: EmbeddedServer, database_on: Callable[[EmbeddedServer], str], tmp_path: Path) -> World:
    world = World.make(database_on(server), database_on(server), tmp_path)
    world.execute("ALTER TABLE documents ADD beside text")
    world.execute("INSERT INTO documents VALUES ('one', 'One', 'First text.', 'policy')")
    await sync(world)
    return world


async def sync(world: World) -> None:
    async with world.open() as index, asyncio.timeout(PATIENCE_SECONDS):
        await index.sync()


async def noted(world: World) -> list[SchemaChange]:
    async with world.open() as index:
        return await index.producers.schema_changes("kb")


@pytest.mark.parametrize(("change", "column", "kind", "said"), MAPPED, ids=["retyped", "dropped", "renamed"])
async def test_a_mapped_column_that_changed_while_nothing_ran_stops_the_source(
    world: World, change: str, column: str, kind: str, said: str
) -> None:
    world.execute(change)
    with pytest.raises(SchemaChanged):
        await sync(world)
    with pytest.raises(SchemaChanged, match=said) as caught:  # at the second attempt, too
        await sync(world)
    assert f'Column "{column}" of table "documents"' in str(caught.value)
    async with world.open() as index:
        (status,) = (await index.status()).sources
    assert (status.state, status.error) == ("paused", str(caught.value))
    stops = [(found.column, found.kind) for found in await noted(world) if found.resolved_at is None]
    assert stops == [(column, kind)]


async def test_a_change_that_is_taken_back_lets_the_source_go_on_with_what_it_kept(world: World) -> None:
    world.execute("ALTER TABLE documents ALTER category TYPE varchar")
    with pytest.raises(SchemaChanged):
        await sync(world)
    world.execute(BACK)
    world.execute("INSERT INTO documents VALUES ('two', 'Two', 'Second text.', 'policy')")
    await sync(world)
    await check_view(world)
    assert [found for found in await noted(world) if found.resolved_at is None] == []


async def test_reading_the_table_again_accepts_its_columns(world: World) -> None:
    world.execute("ALTER TABLE documents ALTER category TYPE varchar")
    with pytest.raises(SchemaChanged):
        await sync(world)
    async with world.open() as index:
        await index.resync("kb")
    world.execute("INSERT INTO documents VALUES ('two', 'Two', 'Second text.', 'policy')")
    await sync(world)
    await check_view(world)
    (change, *_) = await noted(world)
    assert (change.column, change.became, change.resolved_at is None) == ("category", "character varying", False)


async def test_columns_that_are_not_mapped_are_noted_and_nothing_else_happens(world: World) -> None:
    world.execute("ALTER TABLE documents ADD extra int, ALTER beside TYPE varchar")
    world.execute("INSERT INTO documents (doc_id, title, content, category) VALUES ('two', 'Two', 'Text.', 'faq')")
    await sync(world)
    world.execute("ALTER TABLE documents DROP extra")
    await sync(world)
    await check_view(world)
    assert [(found.column, found.kind, found.mapped) for found in await noted(world)] == [
        ("extra", "dropped", False),
        ("extra", "added", False),
        ("beside", "retyped", False),
    ]
    assert [found for found in await noted(world) if found.resolved_at is None] == []


async def test_a_running_source_hands_on_what_came_before_the_change_and_then_stops(world: World) -> None:
    async with world.open() as index, up(index):
        world.execute("INSERT INTO documents VALUES ('followed', '', 'Followed.', 'policy')")
        await until(lambda: world.stored("SELECT count(*) FROM handbook") == [(2,)])
        world.execute("INSERT INTO documents VALUES ('before', '', 'Before.', 'policy')")
        world.execute("ALTER TABLE documents ADD extra int, ALTER category TYPE varchar")
        await until(lambda: world.stored("SELECT state FROM livedex.partitions") == [("paused",)])
        await until(lambda: world.stored("SELECT count(*) FROM handbook") == [(3,)])
    changes = {found.column: found.resolved_at is None for found in await noted(world)}
    assert changes == {"extra": False, "category": True}
