"""Invariant 11: an audit finds what was lost or damaged behind livedex's back, repairs it, and finds nothing else."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import reduce
from pathlib import Path

import psycopg
import pytest
from tests.world import World, check_view

import livedex
from livedex.errors import LivedexError, NotFound
from livedex.rules.audit import Kind, Report
from livedex.store.embedded import EmbeddedServer

PARTS = "\n\n".join(f"## Part {number}\n\nPart {number} of KEY speaks of parcel {number}." for number in range(4))


@pytest.fixture
def world(server: EmbeddedServer, database_on: Callable[[EmbeddedServer], str], tmp_path: Path) -> World:
    world = World.make(database_on(server), database_on(server), tmp_path)
    for key in ("apple", "birch", "cedar", *DAMAGES):
        write(world, key, PARTS.replace("KEY", key))
    return world


def write(world: World, key: str, content: str) -> None:
    world.execute(
        "INSERT INTO documents VALUES (%s, 'A title', %s, 'policy') "
        "ON CONFLICT (doc_id) DO UPDATE SET content = excluded.content",
        key,
        content,
    )


def damage(world: World, statement: str) -> None:
    """Behind livedex's back, in the store. `{g}` stands for the generation's schema."""
    with psycopg.connect(world.store_dsn, autocommit=True) as connection:
        changed = connection.execute(statement.replace("{g}", "livedex_g1"))
        assert changed.rowcount > 0


async def audited(world: World, subject: str | None = None, *, repair: bool = False, deep: bool = False) -> Report:
    async with world.open() as index, asyncio.timeout(60):
        return await index.audit(subject, repair=repair, deep=deep)


async def until(happened: Callable[[], bool]) -> None:
    while True:
        if happened():
            return
        await asyncio.sleep(0.05)


async def sync(world: World) -> None:
    async with world.open() as index, asyncio.timeout(60):
        await index.sync()


@asynccontextmanager
async def following(index: livedex.Index) -> AsyncIterator[None]:
    stop = asyncio.Event()
    running = asyncio.create_task(index.up(stop))
    try:
        yield
    finally:
        stop.set()
        await running


def found(report: Report) -> dict[Kind, int]:
    assert [part.skipped for part in report.parts if part.skipped] == []
    return {finding.kind: finding.found for part in report.parts for finding in part.findings}


DAMAGES = {
    "deleted": (Kind.MISSING, "DELETE FROM livedex.documents WHERE {this}"),
    "marked deleted": (Kind.MISSING, "UPDATE livedex.documents SET deleted = true WHERE {this}"),
    "content": (Kind.DIFFERENT, "UPDATE livedex.documents SET raw = raw || '{\"content\": \"forged\"}' WHERE {this}"),
    "title": (Kind.DAMAGED, "UPDATE livedex.documents SET title = 'forged' WHERE {this}"),
    "version": (Kind.DAMAGED, "UPDATE livedex.documents SET version = 'forged' WHERE {this}"),
    "access": (Kind.DAMAGED, "UPDATE livedex.documents SET acl = '{nobody}' WHERE {this}"),
    "key": (Kind.MISSING, """UPDATE livedex.documents SET document_id = 'ghost', key_hash = 'ghost',
                          key = '["documents","ghost"]' WHERE {this}"""),
    "chunk deleted": (Kind.CHUNKS, "DELETE FROM {g}.chunks WHERE {chunk}"),
    "chunk's text": (Kind.TEXT, "UPDATE {g}.chunks SET text = 'forged' WHERE {chunk}"),
    "chunk's place": (Kind.CHUNKS, "UPDATE {g}.chunks SET chunk_index = chunk_index + 5 WHERE {chunk}"),
    "vector deleted": (Kind.VECTOR, "DELETE FROM {g}.vectors WHERE {chunk}"),
    "vector zeroed": (Kind.VECTOR,
                      "UPDATE {g}.vectors SET embedding = array_fill(0, ARRAY[384])::halfvec WHERE {chunk}"),
    "vector scaled": (Kind.VECTOR, "UPDATE {g}.vectors SET embedding = embedding + embedding WHERE {chunk}"),
    "terms deleted": (Kind.TERMS, "DELETE FROM {g}.terms WHERE {chunk}"),
    "lexeme altered": (Kind.TERMS,
                       "UPDATE {g}.terms SET tsv = ts_delete(tsv, 'parcel') || 'forged' WHERE {chunk}"),
    "lexeme deleted": (Kind.TERMS, "UPDATE {g}.terms SET tsv = ts_delete(tsv, 'parcel') WHERE {chunk}"),
    "weights": (Kind.TERMS, "UPDATE {g}.terms SET weights = '{1:0.5}/1000000000' WHERE {chunk}"),
    "length": (Kind.TERMS, "UPDATE {g}.terms SET length = length + 7 WHERE {chunk}"),
    "applied deleted": (Kind.UNAPPLIED, "DELETE FROM {g}.applied WHERE document = {document}"),
    "applied version": (Kind.OUTDATED, "UPDATE {g}.applied SET version = 'forged' WHERE document = {document}"),
    "applied count": (Kind.CHUNKS, "UPDATE {g}.applied SET chunks = 1 WHERE document = {document}"),
}  # fmt: skip
"""By the id of the document that is damaged: what has to be found of it, and the statement."""

OF_NOBODY = (
    """INSERT INTO {g}.chunks SELECT 100000 + chunk, 99999, chunk_index, start_offset, end_offset, heading_path,
    section_type, text, shown_hash, text_hash, terms_hash FROM {g}.chunks LIMIT 1""",
    "INSERT INTO {g}.vectors SELECT 200000 + chunk, document, embedding FROM {g}.vectors LIMIT 1",
    "INSERT INTO {g}.strays VALUES (300000, 99999)",
)
OF_THE_WHOLE = {
    "statistics": (
        {Kind.STATISTICS, Kind.WATERMARK, Kind.RESTING},
        (
            "UPDATE {g}.frequencies SET delta = delta + 1",
            "UPDATE livedex.cursors SET chunks = chunks + 3",
            "UPDATE livedex.watermarks SET position_serial = 1000000",
            "INSERT INTO livedex.embeddings SELECT 1, 'a hash', embedding + embedding, now() FROM {g}.vectors LIMIT 1",
        ),
    ),
    "lost statistics": (
        {Kind.STATISTICS, Kind.LOG_END}, ("DELETE FROM {g}.frequencies", "UPDATE livedex.log_head SET seq = 1")
    ),
}  # fmt: skip


async def test_invariant_11_damage_to_documents_is_found_and_repaired(world: World) -> None:
    await sync(world)
    for key, (_, written) in DAMAGES.items():
        quoted = key.replace("'", "''")
        document = f"(SELECT document FROM livedex.documents WHERE document_id = '{quoted}')"
        chunk = f"chunk = (SELECT min(chunk) FROM {{g}}.chunks WHERE document = {document})"
        places = {"{this}": f"document_id = '{quoted}'", "{document}": document, "{chunk}": chunk}
        damage(world, reduce(lambda statement, place: statement.replace(*place), places.items(), written))
    first = await audited(world, repair=True)
    deep = await audited(world, repair=True, deep=True)
    second = await audited(world, deep=True)
    named = {
        (finding.kind, example.document_id)
        for part in (*first.parts, *deep.parts)
        for finding in part.findings
        for example in finding.examples
    }
    assert {(kind, key) for key, (kind, _) in DAMAGES.items()} - named == set()
    assert found(deep) == {Kind.TERMS: 1}  # a lexeme in another's place
    assert (first.left, deep.left, found(second)) == (0, 0, {})
    await check_view(world)


@pytest.mark.parametrize("named", OF_THE_WHOLE)
async def test_invariant_11_damage_to_the_whole_is_found_and_repaired(world: World, named: str) -> None:
    await sync(world)
    kinds, statements = OF_THE_WHOLE[named]
    for statement in (*statements, *OF_NOBODY):
        damage(world, statement)
    first = await audited(world, repair=True)
    second = await audited(world)
    assert found(first).keys() == {*kinds, Kind.ORPHAN}
    assert (first.left, found(second)) == (0, {})
    await check_view(world)


async def test_invariant_11_what_the_stream_passed_over_is_found_and_repaired(world: World) -> None:
    await sync(world)
    write(world, "apple", "Written while nobody looked.")
    write(world, "new", "Inserted while nobody looked.")
    world.execute("DELETE FROM documents WHERE doc_id = 'birch'")
    with psycopg.connect(world.source_dsn, autocommit=True) as connection:
        (lsn,) = connection.execute("SELECT pg_current_wal_insert_lsn()").fetchone() or ("",)
    damage(world, f"UPDATE livedex.partitions SET position = regexp_replace(position, '[^:]+$', '{lsn}')")
    first = await audited(world, repair=True)
    assert found(first) == {Kind.MISSING: 1, Kind.GHOST: 1, Kind.DIFFERENT: 1}
    assert (first.left, found(await audited(world))) == (0, {})
    await check_view(world)


async def test_an_audit_without_repair_changes_nothing_and_is_on_record(world: World) -> None:
    await sync(world)
    damage(world, "UPDATE livedex.documents SET title = 'forged' WHERE document_id = 'apple'")
    report = await audited(world)
    assert (report.found, report.left) == (1, 1)
    assert world.stored("SELECT title FROM livedex.documents WHERE document_id = 'apple'") == [("forged",)]
    assert world.stored("SELECT subject, kind, document_id FROM livedex.audit_examples") == [
        ("kb", "damaged", "apple")
    ]  # fmt: skip
    assert world.stored("SELECT count(*) FROM livedex.repairs") == [(0,)]


async def test_while_edits_run_an_audit_finds_nothing(world: World) -> None:
    dice = random.Random(11)
    keys = [f"doc-{number}" for number in range(40)]

    def edit() -> None:
        key = dice.choice(keys)
        if dice.random() < 0.3:
            world.execute("DELETE FROM documents WHERE doc_id = %s", key)
        else:
            write(world, key, PARTS.replace("KEY", f"{key} {dice.random()}"))

    async def editing() -> None:
        while True:
            await asyncio.to_thread(edit)

    async with world.open() as index, following(index), asyncio.timeout(60):
        await index.sync()
        edits = asyncio.create_task(editing())
        reports = [await index.audit(repair=True) for _ in range(3)]
        edits.cancel()
        await asyncio.gather(edits, return_exceptions=True)
        await index.sync()
    assert [found(report) for report in reports] == [{}, {}, {}]
    await check_view(world)


async def test_what_an_open_transaction_may_explain_is_left_for_later(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("livedex.flow.reconcile_source.SETTLE_SECONDS", 0.1)
    await sync(world)
    damage(world, "DELETE FROM livedex.documents WHERE document_id = 'apple'")
    with psycopg.connect(world.source_dsn) as connection:
        connection.execute("CREATE TABLE elsewhere (id int)")
        meanwhile = await audited(world, "kb")
    later = await audited(world, "kb")
    assert [(part.unjudged, found(report)) for report in (meanwhile, later) for part in report.parts] == [
        (1, {}), (0, {Kind.MISSING: 1})
    ]  # fmt: skip


async def test_many_ghosts_are_deleted_only_when_that_is_asked_for(world: World) -> None:
    await sync(world)
    damage(
        world,
        """
        INSERT INTO livedex.documents (source_id, key, key_hash, collection, document_id, seq, commit_seq, slot, epoch,
            version, raw_hash, content_hash, raw, captured_at)
        SELECT source_id, format('["documents","g%s"]', n), n::text::bytea, collection, 'g' || n, -n, -n, slot, epoch,
            version, raw_hash, content_hash, raw, captured_at
        FROM livedex.documents, generate_series(1, 150) AS n WHERE document_id = 'apple'
        """,
    )
    async with world.open() as index, asyncio.timeout(60):
        held = await index.audit("kb", repair=True)
        approved = await index.audit("kb", repair=True, approve_deletions=True)
    assert [(finding.kind, finding.left) for part in held.parts for finding in part.findings] == [(Kind.GHOST, 150)]
    assert found(approved) == {Kind.GHOST: 150}
    assert approved.left == 0
    # Nor does the brake count them with what goes next.
    world.execute("DELETE FROM documents WHERE doc_id = 'apple'")
    await sync(world)
    await check_view(world)


async def test_vectors_of_another_text_are_found_by_embedding_again(world: World) -> None:
    await sync(world)
    damage(
        world,
        "UPDATE {g}.vectors SET embedding = (SELECT embedding FROM {g}.vectors ORDER BY chunk LIMIT 1) "
        "WHERE chunk = (SELECT max(chunk) FROM {g}.chunks)",
    )
    assert found(await audited(world, "handbook")) == {}
    deep = await audited(world, "handbook", deep=True, repair=True)
    assert (found(deep), deep.left) == ({Kind.VECTOR: 1}, 0)
    await check_view(world)


async def test_audits_run_by_themselves_and_repair(world: World) -> None:
    world.config.write_text(world.config.read_text() + "audit: {every: 500ms}\n")
    await sync(world)
    damage(world, "UPDATE livedex.documents SET title = 'forged' WHERE document_id = 'apple'")
    async with world.open() as index, following(index), asyncio.timeout(60):
        await until(lambda: world.stored("SELECT count(*) FROM livedex.documents WHERE title = 'forged'") == [(0,)])
    await check_view(world)


async def test_repairs_wait_for_no_debounce(world: World) -> None:
    world.config.write_text(
        world.config.read_text().replace("handbook: {", "handbook: {debounce: {quiet: 1h, at_most: 1h}, ")
    )
    await sync(world)
    damage(world, "DELETE FROM {g}.vectors WHERE chunk = (SELECT min(chunk) FROM {g}.chunks)")
    report = await audited(world, "handbook", repair=True)
    assert (found(report), report.left) == ({Kind.VECTOR: 1}, 0)
    assert found(await audited(world, "handbook")) == {}
    await check_view(world)


async def test_what_there_is_none_of_and_what_others_audit_is_said(world: World) -> None:
    await sync(world)
    async with world.open() as index:
        with pytest.raises(NotFound, match="Known: handbook, kb"):
            await index.audit("nothing")
    damage(
        world,
        "INSERT INTO livedex.leases SELECT 'audit', 'another', 1, now() + interval '1 hour', pid, backend_start "
        "FROM pg_stat_activity WHERE backend_type = 'walwriter'",
    )
    async with world.open() as index:
        with pytest.raises(LivedexError, match="Another process audits"):
            await index.audit()
