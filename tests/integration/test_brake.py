"""Losses that are more likely a mistake than meant hold a source until a person answers, and nothing of them shows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from tests.running import until, up
from tests.world import World, check_view

from livedex.errors import IllegalMove, SourceHeld
from livedex.flow import follow
from livedex.store.embedded import EmbeddedServer
from livedex.testing.faults import Crash, CrashAt

BRAKE = "    brake: {deletes: 30%, shrinks: 30%, least: 5, window: 1h}\n"
PATIENCE_SECONDS = 30.0


@pytest.fixture
async def world(server: EmbeddedServer, database_on: Callable[[EmbeddedServer], str], tmp_path: Path) -> World:
    """Twenty documents, loaded."""
    world = World.make(database_on(server), database_on(server), tmp_path)
    world.config.write_text(world.config.read_text().replace("    kind: postgres\n", f"    kind: postgres\n{BRAKE}"))
    world.execute(
        "INSERT INTO documents SELECT n, 'Title', repeat('Some words about parcels. ', 4) || n, 'c' "
        "FROM generate_series(1, 20) AS n"
    )
    await sync(world)
    return world


async def sync(world: World) -> None:
    async with world.open() as index, asyncio.timeout(PATIENCE_SECONDS):
        await index.sync()


async def held(world: World) -> str:
    """Sync, which is to end with the source being held; what it says."""
    with pytest.raises(SourceHeld) as caught:
        await sync(world)
    return str(caught.value)


async def resume(world: World) -> None:
    async with world.open() as index:
        await index.producers.resume("kb", "Ada")


def shown(world: World) -> int:
    ((documents,),) = world.stored("SELECT count(DISTINCT document_id) FROM handbook")
    return int(documents)


def log(world: World) -> list[tuple[object, ...]]:
    return world.stored("SELECT seq, (SELECT count(*) FROM livedex.changes) FROM livedex.log_head")


STORMS = {
    "delete of all": ["DELETE FROM documents"],
    "truncate": ["TRUNCATE documents"],
    "more than a third": ["DELETE FROM documents WHERE doc_id::int <= 7"],
    "emptied": ["UPDATE documents SET content = 'x'"],
    "a third emptied": ["UPDATE documents SET content = NULL WHERE doc_id::int <= 7"],
}


@pytest.mark.parametrize("statements", STORMS.values(), ids=STORMS)
async def test_a_storm_is_held_whole_and_passes_when_a_person_agrees(world: World, statements: list[str]) -> None:
    before = log(world)
    for statement in statements:
        world.execute(statement)
    assert "Source kb is held" in await held(world)
    assert (log(world), shown(world)) == (before, 20)
    ((state, confirmed),) = world.stored("SELECT state, position FROM livedex.partitions")
    assert state == "held"
    await resume(world)
    await sync(world)
    await check_view(world)
    assert world.stored("SELECT position = %s FROM livedex.partitions", confirmed) == [(False,)]


async def test_deletes_one_by_one_are_held_when_they_come_to_too_many(world: World) -> None:
    for number in range(1, 21):
        world.execute("DELETE FROM documents WHERE doc_id = %s", str(number))
        if number == 4:
            await sync(world)
    await held(world)
    assert 14 <= shown(world) <= 16  # some of them may come before the others
    await resume(world)
    await sync(world)
    await check_view(world)


async def test_a_large_transaction_is_held_whole(world: World) -> None:
    world.execute(
        "WITH gone AS (DELETE FROM documents) INSERT INTO documents SELECT 'new-' || n, '', 'new', 'c' "
        "FROM generate_series(1, 3000) AS n"
    )
    before = log(world)
    await held(world)
    assert log(world) == before
    await resume(world)
    await sync(world)
    assert shown(world) == 3000


async def test_a_table_that_is_written_anew_in_one_transaction_is_not_held(world: World) -> None:
    with psycopg.connect(world.source_dsn) as connection:
        rows = connection.execute("SELECT * FROM documents").fetchall()
        connection.execute("TRUNCATE documents")
        # So many that the transaction comes in parts, and the rows in another than the truncate.
        connection.execute("INSERT INTO documents SELECT 'n' || n, '', 'n', 'c' FROM generate_series(1, 2500) AS n")
        connection.cursor().executemany("INSERT INTO documents VALUES (%s, %s, %s, %s, %s)", rows)
        connection.execute("DELETE FROM documents WHERE doc_id LIKE 'n%'")
    await sync(world)
    await check_view(world)


async def test_what_went_and_came_back_is_no_loss_to_a_process_that_knows_the_history_only(world: World) -> None:
    world.stored(
        "INSERT INTO livedex.changes SELECT seq, source_id, document, key_hash, 't', '', 'somewhere', NULL, now() "
        "FROM livedex.changes RETURNING 1"
    )
    world.execute("DELETE FROM documents WHERE doc_id = '1'")
    await sync(world)
    await check_view(world)


async def test_a_resync_of_an_emptied_table_is_held(world: World) -> None:
    async with world.open() as index:
        await index.resync("kb")
    world.execute("DELETE FROM documents WHERE doc_id::int > 3")
    await held(world)
    assert shown(world) == 20
    await resume(world)
    await sync(world)
    await check_view(world)


async def test_a_few_losses_of_many_pass(world: World) -> None:
    world.execute("DELETE FROM documents WHERE doc_id::int <= 4")
    world.execute("UPDATE documents SET content = 'x' WHERE doc_id::int IN (5, 6, 7, 8)")
    await sync(world)
    await check_view(world)


async def test_with_the_brake_off_everything_passes(world: World) -> None:
    world.config.write_text(world.config.read_text().replace(BRAKE, "    brake: off\n"))
    world.execute("TRUNCATE documents")
    await sync(world)
    await check_view(world)


async def test_a_held_source_is_tried_by_nobody_and_keeps_its_changes(world: World) -> None:
    world.execute("DELETE FROM documents")
    said = await held(world)
    world.execute("INSERT INTO documents VALUES ('late', '', 'Came later.', 'c')")
    ((kept,),) = slot(world)
    async with world.open() as index:
        with pytest.raises(SourceHeld) as caught:
            await index.sync()
        assert str(caught.value) == said
        (status,) = (await index.status()).sources
        (hold,) = await index.producers.holds("kb")
        await index.search("handbook", "parcels")
    assert (status.state, status.error) == ("held", said)
    assert (hold.is_open, hold.deletes, hold.documents, len(hold.examples)) == (True, 20, 20, 10)
    assert slot(world) == [(kept,)]
    await resume(world)
    await sync(world)
    assert shown(world) == 1


def slot(world: World) -> list[tuple[object, ...]]:
    """How far the source may forget its log."""
    with psycopg.connect(world.source_dsn, autocommit=True) as connection:
        return connection.execute(
            "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE database = current_database()"
        ).fetchall()


async def test_a_source_that_was_mended_goes_on_without_anything_being_let_pass(world: World) -> None:
    world.execute("DELETE FROM documents")
    await held(world)
    async with world.open() as index:
        await index.producers.retry("kb")
    await held(world)
    async with world.open() as index:
        await index.resync("kb")
    world.execute("INSERT INTO documents SELECT n, 'Title', 'Back again.', 'c' FROM generate_series(1, 20) AS n")
    await resync_after_mending(world)


async def resync_after_mending(world: World) -> None:
    # The rows are back, shorter than they were: that, too, takes a word.
    await held(world)
    await resume(world)
    await sync(world)
    await check_view(world)


async def test_who_agreed_and_when_it_was_over_is_known(world: World) -> None:
    world.config.write_text(world.config.read_text().replace("window: 1h", "window: 500ms"))
    world.execute("DELETE FROM documents")
    await held(world)
    await resume(world)
    async with world.open() as index:
        with pytest.raises(IllegalMove, match="not held"):
            await index.producers.resume("kb", "Ada")
        async with up(index):
            await until(
                lambda: world.stored("SELECT approved_by, ended_at IS NULL FROM livedex.holds") == [("Ada", False)]
            )
    assert shown(world) == 0


async def test_a_running_process_goes_on_when_a_person_agrees(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "STANDBY_SECONDS", 0.1)
    async with world.open() as index, up(index):
        world.execute("DELETE FROM documents")
        await until(lambda: world.stored("SELECT state FROM livedex.partitions") == [("held",)])
        await index.producers.resume("kb", "Ada")
        await until(lambda: shown(world) == 0)
        world.execute("INSERT INTO documents VALUES ('new', '', 'New text.', 'c')")
        await until(lambda: shown(world) == 1)


async def test_a_process_that_dies_before_it_asks_leaves_the_asking_to_the_next(world: World) -> None:
    world.execute("DELETE FROM documents")
    with pytest.raises(Crash):
        async with world.open(CrashAt("brake.before_hold")) as index, asyncio.timeout(PATIENCE_SECONDS):
            await index.sync()
    assert world.stored("SELECT count(*) FROM livedex.holds") == [(0,)]
    assert shown(world) == 20
    await held(world)


async def test_something_else_expected_that_would_hide_most_documents_is_held(world: World) -> None:
    world.config.write_text(
        world.config.read_text().replace("    kind: postgres\n", "    kind: postgres\n    expects: {max_bytes: 10}\n")
    )
    await held(world)
    assert shown(world) == 20
    await resume(world)
    await sync(world)
    assert shown(world) == 0
    assert world.stored("SELECT count(*) FROM livedex.quarantine WHERE stage = 'expect'") == [(20,)]


FOLDER = """
sources:
  kb: {kind: files, path: folder, brake: {least: 5}}
views:
  handbook: {from: kb, embedder: hashing}
"""


async def test_an_emptied_folder_is_held_at_the_next_start_and_while_it_is_followed(
    server: EmbeddedServer, database_on: Callable[[EmbeddedServer], str], tmp_path: Path
) -> None:
    world = World(database_on(server), database_on(server), tmp_path / "livedex.yaml")
    world.config.write_text(FOLDER)
    (tmp_path / "folder").mkdir()
    files = [tmp_path / "folder" / f"{number}.md" for number in range(10)]
    texts = {file: f"# About {file.stem}\n\nSome words." for file in files}
    for file, text in texts.items():
        file.write_text(text)
    await sync(world)
    for file in files:
        file.unlink()
    await held(world)
    assert shown(world) == 10
    for file, text in texts.items():
        file.write_text(text)
    async with world.open() as index:
        await index.producers.retry("kb")
        await index.sync()
        assert shown(world) == 10
        async with up(index):
            for file in files:
                file.unlink()
            await until(lambda: world.stored("SELECT state FROM livedex.partitions") == [("held",)])
    assert shown(world) > 6
    await resume(world)
    await sync(world)
    assert shown(world) == 0
