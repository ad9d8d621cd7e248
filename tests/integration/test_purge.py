"""Forgotten means gone: from every table, from the server's files, and for good."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from tests.world import World, check_view

import livedex
from livedex.clock import SystemClock
from livedex.errors import NotFound, QueryError
from livedex.faults import Faults, NoFaults
from livedex.flow.purge import Forgetting
from livedex.model import Change, Op, TableMapping
from livedex.store.catalog import Catalog
from livedex.store.database import Database
from livedex.store.documents import Log
from livedex.store.embedded import EmbeddedServer
from livedex.store.leases import acquire
from livedex.store.migrate import migrate
from livedex.store.purge import Receipt

TITLE, CONTENT, HEADING, CATEGORY, KEY = "zqtitle", "zqcontent", "zqheading", "zqcategory", "zqkey"


@pytest.fixture
def world(server: EmbeddedServer, database_on: Callable[[EmbeddedServer], str], tmp_path: Path) -> World:
    return World.make(database_on(server), database_on(server), tmp_path)


def write(world: World, key: str, content: str, *, title: str = "A title", category: str = "policy") -> None:
    world.execute(
        "INSERT INTO documents VALUES (%s, %s, %s, %s) ON CONFLICT (doc_id) DO UPDATE SET title = excluded.title, "
        "content = excluded.content, category = excluded.category",
        *(key, title, content, category),
    )


async def sync(world: World) -> None:
    async with world.open() as index, asyncio.timeout(60):
        await index.sync()


async def purge(world: World, *keys: str, rewrite: bool = False) -> Receipt:
    async with world.open() as index, asyncio.timeout(60):
        return await index.forgetting.purge("kb", keys, by="tests", rewrite=rewrite)


@asynccontextmanager
async def following(world: World, faults: Faults | None = None) -> AsyncIterator[livedex.Index]:
    """An index that follows its sources until the block ends."""
    async with world.open(faults) as index:
        stop = asyncio.Event()
        up = asyncio.create_task(index.up(stop))
        try:
            yield index
        finally:
            stop.set()
            await up


async def until(question: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not question():  # noqa: ASYNC110  # the database rings no bell
            await asyncio.sleep(0.05)


async def until_searchable(world: World, key: str, words: str) -> None:
    query = "SELECT count(*) > 0 FROM handbook WHERE document_id = %s AND position(%s IN chunk_text) > 0"
    await until(lambda: world.stored(query, key, words) == [(True,)])


def documents(world: World) -> set[str]:
    return {key for (key,) in world.stored("SELECT document_id FROM livedex.documents WHERE NOT deleted")}


async def check_without(world: World, *keys: str) -> None:
    """The view is right, the rows of `keys` apart, which the source still has."""
    with psycopg.connect(world.source_dsn, autocommit=True) as connection:
        connection.execute("CREATE TEMP TABLE kept AS SELECT * FROM documents WHERE doc_id = ANY(%s)", (list(keys),))
        connection.execute("ALTER TABLE documents RENAME TO everything")
        left = ",".join(keys)
        connection.execute(f"CREATE VIEW documents AS SELECT * FROM everything WHERE doc_id <> ALL('{{{left}}}')")
        try:
            await check_view(world)
        finally:
            connection.execute("DROP VIEW documents")
            connection.execute("ALTER TABLE everything RENAME TO documents")


async def test_invariant_8_purged_document_leaves_no_row_behind_and_the_others_are_right(world: World) -> None:
    for number in range(6):
        write(world, f"doc-{number}", f"# One\n\nPart {number}\n\n# Two\n\nThe same in all.")
    await sync(world)
    write(world, "doc-3", "# One\n\nAnother text\n\n# Two\n\nThe same in all.")
    await sync(world)
    ((document,),) = world.stored("SELECT document FROM livedex.documents WHERE document_id = 'doc-3'")
    receipt = await purge(world, "doc-3")
    assert receipt.documents == 1
    await check_without(world, "doc-3")
    for table in ("changes", "lag_samples", "documents"):
        assert world.stored(f"SELECT count(*) FROM livedex.{table} WHERE document = %s", document) == [(0,)]
    assert world.stored(
        "SELECT count(*) FROM livedex.embeddings WHERE documents IS NULL OR %s = ANY(documents)", document
    ) == [(0,)]
    assert receipt.removed["livedex.changes"] == 2
    assert receipt.removed["livedex.embeddings"] == 1
    ((said,),) = world.stored(
        "SELECT p::text || s::text FROM livedex.purges p JOIN livedex.suppressions s USING (purge_id)"
    )
    assert "doc-3" not in said
    await sync(world)
    await check_without(world, "doc-3")


async def test_preview_says_what_a_purge_removes_and_removes_nothing(world: World) -> None:
    write(world, "doc-1", "# One\n\nA text")
    write(world, "doc-2", "# One\n\nAnother")
    await sync(world)
    async with world.open() as index:
        preview = await index.forgetting.preview("kb", ["doc-1", "doc-9"])
    await sync(world)
    await check_view(world)
    receipt = await purge(world, "doc-1", "doc-9")
    assert [found.document_id for found in preview.documents] == ["doc-1"]
    assert preview.unknown == ("doc-9",)
    assert {table: rows for table, rows in preview.removed.items() if rows} == receipt.removed


async def test_vector_that_another_document_left_stays(world: World) -> None:
    write(world, "doc-1", "The same")
    write(world, "doc-2", "The same")
    write(world, "doc-3", "Only here")
    await sync(world)
    for key in ("doc-1", "doc-2", "doc-3"):
        write(world, key, f"Now {key}")
    await sync(world)
    await purge(world, "doc-1", "doc-3")
    assert world.stored("SELECT cardinality(documents) FROM livedex.embeddings") == [(1,)]
    async with world.open() as index:
        write(world, "doc-2", "The same")
        assert (await index.sync())["handbook"].texts_embedded == 0


async def test_purged_document_does_not_come_back_with_an_update_a_resync_or_a_new_key_until_that_is_lifted(
    world: World,
) -> None:
    write(world, "doc-1", "A text")
    write(world, "doc-2", "Another")
    await sync(world)
    await purge(world, "doc-1")
    write(world, "doc-1", "A text, edited")
    write(world, "doc-3", "A third")
    await sync(world)
    assert documents(world) == {"doc-2", "doc-3"}
    async with world.open() as index:
        await index.resync("kb")
        await index.sync()
    assert documents(world) == {"doc-2", "doc-3"}
    world.execute("UPDATE documents SET doc_id = 'moved' WHERE doc_id = 'doc-1'")
    await sync(world)
    write(world, "moved", "And edited again")
    async with world.open() as index:
        await index.resync("kb")
        await index.sync()
        await check_without(world, "moved")

        assert await index.forgetting.unpurge("kb", ["moved"], by="tests") == 1
        with pytest.raises(NotFound):
            await index.forgetting.unpurge("kb", ["moved"], by="tests")
        await index.resync("kb")
        await index.sync()
        assert [receipt.action for receipt in await index.forgetting.receipts()] == ["purge", "unpurge"]
    await check_view(world)


async def test_keys_are_kept_away_that_a_document_had_before_or_that_nobody_has_seen(world: World) -> None:
    write(world, "doc-1", "A text")
    await sync(world)
    world.execute("UPDATE documents SET doc_id = 'moved' WHERE doc_id = 'doc-1'")
    await sync(world)
    receipt = await purge(world, "doc-1", "never seen")
    write(world, "doc-1", "Again")
    write(world, "moved", "And again")
    write(world, "never seen", "Until now")
    await sync(world)
    assert (receipt.documents, receipt.keys) == (1, 3)
    await check_without(world, "doc-1", "moved", "never seen")


async def test_document_whose_tombstone_is_dropped_is_forgotten_where_it_is_still_named(world: World) -> None:
    write(world, "doc-1", f"Something about {CONTENT}")
    write(world, "doc-2", "Another")
    await sync(world)
    async with world.open() as index:
        await index.search("handbook", f"What about {CONTENT}?")
    world.execute("DELETE FROM documents WHERE doc_id = 'doc-1'")
    await sync(world)
    ((document,),) = world.stored("DELETE FROM livedex.documents WHERE deleted RETURNING document")
    write(world, "doc-1", "A later row under the same key")
    await sync(world)
    async with world.open() as index:
        preview = await index.forgetting.preview("kb", ["doc-1"])
    await purge(world, "doc-1")
    assert [found.document_id for found in preview.documents] == ["doc-1", "doc-1"]
    assert world.stored("SELECT query FROM livedex.retrievals") == [(None,)]
    assert world.stored("SELECT count(*) FROM livedex.embeddings") == [(0,)]
    for table in ("changes", "lag_samples", "retrieval_hits"):
        assert world.stored(f"SELECT count(*) FROM livedex.{table} WHERE document = %s", document) == [(0,)]
    await check_without(world, "doc-1")


async def test_reports_of_audits_lose_the_names_of_what_was_purged(world: World) -> None:
    write(world, KEY, "A text")
    await sync(world)
    world.stored(
        "INSERT INTO livedex.audits (owner, wanted, report) VALUES ('me', '{}', %s) RETURNING 1",
        json.dumps([
            {"name": "kb", "skipped": None, "findings": [{"kind": "ghost", "note": f"{KEY} stays."}, {"note": None}]},
            {"name": "handbook", "skipped": f"No {KEY}.", "findings": []},
        ]),
    )  # fmt: skip
    receipt = await purge(world, KEY)
    assert receipt.removed["livedex.audits"] == 1
    assert world.stored("SELECT report FROM livedex.audits") == [([
        {"name": "kb", "skipped": None, "findings": [{"kind": "ghost", "note": "(forgotten) stays."}, {"note": None}]},
        {"name": "handbook", "skipped": "No (forgotten).", "findings": []},
    ],)]  # fmt: skip


async def test_key_that_another_row_has_now_is_not_kept_away_with_a_document_that_had_it_before(world: World) -> None:
    write(world, "doc-1", "A text")
    await sync(world)
    world.execute("UPDATE documents SET doc_id = 'moved' WHERE doc_id = 'doc-1'")
    write(world, "doc-1", "Another row")
    await sync(world)
    await purge(world, "moved")
    write(world, "doc-1", "Another row, edited")
    await sync(world)
    await check_without(world, "moved")


async def test_parts_of_a_large_transaction_hold_nothing_that_was_purged(fresh_database: str) -> None:
    database = await Database.open(fresh_database)
    await migrate(database)
    catalog = Catalog(database)
    source, _ = await catalog.declare_source("kb", "made-up", {"t": TableMapping(key=("id",), content="text")})
    await catalog.partition(source, "all")
    await Forgetting(database, catalog, SystemClock(), NoFaults()).purge("kb", ["a"], by="tests", rewrite=False)
    try:
        async with await database.connect() as connection:
            await Log.prepare(connection)
            lease = await acquire(connection, f"source:{source.source_id}:all", "tests")
            assert lease is not None
            log = Log(connection, source, "all", lease, NoFaults(), committed=lambda slots: None)
            for key in ("a", "b", "c"):
                await log.stage([Change(Op.CREATE, "t", (key,), {"id": key, "text": f"Text {key}"}, position="1")])
            staged = await (
                await connection.execute("SELECT change ->> 'key' FROM livedex.staged ORDER BY 1")
            ).fetchall()
            await log.append_staged(1, "1", datetime(2026, 1, 1, tzinfo=UTC))
            cursor = await connection.execute("SELECT document_id FROM livedex.documents ORDER BY 1")
            assert staged == [('["b"]',), ('["c"]',)]
            assert await cursor.fetchall() == [("b",), ("c",)]
    finally:
        await database.close()


async def test_documents_are_selected_by_metadata_and_by_words(world: World) -> None:
    write(world, "doc-1", "# Parcels\n\nAbout refunds", category="policy")
    write(world, "doc-2", "# Parcels\n\nAbout nothing", category="policy")
    write(world, "doc-3", "# Letters\n\nA refund", category="faq")
    await sync(world)
    async with world.open() as index:
        assert await index.forgetting.with_metadata("kb", "category", "policy") == ["doc-1", "doc-2"]
        assert await index.forgetting.with_words("kb", "parcel refunds") == ["doc-1"]
        assert await index.forgetting.with_words("kb", "refunded") == ["doc-1", "doc-3"]
        with pytest.raises(QueryError):
            await index.forgetting.with_words("kb", "of the")


class PurgeAt(NoFaults):
    """Purges a document from another index when a point is reached for the first time after `armed`."""

    def __init__(self, world: World, point: str) -> None:
        self._world = world
        self._point = point
        self.armed = False
        self.done = asyncio.Event()

    async def reach(self, name: str) -> None:
        if name == self._point and self.armed:
            self.armed = False
            await purge(self._world, "doc-1")
            self.done.set()


@pytest.mark.parametrize("point", ["capture.received", "materialize.embedded"])
async def test_what_workers_had_read_before_a_purge_is_not_written_after_it(world: World, point: str) -> None:
    write(world, "doc-1", "A text")
    write(world, "doc-2", "Another")
    await sync(world)
    faults = PurgeAt(world, point)
    async with following(world, faults):
        write(world, "doc-2", "Another, so that workers know what they need not ask again")
        await until_searchable(world, "doc-2", "so that workers")
        faults.armed = True
        write(world, "doc-1", "A text, edited")
        async with asyncio.timeout(30):
            await faults.done.wait()
        write(world, "doc-3", "The last")
        await until_searchable(world, "doc-3", "The last")
    await check_without(world, "doc-1")


async def test_purges_beside_edits_bring_back_nothing_and_lose_nothing(world: World) -> None:
    for number in range(12):
        write(world, f"doc-{number}", f"First {number}")
    await sync(world)
    gone = [f"doc-{number}" for number in range(0, 12, 3)]
    async with following(world) as index:
        for turn, key in enumerate(gone):
            for number in range(12):
                write(world, f"doc-{number}", f"# Part\n\nTurn {turn} of {number}")
            await index.forgetting.purge("kb", [key], by="tests", rewrite=False)
        write(world, "last", "The last")
        await until_searchable(world, "last", "The last")
        await until(lambda: world.stored("SELECT count(*) FROM handbook WHERE stale") == [(0,)])
    await check_without(world, *gone)


@pytest.fixture
def findable(
    server: EmbeddedServer, server_16: EmbeddedServer, database_on: Callable[[EmbeddedServer], str], tmp_path: Path
) -> World:
    """A world whose source is on another server."""
    return World.make(database_on(server_16), database_on(server), tmp_path)


async def uncompressed(world: World) -> None:
    """Have an index that compresses nothing, so that a search of its files finds what they hold."""
    async with world.open() as index:
        await index.prepare()
    with psycopg.connect(world.store_dsn, autocommit=True) as connection:
        columns = connection.execute(
            "SELECT attrelid::regclass::text, attname FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid "
            "WHERE relnamespace::regnamespace::text LIKE 'livedex%' AND relkind IN ('r', 'p') AND attstorage = 'x' "
            "AND attnum > 0 AND NOT attisdropped"
        ).fetchall()
        for table, column in columns:
            connection.execute(f'ALTER TABLE {table} ALTER COLUMN "{column}" SET STORAGE EXTERNAL')


def holding(data: Path, marks: dict[str, bytes]) -> dict[str, set[str]]:
    """Which marks stand in which files of a server, its write-ahead log apart."""
    found: dict[str, set[str]] = {}
    for folder, _, files in os.walk(data):
        for file in files:
            path = Path(folder, file)
            if "pg_wal" in path.parts:
                continue
            try:
                content = path.read_bytes()
            except FileNotFoundError:  # the server at work
                continue
            for name, mark in marks.items():
                if mark in content:
                    found.setdefault(name, set()).add(file)
    return found


async def write_marked(world: World) -> dict[str, bytes]:
    """Documents that are edited, renamed and half deleted, and what may be left of them nowhere."""
    for number in range(40):
        write(world, f"doc-{number}", f"# Part\n\nText {number} about parcels.")
    marked = f"# {HEADING}\n\n{CONTENT} stands here. " + f"And here {CONTENT}. " * 200
    for number in range(3):
        write(world, f"{KEY}-{number}", marked, title=f"About {TITLE}", category=CATEGORY)
    await sync(world)
    async with world.open() as index:
        await index.search("handbook", f"What about {CONTENT}?")
    hashes = world.stored(
        "SELECT key_hash, raw_hash, content_hash FROM livedex.documents WHERE document_id = %s", f"{KEY}-1"
    )
    world.execute("UPDATE documents SET content = content || ' more' WHERE doc_id LIKE %s", f"{KEY}%")
    world.execute("UPDATE documents SET doc_id = doc_id || '-now' WHERE doc_id = %s", f"{KEY}-2")
    world.execute("DELETE FROM documents WHERE doc_id = %s", f"{KEY}-0")
    await sync(world)
    with psycopg.connect(world.store_dsn, autocommit=True) as connection:
        connection.execute("ANALYZE")
        connection.execute("CHECKPOINT")
    words = {word: word.encode() for word in (TITLE, CONTENT, HEADING, CATEGORY, KEY)}
    return words | {f"hash {number}": bytes(value) for number, value in enumerate(hashes[0])}


async def test_invariant_8_no_file_of_the_server_holds_what_was_purged(findable: World, server: EmbeddedServer) -> None:
    await uncompressed(findable)
    marks = await write_marked(findable)
    assert holding(server.data, marks).keys() == marks.keys()
    receipt = await purge(findable, *(f"{KEY}-{name}" for name in ("0", "1", "2-now")), rewrite=True)
    assert receipt.complete
    assert holding(server.data, marks) == {}
    async with findable.open() as index:
        found = await index.search("handbook", "text about parcels", top_k=40)
    assert {hit.document_id for hit in found.hits} <= {f"doc-{number}" for number in range(40)}


async def test_purge_of_everything_without_rewriting_is_finished_later(findable: World, server: EmbeddedServer) -> None:
    await uncompressed(findable)
    keys = ["doc-1", "doc-2", "doc-3"]
    for key in keys:
        write(findable, key, f"{CONTENT} text of {key}", category=CATEGORY)
    await sync(findable)
    with psycopg.connect(findable.store_dsn, autocommit=True) as connection:
        connection.execute("ANALYZE livedex.documents")
    receipt = await purge(findable, *keys)
    marks = {"content": CONTENT.encode(), "statistics": CATEGORY.encode()}
    with psycopg.connect(findable.store_dsn, autocommit=True) as connection:
        connection.execute("CHECKPOINT")
    assert not receipt.complete
    assert holding(server.data, marks).keys() == marks.keys()
    async with findable.open() as index:
        assert (await index.forgetting.finish()).purge_ids == [receipt.purge_id]
        assert (await index.forgetting.finish()).purge_ids == ()
        (finished,) = await index.forgetting.receipts()
    assert finished.complete
    assert holding(server.data, marks) == {}


async def test_user_without_rights_on_the_server_is_told_what_remains(
    server: EmbeddedServer, database_on: Callable[[EmbeddedServer], str], tmp_path: Path
) -> None:
    dsn = database_on(server)
    name = f"purger_{os.getpid()}"
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION vector")
        connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'purger'")
        connection.execute(f"GRANT CREATE ON DATABASE {connection.info.dbname} TO {name}")
        connection.execute(f"GRANT CREATE ON SCHEMA public TO {name}")
    world = World.make(database_on(server), make_conninfo(dsn, user=name, password="purger"), tmp_path)
    try:
        write(world, "doc-1", "A text")
        await sync(world)
        receipt = await purge(world, "doc-1", rewrite=True)
        assert receipt.complete
        told: Any = [remark for remark in receipt.remains if "pg_checkpoint" in remark or "pg_statistic" in remark]
        assert len(told) == 2
    finally:
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(f"DROP OWNED BY {name} CASCADE")
            connection.execute(f"DROP ROLE {name}")


async def test_command_line_shows_what_would_go_then_removes_it(world: World) -> None:
    write(world, "doc-1", "A text")
    await sync(world)

    async def command(*words: str) -> Any:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "livedex", "--config", str(world.config), *words, "--json"),
            env=os.environ | world.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stdout=subprocess.PIPE,
        )
        said, _ = await process.communicate()
        assert process.returncode == 0
        return json.loads(said)

    shown = await command("purge", "kb", "--where", "category=policy", "--matching", "texts")
    assert (shown["purged"], [found["document_id"] for found in shown["documents"]]) == (False, ["doc-1"])
    assert documents(world) == {"doc-1"}
    receipt = await command("purge", "kb", "doc-1", "--yes", "--by", "me", "--reason", "Asked to")
    assert documents(world) == set()
    assert (await command("receipts"))["receipts"] == [receipt]
    assert (receipt["made_by"], receipt["reason"], receipt["complete"]) == ("me", "Asked to", True)
