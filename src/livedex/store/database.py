"""Connections to the store: a pool, transactions, and the one place where PostgreSQL's errors become livedex's."""

from __future__ import annotations

import re
import select
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, NamedTuple, Self

import psycopg
from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import AsyncConnectionPool

from livedex.errors import LeaseLost, StoreDamaged, StoreFull, StorePermission, StoreUnavailable, StoreUnsupported
from livedex.store import statements, terms
from livedex.store.vectors import HalfvecType

Connection = AsyncConnection[tuple[Any, ...]]

LEASE_LOST = "LX001"
"""The SQLSTATE that livedex's own SQL raises when a lease has moved to another worker."""

_OLDEST_SERVER = 150000
_OLDEST_VECTOR = (0, 8, 4)
_PREPARE_AFTER = 2
PATIENCE_SECONDS = 5.0
_DAMAGED = ("XX000", "XX001", "XX002")
"""internal_error, which pgvector raises for an index, data_corrupted and index_corrupted."""
_UNAVAILABLE = re.compile(r"08...|53...|57P0.|58...|25P03")
_SECRETS = (
    (re.compile(r"(\w+://[^:/@\s]*:)\S*(@)"), r"\1***\2"),
    (re.compile(r"(password\s*=\s*)('(?:[^'\\]|\\.)*'|\S+)()", re.IGNORECASE), r"\1***\3"),
)


def masked(text: str) -> str:
    """The text without the passwords of the connection strings in it."""
    for secret, replacement in _SECRETS:
        text = secret.sub(replacement, text)
    return text


@contextmanager
def translate() -> Iterator[None]:
    """Turn what psycopg raises for the store's troubles into StoreError's kinds and LeaseLost.

    Errors that a caller provokes and answers pass as they are: constraint violations, lock timeouts, deadlocks,
    cancelled statements, and mistakes in SQL.
    """
    try:
        yield
    except psycopg.Error as error:
        said = " ".join(masked(str(error)).split()).rstrip(".?")
        if error.sqlstate == LEASE_LOST:
            raise LeaseLost(error.diag.message_primary or said) from error  # without the place in the function
        if isinstance(error, psycopg.errors.DiskFull):
            raise StoreFull(
                f"The store's disk is full: {said}. Free space, then start again: what was acknowledged is not lost."
            ) from error
        if isinstance(error, psycopg.errors.InsufficientPrivilege):
            raise StorePermission(
                f"The store's database user lacks a right: {said}. Grant it, or connect as the owner of the tables."
            ) from error
        if error.sqlstate in _DAMAGED:
            raise StoreDamaged(
                f"The store's server found something that cannot be: {said}. Run: livedex maintain, which rebuilds "
                "indexes that are damaged, then: livedex audit --repair"
            ) from error
        if _is_unavailable(error):
            raise StoreUnavailable(
                f"The store's PostgreSQL server cannot be reached or ended the connection: {said}. "
                "Check LIVEDEX_DATABASE_URL and that the server runs."
            ) from error
        raise


def _is_unavailable(error: psycopg.Error) -> bool:
    if error.sqlstate is not None:
        return _UNAVAILABLE.fullmatch(error.sqlstate) is not None
    # Without a code the server did not speak: the connection failed, or someone used it after it had.
    return isinstance(error, psycopg.OperationalError) or "connection is closed" in str(error)


class VectorTypes(NamedTuple):
    """Under which numbers a database knows pgvector's types."""

    halfvec: HalfvecType
    sparsevec: int
    sparsevec_array: int


class Database:
    """The store's PostgreSQL. Every connection speaks UTF-8 and UTC, commits each statement unless in a transaction,
    and knows `halfvec`, `sparsevec` and `tsvector`."""

    def __init__(self, dsn: str, pool: AsyncConnectionPool[Connection], types: VectorTypes) -> None:
        self.dsn = dsn
        self._pool = pool
        self._types = types

    @classmethod
    async def open(cls, dsn: str, *, pool_size: int = 8, patience_seconds: float = PATIENCE_SECONDS) -> Self:
        """Connect, check what the server offers, and have pgvector in the database.

        `patience_seconds`: how long whoever asks for a connection waits for one before it is StoreUnavailable.
        Raises StoreUnavailable, StoreUnsupported for a server or pgvector that is too old, or StorePermission with
        the statement for an administrator to run.
        """
        _check_readable(dsn)
        with translate():
            async with await _connect(dsn) as connection:
                _check_server(connection)
                types = await _ensure_vector(connection)

            async def configure(connection: Connection) -> None:
                await _configure(connection, types)

            pool = AsyncConnectionPool(
                dsn,
                connection_class=Connection,
                kwargs=_ARGUMENTS,
                min_size=1,
                max_size=pool_size,
                configure=configure,
                check=_check_alive,
                timeout=patience_seconds,
                # Between its tries the pool waits longer and longer: with more time than those have who ask, it would
                # come back late to a server that is there again.
                reconnect_timeout=patience_seconds,
                name="livedex",
                open=False,
            )
            try:
                await pool.open(wait=True)
            except BaseException:
                await pool.close()
                raise
        return cls(dsn, pool, types)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A pooled connection in autocommit mode: each statement is its own transaction."""
        with translate():
            async with self._pool.connection() as connection:
                yield connection

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A pooled connection in a transaction, committed at the end of the block, rolled back by an exception."""
        with translate():
            async with self._pool.connection() as connection, connection.transaction():
                yield connection

    async def connect(self) -> Connection:
        """A connection of the caller's own, outside the pool, in autocommit mode; for workers and LISTEN.

        The caller closes it, and puts `translate()` around its use.
        """
        with translate():
            connection = await _connect(self.dsn)
            try:
                await _configure(connection, self._types)
            except BaseException:
                await connection.close()
                raise
        return connection

    async def close(self) -> None:
        """Close the pool's connections, waiting for those in use."""
        await self._pool.close()


_ARGUMENTS: dict[str, Any] = {
    "autocommit": True,
    "prepare_threshold": _PREPARE_AFTER,
    "application_name": "livedex",
    "client_encoding": "UTF8",
}


async def _connect(dsn: str) -> Connection:
    return await AsyncConnection.connect(dsn, **_ARGUMENTS)


async def _configure(connection: Connection, types: VectorTypes) -> None:
    await connection.execute(statements.load("session")["prepare_session"])
    types.halfvec.register(connection)
    terms.register(connection, types.sparsevec, types.sparsevec_array)


async def _check_alive(connection: Connection) -> None:
    """Ask the server only when its side of the socket has something to say: as a rule that it is gone."""
    waiting = select.poll()
    waiting.register(connection.fileno(), select.POLLIN)
    if waiting.poll(0):
        await AsyncConnectionPool.check_connection(connection)


def _check_readable(dsn: str) -> None:
    try:
        port = str(conninfo_to_dict(dsn).get("port", ""))
    except psycopg.ProgrammingError:
        port = "?"
    if not re.fullmatch(r"[\d,]*", port):
        # Not PostgreSQL's own text: it quotes the part that it does not understand, which may be the password's.
        raise StoreUnavailable(
            "The store's connection string cannot be read. LIVEDEX_DATABASE_URL should look like "
            "postgresql://user:password@host:5432/database, with special characters of the password as %XX."
        )


def _check_server(connection: Connection) -> None:
    name, version = connection.info.dbname, connection.info.server_version
    if version < _OLDEST_SERVER:
        raise StoreUnsupported(f"The store needs PostgreSQL 15 or newer; this server is {version // 10000}.")
    if (encoding := connection.info.parameter_status("server_encoding")) != "UTF8":
        raise StoreUnsupported(
            f'The database "{name}" has the encoding {encoding}; the store needs UTF8. Create one and use that: '
            "CREATE DATABASE livedex ENCODING 'UTF8' TEMPLATE template0;"
        )


async def _ensure_vector(connection: Connection) -> VectorTypes:
    """Create or update pgvector where need be and the right is there; what its types are called."""
    sql = statements.load("session")
    installed, available = await _row(connection, sql["vector_versions"])
    if installed is None or _numbers(installed) < _OLDEST_VECTOR:
        if available is None or _numbers(available) < _OLDEST_VECTOR:
            has = "has none" if available is None else f"offers {available}"
            raise StoreUnsupported(
                f"The store needs pgvector 0.8.4 or newer; this server {has}. Install it on the server's machine "
                "(package postgresql-NN-pgvector), or use one that has it."
            )
        statement = sql["create_vector" if installed is None else "update_vector"]
        try:
            async with connection.transaction():
                await connection.execute(sql["lock_extension"])
                await connection.execute(statement)
        except psycopg.errors.InsufficientPrivilege as error:
            raise StorePermission(
                f'The user "{connection.info.user}" may not set up pgvector. Let an administrator run this in the '
                f'database "{connection.info.dbname}": {statement};'
            ) from error
    oid, array_oid, sparse, sparse_array, visible, schema = await _row(connection, sql["vector_types"])
    if not visible:
        raise StoreUnsupported(
            f"pgvector stands in the schema {schema}, where SQL of this user does not find it. Run: "
            f'ALTER ROLE "{connection.info.user}" SET search_path = "$user", public, {schema};'
        )
    return VectorTypes(HalfvecType(oid, array_oid), sparse, sparse_array)


async def _row(connection: Connection, statement: str) -> tuple[Any, ...]:
    row = await (await connection.execute(statement)).fetchone()
    if row is None:
        raise StoreUnsupported("pgvector in this database has no halfvec. Run: ALTER EXTENSION vector UPDATE;")
    return row


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)))
