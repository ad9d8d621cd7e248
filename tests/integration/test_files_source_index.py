"""A folder through the whole index: what is searched is what the folder holds."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

import livedex
from livedex.errors import LivedexError, SourceUnavailable
from livedex.faults import Faults
from livedex.store.embedded import EmbeddedServer

PATIENCE_SECONDS = 60.0
EDITOR = Path(__file__).parent / "folder_editor.py"
CONFIG = """
sources:
  docs: {kind: files, path: ./handbook, metadata: [folder, owner], heartbeat: 100ms, max_bytes: 100000}
views:
  handbook: {from: docs, embedder: hashing}
"""


@dataclass(frozen=True)
class FolderWorld:
    """`folder` is followed, `store_dsn` holds the index, `config` is its livedex.yaml."""

    folder: Path
    store_dsn: str
    config: Path

    def open(self, faults: Faults | None = None) -> AbstractAsyncContextManager[livedex.Index]:
        environ = {"LIVEDEX_DATABASE_URL": self.store_dsn, "HOME": str(self.config.parent)}
        return livedex.open(self.config, environ=environ, faults=faults)

    @asynccontextmanager
    async def followed(self, errors: list[LivedexError] | None = None) -> AsyncIterator[livedex.Index]:
        """The index, kept up to date while the block runs."""
        stop = asyncio.Event()
        async with self.open() as index:
            await index.prepare()
            up = asyncio.create_task(
                index.up(stop, lambda _, error: (errors if errors is not None else []).append(error))
            )
            try:
                yield index
            finally:
                stop.set()
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await up

    def write(self, path: str, text: str | bytes) -> None:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text if isinstance(text, bytes) else text.encode())

    def stored(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.store_dsn, autocommit=True) as connection:
            return connection.execute(query, values).fetchall()

    def documents(self) -> dict[str, str]:
        return dict(self.stored("SELECT document_id, raw ->> 'content' FROM livedex.documents WHERE NOT deleted"))

    def searchable(self) -> dict[str, str]:
        """Every document that has chunks, with the text of these."""
        return dict(
            self.stored("SELECT document_id, string_agg(chunk_text, ' ' ORDER BY chunk_index) FROM handbook GROUP BY 1")
        )

    async def until(self, wanted: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            # On a thread: the index that runs on this loop may hold the lock that the question waits for.
            while not await asyncio.to_thread(wanted):  # noqa: ASYNC110  # what is waited for happens in the store
                await asyncio.sleep(0.02)


@pytest.fixture
def world(server: EmbeddedServer, database_on: Callable[[EmbeddedServer], str], tmp_path: Path) -> FolderWorld:
    (tmp_path / "handbook").mkdir()
    (tmp_path / "livedex.yaml").write_text(CONFIG)
    return FolderWorld(tmp_path / "handbook", database_on(server), tmp_path / "livedex.yaml")


async def test_a_sync_makes_the_folder_searchable_with_its_metadata(world: FolderWorld) -> None:
    world.write("policy/refunds.md", "---\nowner: Ada\n---\n# Refunds\n\nRefunds take five days.")
    async with world.open() as index:
        await index.sync()
        (hit,) = (await index.search("handbook", "refunds", filters={"folder": "policy"})).hits
    assert (hit.document_id, hit.title, dict(hit.metadata)) == (
        "policy/refunds.md", "Refunds", {"folder": "policy", "owner": "Ada"}
    )  # fmt: skip


async def test_a_second_sync_takes_up_what_happened_meanwhile_and_embeds_only_that(world: FolderWorld) -> None:
    for name in ("kept", "edited", "deleted"):
        world.write(f"{name}.md", f"The text of {name}.")
    async with world.open() as index:
        await index.sync()
        before = world.stored("SELECT document_id, seq FROM livedex.documents WHERE document_id = 'kept.md'")
        world.write("edited.md", "Another text.")
        (world.folder / "deleted.md").unlink()
        counts = (await index.sync())["handbook"]
    assert world.stored("SELECT document_id, seq FROM livedex.documents WHERE document_id = 'kept.md'") == before
    assert (counts.updated, counts.deleted, counts.texts_embedded) == (1, 1, 1)
    assert world.searchable() == {"kept.md": "The text of kept.", "edited.md": "Another text."}


async def test_a_sync_waits_for_a_process_that_follows_the_folder(world: FolderWorld) -> None:
    async with world.followed():
        await world.until(lambda: world.stored("SELECT state FROM livedex.partitions") == [("streaming",)])
        async with world.open() as other:
            for number in range(5):
                world.write("a.md", f"Text number {number}.")
                await other.sync()
                assert world.searchable() == {"a.md": f"Text number {number}."}


class StopsAfterFirstCommit:
    """Whoever has captured something waits, for ever."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()

    async def reach(self, name: str) -> None:
        if name == "capture.after_commit":
            self.reached.set()
            await asyncio.Event().wait()


async def test_while_a_folder_is_read_again_what_was_known_to_be_searchable_still_is(world: FolderWorld) -> None:
    world.write("a.md", "The text of a.")
    async with world.open() as index:
        await index.sync()
        (before,) = (await index.search("handbook", "text")).watermark
    stopped = StopsAfterFirstCommit()
    async with world.open(stopped) as index:
        following = asyncio.create_task(index.up(asyncio.Event()))
        async with asyncio.timeout(PATIENCE_SECONDS):
            await stopped.reached.wait()
        assert world.stored("SELECT state FROM livedex.partitions") == [("snapshot",)]
        retrieval = await index.search("handbook", "text")
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
    (after,) = retrieval.watermark
    assert (after.position, after.time) == (before.position, before.time)
    assert retrieval.lag_seconds is not None
    assert [hit.document_id for hit in retrieval.hits] == ["a.md"]


async def test_a_rename_keeps_the_document_and_embeds_nothing(world: FolderWorld) -> None:
    world.write("old/a.md", "# A\n\nThe text.")
    async with world.followed() as index:
        await world.until(lambda: world.searchable().keys() == {"old/a.md"})
        before = world.stored("SELECT document FROM livedex.documents")
        (world.folder / "old").rename(world.folder / "new")
        await world.until(lambda: world.searchable().keys() == {"new/a.md"})
        hits = (await index.search("handbook", "text", filters={"folder": "new"})).hits
    assert [hit.document_id for hit in hits] == ["new/a.md"]
    assert world.stored("SELECT document FROM livedex.documents") == before
    assert world.stored("SELECT sum(texts_embedded) FROM livedex.cursors") == [(1,)]


async def test_a_file_that_cannot_be_a_document_is_in_quarantine_and_not_searched_until_it_is_mended(
    world: FolderWorld,
) -> None:
    world.write("a.md", "Fine at first.")
    world.write("b.md", b"caf\xe9")
    async with world.followed() as index:
        await world.until(lambda: len(world.stored("SELECT FROM livedex.quarantine")) == 1)
        world.write("a.md", b"x" * 100_001)
        await world.until(lambda: len(world.stored("SELECT FROM livedex.quarantine")) == 2)
        await world.until(lambda: world.searchable() == {})
        reasons = {row["document_id"]: row["reason"] for row in await index.quarantined()}
        assert "100,001 bytes" in reasons["a.md"]
        assert "not UTF-8" in reasons["b.md"]
        assert (await index.search("handbook", "fine")).hits == ()
        world.write("a.md", "Fine again.")
        (world.folder / "b.md").unlink()
        await world.until(lambda: world.searchable() == {"a.md": "Fine again."})
        await world.until(lambda: world.stored("SELECT reason FROM livedex.quarantine") == [])


async def test_a_folder_that_vanishes_and_returns_is_followed_on_and_nothing_is_deleted(world: FolderWorld) -> None:
    world.write("a.md", "The text.")
    away = world.folder.with_name("away")
    errors: list[LivedexError] = []
    async with world.followed(errors) as index:
        await world.until(lambda: world.searchable().keys() == {"a.md"})
        world.folder.rename(away)
        await world.until(lambda: bool(errors))
        assert [type(error) for error in errors[:1]] == [SourceUnavailable]
        assert str(world.folder) in str(errors[0])
        await world.until(lambda: world.stored("SELECT error IS NULL FROM livedex.partitions") == [(False,)])
        assert len((await index.search("handbook", "text")).hits) == 1
        away.rename(world.folder)
        world.write("b.md", "Written after the return.")
        await world.until(lambda: world.searchable().keys() == {"a.md", "b.md"})
    assert world.stored("SELECT error FROM livedex.partitions") == [(None,)]


async def test_a_folder_and_tables_share_a_view(
    world: FolderWorld, server: EmbeddedServer, database_on: Callable[[EmbeddedServer], str]
) -> None:
    dsn = database_on(server)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE notes (id text PRIMARY KEY, body text)")
        connection.execute("INSERT INTO notes VALUES ('n1', 'From the table.')")
    tables = (
        f"\n  kb: {{kind: postgres, url: {json.dumps(dsn)}, tables: {{notes: {{key: id, content: body}}}}}}\nviews:"
    )
    world.config.write_text(CONFIG.replace("\nviews:", tables).replace("from: docs", "from: [docs, kb]"))
    world.write("a.md", "From the folder.")
    async with world.open() as index:
        counts = await index.sync()
    assert counts["handbook"].added == 2
    assert world.searchable() == {"a.md": "From the folder.", "n1": "From the table."}


async def test_after_three_hundred_random_operations_the_documents_are_those_of_the_folder(world: FolderWorld) -> None:
    async with world.followed():
        arguments = (str(EDITOR), str(world.folder), "300", "11")
        process = await asyncio.create_subprocess_exec(sys.executable, *arguments)
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await process.wait() == 0
        held = {str(file.relative_to(world.folder)): file.read_text() for file in world.folder.rglob("*.md")}
        await world.until(lambda: world.documents() == held)
        await world.until(lambda: world.searchable().keys() == {path for path, text in held.items() if text.strip()})
    assert len(held) > 10
