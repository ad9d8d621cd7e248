"""The lexical leg ranks as BM25 does, whatever bounds its look-ups, and both legs become one order by rule."""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from tests.conftest import drop_database, make_database, run_apart
from tests.world import World, check_terms, counted, from_scratch, terms_of_words

import livedex
from livedex.adapters.embedders.hashing import HashingEmbedder
from livedex.errors import QueryError, RecipeChanged, StoreUnsupported
from livedex.model import Fusion, Mode, Query
from livedex.rules.lexical import MOST_TERMS, forms, idf, saturation, words
from livedex.rules.ranking import by_deviations, by_ranks
from livedex.store.database import Database
from livedex.store.embedded import EmbeddedServer
from livedex.store.lexicon import Lexicon
from livedex.store.search import Found, find, terms_of

Rule = Callable[[Sequence[float], Sequence[float]], list[float]]

WORDS = ["refund", "invoice", "parcel", "warranty", "password", "the", "PAYMENT_RETRY_LIMIT", "getUserName", "Zürich"]
COMMON = ["shop", "order", "customer"]
QUERIES = ["refund invoice", "retry limit", "user name order", "the shop order customer", "zürich warranty", "nowhere"]


def sentence(rng: random.Random) -> str:
    rare = f"item{rng.randrange(40)}"
    chosen = [*rng.choices(COMMON, k=rng.randrange(1, 6)), *rng.choices(WORDS, k=rng.randrange(0, 7)), rare]
    rng.shuffle(chosen)
    return " ".join(chosen)


def document(rng: random.Random) -> str:
    sections = [f"## {rng.choice(WORDS)} {n}\n\n{sentence(rng)}. {sentence(rng)}." for n in range(rng.randrange(1, 4))]
    return "\n\n".join(sections)


async def edited(world: World) -> None:
    """150 documents, all of which were written anew, deleted or had their titles changed after the load."""
    rng = random.Random(3)
    for number in range(150):
        values = f"d{number}", sentence(rng), document(rng), f"c{number % 3}"
        world.execute("INSERT INTO documents VALUES (%s, %s, %s, %s)", *values)
    async with world.open() as index, asyncio.timeout(60):
        await index.sync()
        for number in range(0, 150, 3):
            world.execute("UPDATE documents SET content = %s WHERE doc_id = %s", document(rng), f"d{number}")
            world.execute("UPDATE documents SET title = %s WHERE doc_id = %s", sentence(rng), f"d{number + 1}")
        world.execute("DELETE FROM documents WHERE doc_id LIKE 'd%%5'")
        await index.sync()


@pytest.fixture(scope="module")
def world(server: EmbeddedServer) -> Iterator[World]:
    """Nobody changes it for good."""
    with tempfile.TemporaryDirectory() as directory:
        made = World.make(make_database(server.dsn), make_database(server.dsn), Path(directory))
        run_apart(edited(made))
        yield made
        for dsn in (made.source_dsn, made.store_dsn):
            drop_database(server.dsn, str(conninfo_to_dict(dsn)["dbname"]))


@pytest.fixture
async def index(world: World) -> AsyncIterator[livedex.Index]:
    async with world.open() as opened:
        yield opened


def bm25(world: World, text: str, category: str | None = None) -> dict[tuple[str, int], float]:
    """By document and chunk, computed from the source's table. `category` narrows what is seen, not the statistics."""
    rows = world.rows()
    places = {
        (key, c.index): [words(title), [w for h in c.heading_path for w in words(h)], words(c.embedded_text)]
        for key, (title, content, _) in rows.items()
        for c in from_scratch(content, title)
    }
    asked = words(text)
    numbers = terms_of_words(world, {*asked, *(word for parts in places.values() for part in parts for word in part)})
    terms_in = {place: counted(parts, numbers) for place, parts in places.items()}
    average = sum(sum(counts.values()) for counts in terms_in.values()) / len(terms_in)
    terms = Counter(term for word in asked for term in numbers[word])
    frequency = {term: sum(term in counts for counts in terms_in.values()) for term in terms}
    scores = {
        place: sum(
            times * idf(len(terms_in), frequency[term]) * saturation(counts[term], sum(counts.values()), average)
            for term, times in terms.items()
        )
        for place, counts in terms_in.items()
        if category is None or rows[place[0]][2] == category
    }
    return {place: score for place, score in scores.items() if score > 0}


async def look(
    index: livedex.Index, query: Query, *, looked_up: int = 500, fusion: Fusion = Fusion.ZSCORE, exact: bool = False
) -> Found:
    """The store's search with a bound of our own."""
    generation = await index.catalog.active_generation("handbook")
    assert generation is not None
    database = await Database.open(index.dsn)
    try:
        asked = await terms_of(database, Lexicon("english_stem"), query.text)
        vector = None
        if query.mode is not Mode.LEXICAL:
            vector = await HashingEmbedder().embed_query(query.text)
        return await find(database, generation, query, vector, asked, fusion=fusion, exact=exact, looked_up=looked_up)
    finally:
        await database.close()


def scored(found: Found) -> list[tuple[tuple[str, int], float]]:
    return [((row["document_id"], row["chunk_index"]), row["words"]) for row in found.rows]


def ranked(scores: dict[tuple[str, int], float], top_k: int) -> list[float]:
    return sorted(scores.values(), reverse=True)[:top_k]


@pytest.mark.parametrize("looked_up", [1, 20, 200, 10_000])
@pytest.mark.parametrize("text", QUERIES)
async def test_the_order_is_that_of_bm25_whatever_bounds_the_look_up(
    index: livedex.Index, world: World, text: str, looked_up: int
) -> None:
    wanted = bm25(world, text)
    found = scored(await look(index, Query(text, 10, mode=Mode.LEXICAL), looked_up=looked_up))
    assert [score for _, score in found] == pytest.approx(ranked(wanted, 10))
    assert [wanted[place] for place, _ in found] == pytest.approx([score for _, score in found])


@pytest.mark.parametrize("looked_up", [1, 500])
async def test_filters_hide_chunks_without_costing_others_their_place(
    index: livedex.Index, world: World, looked_up: int
) -> None:
    wanted = bm25(world, "shop refund order", "c1")
    query = Query("shop refund order", 10, {"category": ["c1"]}, mode=Mode.LEXICAL)
    found = scored(await look(index, query, looked_up=looked_up))
    assert [score for _, score in found] == pytest.approx(ranked(wanted, 10))


async def test_a_deep_list_is_complete(index: livedex.Index, world: World) -> None:
    wanted = bm25(world, "customer")
    found = scored(await look(index, Query("customer", 1000, mode=Mode.LEXICAL)))
    assert dict(found) == pytest.approx(wanted)


async def test_exact_scores_every_chunk_without_the_index(index: livedex.Index, world: World) -> None:
    found = scored(await look(index, Query("warranty item7", 10, mode=Mode.LEXICAL), exact=True))
    assert [score for _, score in found] == pytest.approx(ranked(bm25(world, "warranty item7"), 10))


async def test_a_deleted_document_is_gone_from_the_lexical_leg_before_its_chunks_are(
    index: livedex.Index, world: World
) -> None:
    (best, *_), _ = zip(*scored(await look(index, Query("refund item3", 10, mode=Mode.LEXICAL))), strict=True)
    (document_id, _) = best
    # As capture leaves it, with the materializer stopped: a tombstone in the log, chunks and terms still there.
    world.stored("UPDATE livedex.documents SET deleted = true WHERE document_id = %s RETURNING 1", document_id)
    try:
        found = scored(await look(index, Query("refund item3", 10, mode=Mode.LEXICAL), looked_up=1))
    finally:
        world.stored("UPDATE livedex.documents SET deleted = false WHERE document_id = %s RETURNING 1", document_id)
    assert document_id not in {key for (key, _), _ in found}
    assert len(found) == 10


@pytest.mark.parametrize(("fusion", "rule"), [(Fusion.ZSCORE, by_deviations), (Fusion.RRF, by_ranks)])
async def test_both_legs_become_one_order_by_the_rule(
    index: livedex.Index, world: World, fusion: Fusion, rule: Rule
) -> None:
    text = "password refund customer"
    # So many that every candidate of either leg is among them.
    found = await look(index, Query(text, 1000), fusion=fusion)
    lexical = [row["words"] for row in found.rows]
    wanted = rule([1 - row["distance"] for row in found.rows], lexical)
    assert [row["score"] for row in found.rows] == pytest.approx(wanted)
    everything = bm25(world, text)
    places = [(row["document_id"], row["chunk_index"]) for row in found.rows]
    assert lexical == pytest.approx([everything.get(place, 0.0) for place in places])
    assert set(everything) <= set(places)


async def test_a_query_of_stop_words_alone_is_answered_by_the_vectors(index: livedex.Index) -> None:
    found = await index.search("handbook", "the", top_k=5)
    dense = await index.search("handbook", "the", top_k=5, mode="dense")
    assert [hit.chunk_id for hit in found.hits] == [hit.chunk_id for hit in dense.hits]
    assert (await index.search("handbook", "the", mode="lexical")).hits == ()


async def test_an_identifier_is_found_whole_and_by_its_parts(index: livedex.Index) -> None:
    for text in ("PAYMENT_RETRY_LIMIT", "payment retry limit", "getUserName", "user name"):
        hits = (await index.search("handbook", text, top_k=3, mode="lexical")).hits
        name = "PAYMENT_RETRY_LIMIT" if "limit" in text.lower() else "getUserName"
        assert all(name in hit.text or name in hit.title or name in hit.section[-1] for hit in hits)
        assert len(hits) == 3


async def test_hits_say_what_each_leg_gave_them(index: livedex.Index) -> None:
    by_mode = {}
    for mode in Mode:
        hits = (await index.search("handbook", "refund invoice", top_k=1, mode=mode)).hits
        by_mode[mode] = set(hits[0].scores)
    assert by_mode == {Mode.HYBRID: {"dense", "lexical"}, Mode.DENSE: {"dense"}, Mode.LEXICAL: {"lexical"}}


async def test_a_mode_that_is_none_is_refused(index: livedex.Index) -> None:
    with pytest.raises(QueryError, match=r"'fuzzy'.*hybrid, dense, lexical"):
        await index.search("handbook", "refund", mode="fuzzy")


async def test_searches_while_the_index_changes_see_one_state(index: livedex.Index, world: World) -> None:
    """A chunk's lexical score and its text are of the same moment, however the two are written."""
    rng = random.Random(8)
    stop = asyncio.Event()
    following = asyncio.create_task(index.up(stop))
    try:
        for _ in range(40):
            key = f"d{rng.randrange(0, 150, 3)}"
            await asyncio.to_thread(
                world.execute, "UPDATE documents SET content = %s WHERE doc_id = %s", document(rng), key
            )
            hits = (await index.search("handbook", "parcel invoice", top_k=20, mode="lexical")).hits
            assert all(_holds(hit.title, hit.section, hit.text) for hit in hits)
    finally:
        stop.set()
        await following


def _holds(title: str, section: Sequence[str], text: str) -> bool:
    said = " ".join((title, *section, text)).lower()
    return "parcel" in said or "invoice" in said


async def test_statistics_that_many_edits_appended_to_are_added_up_without_changing(
    server: EmbeddedServer, database_on: Callable[[EmbeddedServer], str], tmp_path: Path
) -> None:
    world = World.make(database_on(server), database_on(server), tmp_path, shards=1)
    rng = random.Random(5)
    async with world.open() as index:
        for _ in range(12):
            world.execute("INSERT INTO documents VALUES (%s, 'Refund', %s, 'c')", f"d{rng.random()}", document(rng))
            await index.sync()
        summed = "SELECT term, sum(delta), max(heaviest) FROM livedex_g1.frequencies GROUP BY 1 ORDER BY 1"
        most = "SELECT max(rows) FROM (SELECT count(*) AS rows FROM livedex_g1.frequencies GROUP BY term) AS by_term"
        before = world.stored(summed)
        assert world.stored(most)[0][0] > 8
        await index.catalog.fold()
        assert world.stored(summed) == before
        assert world.stored(most)[0][0] <= 8


async def test_functions_of_another_version_are_made_anew_when_the_index_is_opened(
    server: EmbeddedServer, database_on: Callable[[EmbeddedServer], str], tmp_path: Path
) -> None:
    world = World.make(database_on(server), database_on(server), tmp_path, shards=1)
    world.execute("INSERT INTO documents VALUES ('a', 'Refunds', 'Refunds take five days.', 'c')")
    async with world.open() as index:
        await index.sync()
    world.stored("UPDATE livedex.generations SET functions = 'of another version' RETURNING 1")
    with psycopg.connect(world.store_dsn, autocommit=True) as store:
        store.execute("DROP FUNCTION livedex_g1.lexical, livedex_g1.apply")
    async with world.open() as index:
        assert len((await index.search("handbook", "refunds")).hits) == 1
        world.execute("UPDATE documents SET content = 'Refunds take two days.'")
        await index.sync()
        assert (await index.search("handbook", "refunds")).hits[0].text == "Refunds take two days."


async def test_a_view_from_before_there_was_a_lexical_leg_says_what_to_do(
    server: EmbeddedServer, database_on: Callable[[EmbeddedServer], str], tmp_path: Path
) -> None:
    world = World.make(database_on(server), database_on(server), tmp_path, shards=1)
    async with world.open() as index:
        await index.sync()
    world.stored("UPDATE livedex.generations SET recipe = recipe - 'lexical' RETURNING 1")
    async with world.open() as index:
        with pytest.raises(RecipeChanged, match=r"earlier livedex.*new name"):
            await index.search("handbook", "refunds")
        with pytest.raises(RecipeChanged, match=r"earlier livedex.*new name"):
            await index.sync()


async def test_of_a_query_as_long_as_a_page_the_terms_that_say_most_count(index: livedex.Index, world: World) -> None:
    rare = [f"item{number}" for number in range(MOST_TERMS)]
    text = " ".join([*COMMON, *rare] * 30)
    found = scored(await look(index, Query(text, 10, mode=Mode.LEXICAL)))
    # As often as in the query, and with what an identifier is made of; `item` itself stands in nearly every chunk.
    asked = Counter(form for word in words(text) for form in forms(word))
    assert len(asked) > 2 * MOST_TERMS
    assert len(found) == 10
    assert all(score > 0 for _, score in found)
    hits = (await index.search("handbook", text, top_k=10, mode="lexical")).hits
    assert all(any(word in hit.text.split() or word in hit.title.split() for word in rare) for hit in hits)


async def test_a_view_is_searched_in_the_language_that_it_was_built_with(
    server: EmbeddedServer, database_on: Callable[[EmbeddedServer], str], tmp_path: Path
) -> None:
    world = World.make(database_on(server), database_on(server), tmp_path, shards=1)
    world.execute("INSERT INTO documents VALUES ('a', 'Sports', 'They were running.', 'c')")
    async with world.open() as index:
        await index.sync()
    world.config.write_text(
        world.config.read_text().replace("embedder: hashing", "embedder: hashing, language: german")
    )
    async with world.open() as index:
        assert [hit.document_id for hit in (await index.search("handbook", "runs", mode="lexical")).hits] == ["a"]


async def test_a_title_of_more_words_than_the_index_can_hold_stops_nobody(
    server: EmbeddedServer, database_on: Callable[[EmbeddedServer], str], tmp_path: Path
) -> None:
    world = World.make(database_on(server), database_on(server), tmp_path, shards=1)
    letters = [chr(ord("а") + number) for number in range(32)]
    long = [first + second + third + "ъ" * 61 for first in letters[:9] for second in letters for third in letters]
    world.execute("INSERT INTO documents VALUES ('long', %s, 'Refunds.', 'c')", " ".join(long))
    world.execute("INSERT INTO documents VALUES ('short', 'Refunds', 'Refunds.', 'c')")
    async with world.open() as index, asyncio.timeout(60):
        await index.sync()
        assert (await index.search("handbook", "refunds", mode="lexical")).hits[0].document_id == "short"
        assert (await index.search("handbook", long[0], mode="lexical")).hits[0].document_id == "long"


async def test_where_few_documents_are_visible_a_short_list_is_known_to_be_whole(index: livedex.Index) -> None:
    for category in ("c1", "none of these"):
        found = await look(index, Query("refund", 1000, {"category": [category]}))
        assert found.complete


async def test_what_the_first_batches_of_a_load_weighed_is_weighed_anew_by_the_average_of_all(
    server: EmbeddedServer, database_on: Callable[[EmbeddedServer], str], tmp_path: Path
) -> None:
    world = World.make(database_on(server), database_on(server), tmp_path, shards=1)
    rng = random.Random(4)
    # So many that the first batch holds short ones only, and a later one the others.
    short = "INSERT INTO documents SELECT 'a' || n, '', 'refund ' || n, 'c' FROM generate_series(1, 400) AS n"
    world.execute(short)
    for number in range(400):
        world.execute("INSERT INTO documents VALUES (%s, %s, %s, 'c')", f"b{number}", sentence(rng), document(rng))
    async with world.open() as index:
        await index.sync()
        off = "norm / (1.2 * (0.25 + 0.75 * length / {average})) NOT BETWEEN 0.98 AND 1.021"
        ((average,),) = world.stored("SELECT sum(terms_length)::float8 / sum(chunks) FROM livedex.cursors")
        assert world.stored(f"SELECT count(*) FROM livedex_g1.terms WHERE {off.format(average=average)}") == [(0,)]
        spread = world.stored("SELECT max(greatest_average) / min(least_average) FROM livedex.cursors")
        assert spread[0][0] < 1.05
        found = scored(await look(index, Query("refund customer", 10, mode=Mode.LEXICAL), looked_up=1))
        assert [score for _, score in found] == pytest.approx(ranked(bm25(world, "refund customer"), 10))
    check_terms(world, world.rows())


class EditedWhileWeighed:
    """Changes every title, and waits until that is applied, while terms that are to be weighed anew have been read."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.came_by = False

    async def reach(self, name: str) -> None:
        if name == "index.before_weigh" and not self.came_by:
            self.came_by = True
            await asyncio.to_thread(self._edit)

    def _edit(self) -> None:
        self.world.execute("UPDATE documents SET title = 'Omega' WHERE category = 'short'")
        applied = "SELECT bool_and(tsv @@ 'omega') FROM livedex_g1.terms WHERE length < 40"
        while self.world.stored(applied) != [(True,)]:
            time.sleep(0.02)


async def test_what_is_edited_while_terms_are_weighed_anew_keeps_its_own_terms(
    server: EmbeddedServer, database_on: Callable[[EmbeddedServer], str], tmp_path: Path
) -> None:
    world = World.make(database_on(server), database_on(server), tmp_path, shards=1)
    insert = "INSERT INTO documents SELECT %s || n, %s, 'refund item ' || n, %s FROM generate_series(1, %s) AS n"
    world.execute(insert, "s", "Alpha", "short", 600)  # first batches know only these
    world.execute(insert, "l", "filler " * 60, "long", 1500)
    faults = EditedWhileWeighed(world)
    async with world.open(faults) as index, asyncio.timeout(60):
        await index.sync()
    assert faults.came_by
    check_terms(world, world.rows())


async def test_order_is_that_of_bm25_when_chunks_have_become_much_longer_than_they_were(
    server: EmbeddedServer, database_on: Callable[[EmbeddedServer], str], tmp_path: Path
) -> None:
    """What was weighed while chunks were short would propose the wrong ones, if nobody allowed for it."""
    world = World.make(database_on(server), database_on(server), tmp_path, shards=1)
    insert = "INSERT INTO documents SELECT {id} || n, {title}, {text}, {category} FROM generate_series(1, {count}) AS n"
    async with world.open() as index:
        await index.sync()  # the indexes stand, so nothing is weighed anew
        world.execute(insert.format(id="'a'", title="''", text="'refund item'", category="'c'", count=400))
        await index.sync()
        text = "'refund refund ' || repeat('filler ', 18)"
        world.execute(insert.format(id="'b'", title="''", text=text, category="'c'", count=12))
        await index.sync()
        world.execute(
            insert.format(id="'l'", title="repeat('word ', 120)", text="'hello there'", category="'d'", count=600)
        )
        await index.sync()
        for filters in ({}, {"category": "c"}):
            wanted = ranked(bm25(world, "refund", filters.get("category")), 5)
            for exact in (False, True):
                hits = (
                    await index.search("handbook", "refund", top_k=5, mode="lexical", filters=filters, exact=exact)
                ).hits
                assert [hit.score for hit in hits] == pytest.approx(wanted)
                assert {hit.document_id[0] for hit in hits} == {"b"}


async def test_a_dictionary_that_the_server_lacks_is_named(world: World) -> None:
    database = await Database.open(world.store_dsn)
    try:
        with pytest.raises(StoreUnsupported, match=r"no text search dictionary klingon_stem.*language"):
            await terms_of(database, Lexicon("klingon_stem"), "refund")
    finally:
        await database.close()
