"""Two years of edits to a real documentation site, commit by commit, through a real table: at every stop the view is
what building it from scratch would give."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from tests.world import World, check_tables, from_scratch

from livedex import config
from livedex.adapters.embedders.hashing import HashingEmbedder
from livedex.model import Chunk
from livedex.parts import build_cutter
from livedex.store.embedded import EmbeddedServer

TABLE = "CREATE TABLE pages (path text PRIMARY KEY, content text NOT NULL)"
CONFIG = """
sources:
  kb: {kind: postgres, url: "${KB_DATABASE_URL}", tables: {pages: {key: path, content: content}}}
views:
  handbook: {from: [kb], embedder: hashing, shards: 2}
"""
CUTTER = build_cutter(config.AutoChunker())
COMMITS_BETWEEN_LOOKS = 50

Edit = dict[str, Any]


@pytest.fixture
def stream(data_dir: Path) -> list[Edit]:
    file = data_dir / "streams" / "govuk-2y.jsonl.gz"
    if not file.is_file():
        pytest.skip(f"no recorded edits in {file}; set LIVEDEX_DATA")
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


@pytest.fixture
def world(server: EmbeddedServer, database_on: Callable[[EmbeddedServer], str], tmp_path: Path) -> World:
    world = World(database_on(server), database_on(server), tmp_path / "livedex.yaml")
    world.config.write_text(CONFIG)
    world.execute(TABLE)
    return world


async def test_view_follows_two_years_of_real_edits(world: World, stream: list[Edit]) -> None:
    with psycopg.connect(world.source_dsn, autocommit=True) as source:
        commits = transactions(stream)
        commit(source, next(commits))
        async with world.open() as index, asyncio.timeout(120):
            await index.sync()
            stop = asyncio.Event()
            following = asyncio.create_task(index.up(stop))
            for number, edits in enumerate(commits, 1):
                commit(source, edits)
                if number % COMMITS_BETWEEN_LOOKS == 0:
                    await until_followed(world)
                await asyncio.sleep(0)
            stop.set()
            await following
            counts = (await index.sync())["handbook"]
    check_pages(world)
    await check_vectors(world)
    check_tables(world)
    assert counts.documents == len(pages(world))


def transactions(stream: Sequence[Edit]) -> Iterator[list[Edit]]:
    """The state at the start first, then commit by commit."""
    beginning = [edit for edit in stream if edit["op"] == "r"]
    yield beginning
    for _, edits in groupby(stream[len(beginning) :], key=lambda edit: edit["commit"]):
        yield list(edits)


def commit(source: psycopg.Connection[Any], edits: Sequence[Edit]) -> None:
    with source.transaction():
        for edit in edits:
            apply(source, edit)


def apply(source: psycopg.Connection[Any], edit: Edit) -> None:
    match edit["op"]:
        case "r" | "c" | "u":
            source.execute(
                "INSERT INTO pages VALUES (%(path)s, %(content)s) "
                "ON CONFLICT (path) DO UPDATE SET content = excluded.content",
                edit,
            )
        case "m":
            source.execute("UPDATE pages SET path = %(path)s, content = %(content)s WHERE path = %(old_path)s", edit)
        case "d":
            source.execute("DELETE FROM pages WHERE path = %(path)s", edit)


async def until_followed(world: World) -> None:
    """Until the view says what building it from scratch would give."""
    async with asyncio.timeout(30):
        while True:
            try:
                check_pages(world)
            except AssertionError:
                await asyncio.sleep(0.05)
            else:
                return


def check_pages(world: World) -> None:
    found = world.stored(
        'SELECT document_id, chunk_index, start, "end", chunk_text, section, section_type, stale '
        'FROM handbook ORDER BY document_id COLLATE "C", chunk_index'
    )
    assert found == [
        (path, c.index, c.start, c.end, c.text, list(c.heading_path), c.section_type, False)
        for path, c in chunks(world)
    ]


async def check_vectors(world: World) -> None:
    found = world.stored('SELECT embedding::text FROM handbook ORDER BY document_id COLLATE "C", chunk_index')
    wanted = await HashingEmbedder().embed_documents([chunk.embedded_text for _, chunk in chunks(world)])
    stored = np.array([json.loads(vector) for (vector,) in found], dtype=np.float32)
    np.testing.assert_allclose(stored, wanted.astype(np.float16).astype(np.float32), atol=1e-5)


def chunks(world: World) -> list[tuple[str, Chunk]]:
    """What the table's pages are cut into, from scratch."""
    cut = partial(from_scratch, cutter=CUTTER)
    return [(path, chunk) for path, content in sorted(pages(world).items()) for chunk in cut(content)]


def pages(world: World) -> dict[str, str]:
    with psycopg.connect(world.source_dsn, autocommit=True) as connection:
        return dict(connection.execute("SELECT path, content FROM pages").fetchall())
