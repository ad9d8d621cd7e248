"""A search finds what its token names, waits for it, or says that it cannot: never a false "met"."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.conftest import run_apart
from tests.world import World
from typer.testing import CliRunner, Result

import livedex
from livedex.adapters.sources.postgres import PostgresSource
from livedex.adapters.sources.postgres.lsn import Position
from livedex.cli import app
from livedex.errors import NotFound, NotFresh, QueryError, SourceUnavailable, TokenRefused
from livedex.model import Retrieval, WhenStale
from livedex.store.embedded import EmbeddedServer

PATIENCE_SECONDS = 30
PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "freshness.md"
POSITION = """
SELECT 'kb:' || system_identifier || ':' ||
    ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int || ':' || pg_current_wal_insert_lsn()
FROM pg_control_system()
"""
TRANSACTION = "SELECT 'kb:' || system_identifier || ':xid:' || pg_current_xact_id() FROM pg_control_system()"


class Hold:
    """While `on`, no shard reads the log: nothing new becomes searchable."""

    def __init__(self) -> None:
        self._way = asyncio.Event()
        self._way.set()

    def on(self) -> None:
        self._way.clear()

    def off(self) -> None:
        self._way.set()

    async def reach(self, name: str) -> None:
        if name == "materialize.read":
            await self._way.wait()


@pytest.fixture
def world(server: EmbeddedServer, database_on: Callable[[EmbeddedServer], str], tmp_path: Path) -> World:
    made = World.make(database_on(server), database_on(server), tmp_path)
    made.execute("INSERT INTO documents VALUES ('first', 'First', 'the first text', 'c')")
    return made


@asynccontextmanager
async def following(index: livedex.Index) -> AsyncIterator[None]:
    stop = asyncio.Event()
    running = asyncio.create_task(index.up(stop))
    try:
        yield
    finally:
        stop.set()
        await running


@asynccontextmanager
async def held(world: World) -> AsyncIterator[tuple[livedex.Index, Hold]]:
    """A loaded index that is being captured, with nothing becoming searchable until the hold is taken off."""
    hold = Hold()
    async with world.open(hold) as index:
        await index.sync()
        async with following(index):
            hold.on()
            try:
                yield index, hold
            finally:
                hold.off()


def ids(retrieval: Retrieval) -> set[str]:
    return {hit.document_id for hit in retrieval.hits}


def written(world: World, key: str, query: str) -> str:
    """Commit a row and make its token, in one transaction or after it."""
    with psycopg.connect(world.source_dsn, autocommit=True) as connection:
        with connection.transaction():
            connection.execute("INSERT INTO documents VALUES (%s, '', %s, 'c')", [key, f"the text of {key}"])
            row = connection.execute(TRANSACTION).fetchone()
        if query == POSITION:
            row = connection.execute(POSITION).fetchone()
    assert row is not None
    return str(row[0])


# Read your own writes


async def write_and_read(world: World, index: livedex.Index, writer: int, rows: int) -> list[str]:
    """Rows that were not found with their own token; transactions of all writers overlap."""
    missed = []
    async with await psycopg.AsyncConnection.connect(world.source_dsn, autocommit=True) as connection:
        for number in range(rows):
            key = f"w{writer}n{number}"
            query = TRANSACTION if number % 2 else POSITION
            async with connection.transaction():
                await connection.execute("INSERT INTO documents VALUES (%s, '', %s, 'c')", [key, f"word{key} text"])
                row = await (await connection.execute(TRANSACTION)).fetchone()
                await asyncio.sleep(0.002 * (writer % 3))
            if query == POSITION:
                row = await (await connection.execute(POSITION)).fetchone()
            assert row is not None
            found = await index.search(
                "handbook", f"word{key}", mode="lexical", at_least=row[0], wait_seconds=PATIENCE_SECONDS
            )
            assert found.freshness.met
            if key not in ids(found):
                missed.append(key)
    return missed


async def test_every_writer_of_several_finds_its_own_row_with_its_token(world: World) -> None:
    async with world.open() as index:
        await index.sync()
        async with following(index):
            missed = await asyncio.gather(*(write_and_read(world, index, writer, 8) for writer in range(6)))
    assert missed == [[]] * 6


@pytest.mark.parametrize("query", [POSITION, TRANSACTION])
async def test_a_token_is_not_met_before_its_row_can_be_found(world: World, query: str) -> None:
    async with held(world) as (index, hold):
        token = written(world, "late", query)
        stale = await index.search("handbook", "text", at_least=token, when_stale="serve")
        assert (ids(stale), stale.freshness.met) == ({"first"}, False)
        hold.off()
        found = await index.search("handbook", "text", at_least=token, wait_seconds=PATIENCE_SECONDS)
    assert (ids(found), found.freshness.met, found.freshness.unmet) == ({"first", "late"}, True, ())


async def test_a_token_from_the_index_covers_what_is_committed(world: World) -> None:
    async with world.open() as index:
        await index.sync()
        async with following(index):
            world.execute("INSERT INTO documents VALUES ('late', '', 'the late text', 'c')")
            token = await index.token("kb")
            found = await index.search("handbook", "text", at_least=[token], wait_seconds=PATIENCE_SECONDS)
    assert ids(found) == {"first", "late"}


async def test_an_open_transaction_is_waited_for(world: World) -> None:
    async with world.open() as index:
        await index.sync()
        async with following(index), await psycopg.AsyncConnection.connect(world.source_dsn) as connection:
            await connection.execute("INSERT INTO documents VALUES ('late', '', 'the late text', 'c')")
            row = await (await connection.execute(TRANSACTION)).fetchone()
            assert row is not None
            with pytest.raises(NotFresh, match="still open at its source"):
                await index.search("handbook", "text", at_least=row[0], wait_seconds=0.1)
            asked = asyncio.create_task(
                index.search("handbook", "text", at_least=row[0], wait_seconds=PATIENCE_SECONDS)
            )
            await connection.commit()
            assert ids(await asked) == {"first", "late"}


@pytest.mark.parametrize(("page", "header"), [(8192, 24), (2**24, 40)], ids=["page", "segment"])
async def test_a_token_behind_an_empty_page_header_is_met_before_it(
    fresh_database: str, page: int, header: int
) -> None:
    """Such is the insert position when the last record fills its page; no reader of the log gets behind it."""
    source = PostgresSource(fresh_database, {}, {}, name="kb", store_id="1")
    head = Position.parse(await source.head("main"))
    boundary = head.lsn - head.lsn % page
    assert await source.locate(str(head.at(boundary + header)), None) == str(head.at(boundary))
    assert await source.locate(str(head.at(boundary + 64)), None) == str(head.at(boundary + 64))
    await source.close()


# What cannot be met


async def test_whoever_waits_is_refused_when_time_is_up(world: World) -> None:
    async with held(world) as (index, _):
        token = written(world, "late", POSITION)
        with pytest.raises(NotFresh, match=rf"after [\d.]+ s of waiting\. .*{token}"):
            await index.search("handbook", "text", at_least=token, wait_seconds=0.3)


async def test_whoever_refuses_is_told_by_how_much_and_for_which_source(world: World) -> None:
    async with world.open() as index:
        await index.sync()
        with pytest.raises(NotFresh) as caught:
            await index.search("handbook", "text", max_staleness_seconds=0, when_stale="refuse")
        assert re.fullmatch(
            r"View handbook is not as fresh as was asked for\. Source kb is as of [\d.e-]+ s ago, 0 s were allowed\. "
            r"Nothing follows it\. Run: livedex up",
            str(caught.value),
        )
        assert (await index.search("handbook", "text")).freshness.met, "who asks for nothing is answered"
        served = await index.search("handbook", "text", max_staleness_seconds=0, when_stale=WhenStale.SERVE)
        assert (ids(served), served.freshness.met, len(served.freshness.unmet)) == ({"first"}, False, 1)


async def test_a_bound_on_staleness_is_met_once_an_idle_source_is_heard_of(world: World) -> None:
    async with world.open() as index:
        await index.sync()
        await asyncio.sleep(1)
        async with following(index):
            found = await index.search("handbook", "text", max_staleness_seconds=1, wait_seconds=PATIENCE_SECONDS)
    assert found.freshness.met
    assert found.lag_seconds is not None
    assert found.lag_seconds <= 1


async def test_a_rolled_back_transaction_is_refused(world: World) -> None:
    with psycopg.connect(world.source_dsn) as connection:
        row = connection.execute(TRANSACTION).fetchone()
        connection.rollback()
    assert row is not None
    async with world.open() as index:
        await index.sync()
        with pytest.raises(TokenRefused, match="was rolled back"):
            await index.search("handbook", "text", at_least=row[0])


async def test_tokens_that_are_not_of_this_view_are_refused_with_the_remedy(world: World) -> None:
    async with world.open() as index:
        await index.sync()
        kb, system, timeline, lsn = (await index.token("kb")).split(":")
        refused = {
            f"wiki:{system}:{timeline}:{lsn}": "It begins with the source's name: kb:...",
            "": "It begins with the source's name",
            f"{kb}:{int(system) + 1}:{timeline}:{lsn}": "Make the token on the server that the source follows",
            f"{kb}:{int(system) + 1}:xid:3": "Make the token on the server that the source follows",
            f"{kb}:{system}:{int(timeline) - 1}:{lsn}": "since a failover",
            f"{kb}:{system}:xid:{2**62 + 3}": "has never begun",
            f"{kb}:{system}:{timeline}:nonsense": "Make one: livedex token kb",
            f"{kb}:' OR true": "Make one: livedex token kb",
        }
        for token, remedy in refused.items():
            for policy in WhenStale:
                with pytest.raises(TokenRefused, match=re.escape(remedy)):
                    await index.search("handbook", "text", at_least=token, when_stale=policy)
        with pytest.raises(NotFound, match="There is no source wiki"):
            await index.token("wiki")


async def test_a_source_that_cannot_be_asked_meets_no_transaction(world: World) -> None:
    async with world.open() as index:
        await index.sync()
        token = written(world, "late", TRANSACTION)

        async def away(token: str, near: str | None) -> str | None:
            raise SourceUnavailable("It is away.")

        source: Any = index._assembly.asked("kb")
        source.locate = away
        with pytest.raises(NotFresh, match="cannot be asked about"):
            await index.search("handbook", "text", at_least=token, wait_seconds=0.1)


async def test_bounds_that_make_no_sense_are_refused(world: World) -> None:
    asked: list[dict[str, Any]] = [
        {"max_staleness_seconds": -1},
        {"max_staleness_seconds": float("nan")},
        {"max_staleness_seconds": 1, "wait_seconds": -1},
        {"max_staleness_seconds": 1, "wait_seconds": float("inf")},
        {"at_least": ["kb:1"] * 101},
        {"when_stale": "hope"},
    ]
    async with world.open() as index:
        await index.sync()
        for bounds in asked:
            with pytest.raises(QueryError):
                await index.search("handbook", "text", **bounds)


# On the command line


def test_the_command_line_makes_tokens_and_asks_with_them(world: World) -> None:
    run_apart(synced(world))

    def livedex_(*words: str) -> Result:
        return CliRunner().invoke(app, ["--config", str(world.config), *words], env=world.environ)

    token = livedex_("token", "kb").stdout.strip()
    assert re.fullmatch(r"kb:\d+:1:[0-9A-F]+/[0-9A-F]+", token)
    world.execute("INSERT INTO documents VALUES ('late', '', 'the late text', 'c')")
    later = livedex_("token", "kb").stdout.strip()
    refused = livedex_("search", "handbook", "text", "--at-least", later, "--when-stale", "refuse")
    assert (refused.exit_code, later in refused.stderr) == (6, True)
    served = livedex_("search", "handbook", "text", "--max-staleness", "0s", "--when-stale", "serve", "--json")
    assert (served.exit_code, json.loads(served.stdout)["freshness"]["met"]) == (0, False)
    (view,) = json.loads(livedex_("status", "--window", "24h", "--json").stdout)["views"]
    assert view["window_seconds"] == 86_400
    assert livedex_("status", "--window", "8d").exit_code == 2


async def synced(world: World) -> None:
    async with world.open() as index:
        await index.sync()


# Other kinds of source


async def test_a_folder_has_tokens_too(tmp_path: Path, fresh_database: str) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "livedex.yaml").write_text(
        "sources: {notes: {kind: files, path: notes}}\nviews: {v: {from: notes, embedder: hashing}}\n"
    )
    environ = {"LIVEDEX_DATABASE_URL": fresh_database, "HOME": str(tmp_path)}
    async with livedex.open(tmp_path / "livedex.yaml", environ=environ) as index:
        await index.sync()
        async with following(index):
            (tmp_path / "notes" / "a.md").write_text("the first text")
            token = await index.token("notes")
            found = await index.search("v", "text", at_least=token, wait_seconds=PATIENCE_SECONDS)
            assert [hit.document_id for hit in found.hits] == ["a.md"]
            with pytest.raises(TokenRefused, match="livedex token notes"):
                await index.search("v", "text", at_least="notes:yesterday")


# The documentation


def examples() -> dict[str, str]:
    """The page's Python blocks by the name in their first line."""
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return {block.partition("\n")[0].removeprefix("# "): block for block in blocks}


@pytest.mark.parametrize("name", ["after the commit", "within the transaction"])
async def test_the_documented_way_to_make_a_token_works(world: World, name: str) -> None:
    names: dict[str, Any] = {"psycopg": psycopg}
    exec(examples()[name], names)  # noqa: S102  # our own page
    async with world.open() as index:
        await index.sync()
        async with following(index):
            token = await asyncio.to_thread(names["save"], world.source_dsn, "late", "the late text")
            found = await index.search("handbook", "text", at_least=token, wait_seconds=PATIENCE_SECONDS)
    assert ids(found) == {"first", "late"}
