"""The log: each key once, in the order of commits, with the source's position, whoever else writes and whatever is sent
again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import psycopg
import pytest
from psycopg import AsyncConnection

from livedex.clock import SystemClock
from livedex.errors import LeaseLost
from livedex.faults import Faults, NoFaults
from livedex.flow.capture import capture
from livedex.model import Change, Chunk, Generation, ModelIdentity, Op, Recipe, TableMapping
from livedex.rules.diff import Plan, Wanted
from livedex.rules.folding import Folded
from livedex.rules.lexical import recipe
from livedex.store.catalog import Catalog
from livedex.store.chunk_rows import Batch, Outcome, Spent
from livedex.store.chunks import Shard
from livedex.store.database import Database, translate
from livedex.store.documents import Appended, Log
from livedex.store.entries import Resolved, SourceRow
from livedex.store.leases import Lease, acquire
from livedex.store.lexicon import Lexicon
from livedex.store.migrate import migrate
from livedex.testing.fake_source import PARTITION, FakeDatabase, FakeSource
from livedex.testing.faults import Crash, CrashAt

MAPPING = {"notes": TableMapping(key=("id",), content="content", metadata=("kind",))}
TIME = datetime(2026, 1, 2, tzinfo=UTC)
RECIPE = Recipe(
    {"kind": "text", "version": 1}, {"kind": "whole", "version": 1}, ModelIdentity("made-up", "1", 4), recipe("simple")
)


LOCKS_ON_HEAD = """
SELECT count(*) FROM pg_locks WHERE relation = 'livedex.log_head'::regclass AND mode = 'RowExclusiveLock'
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


class Hook:
    """Runs something whenever the code comes by a point."""

    def __init__(self, point: str, run: Callable[[], Awaitable[None]]) -> None:
        self._point = point
        self._run = run

    async def reach(self, name: str) -> None:
        if name == self._point:
            await self._run()


@dataclass(frozen=True)
class Store:
    database: Database
    catalog: Catalog
    dsn: str

    async def source(self, name: str) -> SourceRow:
        row, _ = await self.catalog.declare_source(name, "made-up", MAPPING)
        await self.catalog.partition(row, PARTITION)
        return row

    @asynccontextmanager
    async def log(
        self, source: SourceRow, faults: Faults | None = None, *, lease: Lease | None = None
    ) -> AsyncIterator[Log]:
        """A log that holds the source's lease, or another that is given."""
        async with await self.database.connect() as connection:
            await Log.prepare(connection)
            held = lease or await acquire(connection, f"source:{source.source_id}", "test")
            assert held is not None
            yield Log(connection, source, PARTITION, held, faults or NoFaults(), committed=lambda slots: None)

    @asynccontextmanager
    async def shard(self, source: SourceRow, *, lease: Lease | None = None) -> AsyncIterator[Shard]:
        generation = await self.catalog.declare_view("view", [source], RECIPE, 1, 1.0)
        async with await self.database.connect() as connection:
            await Shard.prepare(connection)
            held = lease or await acquire(connection, _shard(generation), "test")
            assert held is not None
            mappings = {source.source_id: (source.name, source.mapping)}
            yield Shard(connection, generation, 0, mappings, held, Lexicon("simple"), NoFaults())

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            cursor = connection.execute(query, values)
            return cursor.fetchall() if cursor.description else []

    def documents(self) -> dict[str, tuple[int, int, str | None, bool]]:
        """Key to document, seq, content and whether it is deleted."""
        query = "SELECT document_id, document, seq, raw ->> 'content', deleted FROM livedex.documents"
        return {key: (document, seq, content, gone) for key, document, seq, content, gone in self.rows(query)}

    def identities(self) -> dict[str, int]:
        return {key: document for key, (document, _, _, deleted) in self.documents().items() if not deleted}

    def head(self) -> int:
        ((seq,),) = self.rows("SELECT seq FROM livedex.log_head")
        return int(seq)

    def position(self) -> str | None:
        ((position,),) = self.rows("SELECT position FROM livedex.partitions")
        return None if position is None else str(position)


@pytest.fixture
async def store(fresh_database: str) -> AsyncIterator[Store]:
    database = await Database.open(fresh_database)
    await migrate(database)
    yield Store(database, Catalog(database), fresh_database)
    await database.close()


@pytest.fixture
async def source(store: Store) -> SourceRow:
    return await store.source("kb")


@pytest.fixture
async def log(store: Store, source: SourceRow) -> AsyncIterator[Log]:
    async with store.log(source) as opened:
        yield opened


def insert(key: str, content: str = "text") -> Change:
    return Change(Op.CREATE, "notes", (key,), columns(key, content))


def update(key: str, content: str = "text", *, old: str | None = None) -> Change:
    return Change(Op.UPDATE, "notes", (key,), columns(key, content), old_key=None if old is None else (old,))


def delete(key: str) -> Change:
    return Change(Op.DELETE, "notes", (key,))


TRUNCATE = Change(Op.TRUNCATE, "notes", ())


def columns(key: str, content: str) -> dict[str, str]:
    return {"id": key, "content": content, "kind": "note"}


def committed(number: int, *changes: Change) -> list[Change]:
    """One transaction of the source."""
    return [replace(change, position=f"at {number}", time=TIME) for change in changes]


async def append(log: Log, number: int, *changes: Change) -> Appended:
    return await log.append(committed(number, *changes), 0, f"at {number}", TIME)


# Order


async def test_invariant_2_reader_that_tails_by_seq_never_skips_what_commits_late(store: Store) -> None:
    writers = 4
    async with AsyncExitStack() as stack:
        dice = random.Random(7)
        slow = Hook("capture.before_commit", lambda: asyncio.sleep(dice.random() / 200))
        sources = [await store.source(f"source-{number}") for number in range(writers)]
        logs = [await stack.enter_async_context(store.log(source, slow)) for source in sources]

        async def write(log: Log, writer: int) -> None:
            for number in range(30):
                await append(log, number, *(insert(f"{writer}-{number}-{row}") for row in range(dice.randint(1, 3))))

        seen = await tail(store, "livedex.documents", [write(log, writer) for writer, log in enumerate(logs)])
    assert seen == list(range(1, store.head() + 1))


async def test_control_reader_that_tails_a_plain_sequence_does_skip(store: Store) -> None:
    store.rows("CREATE TABLE plain (seq bigserial PRIMARY KEY)")
    dice = random.Random(7)

    async def write() -> None:
        async with await psycopg.AsyncConnection.connect(store.dsn, autocommit=True) as connection:
            for _ in range(30):
                async with connection.transaction():
                    await connection.execute(
                        "INSERT INTO plain SELECT FROM generate_series(1, %s)", [dice.randint(1, 3)]
                    )
                    await asyncio.sleep(dice.random() / 200)

    seen = await tail(store, "plain", [write() for _ in range(4)])
    ((last,),) = store.rows("SELECT max(seq) FROM plain")
    assert seen != list(range(1, last + 1))


async def tail(store: Store, table: str, writers: Sequence[Awaitable[None]]) -> list[int]:
    """What a reader sees that goes by seq alone, from before the first write until after the last."""
    seen: list[int] = []
    async with await psycopg.AsyncConnection.connect(store.dsn, autocommit=True) as connection:
        writing = asyncio.gather(*writers)
        last_look = False
        while not last_look:
            last_look = writing.done()
            query = f"SELECT seq FROM {table} WHERE seq > %s ORDER BY seq"
            rows = await (await connection.execute(query, [max(seen, default=0)])).fetchall()
            seen += [seq for (seq,) in rows]
            await asyncio.sleep(0)
        await writing
    return seen


async def test_invariant_2_second_writer_gets_its_seq_when_the_first_has_committed(store: Store) -> None:
    may_commit = asyncio.Event()
    about_to_commit = asyncio.Event()

    async def wait() -> None:
        about_to_commit.set()
        await may_commit.wait()

    first, second = await store.source("first"), await store.source("second")
    async with store.log(first, Hook("capture.before_commit", wait)) as one, store.log(second) as other:
        writing = asyncio.create_task(append(one, 1, insert("a")))
        await about_to_commit.wait()
        await until(lambda: store.rows(LOCKS_ON_HEAD) == [(1,)])  # statements are sent ahead of their results
        waiting = asyncio.create_task(append(other, 1, insert("b")))
        await asyncio.sleep(0.2)
        assert not waiting.done()
        assert store.documents() == {}
        may_commit.set()
        await asyncio.gather(writing, waiting)
    assert [store.documents()[key][1] for key in ("a", "b")] == [1, 2]


async def test_rows_of_one_append_share_no_seq_and_stand_in_the_order_of_their_last_change(
    store: Store, log: Log
) -> None:
    await append(log, 1, insert("a"), insert("b"), insert("c"), update("a", "newer"))
    assert {key: seq for key, (_, seq, _, _) in store.documents().items()} == {"b": 1, "c": 2, "a": 3}


# Replay


async def test_invariant_3_batch_that_is_sent_again_writes_nothing(store: Store, log: Log) -> None:
    changes = [insert("a"), insert("b"), update("a", "newer"), delete("b"), insert("c")]
    await append(log, 1, *changes)
    before = store.documents()
    assert await append(log, 1, *changes) == Appended(0, 5)
    assert store.documents() == before
    assert store.head() == 2


async def test_rename_that_is_sent_again_writes_nothing(store: Store, log: Log) -> None:
    await append(log, 1, insert("a"), insert("b"))
    await append(log, 2, update("c", old="a"))
    before = store.documents()
    assert await append(log, 2, update("c", old="a")) == Appended(0, 1)
    assert store.documents() == before


async def test_change_that_alters_nothing_takes_no_seq_but_moves_the_position(store: Store, log: Log) -> None:
    await append(log, 1, insert("a", "same"))
    assert await append(log, 2, update("a", "same")) == Appended(0, 1)
    assert (store.head(), store.position()) == (1, "at 2")


@pytest.mark.parametrize(("point", "expected"), [("capture.before_commit", None), ("capture.after_commit", "at 1")])
async def test_invariant_3_position_is_stored_with_the_rows_it_covers_or_not_at_all(
    store: Store, source: SourceRow, point: str, expected: str | None
) -> None:
    async with store.log(source, CrashAt(point)) as log:
        with pytest.raises(Crash):
            await append(log, 1, insert("a"))
    assert store.position() == expected
    assert set(store.documents()) == ({"a"} if expected else set())


async def test_invariant_1_position_is_acknowledged_only_when_its_rows_are_on_disk(
    store: Store, source: SourceRow
) -> None:
    written: list[str] = []
    acknowledged: list[tuple[str, int, bool]] = []

    async def note() -> None:
        ((lsn,),) = store.rows("SELECT pg_current_wal_insert_lsn()::text")
        written.append(lsn)

    class Watched(FakeSource):
        async def acknowledge(self, position: str) -> None:
            ((there, flushed),) = store.rows(
                "SELECT (SELECT count(*) FROM livedex.documents), pg_current_wal_flush_lsn() >= %s::pg_lsn", written[-1]
            )
            acknowledged.append((position, there, flushed))

    database = FakeDatabase(("notes",))
    database.commit(insert("a"))
    faults = Hook("capture.after_commit", note)
    async with store.log(source, faults) as log:
        stored = await store.catalog.partition(source, PARTITION)
        following = asyncio.create_task(capture(Watched(database), PARTITION, stored, log, SystemClock(), faults))
        for number in range(2, 5):
            await until(lambda: len({position for position, _, _ in acknowledged}) == database.end)
            database.commit(insert(f"{number}"))
        await until(lambda: len({position for position, _, _ in acknowledged}) == database.end)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
    assert {(position, there, flushed) for position, there, flushed in acknowledged} == {
        (f"fake:{number}", number, True) for number in range(1, 5)
    }


async def until(happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while True:
            if happened():
                return
            await asyncio.sleep(0.01)


# Identity


async def test_rename_keeps_the_document(store: Store, log: Log) -> None:
    await append(log, 1, insert("a"), insert("b"))
    before = store.identities()
    await append(log, 2, update("c", old="a"))
    assert store.identities() == {"b": before["b"], "c": before["a"]}


async def test_rows_that_swap_their_keys_keep_their_documents(store: Store, log: Log) -> None:
    await append(log, 1, insert("a", "of a"), insert("b", "of b"))
    before = store.identities()
    await append(log, 2, update("a", "of b", old="b"), update("b", "of a", old="a"))
    assert store.identities() == {"a": before["b"], "b": before["a"]}
    assert {key: content for key, (_, _, content, _) in store.documents().items()} == {"a": "of b", "b": "of a"}


async def test_rows_that_swap_their_keys_by_way_of_a_third_keep_their_documents(store: Store, log: Log) -> None:
    await append(log, 1, insert("a", "of a"), insert("b", "of b"))
    before = store.identities()
    swap = [update("between", "of a", old="a"), update("a", "of b", old="b"), update("b", "of a", old="between")]
    await append(log, 2, *swap)
    assert store.identities() == {"a": before["b"], "b": before["a"]}


async def test_row_renamed_twice_at_once_is_still_one_document(store: Store, log: Log) -> None:
    await append(log, 1, insert("a"))
    before = store.identities()
    renames = [*committed(2, update("b", old="a")), *committed(3, update("c", old="b"))]
    await log.append(renames, 0, "at 3", TIME)
    assert store.identities() == {"c": before["a"]}


async def test_row_renamed_to_where_one_was_just_deleted_keeps_its_document(store: Store, log: Log) -> None:
    await append(log, 1, insert("a"), insert("b"))
    before = store.identities()
    await append(log, 2, delete("b"), update("b", old="a"))
    assert store.identities() == {"b": before["a"]}


async def test_row_deleted_and_inserted_again_is_the_same_document(store: Store, log: Log) -> None:
    await append(log, 1, insert("a"))
    before = store.identities()
    await append(log, 2, delete("a"))
    assert store.identities() == {}
    await append(log, 3, insert("a", "back"))
    assert store.identities() == before


async def test_row_comes_back_as_a_new_document_when_its_tombstone_is_dropped_meanwhile(store: Store, log: Log) -> None:
    await append(log, 1, insert("a"))
    await append(log, 2, delete("a"))
    connection = await store.database.connect()
    looked_up = log._resolve

    async def resolve_and_drop(folded: Folded) -> Resolved:
        resolved = await looked_up(folded)
        await connection.execute("DELETE FROM livedex.documents WHERE deleted")
        return resolved

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log, "_resolve", resolve_and_drop)
        await append(log, 3, insert("a", "back"))
    await connection.close()
    ((document, _, content, deleted),) = store.documents().values()
    assert (content, deleted) == ("back", False)
    assert store.rows("SELECT document FROM livedex.changes WHERE seq = 3") == [(document,)]


async def test_column_that_an_update_leaves_out_keeps_its_value(store: Store, log: Log) -> None:
    await append(log, 1, insert("a", "long and kept elsewhere"))
    partial = Change(Op.UPDATE, "notes", ("a",), {"id": "a", "kind": "faq"}, unchanged=frozenset({"content"}))
    await append(log, 2, partial)
    assert store.rows("SELECT raw ->> 'content', metadata ->> 'kind' FROM livedex.documents") == [
        ("long and kept elsewhere", "faq")
    ]


async def test_truncate_and_reload_in_one_transaction_writes_only_the_difference(store: Store, log: Log) -> None:
    await append(log, 1, *(insert(key) for key in "abcd"))
    before = store.documents()
    reload = [insert("a"), insert("b", "changed"), insert("c"), insert("e")]
    await append(log, 2, TRUNCATE, *reload)
    after = store.documents()
    assert {key for key in after if after[key] != before.get(key)} == {"b", "d", "e"}
    assert {key for key, (_, _, _, deleted) in after.items() if deleted} == {"d"}


async def test_truncate_removes_every_document_of_the_table(store: Store, log: Log) -> None:
    await append(log, 1, *(insert(key) for key in "abc"))
    await append(log, 2, TRUNCATE)
    assert store.identities() == {}
    assert store.head() == 6


async def test_snapshot_removes_what_it_did_not_see_and_touches_nothing_that_is_unchanged(
    store: Store, log: Log
) -> None:
    await append(log, 1, *(insert(key) for key in "abc"))
    before = store.documents()
    epoch = await log.begin_snapshot()
    assert store.position() is None
    await log.append_snapshot([Change(Op.READ, "notes", ("a",), columns("a", "text"))], epoch)
    await log.append_snapshot([Change(Op.READ, "notes", ("b",), columns("b", "changed"))], epoch)
    assert await log.finish_snapshot(["notes"], epoch, "at 9", TIME) == 1
    after = store.documents()
    assert after["a"] == before["a"]
    assert after["b"][1:] == (4, "changed", False)
    assert after["c"][3]
    assert store.position() == "at 9"


async def refuse(log: Log, *keys: str) -> None:
    refused = [Change(Op.CREATE, "notes", (key,), {"id": key}, refused="It cannot be read.") for key in keys]
    await append(log, 1, insert("sound"), *refused)


@pytest.mark.parametrize("seen", [(), ("a",)])
async def test_what_a_snapshot_did_not_see_leaves_quarantine(store: Store, log: Log, seen: tuple[str, ...]) -> None:
    await refuse(log, "a", "b")
    epoch = await log.begin_snapshot()
    again = [Change(Op.READ, "notes", (key,), {"id": key}, refused="It cannot be read.") for key in seen]
    await log.append_snapshot(again, epoch)
    await log.finish_snapshot(["notes"], epoch, "at 9", TIME)
    assert quarantined(store) == list(seen)


async def test_what_was_truncated_leaves_quarantine(store: Store, log: Log) -> None:
    await refuse(log, "a", "b")
    assert quarantined(store) == ["a", "b"]
    await append(log, 2, TRUNCATE)
    assert quarantined(store) == []


def quarantined(store: Store) -> list[str]:
    query = "SELECT document_id FROM livedex.quarantine JOIN livedex.documents USING (document) ORDER BY document_id"
    return [key for (key,) in store.rows(query)]


# Large transactions


async def test_staged_transaction_is_seen_whole_or_not_at_all(store: Store, source: SourceRow) -> None:
    counts: list[int] = []

    async def look() -> None:
        counts.append(len(store.documents()))

    async with store.log(source, Hook("capture.before_commit", look)) as log:
        for part in range(3):
            await log.stage(committed(1, *(insert(f"{part}-{row}") for row in range(2500))))
            assert store.documents() == {}
        assert await log.append_staged(0, "at 1", TIME) == Appended(7500, 0)
    assert counts == [0]
    assert store.rows("SELECT count(*), min(commit_seq), max(commit_seq), max(seq) FROM livedex.documents") == [
        (7500, 7500, 7500, 7500)
    ]
    assert store.rows("SELECT count(*) FROM livedex.staged") == [(0,)]


async def test_staged_parts_of_a_process_that_ended_are_not_mixed_with_those_sent_again(
    store: Store, source: SourceRow
) -> None:
    async with store.log(source) as log:
        await log.stage(committed(1, insert("a"), insert("b"), insert("c")))
    async with store.log(source) as log:
        await log.stage(committed(1, insert("a"), insert("b")))
        await log.append_staged(0, "at 1", TIME)
    assert set(store.documents()) == {"a", "b"}


async def test_rows_of_a_staged_transaction_swap_keys_across_its_parts(store: Store, log: Log) -> None:
    await append(log, 1, insert("a", "of a"), insert("b", "of b"))
    before = store.identities()
    await log.stage(committed(2, update("between", "of a", old="a")))
    await log.stage(committed(2, update("a", "of b", old="b")))
    await log.stage(committed(2, update("b", "of a", old="between")))
    await log.append_staged(0, "at 2", TIME)
    assert store.identities() == {"a": before["b"], "b": before["a"]}


# Leases


async def test_writer_whose_lease_was_taken_over_writes_nothing(store: Store, source: SourceRow) -> None:
    resource = f"source:{source.source_id}"
    async with store.log(source) as old:
        await append(old, 1, insert("a"))
    async with store.log(source), store.log(source, lease=Lease(resource, "test", 1)) as stale:
        for write in (
            append(stale, 2, insert("b")),
            stale.begin_snapshot(),
            stale.finish_snapshot(["notes"], 1, "at 2", TIME),
            stale.heartbeat("at 2", TIME),
        ):
            with pytest.raises(LeaseLost), translate():
                await write
    assert (set(store.documents()), store.position()) == ({"a"}, "at 1")


async def test_lease_is_had_by_one_at_a_time_until_its_connection_ends(store: Store) -> None:
    async with await store.database.connect() as second:
        async with await store.database.connect() as first:
            held = await acquire(first, "it", "first")
            assert held == Lease("it", "first", 1)
            assert await acquire(second, "it", "second") is None
        assert await acquire(second, "it", "second") == Lease("it", "second", 2)


async def test_lease_whose_holder_freezes_in_its_transaction_is_not_waited_for(store: Store) -> None:
    async with await store.database.connect() as frozen, await store.database.connect() as other:
        assert await acquire(frozen, "it", "frozen", seconds=1.0) == Lease("it", "frozen", 1, 1.0)
        with pytest.raises(psycopg.OperationalError):
            await freeze_and_take_over(frozen, other)


async def freeze_and_take_over(frozen: AsyncConnection[Any], other: AsyncConnection[Any]) -> None:
    # In a pipeline the server does not count it as idle, so no timeout of its own ends the transaction.
    async with frozen.pipeline():
        await frozen.execute("BEGIN")
        await (await frozen.execute("SELECT livedex.hold('it', 1, 1.0)")).fetchone()
        assert await acquire(other, "it", "other") is None
        await asyncio.sleep(1.1)
        assert await acquire(other, "it", "other") == Lease("it", "other", 2)


# Shards


async def test_invariant_3_batch_that_is_applied_twice_changes_nothing_the_second_time(
    store: Store, source: SourceRow, log: Log
) -> None:
    await append(log, 1, insert("a", "one"), insert("b", "two"))
    async with store.shard(source) as shard:
        batch, outcomes, vectors = await prepared(shard, 0)
        await shard.apply(batch, outcomes, vectors, Spent(2), ())
        before = applied(store)
        with pytest.raises(LeaseLost), translate():
            await shard.apply(batch, outcomes, vectors, Spent(2), ())
        assert await shard.cursor() == 2
    assert applied(store) == before
    assert before["chunks"] == [(1, 0, "one"), (2, 0, "two")]


async def test_batch_ends_where_a_source_transaction_ends(store: Store, source: SourceRow, log: Log) -> None:
    for number in range(3):
        await append(log, number, *(insert(f"{number}-{row}") for row in range(3)))
    async with store.shard(source) as shard:
        sizes = [len((await shard.read(0, limit=limit, max_bytes=2**20)).documents) for limit in (3, 4, 5, 6, 8, 9)]
    assert sizes == [3, 3, 3, 6, 6, 9]


async def test_batch_that_is_smaller_than_a_source_transaction_makes_progress_nevertheless(
    store: Store, source: SourceRow, log: Log
) -> None:
    await append(log, 1, *(insert(f"{row}") for row in range(5)))
    async with store.shard(source) as shard:
        batch = await shard.read(0, limit=2, max_bytes=2**20)
    assert (len(batch.documents), batch.end, batch.at_end) == (2, 2, False)


async def test_shard_whose_lease_was_taken_over_writes_nothing(store: Store, source: SourceRow, log: Log) -> None:
    await append(log, 1, insert("a", "one"))
    async with store.shard(source) as owner:
        async with store.shard(source, lease=Lease("shard:1", "test", 0)) as stale:
            batch, outcomes, vectors = await prepared(stale, 0)
            with pytest.raises(LeaseLost), translate():
                await stale.apply(batch, outcomes, vectors, Spent(1), ())
        assert await owner.cursor() == 0
    assert applied(store)["chunks"] == []


async def prepared(shard: Shard, after: int) -> tuple[Batch, list[Outcome], dict[bytes, Any]]:
    """The shard's next batch, each document as one new chunk."""
    batch = await shard.read(after, limit=100, max_bytes=2**20)
    outcomes = [Outcome(row, Plan(insert=(whole(row.document.content),)), 1, is_new=True) for row in batch.documents]
    hashes = [wanted.text_hash for outcome in outcomes for wanted in outcome.plan.insert]
    return batch, outcomes, {text_hash: np.array([1, 0, 0, 0], dtype=np.float32) for text_hash in hashes}


def whole(text: str) -> Wanted:
    text_hash = text.encode().ljust(16, b".")
    return Wanted(Chunk(0, 0, len(text), text), text_hash, text_hash, text_hash)


def applied(store: Store) -> dict[str, list[tuple[Any, ...]]]:
    return {
        "chunks": store.rows("SELECT document, chunk_index, text FROM livedex_g1.chunks ORDER BY document"),
        "vectors": store.rows("SELECT chunk, document FROM livedex_g1.vectors ORDER BY chunk"),
        "applied": store.rows("SELECT * FROM livedex_g1.applied ORDER BY document"),
        "cursors": store.rows("SELECT * FROM livedex.cursors"),
        "lag": store.rows("SELECT * FROM livedex.lag_samples"),
    }


def _shard(generation: Generation) -> str:
    return f"shard:{generation.generation}"
