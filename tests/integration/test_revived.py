"""A key that comes back after a delete does not bring back what the deleted document said (invariant 5)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.running import until, up
from tests.world import World, check_view

from livedex.store.embedded import EmbeddedServer

OLD, NEW = "## Pay\n\nThe salary of Ada is a secret.", "## Desk\n\nDesks are tidied on Fridays."


class Gate:
    """While it is closed nothing is materialized."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()

    async def reach(self, name: str) -> None:
        if name == "materialize.read":
            await self.open.wait()


@pytest.fixture
def world(server: EmbeddedServer, database_on: Callable[[EmbeddedServer], str], tmp_path: Path) -> World:
    return World.make(database_on(server), database_on(server), tmp_path)


@pytest.mark.parametrize("exact", [False, True])
async def test_the_text_of_a_deleted_document_stays_away_when_its_key_comes_back_before_the_view_has_followed(
    world: World, exact: bool
) -> None:
    world.execute("INSERT INTO documents VALUES ('a', 'Pay', %s, 'hr')", OLD)
    gate = Gate()
    async with world.open(gate) as index:
        await index.sync()
        async with up(index):
            gate.open.clear()
            world.execute("DELETE FROM documents")
            await until(lambda: world.stored("SELECT deleted FROM livedex.documents") == [(True,)])
            world.execute("INSERT INTO documents VALUES ('a', 'Desk', %s, 'office')", NEW)
            await until(lambda: world.stored("SELECT deleted FROM livedex.documents") == [(False,)])
            for mode in ("hybrid", "dense", "lexical"):
                assert (await index.search("handbook", "salary of Ada", mode=mode, exact=exact)).hits == ()
            assert world.stored("SELECT chunk_text FROM handbook") == []
            gate.open.set()
        await index.sync()
        (hit,) = (await index.search("handbook", "desks on Fridays", exact=exact)).hits
        assert hit.text == NEW
    await check_view(world)
