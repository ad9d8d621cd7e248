"""Notes under a contract: shared by tests of what contracts withhold and of the questions they leave to people."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict
from tests.conftest import drop_database, make_database, run_apart
from tests.world import World

import livedex
from livedex.store.embedded import EmbeddedServer

TABLE = """
CREATE TABLE notes (
    id text PRIMARY KEY, content text, kind text, team text, revision text, changed timestamptz, tenant text)
"""
CONFIG = """
sources:
  kb:
    kind: postgres
    url: ${KB_DATABASE_URL}
    tables:
      notes:
        {key: id, content: content, updated_at: changed, version: revision, metadata: [kind, team], tenant: tenant}
views:
  handbook:
    from: [kb]
    embedder: hashing
    chunker: {kind: markdown, max_tokens: 40, min_tokens: 5}
    contract: CONTRACT
"""
QUESTION = "How long do refunds take?"
HUSH = "hush-hush"
NOTES = 200
"""Of which every tenth is a policy, of a team that every other note lacks, in its 1st to 20th revision."""


def make(source_dsn: str, store_dsn: str, directory: Path, notes: int) -> World:
    world = World(source_dsn, store_dsn, directory / "livedex.yaml")
    world.config.write_text(CONFIG.replace("CONTRACT", "{}"))
    with psycopg.connect(world.source_dsn, autocommit=True) as connection:
        connection.execute(TABLE)
        connection.execute(
            "INSERT INTO notes SELECT 'note-' || n, format(E'# Refunds %%s\\n\\nRefunds take %%s days, hush-hush "
            "they say.\\n\\n## How\\n\\n1. Ask.\\n2. Wait.\\n3. Cheer.', n, n), "
            "CASE WHEN n %% 10 = 0 THEN 'policy' ELSE 'draft' END, CASE WHEN n %% 2 = 0 THEN 'pay' ELSE ' ' END, "
            "(n %% 20 + 1)::text, CASE WHEN n %% 3 > 0 THEN now() - n * interval '1 day' END "
            "FROM generate_series(1, %s) AS n",
            (notes,),
        )
    return world


async def sync(world: World) -> None:
    async with world.open() as index:
        await index.sync()


@asynccontextmanager
async def under(world: World, contract: str, tmp_path: Path) -> AsyncIterator[livedex.Index]:
    """The index with a contract that only this test knows."""
    file = tmp_path / "contracted.yaml"
    file.write_text(CONFIG.replace("CONTRACT", contract))
    async with livedex.open(file, environ=world.environ) as index:
        yield index


@contextmanager
def built_library(server: EmbeddedServer, directory: Path, notes: int) -> Iterator[World]:
    """So many notes that are searchable and that nobody changes, in databases of their own."""
    world = make(make_database(server.dsn), make_database(server.dsn), directory, notes)
    run_apart(sync(world))
    yield world
    for dsn in (world.source_dsn, world.store_dsn):
        drop_database(server.dsn, str(conninfo_to_dict(dsn)["dbname"]))
