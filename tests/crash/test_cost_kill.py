"""kill -9 while documents wait: what waits is neither forgotten nor taken for searchable."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.crash.test_kill import edit_in_every_way, kill_at, sync, write
from tests.world import World, check_view

from livedex.store.embedded import EmbeddedServer

SETTINGS = {
    "debounce": "debounce: 10000d",
    "lexical_only": "budget: {tokens_per_day: 1, when_spent: lexical_only}",
}


@pytest.fixture
def world(server: EmbeddedServer, database_on: Callable[[EmbeddedServer], str], tmp_path: Path) -> World:
    return World.make(database_on(server), database_on(server), tmp_path)


@pytest.mark.parametrize(
    ("setting", "point"),
    [
        ("debounce", "materialize.before_commit"),
        ("debounce", "materialize.after_commit"),
        ("lexical_only", "materialize.after_commit"),
    ],
)
async def test_what_waited_when_a_process_was_killed_is_made_searchable_later(
    world: World, setting: str, point: str
) -> None:
    write(world, range(12), "first")
    await sync(world)
    plain = world.config.read_text()
    world.config.write_text(plain.replace("handbook: {", f"handbook: {{{SETTINGS[setting]}, "))
    edit_in_every_way(world)
    kill_at(world, point)
    world.config.write_text(plain)
    write(world, range(6, 9), "changed while nobody was there")
    await sync(world)
    assert world.stored("SELECT count(*) FROM livedex.deferred") == [(0,)]
    await check_view(world)
