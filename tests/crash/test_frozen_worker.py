"""A worker that sleeps past its lease, as a suspended virtual machine does: another takes over, and the one that wakes
cannot write."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from tests.crash.processes import Process, process
from tests.world import World, check_view

from livedex.store.embedded import EmbeddedServer

WRITES = {"point capture.after_commit", "point materialize.after_commit"}


@pytest.fixture
def world(server: EmbeddedServer, database_on: Callable[[EmbeddedServer], str], tmp_path: Path) -> World:
    # A slot is held by whoever froze for as long as the source's server is told to wait; by default a minute.
    source = make_conninfo(database_on(server), options="-c wal_sender_timeout=2s")
    return World.make(source, database_on(server), tmp_path, shards=1)


@pytest.mark.parametrize(
    "point",
    ["capture.received", "capture.before_commit", "materialize.embedded", "materialize.before_commit"],
)
async def test_worker_frozen_past_its_lease_is_replaced_and_writes_nothing_when_it_wakes(
    world: World, point: str
) -> None:
    write(world, 6, "first")
    async with world.open() as index:
        await index.sync()
    write(world, 6, "second")
    with process(world, "up", "--stop-at", point, "--lease-seconds", "1") as frozen:
        await asyncio.to_thread(frozen.wait_until_stopped)
        write(world, 8, "third")
        world.execute("DELETE FROM documents WHERE doc_id = 'doc-2'")
        async with world.open() as index:
            stop = asyncio.Event()
            following = asyncio.create_task(index.up(stop))
            await until_right(world)
            before = len(frozen.journal)
            frozen.signal(signal.SIGCONT)
            await until_failed(frozen)
            write(world, 8, "fourth")
            await until_right(world)
            assert WRITES.isdisjoint(frozen.journal[before:])
            stop.set()
            await following

        write(world, 9, "fifth")
        await until_right(world)
        assert not WRITES.isdisjoint(frozen.journal[before:])
    assert twice_in_the_log(world) == []
    assert twice_applied(world) == []


def write(world: World, count: int, word: str) -> None:
    with psycopg.connect(world.source_dsn) as connection, connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO documents VALUES (%s, 'A title', %s, 'policy') "
            "ON CONFLICT (doc_id) DO UPDATE SET content = excluded.content",
            [(f"doc-{number}", f"# One\n\n{word} {number}\n\n# Two\n\nThe same.") for number in range(count)],
        )


async def until_right(world: World) -> None:
    """Until the view says what the source says."""
    async with asyncio.timeout(60):
        while True:
            try:
                await check_view(world)
            except AssertionError:
                await asyncio.sleep(0.1)
            else:
                return


async def until_failed(frozen: Process) -> None:
    """Until it has noticed that its place is taken."""
    async with asyncio.timeout(60):
        while True:
            if any(line.startswith("failed ") for line in frozen.journal):
                return
            await asyncio.sleep(0.02)


def twice_in_the_log(world: World) -> list[tuple[object, ...]]:
    """Changes that were written to the log more than once."""
    return world.stored(
        "SELECT document, source_position FROM livedex.changes WHERE source_time IS NOT NULL "
        "GROUP BY document, source_position HAVING count(*) > 1"
    )


def twice_applied(world: World) -> list[tuple[object, ...]]:
    """Changes that were made searchable more than once."""
    return world.stored(
        "SELECT document, committed_at FROM livedex.lag_samples GROUP BY document, committed_at HAVING count(*) > 1"
    )
