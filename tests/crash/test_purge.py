"""kill -9 in a purge: all of it is done or nothing, nothing comes back, and doing it again completes it."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.crash.processes import process
from tests.crash.test_kill import PURGING, sync, write
from tests.world import World, check_view

from livedex.store.embedded import EmbeddedServer


@pytest.fixture
def world(server: EmbeddedServer, database_on: Callable[[EmbeddedServer], str], tmp_path: Path) -> World:
    return World.make(database_on(server), database_on(server), tmp_path)


@pytest.mark.parametrize("point", PURGING)
async def test_purge_killed_at_any_point_is_done_or_not_and_is_completed_by_the_next(world: World, point: str) -> None:
    write(world, range(6), "first")
    await sync(world)
    with process(world, "purge", "--key", "doc-1", "--kill-at", point) as killed:
        assert killed.ends_with() == -signal.SIGKILL
    if point == "purge.before_commit":
        await check_view(world)
    write(world, range(3, 8), "changed while nobody was there")
    await sync(world)
    async with world.open() as index:
        before = [receipt.complete for receipt in await index.forgetting.receipts()]
        await index.forgetting.purge("kb", ["doc-1"], by="tests")
        after = [receipt.complete for receipt in await index.forgetting.receipts()]
    write(world, [1], "changed after it was purged")
    await sync(world)
    world.execute("DELETE FROM documents WHERE doc_id = 'doc-1'")
    await check_view(world)
    assert before == ([] if point == "purge.before_commit" else [False])
    assert after == [True] * (len(before) + 1)
