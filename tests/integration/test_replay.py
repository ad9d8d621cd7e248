"""Retrievals are recorded beside searches, and a replay explains what became of each hit."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from tests.conftest import drop_database, make_database, run_apart
from tests.world import World

from livedex.errors import NotFound, NotFresh, StoreError
from livedex.model import Query, Retrieval
from livedex.retrieve.recorded import Recorder
from livedex.rules.replay import Became
from livedex.store.answers import Records
from livedex.store.embedded import EmbeddedServer

PATIENCE_SECONDS = 20.0
HITS = "SELECT count(*) FROM livedex.retrieval_hits WHERE retrieval_id = ANY(%s::uuid[])"
CONTRACT = "views:\n  handbook: {contract: {document_types: {category: [policy]}, on_violation: drop}, "


@pytest.fixture
def world(server: EmbeddedServer, database_on: Callable[[EmbeddedServer], str], tmp_path: Path) -> World:
    return written(World.make(database_on(server), database_on(server), tmp_path))


@pytest.fixture(scope="module")
def quiet(server: EmbeddedServer) -> Iterator[World]:
    """One whose documents nobody changes, loaded already; several tests search it."""
    with tempfile.TemporaryDirectory() as directory:
        world = written(World.make(make_database(server.dsn), make_database(server.dsn), Path(directory)))
        run_apart(synced(world))
        yield world
        for dsn in (world.source_dsn, world.store_dsn):
            drop_database(server.dsn, str(conninfo_to_dict(dsn)["dbname"]))


def written(world: World) -> World:
    for key, text in (("one", "refund money"), ("two", "refund parcel"), ("three", "refund letter")):
        world.execute("INSERT INTO documents VALUES (%s, %s, %s, 'policy')", key, key.title(), f"# {key}\n\n{text}")
    return world


def setting(world: World, written: str) -> None:
    world.config.write_text(f"{world.config.read_text()}\n{written}\n")


async def synced(world: World) -> None:
    async with world.open() as index, asyncio.timeout(60):
        await index.sync()


async def searched(world: World, **asked: Any) -> Retrieval:
    async with world.open() as index:
        return await index.search("handbook", "refund money", **asked)


def change(world: World, statement: str) -> None:
    """Run a statement in the store."""
    with psycopg.connect(world.store_dsn, autocommit=True) as connection:
        connection.execute(statement)


def tables_that_say(world: World, marker: str) -> list[str]:
    """Tables of the store, in whichever schema, of which some row has a text in it."""
    tables = world.stored(
        "SELECT format('%%I.%%I', schemaname, tablename) FROM pg_tables WHERE schemaname LIKE 'livedex%%'"
    )
    return [
        name
        for (name,) in tables
        if world.stored(f"SELECT 1 FROM {name} AS t WHERE position(%s IN t::text) > 0 LIMIT 1", marker)
    ]


async def test_a_replay_of_an_unchanged_view_finds_the_same(quiet: World) -> None:
    seen = await searched(quiet)
    async with quiet.open() as index:
        found = await index.replay(seen.retrieval_id)
    assert [hit.text for hit in found.then.hits] == [hit.text for hit in seen.hits]
    assert {each.became for each in found.differences} == {Became.SAME}
    assert found.then.watermark[0]["position"] == seen.watermark[0].position
    assert found.changes == ()


async def test_a_replay_says_what_became_of_each_hit(world: World) -> None:
    await synced(world)
    seen = await searched(world)
    world.execute("UPDATE documents SET content = '# one\n\nrefund money is given by card' WHERE doc_id = 'one'")
    world.execute("DELETE FROM documents WHERE doc_id = 'two'")
    world.execute("INSERT INTO documents VALUES ('four', 'Four', '# four\n\nrefund stamps', 'policy')")
    await synced(world)
    async with world.open() as index:
        differences = {each.document_id: each for each in (await index.replay(seen.retrieval_id)).differences}
    changed = differences["one"]
    assert changed.at is not None
    assert changed.searchable_at is not None
    assert changed.at < changed.searchable_at
    assert differences["three"].became in (Became.SAME, Became.MOVED)
    assert (differences["two"].became, differences["four"].became) == (Became.DELETED, Became.NEW_DOCUMENT)
    assert changed.became is Became.CHANGED


async def test_a_replay_tells_what_is_there_and_no_longer_served_to_whoever_asked(world: World) -> None:
    world.execute("ALTER TABLE documents ADD COLUMN acl text DEFAULT '*'")
    world.config.write_text(world.config.read_text().replace("metadata: [category]", "metadata: [category], acl: acl"))
    world.execute("INSERT INTO documents VALUES ('four', 'Four', 'refund stamps', 'policy')")
    world.execute("INSERT INTO documents VALUES ('five', '', 'refund cash', 'policy', now() - interval '40 days')")
    await synced(world)
    seen = await searched(world, principals=["ada"], filters={"category": ["policy", "draft"]})
    world.execute("UPDATE documents SET acl = 'grace' WHERE doc_id = 'one'")
    world.execute("UPDATE documents SET acl = 'ada' WHERE doc_id = 'two'")
    world.execute("UPDATE documents SET category = 'faq' WHERE doc_id = 'three'")
    world.execute("UPDATE documents SET category = 'draft' WHERE doc_id = 'four'")
    promised = CONTRACT.replace("{contract", "{ttl: 30d, contract")
    world.config.write_text(world.config.read_text().replace("views:\n  handbook: {", promised))
    await synced(world)
    async with world.open() as index:
        found = await index.replay(seen.retrieval_id)
    reasons = {each.document_id: each.became for each in found.differences}
    assert reasons.pop("two") in (Became.SAME, Became.MOVED)
    assert reasons == {
        "one": Became.FORBIDDEN, "three": Became.FILTERED, "four": Became.WITHHELD, "five": Became.EXPIRED,
    }  # fmt: skip
    assert len(found.changes) == 1


async def test_a_replay_says_why_nothing_is_served_now(world: World) -> None:
    await synced(world)
    seen = await searched(world)
    world.config.write_text(
        world.config.read_text().replace(
            "views:\n  handbook: {", CONTRACT.replace("policy", "faq").replace("drop", "escalate")
        )
    )
    async with world.open() as index:
        found = await index.replay(seen.retrieval_id)
    assert {each.became for each in found.differences} == {Became.WITHHELD}
    assert "contract is not kept (document_types: 3 of 3 hits: category is none of: faq" in found.changes[-1]
    assert found.now is not None
    assert found.now.verdict is not None
    assert found.now.verdict.escalation is None


async def test_a_replay_tells_what_was_purged_and_nothing_of_it(world: World) -> None:
    await synced(world)
    seen = await searched(world)
    async with world.open() as index:
        await index.forgetting.purge("kb", ["two"], by="test", rewrite=False)
        found = await index.replay(seen.retrieval_id)
    purged = [each for each in found.differences if each.became is Became.PURGED]
    assert [(each.document_id, each.then_version) for each in purged] == [(None, "")]
    assert (found.then.query, found.now) == (None, None)
    assert tables_that_say(world, "refund parcel") == []


async def test_a_search_that_was_answered_before_a_purge_and_recorded_after_it_brings_nothing_back(
    world: World,
) -> None:
    await synced(world)
    async with world.open() as index:
        recorder = index._past.recorder
        async with recorder._writing:  # as while the store is slow
            seen = await index.search("handbook", "parcel", top_k=1)
            assert "parcel" in seen.hits[0].text
            await index.forgetting.purge("kb", ["two"], by="test", rewrite=False)
        listed = await index.retrievals()
    assert [(each.retrieval_id, each.query, each.hits) for each in listed.retrievals] == [(seen.retrieval_id, None, 1)]
    assert tables_that_say(world, "parcel") == []


async def test_a_replay_is_not_recorded(quiet: World) -> None:
    seen = await searched(quiet)
    async with quiet.open() as index:
        await index.replay(seen.retrieval_id)
        listed = await index.retrievals()
    assert listed.retrievals[0].retrieval_id == seen.retrieval_id


async def test_texts_that_are_found_again_and_again_are_stored_once(quiet: World) -> None:
    searches = [(await searched(quiet)).retrieval_id for _ in range(3)]
    assert quiet.stored("SELECT count(*), count(DISTINCT text) FROM livedex.retrieval_texts") == [(3, 3)]
    assert quiet.stored(HITS, searches) == [(9,)]


async def test_without_text_neither_queries_nor_hits_can_be_read_from_records(world: World) -> None:
    setting(world, "record: {text: false}")
    await synced(world)
    seen = await searched(world, filters={"category": ["policy", "zebra"]})
    assert tables_that_say(world, "refund money") == ["livedex.documents", "livedex_g1.chunks"]
    assert tables_that_say(world, "zebra") == []
    world.execute("DELETE FROM documents WHERE doc_id = 'two'")
    await synced(world)
    async with world.open() as index:
        found = await index.replay(seen.retrieval_id)
    assert (found.then.query, found.now, {hit.text for hit in found.then.hits}) == (None, None, {None})
    assert {each.document_id: each.became for each in found.differences} == {
        "one": Became.UNKNOWN,
        "two": Became.DELETED,
        "three": Became.UNKNOWN,
    }


async def test_switched_off_nothing_but_counts_is_kept(world: World) -> None:
    setting(world, "record: false")
    await synced(world)
    seen = await searched(world)
    assert world.stored("SELECT sum(retrievals) FROM livedex.retrieval_minutes") == [(1,)]
    assert world.stored("SELECT count(*) FROM livedex.retrievals") == [(0,)]
    async with world.open() as index:
        with pytest.raises(NotFound, match=seen.retrieval_id):
            await index.replay(seen.retrieval_id)


async def test_stale_and_refused_searches_are_counted(world: World) -> None:
    await synced(world)
    world.stored("UPDATE livedex.documents SET seq = seq + 100 WHERE document_id = 'one' RETURNING 1")
    async with world.open() as index:
        await index.search("handbook", "refund money")
        with pytest.raises(NotFresh):
            await index.search("handbook", "refund", max_staleness_seconds=1e-6, when_stale="refuse")
    counted = "SELECT sum(retrievals), sum(stale), sum(refused) FROM livedex.retrieval_minutes"
    assert world.stored(counted) == [(1, 1, 1)]


async def test_records_older_than_what_is_kept_are_gone(world: World) -> None:
    setting(world, "record: {keep: 1h}")
    await synced(world)
    old, new = await searched(world), await searched(world, top_k=1)
    world.stored("UPDATE livedex.retrieval_texts SET last_seen = now() - interval '3 hours' RETURNING 1")
    for table in ("retrievals", "retrieval_hits"):
        world.stored(f"UPDATE livedex.{table} SET at = at - interval '2 hours' WHERE retrieval_id = %s RETURNING 1",
                     old.retrieval_id)  # fmt: skip
    async with world.open() as index:
        assert [each.retrieval_id for each in (await index.retrievals()).retrievals] == [new.retrieval_id]
        await Records(index.catalog._database).forget(3600.0)
    assert world.stored("SELECT replace(retrieval_id::text, '-', '') FROM livedex.retrievals") == [(new.retrieval_id,)]
    assert world.stored("SELECT count(*) FROM livedex.retrieval_hits") == [(1,)]
    assert world.stored("SELECT count(*) FROM livedex.retrieval_texts") == [(0,)]


async def test_days_that_are_over_are_dropped_whole(world: World) -> None:
    await synced(world)
    await searched(world)
    for table in ("retrievals", "retrieval_hits"):
        day = f"CREATE TABLE livedex.{table}_20200101 PARTITION OF livedex.{table}"
        change(world, f"{day} FOR VALUES FROM ('2020-01-01') TO ('2020-01-02')")
    async with world.open() as index:
        await Records(index.catalog._database).forget(7 * 86400.0)
    assert world.stored("SELECT tablename FROM pg_tables WHERE tablename LIKE '%%_20200101'") == []
    assert world.stored("SELECT count(*) FROM livedex.retrievals") == [(1,)]


@contextmanager
def held(world: World, table: str) -> Iterator[None]:
    """Nobody can write to a table inside the block."""
    with psycopg.connect(world.store_dsn) as connection:
        connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        yield
        connection.rollback()


async def test_searches_neither_wait_nor_fail_while_records_cannot_be_written(quiet: World) -> None:
    async with quiet.open() as index:
        await index.search("handbook", "refund money")
        await index.retrievals()
        with held(quiet, "livedex.retrieval_minutes"):
            async with asyncio.timeout(PATIENCE_SECONDS):
                searches = []
                for _ in range(3):
                    searches.append((await index.search("handbook", "refund money")).retrieval_id)
                    await asyncio.sleep(0.3)
        assert [each.retrieval_id for each in (await index.retrievals(last=3)).retrievals] == searches[::-1]


async def test_records_that_find_no_room_are_counted(quiet: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("livedex.retrieve.recorded.MOST_WAITING", 2)
    async with quiet.open() as index:
        before = await index.retrievals(last=1000)
        with held(quiet, "livedex.retrieval_minutes"):
            for _ in range(5):
                await index.search("handbook", "refund money")
        after = await index.retrievals(last=1000)
    assert (len(after.retrievals) - len(before.retrievals), after.lost - before.lost) == (2, 3)


async def test_records_that_the_store_does_not_take_are_counted_and_said(quiet: World) -> None:
    async with quiet.open() as index:
        lost = (await index.retrievals()).lost
        await index.search("handbook", "refund money")
        change(quiet, "ALTER TABLE livedex.retrieval_texts RENAME TO elsewhere")
        with pytest.raises(StoreError, match="could not be recorded"):
            await index.retrievals()
        change(quiet, "ALTER TABLE livedex.elsewhere RENAME TO retrieval_texts")
        assert (await index.retrievals()).lost == lost + 1


async def test_half_a_character_in_a_query_keeps_nothing_from_being_recorded(quiet: World) -> None:
    async with quiet.open() as index:
        whole = await index.search("handbook", "refund money")
        recorder: Recorder = index._past.recorder
        recorder.note(
            "handbook", Query("half \ud83d"), replace(whole, retrieval_id="0" * 32), await index.catalog.sources()
        )
        assert (await index.retrievals(last=1)).retrievals[0].query == "half ?"


SEARCHES = """
import asyncio, sys
import livedex

async def main():
    async with livedex.open() as index:
        await index.search("handbook", "refund money")
        await index.retrievals()
        for number in range(10**6):
            await index.search("handbook", "refund money")
            print(number, flush=True)

asyncio.run(main())
"""


async def test_a_process_that_is_killed_loses_only_what_it_had_not_written(world: World) -> None:
    await synced(world)
    environ = os.environ | world.environ | {"LIVEDEX_CONFIG": str(world.config)}
    environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    answered = await asyncio.to_thread(killed_while_searching, world, environ)
    assert 5 <= _recorded(world) <= 2 + answered
    orphans = "SELECT retrieval_id FROM livedex.retrieval_hits EXCEPT SELECT retrieval_id FROM livedex.retrievals"
    assert world.stored(orphans) == []
    assert len((await searched(world)).hits) == 3


def killed_while_searching(world: World, environ: Mapping[str, str]) -> int:
    """How many searches a process had answered when it was killed, some of them recorded."""
    with subprocess.Popen([sys.executable, "-c", SEARCHES], env=environ, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        deadline = time.monotonic() + PATIENCE_SECONDS
        answered = 0
        while time.monotonic() < deadline and (answered < 20 or _recorded(world) < 5):
            process.stdout.readline()
            answered += 1
        process.send_signal(signal.SIGKILL)
        return answered + len(process.stdout.readlines())


def _recorded(world: World) -> int:
    ((count,),) = world.stored("SELECT count(*) FROM livedex.retrievals")
    return int(count)


async def test_columns_of_records_that_hold_text_have_no_statistics(quiet: World) -> None:
    await searched(quiet)
    change(quiet, "ANALYZE")
    told = (
        "SELECT tablename FROM pg_stats WHERE tablename LIKE 'retrieval%%' AND most_common_vals::text LIKE '%%refund%%'"
    )
    assert quiet.stored(told) == []
