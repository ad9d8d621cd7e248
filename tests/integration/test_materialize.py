"""The log becomes chunks and vectors: old text until the new is whole, each text embedded once, and no document in the
way of others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.world import World, check_view

import livedex
from livedex.adapters.embedders.hashing import HashingEmbedder
from livedex.clock import SystemClock
from livedex.errors import EmbedderMisconfigured, EmbedderUnavailable, LivedexError
from livedex.flow.keep_up import FOLD_SECONDS, Counts
from livedex.model import Hit
from livedex.ports import Embedder, Vectors
from livedex.store.embedded import EmbeddedServer
from livedex.testing.embedders import Fails, FaultyEmbedder, ReturnsDimensions, Step, Throttles, Works

TWENTY = [f"## Part {number}\n\nParagraph {number} says what only paragraph {number} says." for number in range(20)]


class ShortWaits(SystemClock):
    """Waits as asked, but never long; remembers for how long it was asked to."""

    def __init__(self) -> None:
        self.asked: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.asked.append(seconds)
        await asyncio.sleep(min(seconds, 0.02))


class Breakable:
    """A script for FaultyEmbedder: every call fails while `broken`."""

    def __init__(self) -> None:
        self.broken = False

    def __iter__(self) -> Iterator[Step]:
        while True:
            yield Fails(EmbedderUnavailable("The embedder is away, as the test asked.")) if self.broken else Works()


class SlowEmbedder(HashingEmbedder):
    async def embed_documents(self, texts: Sequence[str]) -> Vectors:
        await asyncio.sleep(0.1)
        return await super().embed_documents(texts)


@pytest.fixture
def make_world(
    server: EmbeddedServer, database_on: Callable[[EmbeddedServer], str], tmp_path: Path
) -> Callable[[int], World]:
    return lambda shards: World.make(database_on(server), database_on(server), tmp_path, shards=shards)


@pytest.fixture
def world(make_world: Callable[[int], World]) -> World:
    return make_world(1)


def opened(
    world: World, embedder: Embedder, clock: SystemClock | None = None
) -> AbstractAsyncContextManager[livedex.Index]:
    return livedex.open(
        world.config, environ=world.environ, embedders={"hashing": embedder}, clock=clock or ShortWaits()
    )


@asynccontextmanager
async def following(index: livedex.Index, errors: list[LivedexError] | None = None) -> AsyncIterator[None]:
    """`index.up` runs inside the block."""
    stop = asyncio.Event()
    running = asyncio.create_task(index.up(stop, lambda _, error: None if errors is None else errors.append(error)))
    try:
        yield
    finally:
        stop.set()
        await running


async def sync(world: World, embedder: Embedder | None = None) -> Counts:
    async with opened(world, embedder or HashingEmbedder()) as index, asyncio.timeout(60):
        return (await index.sync())["handbook"]


async def until(happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while True:
            if happened():
                return
            await asyncio.sleep(0.02)


def write(world: World, key: str, content: str) -> None:
    world.execute(
        "INSERT INTO documents VALUES (%s, 'A title', %s, 'policy') "
        "ON CONFLICT (doc_id) DO UPDATE SET content = excluded.content",
        key,
        content,
    )


def served(world: World) -> dict[str, str]:
    """Document to its text, all chunks together."""
    rows = world.stored("SELECT document_id, chunk_text FROM handbook ORDER BY document_id, chunk_index")
    texts: dict[str, str] = {}
    for key, text in rows:
        texts[key] = texts.get(key, "") + text
    return texts


def vectors(world: World) -> dict[int, tuple[Any, ...]]:
    """Chunk to which version of its row stands in the table: another one after any write to it."""
    rows = world.stored("SELECT chunk, ctid::text, xmin::text FROM livedex_g1.vectors")
    return {chunk: tuple(version) for chunk, *version in rows}


# Old until new is whole


async def test_invariant_4_old_text_is_served_while_the_embedder_fails_and_the_new_one_when_it_recovers(
    world: World,
) -> None:
    script = Breakable()
    write(world, "a", "The old rule says thirty days.")
    async with (
        opened(world, FaultyEmbedder(HashingEmbedder(), iter(script))) as index,
        opened(world, HashingEmbedder()) as reader,
    ):
        await index.sync()
        errors: list[LivedexError] = []
        async with following(index, errors):
            script.broken = True
            write(world, "a", "The new rule says ninety days.")
            await until(lambda: bool(errors))
            hit = await only_hit(reader, "which rule")
            assert (hit.text, hit.stale) == ("The old rule says thirty days.", True)
            (view,) = (await reader.status()).views
            assert view.errors == ("The embedder is away, as the test asked.",)
            script.broken = False
            await until(lambda: served(world) == {"a": "The new rule says ninety days."})
            hit = await only_hit(reader, "which rule")
            assert (hit.text, hit.stale) == ("The new rule says ninety days.", False)
        (view,) = (await reader.status()).views
        assert view.errors == ()


async def only_hit(index: livedex.Index, text: str) -> Hit:
    (hit,) = (await index.search("handbook", text)).hits
    return hit


async def test_invariant_4_rows_of_one_source_transaction_become_searchable_together(world: World) -> None:
    for key in "abcde":
        write(world, key, "round 0")
    seen: set[tuple[str, ...]] = set()
    async with opened(world, HashingEmbedder()) as index:
        await index.sync()
        async with following(index):
            for number in range(1, 25):
                world.execute("UPDATE documents SET content = %s", f"round {number}")
                for _ in range(3):
                    seen.add(tuple(text for (text,) in world.stored("SELECT chunk_text FROM handbook")))
                    await asyncio.sleep(0.002)
            await until(lambda: set(served(world).values()) == {"round 24"})
    assert {len(texts) for texts in seen} == {5}
    assert [texts for texts in seen if len(set(texts)) > 1] == []
    assert len(seen) > 2


# Embedders that fail


async def test_throttled_embedder_is_called_again_after_the_time_it_asked_for(world: World) -> None:
    write(world, "a", "text")
    clock = ShortWaits()
    embedder = FaultyEmbedder(HashingEmbedder(), [Throttles(7.5), Throttles(8.25)])
    async with opened(world, embedder, clock) as index:
        await index.sync()
    assert [seconds for seconds in clock.asked if seconds > 5 and seconds != FOLD_SECONDS] == [7.5, 8.25]
    await check_view(world)


async def test_vectors_of_wrong_dimensions_are_not_stored_and_a_person_is_told(world: World) -> None:
    write(world, "a", "text")
    async with opened(world, FaultyEmbedder(HashingEmbedder(), [ReturnsDimensions(10)] * 9)) as index:
        with pytest.raises(EmbedderMisconfigured, match=r"\(1, 10\)"):
            await index.sync()
    assert world.stored("SELECT count(*) FROM livedex_g1.vectors") == [(0,)]
    assert world.stored("SELECT count(*) FROM livedex.embeddings") == [(0,)]
    await sync(world)
    await check_view(world)


# Documents that cannot be processed


@pytest.mark.parametrize("names_rejected", [True, False])
async def test_invariant_10_poison_document_is_quarantined_with_its_reason_while_all_others_flow_on(
    world: World, names_rejected: bool
) -> None:
    embedder = FaultyEmbedder(HashingEmbedder(), rejected={"poison"}, names_rejected=names_rejected)
    for number in range(9):
        write(world, f"doc-{number}", "poison" if number == 4 else f"wholesome {number}")
    counts = await sync(world, embedder)
    assert (counts.added, counts.quarantined) == (8, 1)
    assert set(served(world)) == {f"doc-{number}" for number in range(9) if number != 4}
    async with opened(world, embedder) as index:
        (row,) = await index.quarantined()
        assert (row["document_id"], row["stage"]) == ("doc-4", "embed")
        assert "as the test asked" in row["reason"]
        write(world, "doc-9", "later")
        await index.sync()
    assert "doc-9" in served(world)


async def test_retry_brings_a_quarantined_document_in_once_the_cause_is_gone(world: World) -> None:
    embedder = FaultyEmbedder(HashingEmbedder(), rejected={"poison"})
    write(world, "a", "poison")
    write(world, "b", "wholesome")
    await sync(world, embedder)
    async with opened(world, embedder) as index:
        assert await index.retry() == 1
        assert (await index.sync())["handbook"].quarantined == 1
        ((attempts,),) = world.stored("SELECT attempts FROM livedex.quarantine")
        assert attempts == 2
        embedder.rejected = frozenset()
        await index.retry()
        await index.sync()
    await check_view(world)


async def test_quarantined_document_leaves_quarantine_when_it_is_mended_at_the_source(world: World) -> None:
    write(world, "a", "poison")
    await sync(world, FaultyEmbedder(HashingEmbedder(), rejected={"poison"}))
    write(world, "a", "mended")
    await sync(world)
    await check_view(world)


async def test_invariant_4_document_whose_new_version_is_quarantined_keeps_its_old_text(world: World) -> None:
    embedder = FaultyEmbedder(HashingEmbedder(), rejected={"poison"})
    write(world, "a", "the old text")
    await sync(world, embedder)
    write(world, "a", "poison")
    await sync(world, embedder)
    assert world.stored("SELECT chunk_text, stale FROM handbook") == [("the old text", True)]


async def test_quarantined_document_that_is_deleted_leaves_nothing(world: World) -> None:
    embedder = FaultyEmbedder(HashingEmbedder(), rejected={"poison"})
    write(world, "a", "the old text")
    await sync(world, embedder)
    write(world, "a", "poison")
    await sync(world, embedder)
    world.execute("DELETE FROM documents")
    await sync(world, embedder)
    await check_view(world)


# Embedded once


async def test_invariant_7_shards_do_not_embed_one_text_twice_at_the_same_time(
    make_world: Callable[[int], World],
) -> None:
    world = make_world(4)
    for number in range(40):
        write(world, f"doc-{number}", f"## Same\n\nThe same everywhere.\n\n## Own\n\nOnly in {number % 20}.")
    embedder = FaultyEmbedder(SlowEmbedder())
    await sync(world, embedder)
    assert set(embedded_texts(embedder).values()) == {1}
    await check_view(world)


def embedded_texts(embedder: FaultyEmbedder) -> dict[str, int]:
    assert embedder.embedded
    return dict(embedder.embedded)


async def test_processes_that_start_together_on_an_empty_store_share_the_work(
    make_world: Callable[[int], World],
) -> None:
    world = make_world(2)
    for number in range(20):
        write(world, f"doc-{number}", f"only in {number}")
    embedder = FaultyEmbedder(HashingEmbedder())
    await asyncio.gather(*(sync(world, embedder) for _ in range(4)))
    assert set(embedded_texts(embedder).values()) == {1}
    await check_view(world)


async def test_invariant_7_text_that_comes_back_is_not_embedded_again(world: World) -> None:
    write(world, "a", "version A")
    await sync(world)
    write(world, "a", "version B")
    await sync(world)
    write(world, "a", "version A")
    embedder = FaultyEmbedder(HashingEmbedder())
    assert (await sync(world, embedder)).texts_embedded == 0
    assert embedder.calls == 0
    await check_view(world)


async def test_invariant_7_document_that_comes_back_is_not_embedded_again(world: World) -> None:
    write(world, "a", "here and gone")
    await sync(world)
    world.execute("DELETE FROM documents")
    await sync(world)
    write(world, "b", "here and gone")
    assert (await sync(world)).texts_embedded == 0
    await check_view(world)


async def test_rename_embeds_nothing_and_writes_no_vector(world: World) -> None:
    write(world, "a", "\n\n".join(TWENTY))
    await sync(world)
    before = vectors(world)
    world.execute("UPDATE documents SET doc_id = 'elsewhere'")
    assert (await sync(world)).texts_embedded == 0
    assert vectors(world) == before
    await check_view(world)


@pytest.mark.parametrize("column", ["category", "title"])
async def test_change_of_metadata_or_title_alone_embeds_nothing_and_writes_no_vector(world: World, column: str) -> None:
    write(world, "a", "\n\n".join(TWENTY))
    await sync(world)
    before = vectors(world)
    world.execute(f"UPDATE documents SET {column} = 'another'")
    assert (await sync(world)).texts_embedded == 0
    assert vectors(world) == before
    await check_view(world)


async def test_edit_of_one_paragraph_of_twenty_chunks_embeds_one_text_and_writes_one_vector(world: World) -> None:
    write(world, "a", "\n\n".join(TWENTY))
    await sync(world)
    before = vectors(world)
    assert len(before) == 20
    edited = [*TWENTY[:7], TWENTY[7].replace("says what", "now says something else than what"), *TWENTY[8:]]
    write(world, "a", "\n\n".join(edited))
    assert (await sync(world)).texts_embedded == 1
    after = vectors(world)
    assert len(after) == 20
    assert len(after.items() & before.items()) == 19
    await check_view(world)


async def test_sections_that_change_places_embed_nothing(world: World) -> None:
    write(world, "a", "\n\n".join(TWENTY))
    await sync(world)
    before = vectors(world)
    write(world, "a", "\n\n".join(reversed(TWENTY)))
    assert (await sync(world)).texts_embedded == 0
    assert vectors(world) == before
    await check_view(world)


async def test_resync_of_an_unchanged_source_embeds_nothing_and_writes_no_vector(world: World) -> None:
    for number in range(5):
        write(world, f"doc-{number}", f"text {number}")
    await sync(world)
    before = vectors(world)
    async with opened(world, HashingEmbedder()) as index:
        await index.resync("kb")
        counts = (await index.sync())["handbook"]
    assert counts == Counts(0, 0, 5, 0, 0, 0, 5)
    assert vectors(world) == before


# Ends


async def test_whoever_is_interrupted_while_it_writes_leaves_no_lease_behind(world: World) -> None:
    write(world, "a", "text")
    await sync(world)
    with psycopg.connect(world.store_dsn) as blocking:
        blocking.execute("SELECT FROM livedex.log_head FOR UPDATE")
        write(world, "a", "edited")
        async with world.open() as index, asyncio.timeout(60):
            writing = asyncio.create_task(index.sync())
            await until_somebody_waits(world)
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
    assert world.stored("SELECT resource FROM livedex.leases WHERE expires_at > clock_timestamp()") == []


async def until_somebody_waits(world: World) -> None:
    while True:
        await asyncio.sleep(0.01)
        if world.stored("SELECT FROM pg_locks WHERE NOT granted"):
            return


# Extremes


async def test_document_of_ten_megabytes_is_searchable_whole(world: World) -> None:
    world.config.write_text(world.config.read_text().replace("max_tokens: 40, min_tokens: 10", "max_tokens: 8000"))
    words = " ".join(f"word{number % 977} and{number % 83}" for number in range(750_000))
    content = words[:10_000_000] + " the very last words"
    write(world, "a", content)
    await sync(world)
    rows = world.stored('SELECT start, "end", chunk_text FROM handbook ORDER BY chunk_index')
    assert [content[start:end] for start, end, _ in rows] == [text for _, _, text in rows]
    assert "".join(text for _, _, text in rows).replace(" ", "") == content.replace(" ", "")


async def test_empty_document_has_no_chunks_and_gets_them_when_it_is_filled(world: World) -> None:
    write(world, "a", "")
    world.execute("INSERT INTO documents VALUES ('b', NULL, NULL, NULL), ('c', '', ' \n\t ', '')")
    assert (await sync(world)).documents == 3
    assert served(world) == {}
    write(world, "a", "filled")
    await sync(world)
    assert served(world) == {"a": "filled"}
    write(world, "a", "")
    await sync(world)
    await check_view(world)
