"""Rows that are not what their producer was held to are set aside with the place, and come back when they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.world import World, check_view

from livedex.errors import ConfigError
from livedex.store.embedded import EmbeddedServer


@pytest.fixture
def world(server: EmbeddedServer, database_on: Callable[[EmbeddedServer], str], tmp_path: Path) -> World:
    return World.make(database_on(server), database_on(server), tmp_path)


def expect(world: World, expects: str) -> None:
    """Have the source's rows expected to be so; takes the place of what was expected before."""
    lines = world.config.read_text().splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith("    expects:")]
    kept.insert(kept.index("    kind: postgres\n"), f"    expects: {expects}\n")
    world.config.write_text("".join(kept))


def put(world: World, key: str, content: str, *, title: str | None = "A title", category: str = "policy") -> None:
    world.execute(
        "INSERT INTO documents VALUES (%s, %s, %s, %s) ON CONFLICT (doc_id) DO UPDATE SET title = excluded.title, "
        "content = excluded.content, category = excluded.category",
        key,
        title,
        content,
        category,
    )


async def set_aside(world: World) -> dict[str, str]:
    """What is in quarantine after a sync, with the reasons."""
    async with world.open() as index:
        await index.sync()
        rows: list[dict[str, Any]] = await index.quarantined()
    assert {row["stage"] for row in rows} <= {"expect"}
    return {row["document_id"]: row["reason"] for row in rows}


def shown(world: World) -> set[str]:
    return {key for (key,) in world.stored("SELECT DISTINCT document_id FROM handbook")}


EVERYTHING = """{required: [title], types: {category: [policy, faq]}, max_bytes: 40, min_bytes: 3, encoding: utf-8}"""
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "blank": ({"content": "Text.", "title": " "}, 'column "title" is blank'),
    "null": ({"content": "Text.", "title": None}, 'column "title" is NULL'),
    "of-no-kind": ({"content": "Text.", "category": "x"}, "is none of policy, faq"),
    "long": ({"content": "ä" * 21}, "the content has 42 bytes, and 40 are allowed"),
    "short": ({"content": "ab"}, "the content has 2 bytes, and 3 are wanted at least"),
    "misread": ({"content": "First.\nA cafÃ© by the sea."}, 'column "content", line 2, character 6 (offset 12): UTF-8'),
}


async def test_rows_other_than_expected_are_set_aside_with_their_place_and_the_others_flow_on(world: World) -> None:
    expect(world, EVERYTHING)
    put(world, "good", "Good text.")
    for key, (row, _) in BAD.items():
        put(world, f"{key} in the snapshot", **row)
    assert (await set_aside(world)).keys() == {f"{key} in the snapshot" for key in BAD}
    for key, (row, _) in BAD.items():
        put(world, f"{key} in the stream", **row)
    put(world, "good-too", "Good text, too.")
    reasons = await set_aside(world)
    assert [key for key, (_, said) in BAD.items() if said not in reasons[f"{key} in the snapshot"]] == []
    assert [key for key in BAD if reasons[f"{key} in the stream"] != reasons[f"{key} in the snapshot"]] == []
    assert shown(world) == {"good", "good-too"}
    assert world.stored("SELECT count(*) FROM livedex_g1.applied WHERE chunks > 0") == [(2,)]


async def test_a_refused_version_hides_the_one_before_until_the_row_is_mended(world: World) -> None:
    expect(world, "{max_bytes: 30}")
    put(world, "a", "Short enough.")
    assert await set_aside(world) == {}
    put(world, "a", "Much too long, by more than one word or two.")
    assert list(await set_aside(world)) == ["a"]
    assert shown(world) == set()
    put(world, "a", "Short again.")
    assert await set_aside(world) == {}
    await check_view(world)


async def test_expecting_less_lets_in_what_was_set_aside_and_expecting_more_sets_aside(world: World) -> None:
    expect(world, "{max_bytes: 10}")
    put(world, "short", "Short.")
    put(world, "long", "A longer text than that.")
    assert list(await set_aside(world)) == ["long"]
    expect(world, "{max_bytes: 100}")
    assert await set_aside(world) == {}
    await check_view(world)
    expect(world, "{max_bytes: 100, min_bytes: 8}")
    assert list(await set_aside(world)) == ["short"]
    assert shown(world) == {"long"}
    expect(world, "{}")
    assert await set_aside(world) == {}
    await check_view(world)


async def test_what_is_refused_again_and_again_stays_as_it_was(world: World) -> None:
    expect(world, "{required: [title]}")
    put(world, "a", "Text.", title=None)
    await set_aside(world)
    before = world.stored("SELECT seq FROM livedex.log_head")
    async with world.open() as index:
        await index.resync("kb")
    assert list(await set_aside(world)) == ["a"]
    assert world.stored("SELECT seq FROM livedex.log_head") == before


async def test_a_refused_document_that_is_deleted_leaves_quarantine(world: World) -> None:
    expect(world, "{required: [title]}")
    put(world, "a", "Text.", title=None)
    await set_aside(world)
    world.execute("DELETE FROM documents")
    assert await set_aside(world) == {}


SAME = " ".join(f"word{number} about parcels" for number in range(40))
OTHER = " ".join(f"thing{number} and nothing" for number in range(40))


async def test_of_near_duplicates_only_some_stand_and_a_place_that_is_left_is_given_anew(world: World) -> None:
    expect(world, "{near_duplicates: {limit: 2, similarity: 90%}}")
    for number in range(4):
        put(world, f"same-{number}", f"{SAME} {number}")
    put(world, "other", OTHER)
    put(world, "brief", "Too short.")
    put(world, "brief-too", "Too short.")
    reasons = await set_aside(world)
    assert shown(world) >= {"other", "brief", "brief-too"}
    assert len(reasons) == 2
    assert all("2 documents of source kb already say almost the same" in reason for reason in reasons.values())
    (stands, *_) = shown(world) & {f"same-{number}" for number in range(4)}
    world.execute("DELETE FROM documents WHERE doc_id = %s", stands)
    async with world.open() as index:
        await index.sync()
        assert await index.retry() == 2
        await index.sync()
    assert len(await set_aside(world)) == 1
    assert len(shown(world)) == 5
    world.execute("UPDATE documents SET content = content || %s WHERE doc_id = %s", OTHER * 2, max(shown(world)))
    expect(world, "{}")
    assert await set_aside(world) == {}
    assert world.stored("SELECT count(*) FROM livedex.fingerprints") == [(0,)]
    await check_view(world)


async def test_a_limit_on_near_duplicates_counts_what_stands_already(world: World) -> None:
    for number in range(3):
        put(world, f"same-{number}", f"{SAME} {number}")
    assert await set_aside(world) == {}
    expect(world, "{near_duplicates: {limit: 1, similarity: 90%}}")
    assert len(await set_aside(world)) == 2
    put(world, "one-more", SAME)
    assert len(await set_aside(world)) == 3


async def test_a_language_that_is_not_expected_is_set_aside(world: World) -> None:
    pytest.importorskip("py3langid")
    expect(world, "{language: [en]}")
    put(
        world,
        "english",
        "The refund policy says that every customer may return goods within thirty days of purchase. " * 2,
    )
    put(
        world,
        "german",
        "Die Rückgabe ist innerhalb von dreißig Tagen möglich, wenn der Kunde seinen Kassenbon noch hat. " * 2,
    )
    reasons = await set_aside(world)
    assert reasons.keys() == {"german"}
    assert "is in de by all appearance, and en is expected" in reasons["german"]


async def test_a_language_that_nothing_tells_is_refused_at_the_start(world: World) -> None:
    pytest.importorskip("py3langid")
    expect(world, "{language: qq}")
    with pytest.raises(ConfigError, match="qq is none of the languages that can be told"):
        await set_aside(world)
