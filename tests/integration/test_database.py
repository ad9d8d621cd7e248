"""Connections to the store: what they are set to, what they carry, and what their errors become."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import numpy as np
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from livedex.errors import (
    LeaseLost,
    StoreFull,
    StorePermission,
    StoreUnavailable,
    StoreUnsupported,
)
from livedex.store.database import Connection, Database, masked, translate
from livedex.store.embedded import EmbeddedServer
from livedex.store.vectors import literal


@pytest.fixture
async def database(fresh_database: str) -> AsyncIterator[Database]:
    opened = await Database.open(fresh_database)
    yield opened
    await opened.close()


@pytest.fixture
async def connection(database: Database) -> AsyncIterator[Connection]:
    async with database.connection() as pooled:
        yield pooled


async def value(connection: Connection, statement: str, *parameters: object, binary: bool = False) -> object:
    cursor = connection.cursor(binary=binary)
    row = await (await cursor.execute(statement, parameters or None)).fetchone()
    assert row is not None
    return row[0]


# Opening


async def test_opening_sets_up_pgvector(fresh_database: str) -> None:
    await (await Database.open(fresh_database)).close()
    with psycopg.connect(fresh_database) as plain:
        assert plain.execute("SELECT extname FROM pg_extension WHERE extname = 'vector'").fetchone() == ("vector",)


async def test_an_older_pgvector_is_updated(database: Database, fresh_database: str) -> None:
    async with database.connection() as connection:
        await connection.execute("UPDATE pg_extension SET extversion = '0.8.3' WHERE extname = 'vector'")
    await (await Database.open(fresh_database)).close()
    async with database.connection() as connection:
        assert await value(connection, "SELECT extversion FROM pg_extension WHERE extname = 'vector'") == "0.8.5"


async def test_a_server_without_pgvector_is_refused(
    server_15: EmbeddedServer, database_on: Callable[[EmbeddedServer], str]
) -> None:
    with pytest.raises(StoreUnsupported, match=r"needs pgvector 0\.8\.4 or newer; this server has none"):
        await Database.open(database_on(server_15))


async def test_postgresql_16_will_do(server_16: EmbeddedServer, database_on: Callable[[EmbeddedServer], str]) -> None:
    database = await Database.open(database_on(server_16))
    async with database.connection() as connection:
        assert await value(connection, "SELECT '[1]'::halfvec") == np.array([1.0])
    await database.close()


async def test_a_database_in_another_encoding_is_refused(server: EmbeddedServer) -> None:
    with psycopg.connect(server.dsn, autocommit=True) as plain:
        plain.execute("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE_PROVIDER libc LOCALE 'C' TEMPLATE template0")
    try:
        with pytest.raises(StoreUnsupported, match="encoding LATIN1; the store needs UTF8"):
            await Database.open(make_conninfo(server.dsn, dbname="latin"))
    finally:
        with psycopg.connect(server.dsn, autocommit=True) as plain:
            plain.execute("DROP DATABASE latin WITH (FORCE)")


async def test_a_user_who_may_not_create_pgvector_is_told_the_statement(
    server: EmbeddedServer, fresh_database: str
) -> None:
    with psycopg.connect(server.dsn, autocommit=True) as plain:
        plain.execute("CREATE ROLE no_rights LOGIN PASSWORD 'plain'")
    try:
        with pytest.raises(StorePermission, match=r"in the database .*: CREATE EXTENSION IF NOT EXISTS vector;"):
            await Database.open(make_conninfo(fresh_database, user="no_rights", password="plain"))
    finally:
        with psycopg.connect(server.dsn, autocommit=True) as plain:
            plain.execute("DROP ROLE no_rights")


async def test_pgvector_where_sql_does_not_find_it_is_told(fresh_database: str) -> None:
    with psycopg.connect(fresh_database, autocommit=True) as plain:
        plain.execute("CREATE SCHEMA extensions; CREATE EXTENSION vector SCHEMA extensions")
    with pytest.raises(StoreUnsupported, match=r"SET search_path = .*extensions"):
        await Database.open(fresh_database)


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        dsn = f"postgresql://me:secret@127.0.0.1:{closed.getsockname()[1]}/livedex"
        with pytest.raises(StoreUnavailable, match="Connection refused") as refused:
            await Database.open(dsn)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "dsn",
    ["postgresql:/me:secret@host/livedex", "postgresql://me:se/secret@host:5432/livedex", "host=x pass word=secret"],
)
async def test_a_connection_string_that_cannot_be_read_is_not_quoted(dsn: str) -> None:
    with pytest.raises(StoreUnavailable, match="postgresql://user:password@host") as refused:
        await Database.open(dsn)
    assert "secret" not in f"{refused.value!s} {refused.value.__cause__!s}"


# What connections are set to


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("TimeZone", "UTC"),
        ("idle_in_transaction_session_timeout", "10s"),
        ("application_name", "livedex"),
        ("client_encoding", "UTF8"),
    ],
)
async def test_every_connection_is_set_alike(database: Database, setting: str, expected: str) -> None:
    async with database.connection() as pooled, await database.connect() as own:
        found = [await value(one, "SELECT current_setting(%s)", setting) for one in (pooled, own)]
    assert found == [expected, expected]


async def test_a_statement_outside_a_transaction_is_committed_at_once(database: Database) -> None:
    async with database.connection() as one, database.connection() as other:
        await one.execute("CREATE TABLE t ()")
        assert await value(other, "SELECT to_regclass('t') IS NOT NULL") is True


async def test_an_exception_rolls_a_transaction_back(database: Database) -> None:
    with suppress(ZeroDivisionError):
        async with database.transaction() as connection:
            await connection.execute("CREATE TABLE t ()")
            1 / 0  # noqa: B018  # any exception does
    async with database.connection() as connection:
        assert await value(connection, "SELECT to_regclass('t') IS NULL") is True


async def test_a_transaction_is_committed_at_its_end(database: Database) -> None:
    async with database.transaction() as connection:
        await connection.execute("CREATE TABLE t ()")
    async with database.connection() as connection:
        assert await value(connection, "SELECT to_regclass('t') IS NOT NULL") is True


async def test_a_connection_of_ones_own_takes_none_from_the_pool(fresh_database: str) -> None:
    database = await Database.open(fresh_database, pool_size=1)
    async with database.connection() as pooled, await database.connect() as own:
        assert await value(pooled, "SELECT 1") == await value(own, "SELECT 1")
    await database.close()


async def test_the_pool_replaces_connections_that_the_server_ended(database: Database) -> None:
    async with await database.connect() as own:
        await own.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    async with database.connection() as connection:
        assert await value(connection, "SELECT 1") == 1


# Vectors

HALVES = np.array([0.5, -2.0, 0.0999755859375], dtype=np.float32)


@pytest.mark.parametrize("placeholder", ["%s", "%b", "%t"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
async def test_a_vector_arrives_as_it_was_sent(connection: Connection, placeholder: str, dtype: type) -> None:
    sent: Any = HALVES.astype(dtype)
    assert await value(connection, f"SELECT {placeholder}::halfvec::text", sent) == "[0.5,-2,0.099975586]"


@pytest.mark.parametrize("binary", [False, True])
async def test_a_vector_comes_back_as_float32(connection: Connection, binary: bool) -> None:
    found = await value(connection, "SELECT %s::halfvec", HALVES, binary=binary)
    assert isinstance(found, np.ndarray)
    assert (found.dtype, found.tolist()) == (np.float32, HALVES.tolist())


@pytest.mark.parametrize("placeholder", ["%s", "%b"])
async def test_a_list_of_vectors_is_an_array(connection: Connection, placeholder: str) -> None:
    await connection.execute(
        "CREATE FUNCTION shown(halfvec[]) RETURNS text LANGUAGE sql RETURN "
        "(SELECT string_agg(v::text, ' ') FROM unnest($1) AS v)"
    )
    assert await value(connection, f"SELECT shown({placeholder})", [HALVES[:2], HALVES[1:2]]) == "[0.5,-2] [-2]"


@pytest.mark.parametrize("binary", [False, True])
async def test_an_array_of_vectors_comes_back_as_a_list(connection: Connection, binary: bool) -> None:
    found = await value(connection, "SELECT ARRAY['[1,2]', '[3,4]']::halfvec[]", binary=binary)
    assert isinstance(found, list)
    assert [vector.tolist() for vector in found] == [[1.0, 2.0], [3.0, 4.0]]


async def test_no_vectors_are_an_empty_array(connection: Connection) -> None:
    assert await value(connection, "SELECT cardinality(%b::halfvec[])", []) == 0


async def test_vectors_can_be_copied_in_binary(connection: Connection) -> None:
    await connection.execute("CREATE TABLE t (chunk int8, document int8, embedding halfvec(3))")
    async with connection.cursor().copy("COPY t FROM STDIN (FORMAT binary)") as copy:
        copy.set_types(["int8", "int8", "halfvec"])
        await copy.write_row((7, 8, HALVES))
    rows = await (await connection.execute("SELECT * FROM t")).fetchall()
    assert [(chunk, document, vector.tolist()) for chunk, document, vector in rows] == [(7, 8, HALVES.tolist())]


async def test_vectors_work_on_a_connection_of_ones_own(database: Database) -> None:
    async with await database.connect() as own:
        assert await value(own, "SELECT %s::halfvec::text", np.ones(2, np.float32)) == "[1,1]"


async def test_a_component_too_large_for_16_bits_is_refused(connection: Connection) -> None:
    with pytest.raises(psycopg.DataError, match="infinite value not allowed in halfvec"):
        await connection.execute("SELECT %s::halfvec", (np.array([1e6], dtype=np.float32),))


@pytest.mark.parametrize("wrong", [np.ones((1, 2), np.float32), np.ones(2, np.int64)])
async def test_an_array_that_is_no_vector_is_refused(connection: Connection, wrong: np.ndarray) -> None:
    with pytest.raises(TypeError, match="array of floats of shape"):
        await connection.execute("SELECT %s", (wrong,))


def test_a_literal_is_pgvectors_text_form() -> None:
    assert literal(np.array([0.5, -2.0], dtype=np.float32)) == "[0.5,-2.0]"


# Errors


async def test_a_connection_that_the_server_ends_is_unavailable(database: Database) -> None:
    with pytest.raises(StoreUnavailable):
        async with database.connection() as connection:
            await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")


async def test_a_connection_used_after_its_end_is_unavailable(database: Database) -> None:
    own = await database.connect()
    with pytest.raises(psycopg.errors.AdminShutdown):
        await own.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    with pytest.raises(StoreUnavailable), translate():
        await own.execute("SELECT 1")


async def test_a_transaction_that_idles_too_long_is_ended_and_unavailable(database: Database) -> None:
    async def idle() -> None:
        async with database.transaction() as connection:
            await connection.execute("SET LOCAL idle_in_transaction_session_timeout = '1ms'")
            await asyncio.sleep(0.1)
            await connection.execute("SELECT 1")

    with pytest.raises(StoreUnavailable):
        await idle()


async def test_a_pool_that_stays_empty_is_unavailable(fresh_database: str) -> None:
    database = await Database.open(fresh_database, pool_size=1, patience_seconds=0.01)
    async with database.connection():
        with pytest.raises(StoreUnavailable):
            async with database.connection():
                pass
    await database.close()


async def test_a_lost_lease_is_told_by_sql_and_known_by_its_state(database: Database) -> None:
    with pytest.raises(LeaseLost, match="taken over"):
        async with database.connection() as connection:
            await connection.execute("DO $$ BEGIN RAISE 'taken over' USING ERRCODE = 'LX001'; END $$")


async def test_a_full_disk_is_store_full(database: Database) -> None:
    with pytest.raises(StoreFull, match="could not extend file"):
        async with database.connection() as connection:
            await connection.execute("DO $$ BEGIN RAISE 'could not extend file' USING ERRCODE = '53100'; END $$")


async def test_a_missing_right_is_named(database: Database) -> None:
    async def peek() -> None:
        async with database.transaction() as connection:
            await connection.execute("SET LOCAL ROLE pg_monitor")
            await connection.execute("SELECT * FROM pg_authid")

    with pytest.raises(StorePermission, match="permission denied for table pg_authid"):
        await peek()


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ("23505", psycopg.errors.UniqueViolation),
        ("40P01", psycopg.errors.DeadlockDetected),
        ("55P03", psycopg.errors.LockNotAvailable),
        ("57014", psycopg.errors.QueryCanceled),
    ],
)
async def test_errors_that_a_caller_answers_stay_what_they_are(
    database: Database, state: str, kind: type[psycopg.Error]
) -> None:
    with pytest.raises(kind):
        async with database.connection() as connection:
            await connection.execute(f"DO $$ BEGIN RAISE 'asked for' USING ERRCODE = '{state}'; END $$")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("at postgresql://me:secret@host/db now", "at postgresql://me:***@host/db now"),
        ("at postgresql://me:se@cret@host/db", "at postgresql://me:***@host/db"),
        ("host=x password=secret dbname=y", "host=x password=*** dbname=y"),
        (r"host=x password='se\' cret' dbname=y", "host=x password=*** dbname=y"),
        ("nothing to hide", "nothing to hide"),
    ],
)
def test_passwords_are_masked(text: str, expected: str) -> None:
    assert masked(text) == expected
