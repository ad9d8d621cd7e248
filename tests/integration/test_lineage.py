"""The lineage of a document: every version, and when it was searchable."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.integration.test_search import HeldAt
from tests.world import World, check_view

from livedex.errors import NotFound
from livedex.rules.lineage import Served
from livedex.store.embedded import EmbeddedServer
from livedex.store.history import Lineage

EDITS = 10


@pytest.fixture
def world(server: EmbeddedServer, database_on: Callable[[EmbeddedServer], str], tmp_path: Path) -> World:
    world = World.make(database_on(server), database_on(server), tmp_path)
    world.execute("INSERT INTO documents VALUES ('one', 'One', 'First text.', 'policy')")
    return world


async def synced(world: World) -> None:
    async with world.open() as index, asyncio.timeout(60):
        await index.sync()


async def lineage_of(world: World, key: str) -> Lineage:
    async with world.open() as index:
        return await index.lineage("kb", key)


def edit(world: World) -> None:
    for number in range(EDITS):
        world.execute("UPDATE documents SET content = %s WHERE doc_id = 'one'", f"Edit {number}.")


async def until(world: World, wanted: int, query: str, *values: str) -> None:
    while world.stored(query, *values) != [(wanted,)]:  # noqa: ASYNC110  # another process's tables ring no bell
        await asyncio.sleep(0.02)


def served(found: Lineage) -> list[Served]:
    return [serving.served for version in found.versions for serving in version.served]


async def test_a_row_that_was_there_at_the_start_has_no_commit_and_counts_in_no_lag(world: World) -> None:
    await synced(world)
    async with world.open() as index:
        found = await index.lineage("kb", "one")
        (view,) = (await index.status()).views
    (version,) = found.versions
    (serving,) = version.served
    assert (found.state, version.op, version.committed_at) == ("live", "r", None)
    assert (serving.served, serving.lag_seconds) == (Served.SEARCHABLE, None)
    assert serving.searchable_at is not None
    assert version.captured_at < serving.searchable_at
    assert serving.embedded_at is not None
    assert view.lag_p50_seconds is None


async def test_edits_that_piled_up_before_they_were_read_are_versions_that_were_never_searchable(world: World) -> None:
    await synced(world)
    gate, stop = HeldAt("materialize.read"), asyncio.Event()
    async with world.open(gate) as index, asyncio.timeout(60):
        running = asyncio.create_task(index.up(stop))
        async with gate:
            edit(world)
            await until(world, 1 + EDITS, "SELECT count(*) FROM livedex.changes")
        await until(world, 1, "SELECT count(*) FROM handbook WHERE chunk_text = %s", f"Edit {EDITS - 1}.")
        found = await index.lineage("kb", "one")
        stop.set()
        await running
    never = [each is Served.REPLACED_FIRST for each in served(found)[1:-1]]
    assert (len(found.versions), served(found)[0], served(found)[-1]) == (
        1 + EDITS, Served.REPLACED, Served.SEARCHABLE,
    )  # fmt: skip
    assert sum(never) >= EDITS - 2  # a shard may have been past the gate with the first
    committed = [version.committed_at for version in found.versions[1:] if version.committed_at]
    assert committed == sorted(committed)
    assert len(committed) == EDITS


async def test_edits_that_were_made_while_nobody_captured_are_versions_all_the_same(world: World) -> None:
    await synced(world)
    edit(world)
    world.execute("DELETE FROM documents WHERE doc_id = 'one'")
    await synced(world)
    found = await lineage_of(world, "one")
    assert [version.op for version in found.versions] == ["r", *"u" * EDITS, "d"]
    assert len({version.version for version in found.versions[:-1]}) == 1 + EDITS
    assert (found.state, served(found)[-1]) == ("deleted", Served.DELETED)
    first, gone = found.versions[0].served[0], found.versions[-1].served[0]
    assert first.replaced_at is not None
    assert gone.replaced_at is not None
    assert (first.served, first.replaced_at <= gone.replaced_at) == (Served.REPLACED, True)
    assert gone.lag_seconds is not None
    assert gone.lag_seconds > 0


async def test_a_version_was_searchable_from_its_application_to_that_of_the_next(world: World) -> None:
    await synced(world)
    world.execute("UPDATE documents SET content = 'Second text.' WHERE doc_id = 'one'")
    await synced(world)
    world.execute("UPDATE documents SET category = 'faq' WHERE doc_id = 'one'")
    await synced(world)
    first, second, third = [version.served[0] for version in (await lineage_of(world, "one")).versions]
    assert [each.served for each in (first, second, third)] == [Served.REPLACED, Served.REPLACED, Served.SEARCHABLE]
    assert (first.replaced_at, second.replaced_at) == (second.searchable_at, third.searchable_at)
    assert second.lag_seconds is not None
    assert (second.texts_written, third.texts_written) == (1, 0)
    assert second.embedded_at == third.embedded_at
    assert first.embedded_at != second.embedded_at
    await check_view(world)


async def test_a_renamed_document_keeps_its_versions_under_every_key_that_it_had(world: World) -> None:
    await synced(world)
    world.execute("UPDATE documents SET doc_id = 'two' WHERE doc_id = 'one'")
    await synced(world)
    former, current = await lineage_of(world, "one"), await lineage_of(world, "two")
    assert former == current
    assert (current.document_id, [version.op for version in current.versions]) == ("two", ["r", "u"])


async def test_a_purged_document_is_said_to_be_purged_and_no_more(world: World) -> None:
    await synced(world)
    async with world.open() as index:
        await index.forgetting.purge("kb", ["one"], by="test", rewrite=False)
        assert await index.lineage("kb", "one") == Lineage("kb", "one", "purged")


async def test_what_was_never_there_is_not_found(world: World) -> None:
    await synced(world)
    with pytest.raises(NotFound, match="nowhere"):
        await lineage_of(world, "nowhere")
