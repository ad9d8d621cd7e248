"""What rows are written in, what they say about themselves, and what their chunks are good for, as far as the view."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psycopg
import pytest
from tests.world import World

import livedex
from livedex.adapters.embedders.hashing import HashingEmbedder
from livedex.errors import RecipeChanged
from livedex.flow.keep_up import Counts
from livedex.store.embedded import EmbeddedServer
from livedex.testing.embedders import FaultyEmbedder

CONFIG = """
sources:
  kb:
    kind: postgres
    url: ${KB_DATABASE_URL}
    tables:
      documents: {key: doc_id, title: title, content: content, media_type: category, front_matter: [owner, reviewed]}
views:
  handbook: {from: kb, embedder: hashing, chunker: {max_tokens: 40, min_tokens: 0}}
"""
PAGE = "<nav>Home</nav><main><h1>Refunds</h1><h2>Scope</h2><p>All customers.</p></main>"
LONG = "It is said here at such length that this section needs a chunk for itself, whatever stands below it. "


@pytest.fixture
def world(server: EmbeddedServer, database_on: Callable[[EmbeddedServer], str], tmp_path: Path) -> World:
    world = World.make(database_on(server), database_on(server), tmp_path)
    world.config.write_text(CONFIG)
    return world


def write(world: World, content: str, media_type: str | None = None) -> None:
    world.execute(
        "INSERT INTO documents (doc_id, title, content, category) VALUES ('a', 'A', %s, %s) ON CONFLICT (doc_id) "
        "DO UPDATE SET content = excluded.content, category = excluded.category",
        content,
        media_type,
    )


async def sync(world: World) -> tuple[Counts, Mapping[str, int]]:
    embedder = FaultyEmbedder(HashingEmbedder())
    async with livedex.open(world.config, environ=world.environ, embedders={"hashing": embedder}) as index:
        return (await index.sync())["handbook"], embedder.embedded


def served(world: World) -> Sequence[tuple[str, list[str], str]]:
    return world.stored("SELECT chunk_text, section, section_type FROM handbook ORDER BY chunk_index")


async def test_a_row_is_read_as_what_its_media_type_column_says(world: World) -> None:
    write(world, PAGE, "text/html; charset=utf-8")
    await sync(world)
    assert served(world) == [("# Refunds\n\n## Scope\n\nAll customers.", ["Refunds", "Scope"], "scope")]


async def test_a_change_of_the_media_type_alone_reads_the_row_again(world: World) -> None:
    write(world, "# Refunds\n\nAll.", "text/plain")
    await sync(world)
    plain = served(world)
    write(world, "# Refunds\n\nAll.", "text/markdown")
    counts, _ = await sync(world)
    assert (plain, served(world), counts.updated) == (
        [("# Refunds\n\nAll.", [], "text")],
        [("# Refunds\n\nAll.", ["Refunds"], "text")],
        1,
    )


async def test_a_page_that_cannot_be_read_is_quarantined_with_its_reason(world: World) -> None:
    write(world, "<div>" * 20_000 + "text", "text/html")
    counts, _ = await sync(world)
    ((reason,),) = world.stored("SELECT reason FROM livedex.quarantine")
    assert (counts.quarantined, "16,384 levels" in reason) == (1, True)


async def test_a_section_type_that_changes_alone_embeds_nothing_and_writes_no_vector(world: World) -> None:
    sections = f"{LONG}\n\n### Indexer\n\n{LONG}Indexer.\n\n### Reader\n\n{LONG}Reader.\n"
    write(world, f"# Guide\n\n## Parts\n\n{sections}")
    await sync(world)
    before = dict(world.stored("SELECT chunk_text, section_type FROM handbook"))
    vectors = world.stored("SELECT chunk, ctid, embedding::text FROM livedex_g1.vectors")
    write(world, f"# Guide\n\n## Glossary\n\n{sections}")
    counts, embedded = await sync(world)
    after = dict(world.stored("SELECT chunk_text, section_type FROM handbook"))
    kept = {text: section_type for text, section_type in after.items() if text in before}
    assert set(embedded) == {"# Guide ## Glossary " + LONG.strip()}
    assert {before[text] for text in kept} == {"text"}
    assert set(kept.values()) == {"definitions"}
    assert len(set(vectors) & set(world.stored("SELECT chunk, ctid, embedding::text FROM livedex_g1.vectors"))) == 2
    assert counts.texts_embedded == 1


async def test_front_matter_is_metadata_to_filter_by_and_stands_in_the_view(world: World) -> None:
    write(world, "---\nowner: ann\nreviewed: 2026-03-01\nsecret: x\n---\n# Refunds\n\nThirty days.")
    await sync(world)
    assert world.stored("SELECT owner, reviewed, chunk_text FROM handbook") == [
        ("ann", "2026-03-01", "# Refunds\n\nThirty days.")
    ]
    async with livedex.open(world.config, environ=world.environ) as index:
        found = [
            [hit.metadata for hit in (await index.search("handbook", "refunds", filters={"owner": owner})).hits]
            for owner in ("ann", "bob")
        ]
    assert found == [[{"owner": "ann", "reviewed": "2026-03-01"}], []]


async def test_a_change_of_front_matter_alone_embeds_nothing(world: World) -> None:
    write(world, "---\nowner: ann\n---\n# Refunds\n\nThirty days.")
    await sync(world)
    write(world, "---\nowner: bob\n---\n# Refunds\n\nThirty days.")
    counts, embedded = await sync(world)
    assert (counts.texts_embedded, dict(embedded), world.stored("SELECT owner FROM handbook")) == (0, {}, [("bob",)])


async def test_a_view_built_before_there_were_section_types_says_so(world: World) -> None:
    write(world, "text")
    await sync(world)
    with psycopg.connect(world.store_dsn, autocommit=True) as connection:
        connection.execute("UPDATE livedex.generations SET recipe = recipe - 'extractor'")
    with pytest.raises(RecipeChanged, match=r"sorted into section types with nothing, .* asks for kind section_types"):
        await sync(world)


async def test_another_chunker_is_another_recipe_and_the_error_names_both(world: World) -> None:
    write(world, "text")
    await sync(world)
    world.config.write_text(CONFIG.replace("{max_tokens: 40, min_tokens: 0}", "fixed"))
    with pytest.raises(RecipeChanged, match=r"was cut with kind auto, .* asks for kind fixed, version 1"):
        await sync(world)
