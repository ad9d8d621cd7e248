"""What bounds a view's cost loses nothing: documents that wait are neither forgotten nor called searchable, a spent
budget stops embedding and nothing else, and what is too old is shown nowhere."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
from tests.world import World, check_view, from_scratch

import livedex
from livedex.adapters.embedders.hashing import HashingEmbedder
from livedex.errors import BudgetSpent, LivedexError
from livedex.model import Mode, Retrieval
from livedex.ports import Vectors
from livedex.rules.budget import tokens
from livedex.rules.ranking import by_deviations
from livedex.store.cost import ViewCost
from livedex.store.embedded import EmbeddedServer

NEVER = "debounce: 10000d"
"""Long enough that only another setting ends the wait."""
NOTHING_LEFT = "budget: {tokens_per_day: 1, when_spent: WHEN}"
ALL = {Mode.HYBRID, Mode.DENSE, Mode.LEXICAL}


class CountingEmbedder(HashingEmbedder):
    """Remembers what went through it."""

    def __init__(self) -> None:
        super().__init__()
        self.embedded: Counter[str] = Counter()

    async def embed_documents(self, texts: Sequence[str]) -> Vectors:
        self.embedded.update(texts)
        return await super().embed_documents(texts)


@pytest.fixture
def make_world(
    server: EmbeddedServer, database_on: Callable[[EmbeddedServer], str], tmp_path: Path
) -> Callable[[int], World]:
    return lambda shards: World.make(database_on(server), database_on(server), tmp_path, shards=shards)


@pytest.fixture
def world(make_world: Callable[[int], World]) -> World:
    return make_world(1)


def bounded(world: World, *, view: str = "", source: str = "") -> None:
    """Write the world's configuration with keys of the view and of the source, and without those of before."""
    plain = world.config.with_name("plain.yaml")
    if not plain.exists():
        plain.write_text(world.config.read_text())
    text = plain.read_text()
    if view:
        text = text.replace("handbook: {", f"handbook: {{{view}, ")
    if source:
        text = text.replace("    kind: postgres\n", f"    kind: postgres\n    {source}\n")
    world.config.write_text(text)


async def sync(world: World, embedder: HashingEmbedder | None = None) -> None:
    async with opened(world, embedder) as index, asyncio.timeout(60):
        await index.sync()


@asynccontextmanager
async def opened(world: World, embedder: HashingEmbedder | None = None) -> AsyncIterator[livedex.Index]:
    async with livedex.open(
        world.config, environ=world.environ, embedders={"hashing": embedder or HashingEmbedder()}
    ) as index:
        yield index


@asynccontextmanager
async def following(
    world: World, embedder: HashingEmbedder | None = None, errors: list[LivedexError] | None = None
) -> AsyncIterator[livedex.Index]:
    """`up` runs inside the block."""
    stop = asyncio.Event()
    async with opened(world, embedder) as index:
        running = asyncio.create_task(index.up(stop, lambda _, error: None if errors is None else errors.append(error)))
        try:
            yield index
        finally:
            stop.set()
            await running


async def until(happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while True:
            if happened():
                return
            await asyncio.sleep(0.02)


def write(world: World, key: str, content: str, updated_at: str = "now()") -> None:
    world.execute(
        f"INSERT INTO documents VALUES (%s, 'A title', %s, 'policy', {updated_at}) ON CONFLICT (doc_id) DO UPDATE SET "
        "content = excluded.content, updated_at = excluded.updated_at",
        key,
        content,
    )


def served(world: World) -> dict[str, str]:
    """Document to its text, all chunks together, as plain SQL has it."""
    rows = world.stored("SELECT document_id, string_agg(chunk_text, '|' ORDER BY chunk_index) FROM handbook GROUP BY 1")
    return dict(rows)


def waiting(world: World) -> dict[str, str]:
    return dict(
        world.stored("SELECT d.document_id, w.reason FROM livedex.deferred w JOIN livedex.documents d USING (document)")
    )


async def found(world: World, text: str, mode: Mode = Mode.HYBRID) -> Retrieval:
    async with opened(world) as index:
        return await index.search("handbook", text, mode=mode, top_k=50)


async def cost(world: World) -> ViewCost:
    async with opened(world) as index:
        return (await index.status()).views[0].cost


def yesterday(world: World) -> None:
    """Let a day go by for the budget."""
    world.stored("UPDATE livedex.spending SET hour = hour - interval '1 day' RETURNING 1")


# Debounce


async def test_only_the_new_text_of_a_document_that_is_not_quiet_waits(world: World) -> None:
    bounded(world, view=NEVER)
    for key in ("edited", "deleted", "relabelled"):
        write(world, key, f"The text of {key}.")
    await sync(world)
    async with following(world):
        write(world, "edited", "Another text.")
        await until(lambda: waiting(world) == {"edited": "debounce"})
        world.execute("DELETE FROM documents WHERE doc_id = 'deleted'")
        world.execute("UPDATE documents SET category = 'faq' WHERE doc_id = 'relabelled'")
        write(world, "new", "The text of new.")
        await until(lambda: "new" in served(world))
    assert served(world) == {
        "edited": "The text of edited.",
        "relabelled": "The text of relabelled.",
        "new": "The text of new.",
    }
    assert world.stored("SELECT category FROM handbook WHERE document_id = 'relabelled'") == [("faq",)]
    assert waiting(world) == {"edited": "debounce"}


async def test_watermark_stays_before_the_oldest_version_that_waits(make_world: Callable[[int], World]) -> None:
    world = make_world(2)
    bounded(world, view=NEVER)
    write(world, "edited", "The first text.")
    await sync(world)
    async with following(world) as index:
        write(world, "edited", "Another text.")
        await until(lambda: bool(waiting(world)))
        write(world, "later", "The text of later.")
        token = await index.token("kb")
        await until(lambda: "later" in served(world))
        fresh = await index.search("handbook", "text", at_least=token, when_stale="serve")
        assert not fresh.freshness.met
    bounded(world)
    async with following(world) as index:
        fresh = await index.search("handbook", "text", at_least=token, wait_seconds=30)
    assert {hit.text for hit in fresh.hits} == {"Another text.", "The text of later."}
    await check_view(world)


async def test_document_that_is_edited_many_times_is_embedded_once_when_the_wait_is_over(world: World) -> None:
    bounded(world, view=NEVER)
    write(world, "edited", "The first text.")
    await sync(world)
    embedder = CountingEmbedder()
    async with following(world, embedder):
        for number in range(5):
            write(world, "edited", f"Text number {number}.")
            await until(partial(is_in_log, world, f"Text number {number}."))
    bounded(world)
    await sync(world, embedder)
    assert embedder.embedded == {"Text number 4.": 1}
    await check_view(world)


def is_in_log(world: World, text: str) -> bool:
    return bool(world.stored("SELECT 1 FROM livedex.documents WHERE raw ->> 'content' = %s", text))


async def test_document_that_has_been_quiet_is_embedded_by_itself(world: World) -> None:
    bounded(world, view="debounce: 300ms")
    write(world, "edited", "The first text.")
    await sync(world)
    write(world, "edited", "Another text.")
    await sync(world)
    assert waiting(world) == {}
    await check_view(world)


async def test_document_that_never_is_quiet_is_not_starved(world: World) -> None:
    bounded(world, view="debounce: {quiet: 20s, at_most: 20s}")
    write(world, "edited", "The first text.")
    await sync(world)
    bounded(world, view="debounce: {quiet: 1s, at_most: 1s}")
    async with following(world), asyncio.timeout(30):
        number = 0
        while served(world) == {"edited": "The first text."}:
            number += 1
            write(world, "edited", f"Text number {number}.")
            await asyncio.sleep(0.1)


async def test_document_that_waits_and_is_deleted_is_gone(world: World) -> None:
    bounded(world, view=NEVER)
    write(world, "edited", "The first text.")
    await sync(world)
    async with following(world):
        write(world, "edited", "Another text.")
        await until(lambda: bool(waiting(world)))
        world.execute("DELETE FROM documents WHERE doc_id = 'edited'")
        await until(lambda: waiting(world) == {})
    await sync(world)
    await check_view(world)


async def test_change_of_metadata_postpones_nothing_and_a_text_that_comes_back_ends_the_wait(world: World) -> None:
    bounded(world, view=NEVER)
    write(world, "edited", "The first text.")
    await sync(world)
    async with following(world):
        write(world, "edited", "Another text.")
        await until(lambda: bool(waiting(world)))
        ((due,),) = world.stored("SELECT due FROM livedex.deferred")
        world.execute("UPDATE documents SET category = 'faq'")
        await until(lambda: world.stored("SELECT metadata ->> 'category' FROM livedex.documents") == [("faq",)])
        assert world.stored("SELECT due FROM livedex.deferred") == [(due,)]
        write(world, "edited", "The first text.")
        await until(lambda: waiting(world) == {})
    await sync(world)
    await check_view(world)


async def test_status_says_what_the_debounce_adds_and_how_many_wait(world: World) -> None:
    bounded(world, view="debounce: 3h, target_lag: 2s")
    write(world, "edited", "The first text.")
    await sync(world)
    async with following(world) as index:
        write(world, "edited", "Another text.")
        await until(lambda: bool(waiting(world)))
        (view,) = (await index.status()).views
    assert (view.cost.debounce_seconds, view.target_lag_seconds, view.cost.debounced) == (10800.0, 10802.0, 1)


# Budget


async def test_spent_budget_pauses_embedding_and_nothing_else(world: World) -> None:
    for key in ("a", "b"):
        write(world, key, f"The text of {key}.")
    await sync(world)
    bounded(world, view=NOTHING_LEFT.replace("WHEN", "pause"))
    errors: list[LivedexError] = []
    async with following(world, errors=errors) as index:
        write(world, "a", "Another text.")
        write(world, "new", "The text of new.")
        await until(lambda: waiting(world) == {"a": "budget", "new": "budget"})
        world.execute("DELETE FROM documents WHERE doc_id = 'b'")
        await until(lambda: served(world) == {"a": "The text of a."})
        write(world, "new", "The text of a.")
        await until(lambda: served(world) == {"a": "The text of a.", "new": "The text of a."})
        await until(lambda: "tokens of today" in str(world.stored("SELECT error FROM livedex.cursors")))
        (view,) = (await index.status()).views
    assert (view.cost.paused, view.cost.when_spent) == (1, "pause")
    assert {type(error) for error in errors} == {BudgetSpent}
    with pytest.raises(BudgetSpent):
        await sync(world)
    bounded(world, view=NOTHING_LEFT.replace("WHEN", "lexical_only"))
    await sync(world)
    assert waiting(world) == {"a": "words"}
    bounded(world)
    await sync(world)
    await check_view(world)


async def test_first_load_goes_on_where_the_budget_of_the_day_ended_and_embeds_nothing_twice(
    make_world: Callable[[int], World],
) -> None:
    world = make_world(2)
    texts = {f"doc-{number}": f"The text of document number {number}." for number in range(12)}
    for key, text in texts.items():
        write(world, key, text)
    longest = max(map(tokens, texts.values()))
    bounded(world, view=f"budget: {{tokens_per_day: {4 * longest}}}")
    embedder = CountingEmbedder()
    days = 0
    while True:
        try:
            await sync(world, embedder)
            break
        except BudgetSpent:
            days += 1
            ((spent,),) = world.stored(
                "SELECT sum(tokens) FROM livedex.spending WHERE hour >= date_trunc('day', now(), 'UTC')"
            )
            assert spent <= (4 + 2) * longest
            yesterday(world)
    assert days >= 2
    assert embedder.embedded == dict.fromkeys(texts.values(), 1)
    await check_view(world)


async def test_paused_documents_go_on_by_themselves_when_a_day_has_passed(world: World) -> None:
    write(world, "a", "The text of a.")
    await sync(world)
    bounded(world, view=NOTHING_LEFT.replace("WHEN", "pause"))
    async with following(world):
        write(world, "a", "Another text.")
        await until(lambda: bool(waiting(world)))
        yesterday(world)
        await until(lambda: waiting(world) == {})
    await check_view(world)


async def test_spent_budget_leaves_new_texts_to_be_found_by_words_until_a_day_has_passed(world: World) -> None:
    write(world, "old", "Refunds take ten days.")
    await sync(world)
    bounded(world, view=NOTHING_LEFT.replace("WHEN", "lexical_only"))
    write(world, "old", "Refunds take twelve working days.")
    write(world, "new", "Parcels are delivered by bicycle.")
    await sync(world)
    assert waiting(world) == {"old": "words", "new": "words"}
    for mode in (Mode.HYBRID, Mode.LEXICAL):
        retrieval = await found(world, "refunds bicycle", mode)
        assert {hit.text for hit in retrieval.hits} == {
            "Refunds take twelve working days.",
            "Parcels are delivered by bicycle.",
        }
        assert {frozenset(hit.scores) for hit in retrieval.hits} == {frozenset({"lexical"})}
        assert retrieval.lexical_only == 2
    assert (await cost(world)).lexical_only == 2
    assert (await found(world, "refunds bicycle", Mode.DENSE)).hits == ()

    yesterday(world)
    async with following(world):
        await until(lambda: bool(world.stored("SELECT 1 FROM livedex.spending WHERE hour > now() - interval '2 h'")))
        # A token is spent on the first text, the other waits for the next day.
        await until(lambda: len(waiting(world)) == 1)
        yesterday(world)
        await until(lambda: waiting(world) == {})
    assert (await found(world, "refunds")).lexical_only == 0
    await check_view(world)


async def test_documents_that_are_found_by_words_alone_can_be_changed_and_deleted(world: World) -> None:
    bounded(world, view=NOTHING_LEFT.replace("WHEN", "lexical_only"))
    content = "\n\n".join(f"## Part {n}\n\nParagraph {n} says what only paragraph {n} says." for n in range(4))
    for key in ("paid", "edited", "deleted", "relabelled"):
        write(world, key, content.replace("Paragraph", f"In {key}, paragraph"))
    await sync(world)
    write(world, "edited", content)
    world.execute("DELETE FROM documents WHERE doc_id = 'deleted'")
    world.execute("UPDATE documents SET category = 'faq' WHERE doc_id = 'relabelled'")
    await sync(world)
    hits = (await found(world, "paragraph")).hits
    assert {hit.document_id for hit in hits} == {"paid", "edited", "relabelled"}
    scores = [(hit.scores.get("dense"), hit.scores["lexical"]) for hit in hits]
    assert [hit.score for hit in hits] == pytest.approx(by_deviations(*zip(*scores, strict=True)), abs=1e-6)
    ((chunks, vectors),) = world.stored(
        "SELECT (SELECT count(*) FROM livedex_g1.chunks), (SELECT count(*) FROM livedex_g1.vectors)"
    )
    rows = world.rows().values()
    assert (chunks, vectors) == (sum(len(from_scratch(text, title)) for title, text, _ in rows), 1)
    bounded(world)
    await sync(world)
    await check_view(world)


# Age


async def test_view_does_not_show_what_is_older_than_its_ttl_and_does_not_embed_it(world: World) -> None:
    bounded(world, view="ttl: 30d")
    write(world, "old", "Refunds take ten days.", "now() - interval '31 days'")
    write(world, "young", "Refunds take twelve days.", "now() - interval '29 days'")
    write(world, "undated", "Refunds take some days.", "NULL")
    embedder = CountingEmbedder()
    await sync(world, embedder)
    assert embedder.embedded == {"Refunds take twelve days.": 1, "Refunds take some days.": 1}
    # What grew too old after it was embedded is gone as well, though nothing runs.
    world.stored("UPDATE livedex.documents SET updated_at = now() - interval '40 days' "
                 "WHERE document_id = 'young' RETURNING 1")  # fmt: skip
    for mode in ALL:
        assert {hit.document_id for hit in (await found(world, "refunds", mode)).hits} == {"undated"}
    async with opened(world) as index:
        exact = await index.search("handbook", "refunds", exact=True, filters={"category": "policy"})
    assert {hit.document_id for hit in exact.hits} == {"undated"}
    assert set(served(world)) == {"undated"}
    assert world.stored("SELECT count(*) FROM livedex.documents WHERE deleted") == [(0,)]


async def test_longer_ttl_of_a_view_shows_again_what_was_too_old(world: World) -> None:
    bounded(world, view="ttl: 30d")
    write(world, "old", "Refunds take ten days.", "now() - interval '31 days'")
    await sync(world)
    assert (served(world), waiting(world)) == ({}, {"old": "expired"})
    bounded(world, view="ttl: 60d")
    await sync(world)
    assert waiting(world) == {}
    await check_view(world)


async def test_document_of_a_source_that_grew_too_old_stays_away_until_its_row_changes(world: World) -> None:
    bounded(world, source="ttl: 30d")
    long_text = "Refunds take ten days. " + " ".join(f"Clause {number * 7919}." for number in range(2000))
    write(world, "old", long_text)
    write(world, "young", "Refunds take twelve days.")
    await sync(world)
    world.execute("UPDATE documents SET updated_at = now() - interval '31 days' WHERE doc_id = 'old'")
    async with following(world):
        await until(lambda: set(served(world)) == {"young"})
    assert {hit.document_id for hit in (await found(world, "refunds")).hits} == {"young"}
    async with following(world):
        await until(lambda: tombstones(world) == [("old", True)])
    assert world.stored("SELECT op::text, expired FROM livedex.changes ORDER BY seq DESC LIMIT 1") == [("d", True)]
    async with opened(world) as index:
        await index.prepare()
        await index.resync("kb")
    await sync(world)
    assert (set(served(world)), tombstones(world)) == ({"young"}, [("old", True)])
    # The change leaves the text out, which is too long to be sent again.
    world.execute("UPDATE documents SET updated_at = now() WHERE doc_id = 'old'")
    await sync(world)
    assert tombstones(world) == []
    await check_view(world)


async def test_row_that_goes_leaves_an_ordinary_tombstone_of_what_was_too_old(world: World) -> None:
    bounded(world, source="ttl: 30d")
    for key in ("deleted", "vanished", "moved"):
        write(world, key, f"The text of {key}.", "now() - interval '31 days'")
    await sync(world)
    async with following(world):
        await until(lambda: set(tombstones(world)) == {(k, True) for k in ("deleted", "vanished", "moved")})
        world.execute("DELETE FROM documents WHERE doc_id = 'deleted'")
        world.execute("UPDATE documents SET doc_id = 'there', updated_at = now() WHERE doc_id = 'moved'")
        await until(lambda: set(served(world)) == {"there"})
    assert set(tombstones(world)) == {("deleted", False), ("vanished", True), ("moved", False)}
    async with opened(world) as index:
        await index.resync("kb")
    world.execute("DELETE FROM documents WHERE doc_id = 'vanished'")
    await sync(world)
    assert set(tombstones(world)) == {("deleted", False), ("vanished", False), ("moved", False)}
    assert world.stored("SELECT count(raw) FROM livedex.documents WHERE deleted") == [(0,)]
    await check_view(world)


async def test_longer_ttl_of_a_source_brings_documents_back_when_it_is_read_again(world: World) -> None:
    bounded(world, source="ttl: 30d")
    write(world, "old", "Refunds take ten days.", "now() - interval '31 days'")
    await sync(world)
    async with following(world):
        await until(lambda: tombstones(world) == [("old", True)])
    bounded(world)
    async with opened(world) as index:
        await index.prepare()
        await index.resync("kb")
    await sync(world)
    assert tombstones(world) == []
    await check_view(world)


def tombstones(world: World) -> list[tuple[str, bool]]:
    """Deleted documents, and whether by age."""
    return world.stored("SELECT document_id, expired FROM livedex.documents WHERE deleted ORDER BY document_id")
