"""Search: the index proposes, the current documents dispose; the order is exact, filters and access rules hold."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from tests.conftest import drop_database, make_database, run_apart
from tests.world import World

import livedex
from livedex.adapters.embedders.hashing import HashingEmbedder
from livedex.errors import ModelMismatch, NotFound, QueryError, StoreDamaged
from livedex.model import Generation, Hit, Mode, Query
from livedex.retrieve import retriever
from livedex.store.embedded import EmbeddedServer
from livedex.store.lexicon import Lexicon
from livedex.store.search import Found, find

ODD = 'it\'s "odd" 100% né'
TABLE = """
CREATE TABLE notes (
    id text PRIMARY KEY, content text, tenant text, acl text, half text, twentieth text, rare text,
    "it's ""odd"" 100%% né" text)
"""
CONFIG = f"""
sources:
  kb:
    kind: postgres
    url: ${{KB_DATABASE_URL}}
    tables:
      notes:
        key: id
        content: content
        tenant: tenant
        acl: acl
        metadata: [half, twentieth, rare, {json.dumps(ODD)}]
views:
  handbook: {{from: [kb], embedder: hashing, shards: 2}}
"""
COLUMNS = ("id", "content", "tenant", "acl", "half", "twentieth", "rare", "odd")
TOPICS = [
    "refund",
    "invoice",
    "shipping",
    "warranty",
    "password",
    "login",
    "holiday",
    "payroll",
    "travel",
    "laptop",
    "desk",
    "phone",
    "tax",
    "visa",
    "lunch",
]
QUERIES = [f"{one} {other}" for one, other in pairwise(TOPICS)]
EVERYTHING = 1000


class HeldAt:
    """Inside its block whoever comes by a point waits there."""

    def __init__(self, point: str) -> None:
        self._point = point
        self._way = asyncio.Event()
        self._way.set()

    async def __aenter__(self) -> None:
        self._way.clear()

    async def __aexit__(self, *error: object) -> None:
        self._way.set()

    async def reach(self, name: str) -> None:
        if name == self._point:
            await self._way.wait()


def make(source_dsn: str, store_dsn: str, directory: Path) -> World:
    world = World(source_dsn, store_dsn, directory / "livedex.yaml")
    world.config.write_text(CONFIG)
    with psycopg.connect(source_dsn, autocommit=True) as connection:
        connection.execute(TABLE.replace("%%", "%"))
    return world


@pytest.fixture
def world(server: EmbeddedServer, database_on: Callable[[EmbeddedServer], str], tmp_path: Path) -> World:
    return make(database_on(server), database_on(server), tmp_path)


@pytest.fixture(scope="module")
def library(server: EmbeddedServer) -> Iterator[World]:
    """1,200 documents of one chunk each about a few topics; nobody changes them."""
    with tempfile.TemporaryDirectory() as directory:
        world = make(make_database(server.dsn), make_database(server.dsn), Path(directory))
        write(world, [note(number) for number in range(1200)])
        run_apart(sync(world))
        yield world
        for dsn in (world.source_dsn, world.store_dsn):
            drop_database(server.dsn, str(conninfo_to_dict(dsn)["dbname"]))


def note(number: int) -> dict[str, str]:
    dice = np.random.default_rng(number)
    words = dice.choice(TOPICS, 6)
    return {
        "id": f"note-{number:04}",
        "content": f"{' '.join(words)} {number}",
        "acl": "*",
        "half": str(number % 2),
        "twentieth": str(number % 20),
        "rare": str(number % 200),
    }


def write(world: World, notes: Sequence[dict[str, str]]) -> None:
    with psycopg.connect(world.source_dsn) as connection, connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO notes VALUES (%s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (id) DO UPDATE SET "
            "content = excluded.content, tenant = excluded.tenant, acl = excluded.acl",
            [[row.get(column) for column in COLUMNS] for row in notes],
        )


async def sync(world: World) -> None:
    async with world.open() as index, asyncio.timeout(60):
        await index.sync()


@asynccontextmanager
async def following(index: livedex.Index) -> AsyncIterator[None]:
    """`index.up` runs inside the block."""
    stop = asyncio.Event()
    running = asyncio.create_task(index.up(stop))
    try:
        yield
    finally:
        stop.set()
        await running


async def until(happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while True:
            if happened():
                return
            await asyncio.sleep(0.01)


def ids(hits: Sequence[Hit]) -> list[str]:
    return [hit.document_id for hit in hits]


def log_says(world: World, condition: str) -> bool:
    return world.stored(f"SELECT count(*) FROM livedex.documents WHERE {condition}") == [(1,)]


# Documents as they are now


@pytest.mark.parametrize(("statement", "left"), [("DELETE FROM notes WHERE id = 'a'", ["b"]), ("TRUNCATE notes", [])])
async def test_invariant_5_deleted_document_is_gone_from_every_search_before_the_index_has_caught_up(
    world: World, statement: str, left: list[str]
) -> None:
    write(world, [{"id": "a", "content": "secret plan", "acl": "*"}, {"id": "b", "content": "public plan", "acl": "*"}])
    held = HeldAt("materialize.read")
    async with world.open(held) as index:
        await index.sync()
        vector, model = await index.embed("handbook", "secret plan")
        async with following(index), held:
            world.execute(statement)
            await until(lambda: log_says(world, "document_id = 'a' AND deleted"))
            for exact, mode in product((False, True), Mode):
                assert ids((await index.search("handbook", "secret plan", exact=exact, mode=mode)).hits) == left
                assert ids((await index.search("handbook", "plan", filters={"half": "1"}, exact=exact)).hits) == []
            assert [key for (key,) in world.stored("SELECT document_id FROM handbook")] == left
            found = world.stored("SELECT document_id FROM handbook_search(%s::halfvec, %s, 10)", vector, model)
            assert [key for (key,) in found] == left
            assert world.stored("SELECT count(*) FROM livedex_g1.chunks") == [(2,)]
    assert world.stored("SELECT document_id FROM livedex_g1.chunks JOIN livedex.documents USING (document)") == [
        (key,) for key in left
    ]


async def test_invariant_5_access_and_filters_are_judged_on_current_data_and_text_is_that_of_the_applied_version(
    world: World,
) -> None:
    write(world, [{"id": "a", "content": "the old plan", "acl": "alice"}])
    held = HeldAt("materialize.read")
    async with world.open(held) as index:
        await index.sync()
        (before,) = (await index.search("handbook", "plan", principals=["alice"])).hits
        assert not before.stale
        async with following(index), held:
            world.execute("UPDATE notes SET content = 'the new plan', acl = 'bob', half = 'changed'")
            await until(lambda: log_says(world, "acl = '{bob}'"))
            assert (await index.search("handbook", "plan", principals=["alice"])).hits == ()
            found = await index.search("handbook", "plan", principals=["bob"], filters={"half": "changed"})
            (hit,) = found.hits
            assert (hit.text, hit.metadata["half"], hit.stale) == ("the old plan", "changed", True)
            assert (hit.document_version, hit.source_position) == (before.document_version, before.source_position)
        (after,) = (await index.search("handbook", "plan", principals=["bob"])).hits
        assert (after.text, after.stale) == ("the new plan", False)


# Who may see what


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize(
    ("tenant", "principals", "expected"),
    [
        (None, [], {"all"}),
        (None, ["alice"], {"all", "alice", "both"}),
        (None, ["alice", "bob"], {"all", "alice", "bob", "both"}),
        ("acme", [], {"all", "acme"}),
        ("acme", ["alice"], {"all", "acme", "alice", "both", "acme-alice"}),
        ("other", ["alice"], {"all", "alice", "both"}),
    ],
)
async def test_documents_of_other_tenants_and_principals_are_never_shown(
    guarded: World, tenant: str | None, principals: list[str], expected: set[str], exact: bool
) -> None:
    async with guarded.open() as index:
        found = await index.search(
            "handbook", "plan", top_k=EVERYTHING, tenant=tenant, principals=principals, exact=exact
        )
    assert set(ids(found.hits)) == expected


@pytest.fixture(scope="module")
def guarded(server: EmbeddedServer) -> Iterator[World]:
    """One document for each way to restrict it."""
    with tempfile.TemporaryDirectory() as directory:
        world = make(make_database(server.dsn), make_database(server.dsn), Path(directory))
        write(
            world,
            [
                {"id": "all", "content": "plan of all", "acl": "*"},
                {"id": "alice", "content": "plan of alice", "acl": "alice"},
                {"id": "bob", "content": "plan of bob", "acl": "bob"},
                {"id": "both", "content": "plan of both", "acl": "alice,bob"},
                {"id": "acme", "content": "plan of acme", "acl": "*", "tenant": "acme"},
                {"id": "acme-alice", "content": "plan of alice at acme", "acl": "alice", "tenant": "acme"},
                {"id": "nobody", "content": "plan of nobody", "acl": ""},
                {"id": "unset", "content": "plan without a list"},
            ],
        )
        run_apart(sync(world))
        yield world
        for dsn in (world.source_dsn, world.store_dsn):
            drop_database(server.dsn, str(conninfo_to_dict(dsn)["dbname"]))


async def test_narrow_view_of_the_corpus_still_fills_top_k(world: World) -> None:
    crowd = [{"id": f"crowd-{n}", "content": f"refund policy {n}", "acl": "*", "tenant": "crowd"} for n in range(1500)]
    few = [
        {"id": f"few-{n:02}", "content": f"something about travel {n}", "acl": "*", "tenant": "few"} for n in range(12)
    ]
    write(world, [*crowd, *few])
    async with world.open() as index:
        await index.sync()
        found = await index.search("handbook", "refund policy", tenant="few")
        by_principal = await index.search("handbook", "refund policy", top_k=20, tenant="few", principals=["alice"])
    assert len(found.hits) == 10
    assert set(ids(by_principal.hits)) == {row["id"] for row in few}


# Filters


@pytest.mark.parametrize("column", ["half", "twentieth", "rare"])
async def test_filtered_search_finds_what_exact_search_finds(library: World, column: str) -> None:
    async with library.open() as index:
        for query in QUERIES:
            hits = list((await index.search("handbook", query, filters={column: "1"})).hits)
            for mode in ("dense", "lexical"):
                found = await index.search("handbook", query, filters={column: "1"}, mode=mode)
                exact = await index.search("handbook", query, filters={column: "1"}, mode=mode, exact=True)
                assert scores(found.hits) == scores(exact.hits)
                hits += found.hits
            assert {hit.metadata[column] for hit in hits} == {"1"}


def scores(hits: Sequence[Hit]) -> list[float]:
    """Without the last digits, which may differ with the order of additions."""
    return [round(hit.score, 5) for hit in hits]


async def test_filters_accept_any_of_several_values_and_all_filters_must_hold(library: World) -> None:
    async with library.open() as index:
        found = await index.search(
            "handbook", "travel", top_k=EVERYTHING, filters={"rare": ["1", "2", "3"], "half": "1"}
        )
        none = await index.search("handbook", "travel", filters={"rare": []})
        unknown = await index.search("handbook", "travel", filters={"no such column": "1"})
    assert {hit.metadata["rare"] for hit in found.hits} == {"1", "3"}
    assert len(found.hits) == 12
    assert (none.hits, unknown.hits) == ((), ())


@pytest.mark.parametrize(
    "value",
    [
        "it's",
        'a "b"',
        "100%",
        "%s",
        "%(vector)s",
        "{g}",
        "{}",
        "{visible}",
        "$1",
        "\\",
        "",
        "é😀",
        "x" * 5000,
        "--",
        "'); DROP",
    ],
)
async def test_filter_value_may_be_any_text(world: World, value: str) -> None:
    write(world, [{"id": "a", "content": "text", "acl": "*", "odd": value, "rare": "other"}])
    write(world, [{"id": "b", "content": "text", "acl": "*", "odd": value + "!", "rare": value}])
    async with world.open() as index:
        await index.sync()
        by_odd_name = await index.search("handbook", "text", filters={ODD: value})
        by_plain_name = await index.search("handbook", "text", filters={"rare": [value, "nothing else"]})
        by_odd_unknown = await index.search("handbook", "text", filters={value: value})
    assert (ids(by_odd_name.hits), ids(by_plain_name.hits), ids(by_odd_unknown.hits)) == (["a"], ["b"], [])
    column = f'"{ODD.replace(chr(34), chr(34) * 2)}"'.replace("%", "%%")
    assert world.stored(f"SELECT document_id FROM handbook WHERE {column} = %s", value) == [("a",)]


# Order


@pytest.mark.parametrize("top_k", [1, 10, 137])
async def test_exact_search_is_brute_force(library: World, top_k: int) -> None:
    rows = library.stored("SELECT document_id, embedding::text FROM handbook")
    names = [name for name, _ in rows]
    matrix = np.array([json.loads(vector) for _, vector in rows])
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    async with library.open() as index:
        for query in QUERIES:
            hits = (await index.search("handbook", query, top_k=top_k, mode="dense", exact=True)).hits
            vector = (await HashingEmbedder().embed_query(query)).astype(np.float16).astype(np.float64)
            similarity = matrix @ (vector / np.linalg.norm(vector))
            by_name = dict(zip(names, similarity, strict=True))
            np.testing.assert_allclose([hit.score for hit in hits], np.sort(similarity)[::-1][:top_k], atol=1e-5)
            np.testing.assert_allclose([hit.score for hit in hits], [by_name[n] for n in ids(hits)], atol=1e-5)
            assert len(set(ids(hits))) == top_k


async def test_search_by_the_vector_index_finds_what_exact_search_finds(library: World) -> None:
    async with library.open() as index:
        assert (await index.status()).views[0].indexed
        for query in QUERIES:
            found = await index.search("handbook", query, mode="dense")
            exact = await index.search("handbook", query, mode="dense", exact=True)
            assert scores(found.hits) == scores(exact.hits)


@pytest.mark.parametrize("exact", [False, True])
async def test_ties_are_in_the_order_of_documents_every_time(world: World, exact: bool) -> None:
    write(world, [{"id": f"note-{number:02}", "content": "the same", "acl": "*"} for number in reversed(range(20))])
    async with world.open() as index:
        await index.sync()
        for top_k in (20, 20, 7, 1):
            found = await index.search("handbook", "the same", top_k=top_k, exact=exact)
            assert ids(found.hits) == [f"note-{number:02}" for number in range(top_k)]


async def test_hits_come_best_first_with_the_place_they_are_from(world: World) -> None:
    content = "# Rules\n\nIntroduction.\n\n## Refunds\n\nRefunds take ten days.\n\n## Travel\n\nBook the train."
    content = content.replace("Introduction.", "Introduction. " * 60).replace(
        "Book the train.", "Book the train. " * 60
    )
    content = content.replace("Refunds take ten days.", "Refunds take ten days. " * 60)
    write(world, [{"id": "rules", "content": content, "acl": "*"}])
    async with world.open() as index:
        await index.sync()
        hits = (await index.search("handbook", "Refunds take ten days.")).hits
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert hits[0].section == ("Rules", "Refunds")
    assert [content[hit.start : hit.end] for hit in hits] == [hit.text for hit in hits]


async def test_chunk_that_was_edited_a_thousand_times_is_the_first_hit_of_its_own_query(world: World) -> None:
    write(world, [note(number) for number in range(400)])
    edited = "SELECT chunk_text FROM handbook WHERE document_id = 'note-0000'"
    async with (
        world.open() as index,
        await psycopg.AsyncConnection.connect(world.source_dsn, autocommit=True) as source,
        await psycopg.AsyncConnection.connect(world.store_dsn, autocommit=True) as store,
    ):
        await index.sync()
        # The tests' server writes its log out late where nobody waits, and what is not written is not sent.
        await source.execute("SET synchronous_commit = on")
        async with following(index), asyncio.timeout(90):
            for number in range(1000):
                text = f"edition {number} of the refund rules"
                await source.execute("UPDATE notes SET content = %s WHERE id = 'note-0000'", [text])
                await until_shown(store, edited, text)
                if number % 100 == 99:
                    hits = (await index.search("handbook", text)).hits
                    assert (hits[0].document_id, hits[0].text, len(hits)) == ("note-0000", text, 10)
                    assert hits[0].scores["dense"] == pytest.approx(1.0, abs=1e-3)
    assert world.stored("SELECT count(*) FROM livedex_g1.vectors") == [(400,)]


async def until_shown(store: psycopg.AsyncConnection[Any], query: str, text: str) -> None:
    while True:
        if await (await store.execute(query)).fetchone() == (text,):
            return
        await asyncio.sleep(0.001)


# Queries that cannot be answered


@pytest.mark.parametrize("text", ["nul \x00 character", "half \ud83d a pair"])
async def test_filters_and_principals_that_no_document_can_hold_are_refused(library: World, text: str) -> None:
    async with library.open() as index:
        for search in (
            index.search("handbook", "refund", filters={"half": text}),
            index.search("handbook", "refund", filters={text: "1"}),
            index.search("handbook", "refund", tenant=text),
            index.search("handbook", "refund", principals=[text]),
        ):
            with pytest.raises(QueryError, match="NUL or half a character"):
                await search


async def test_invariant_6_query_vector_of_another_model_is_refused(library: World) -> None:
    other = {"hashing": HashingEmbedder(dimensions=64)}
    async with livedex.open(library.config, environ=library.environ, embedders=other) as index:
        with pytest.raises(ModelMismatch, match="configure the former"):
            await index.search("handbook", "refund")


class Promoting(retriever.Retriever):
    """During a search a generation of another model begins to answer."""

    async def _look(self, generation: Generation, *asked: Any, **settings: Any) -> Found:
        found = await super()._look(generation, *asked, **settings)
        return replace(found, marks=replace(found.marks, active_generation=generation.generation + 1))

    async def _refresh(self) -> None:
        model = replace(self._generation.recipe.model, revision="another")
        recipe = replace(self._generation.recipe, model=model)
        self._generation = replace(self._generation, generation=self._generation.generation + 1, recipe=recipe)


async def test_invariant_6_query_vector_searches_no_generation_that_was_promoted_meanwhile(library: World) -> None:
    async with library.open() as index:
        generation = await index.catalog.active_generation("handbook")
        assert generation is not None
        asked = Promoting(index._database, index.catalog, generation, HashingEmbedder(), Lexicon("english_stem"))
        with pytest.raises(ModelMismatch, match="configure the former"):
            await asked.retrieve(Query("refund"))


@pytest.mark.parametrize("text", ["", "  \n", "nul \x00 character"])
async def test_query_without_words_or_with_nul_is_refused(library: World, text: str) -> None:
    async with library.open() as index:
        with pytest.raises(QueryError):
            await index.search("handbook", text)


async def test_query_may_be_very_long_or_strange(library: World) -> None:
    async with library.open() as index:
        for text in ("refund " * 50_000, "%s {g} ' \" \\ $1", "\ud83d", "東京", "?"):
            assert len((await index.search("handbook", text)).hits) == 10


@pytest.mark.parametrize(("top_k", "works"), [(0, False), (1, True), (1000, True), (1001, False), (-1, False)])
async def test_top_k_is_between_1_and_1000(library: World, top_k: int, works: bool) -> None:
    async with library.open() as index:
        if works:
            assert len((await index.search("handbook", "refund", top_k=top_k)).hits) == top_k
        else:
            with pytest.raises(QueryError, match="top_k"):
                await index.search("handbook", "refund", top_k=top_k)


async def test_unknown_view_is_refused_with_the_names_of_those_there_are(library: World) -> None:
    async with library.open() as index:
        with pytest.raises(NotFound, match="handbook"):
            await index.search("cookbook", "refund")


async def test_view_that_was_never_built_is_refused_with_what_to_do(world: World) -> None:
    async with world.open() as index:
        with pytest.raises(NotFound, match="livedex sync"):
            await index.search("handbook", "refund")


# Plain SQL


async def test_search_function_gives_what_index_search_gives(library: World) -> None:
    async with library.open() as index:
        for query in QUERIES:
            vector, model = await index.embed("handbook", query)
            hits = (await index.search("handbook", query, mode="dense")).hits
            rows = library.stored(
                "SELECT chunk_id, document_id, chunk_text, embedding <=> %s::halfvec "
                "FROM handbook_search(%s::halfvec, %s, 10)",
                vector,
                vector,
                model,
            )
            assert [row[:3] for row in rows] == [(hit.chunk_id, hit.document_id, hit.text) for hit in hits]
            np.testing.assert_allclose([1 - row[3] for row in rows], [hit.score for hit in hits], atol=1e-6)


async def test_invariant_6_search_function_refuses_another_model(library: World) -> None:
    async with library.open() as index:
        vector, _ = await index.embed("handbook", "refund")
    for model in ("hashing", "all-MiniLM-L6-v2", None):
        with pytest.raises(psycopg.errors.RaiseException, match="this view was embedded with hashing:"):
            library.stored("SELECT * FROM handbook_search(%s::halfvec, %s, 10)", vector, model)


async def test_plain_sql_by_distance_fills_its_limit(library: World) -> None:
    async with library.open() as index:
        vector, _ = await index.embed("handbook", "refund")
    rows: list[tuple[Any, ...]] = library.stored(
        "SELECT document_id FROM handbook WHERE half = '1' ORDER BY embedding <=> %s::halfvec LIMIT 300", vector
    )
    assert len(set(rows)) == 300


async def test_filter_finds_documents_whose_value_is_a_list_that_holds_it(
    server: EmbeddedServer, database_on: Callable[[EmbeddedServer], str], tmp_path: Path
) -> None:
    world = World(database_on(server), database_on(server), tmp_path / "livedex.yaml")
    world.config.write_text(
        "sources:\n  kb:\n    kind: postgres\n    url: ${KB_DATABASE_URL}\n"
        "    tables: {notes: {key: id, content: content, metadata: tags}}\n"
        "views:\n  handbook: {from: kb, embedder: hashing}\n"
    )
    world.execute("CREATE TABLE notes (id text PRIMARY KEY, content text, tags jsonb)")
    for key, tags in (
        ("a", '["new", "long haul"]'),
        ("b", '"new"'),
        ("c", '["renewed", 7]'),
        ("d", "null"),
        ("e", None),
    ):
        world.execute("INSERT INTO notes VALUES (%s, 'about travel', %s)", key, tags)
    async with world.open() as index:
        await index.sync()

        async def found(tag: str | list[str], mode: str) -> list[str]:
            return sorted(ids((await index.search("handbook", "travel", filters={"tags": tag}, mode=mode)).hits))

        for mode in ("hybrid", "dense", "lexical"):
            assert await found("new", mode) == ["a", "b"]
            assert await found("long haul", mode) == ["a"]
            assert await found(["renewed", "long haul"], mode) == ["a", "c"]
            assert await found("haul", mode) == []


async def test_a_search_measures_everything_where_the_vector_index_cannot_be_read(
    library: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    async def damaged(*arguments: Any, exact: bool, **others: Any) -> Found:
        asked.append(exact)
        if not exact:
            raise StoreDamaged
        return await find(*arguments, exact=exact, **others)

    monkeypatch.setattr(retriever, "find", damaged)
    async with library.open() as index:
        found = await index.search("handbook", QUERIES[0])
        exact = await index.search("handbook", QUERIES[0], exact=True)
    assert asked == [False, True, True]
    assert [hit.chunk_id for hit in found.hits] == [hit.chunk_id for hit in exact.hits]
