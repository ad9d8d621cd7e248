"""kill -9 anywhere, then an ordinary start: nothing is lost, nothing stands twice, nothing is half there."""

from __future__ import annotations

import asyncio
import random
import re
import signal
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import psycopg
import pytest
from tests.crash.processes import process
from tests.world import World, check_view

import livedex
from livedex.errors import SourceHeld
from livedex.store.embedded import EmbeddedServer

MIGRATING = ["migration.before_commit", "migration.after_commit"]
WEIGHED_ANEW = "index.before_weigh"
"""Reached when the first batches of a load held much shorter chunks than later ones."""
LOADING = [
    WEIGHED_ANEW,
    "snapshot.after_slot",
    "snapshot.rows",
    "snapshot.before_finished",
    "index.before_build",
    "index.before_mark",
]
OF_MANY_CHUNKS = "materialize.half_written"
"""Few chunks are written by one statement, which is never half done."""
ALWAYS = [
    "capture.received",
    "capture.before_commit",
    "capture.after_commit",
    "capture.before_acknowledge",
    "materialize.read",
    "materialize.embedded",
    OF_MANY_CHUNKS,
    "materialize.before_commit",
    "materialize.after_commit",
]
STREAMING = ["stream.received"]
HOLDING = ["brake.before_hold"]
MENDING = ["mend.before_append"]
PURGING = ["purge.before_commit", "purge.after_commit", "purge.rewritten"]
"""Killed at in test_purge.py."""


@pytest.fixture
def world(server: EmbeddedServer, database_on: Callable[[EmbeddedServer], str], tmp_path: Path) -> World:
    return World.make(database_on(server), database_on(server), tmp_path)


def test_every_point_in_the_code_is_killed_at_here() -> None:
    code = "\n".join(file.read_text() for file in Path(livedex.__file__).parent.rglob("*.py"))
    killed_at = {*MIGRATING, *LOADING, *ALWAYS, *STREAMING, *HOLDING, *MENDING, *PURGING}
    assert set(re.findall(r'reach\("([^"]+)"\)', code)) == killed_at


@pytest.mark.parametrize("point", [*MIGRATING, *LOADING, *ALWAYS])
async def test_first_load_killed_at_any_point_is_finished_by_the_next_start(world: World, point: str) -> None:
    write(world, range(40), "first")
    if point == WEIGHED_ANEW:
        insert = "INSERT INTO documents SELECT '{0}-' || n, '', {1} || n, 'c' FROM generate_series(1, {2}) AS n"
        world.execute(insert.format("short", "'short '", 1200))
        world.execute(insert.format("long", "repeat('longer text about parcels ', 6)", 400))
    kill_at(world, point)
    write(world, range(30, 50), "changed while nobody was there")
    world.execute("DELETE FROM documents WHERE doc_id IN ('doc-3', 'doc-4')")
    await sync(world)
    await check_view(world)


@pytest.mark.parametrize("point", [*ALWAYS, *STREAMING])
async def test_following_killed_at_any_point_is_finished_by_the_next_start(world: World, point: str) -> None:
    write(world, range(12), "first")
    await sync(world)
    edit_in_every_way(world)
    if point == OF_MANY_CHUNKS:
        write(world, range(200, 240), "many")
    kill_at(world, point)
    write(world, range(6, 14), "changed while nobody was there")
    await sync(world)
    await check_view(world)


@pytest.mark.parametrize("point", HOLDING)
async def test_a_source_that_is_to_be_held_is_held_by_the_next_start_of_a_process_that_was_killed(
    world: World, point: str
) -> None:
    write(world, range(120), "first")
    await sync(world)
    world.execute("DELETE FROM documents")
    kill_at(world, point)
    assert world.stored("SELECT count(*) FROM livedex.documents WHERE NOT deleted") == [(120,)]
    with pytest.raises(SourceHeld):
        await sync(world)
    async with world.open() as index:
        await index.producers.resume("kb", "Ada")
    await sync(world)
    await check_view(world)


@pytest.mark.parametrize("point", MENDING)
async def test_a_repair_killed_at_any_point_is_done_by_the_next_audit(world: World, point: str) -> None:
    write(world, range(3), "first")
    await sync(world)
    with psycopg.connect(world.store_dsn, autocommit=True) as connection:
        connection.execute("UPDATE livedex.documents SET title = 'forged' WHERE document_id = 'doc-1'")
        connection.execute(
            "INSERT INTO livedex.repairs (audit_id, source_id, key, key_hash) "
            "SELECT 0, source_id, key, key_hash FROM livedex.documents WHERE document_id = 'doc-1'"
        )
    with process(world, "up", "--kill-at", point) as killed:
        assert killed.ends_with() == -signal.SIGKILL
    async with world.open() as index, asyncio.timeout(60):
        repaired, again = await index.audit(repair=True), await index.audit()
    assert (repaired.left, again.found) == (0, 0)
    await check_view(world)


@pytest.mark.parametrize("point", ["snapshot.rows", "snapshot.before_finished"])
async def test_rows_deleted_between_two_attempts_at_a_snapshot_leave_no_ghosts(world: World, point: str) -> None:
    write(world, range(12), "first")
    await sync(world)
    async with world.open() as index:
        await index.resync("kb")
    kill_at(world, point)
    world.execute("DELETE FROM documents WHERE doc_id IN ('doc-1', 'doc-2')")
    await sync(world)
    await check_view(world)


async def test_invariant_7_a_first_load_killed_again_and_again_embeds_again_only_what_each_kill_cut_off(
    server: EmbeddedServer, database_on: Callable[[EmbeddedServer], str], tmp_path: Path
) -> None:
    world = World.make(database_on(server), database_on(server), tmp_path, shards=1)
    write(world, range(300), "first")
    dice = random.Random(20)
    embedded: Counter[str] = Counter()
    cut_off: Counter[str] = Counter()
    for _ in range(6):
        with process(world, "sync", "--embedding-seconds", "0.05") as running:
            running.wait_until_written(dice.randint(5, 60))
            running.kill()
        assert running.ends_with() == -signal.SIGKILL
        embedded.update(texts(running.journal))
        cut_off.update(texts(after_last_commit(running.journal)))
        write(world, [dice.randrange(300)], "changed in between")
    with process(world, "sync") as running:
        assert running.ends_with() == 0
    embedded.update(texts(running.journal))

    await check_view(world)
    again = embedded - Counter(dict.fromkeys(embedded, 1))
    assert again <= cut_off
    assert cut_off.total() > 0


def write(world: World, numbers: Sequence[int], word: str) -> None:
    """Documents of six chunks each, no two texts alike, in one transaction."""
    with psycopg.connect(world.source_dsn) as connection, connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO documents VALUES (%s, 'A title', %s, 'policy') "
            "ON CONFLICT (doc_id) DO UPDATE SET content = excluded.content",
            [(f"doc-{number}", content(number, word)) for number in numbers],
        )


def content(number: int, word: str) -> str:
    return "\n\n".join(f"## Part {part}\n\n" + f"{word} {number}-{part}. " * 8 for part in range(3))


def edit_in_every_way(world: World) -> None:
    write(world, range(4), "edited")
    world.execute("UPDATE documents SET category = 'faq' WHERE doc_id = 'doc-4'")
    world.execute("UPDATE documents SET doc_id = 'renamed' WHERE doc_id = 'doc-5'")
    world.execute("DELETE FROM documents WHERE doc_id = 'doc-6'")
    write(world, range(100, 104), "new")


def kill_at(world: World, point: str) -> None:
    with process(world, "sync", "--kill-at", point) as killed:
        assert killed.ends_with() == -signal.SIGKILL
    assert killed.journal[-1] == f"point {point}"


async def sync(world: World) -> None:
    async with world.open() as index, asyncio.timeout(60):
        await index.sync()


def texts(journal: Sequence[str]) -> list[str]:
    return [word for line in journal if line.startswith("embed ") for word in line.split()[1:]]


def after_last_commit(journal: Sequence[str]) -> Sequence[str]:
    commits = [number for number, line in enumerate(journal) if line == "point materialize.after_commit"]
    return journal[commits[-1] :] if commits else journal
