"""Connections to the source: session settings, and the one place where psycopg's errors become ours."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, LiteralString

import psycopg
from psycopg import AsyncConnection, errors, sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow

from livedex.errors import SchemaChanged, SourceMisconfigured, SourceUnavailable

SETTINGS = {
    # Text output must be the same in every session, or a row would change by being read another way.
    "DateStyle": "ISO",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "extra_float_digits": "3",
    "bytea_output": "hex",
    # Names are written out in full, and nobody's function can stand in for a catalog's.
    "search_path": "pg_catalog",
    # A policy that hides rows from the snapshot would not hide their changes; off makes it an error.
    "row_security": "off",
    # A snapshot takes as long as it takes.
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
}

FIRST_VERSION_WITH_TRANSACTION_TIMEOUT = 170000


class Server:
    """Where the source's server is, and how to talk to it. `str(server)` names it without secrets."""

    def __init__(self, url: str, application_name: str) -> None:
        try:
            given = conninfo_to_dict(url)
        except psycopg.ProgrammingError:
            # The parser's message quotes the text, password and all.
            raise SourceMisconfigured(
                "The url of the source is not a PostgreSQL connection string. "
                "It should look like postgresql://user:password@host:5432/database."
            ) from None
        self._name = "PostgreSQL at {host}:{port}/{dbname}".format(
            host=given.get("host") or given.get("hostaddr") or "localhost",
            port=given.get("port") or 5432,
            dbname=given.get("dbname") or given.get("user") or "",
        )
        ours = " ".join(f"-c {name}={_escape_option(value)}" for name, value in SETTINGS.items())
        options = f"{given.get('options') or ''} {ours}".strip()
        defaults = {"connect_timeout": "10", "application_name": application_name}
        self._conninfo = make_conninfo("", **{**defaults, **given, "options": options, "client_encoding": "UTF8"})

    def __str__(self) -> str:
        return self._name

    async def connect(self) -> AsyncConnection[TupleRow]:
        """A session for SQL, in autocommit mode. Raises SourceUnavailable."""
        with self.translated_errors("cannot be reached"):
            connection = await AsyncConnection.connect(self._conninfo, autocommit=True, prepare_threshold=None)
            if connection.info.server_version >= FIRST_VERSION_WITH_TRANSACTION_TIMEOUT:
                await connection.execute("SET transaction_timeout = 0")
            return connection

    async def connect_replication(self) -> AsyncConnection[TupleRow]:
        """A session for replication commands. Raises SourceUnavailable."""
        with self.translated_errors("cannot be reached for replication"):
            return await AsyncConnection.connect(
                make_conninfo(self._conninfo, replication="database"), autocommit=True, prepare_threshold=None
            )

    @contextmanager
    def translated_errors(self, what: str) -> Iterator[None]:
        """`what` continues the sentence that starts with the server's name."""
        try:
            yield
        except errors.InsufficientPrivilege as error:
            raise SourceMisconfigured(f"{self} {what}: {_message(error)}") from error
        except (errors.UndefinedColumn, errors.UndefinedTable) as error:
            raise SchemaChanged(f"{self} {what}: {_message(error)}") from error
        except psycopg.Error as error:
            raise SourceUnavailable(f"{self} {what}: {_message(error)}") from error


class Session:
    """One connection for catalog queries, opened when needed and again after it was lost."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._connection: AsyncConnection[TupleRow] | None = None
        self._connecting = asyncio.Lock()

    async def fetch(self, query: LiteralString, parameters: Sequence[Any] | None = None) -> list[TupleRow]:
        """All rows. Raises SourceUnavailable, SourceMisconfigured when a right is missing."""
        connection = await self.connection()
        with self.server.translated_errors("did not answer a catalog query"):
            cursor = await connection.execute(query, parameters)
            return await cursor.fetchall() if cursor.description else []

    async def execute(self, statement: sql.Composed) -> None:
        """A statement that changes something. psycopg's errors come through: what they mean depends on it."""
        connection = await self.connection()
        await connection.execute(statement)

    async def connection(self) -> AsyncConnection[TupleRow]:
        async with self._connecting:
            if self._connection is None or self._connection.closed:
                self._connection = await self.server.connect()
            return self._connection

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()
            self._connection = None


def _escape_option(value: str) -> str:
    """In `options` a backslash quotes the next character and a space ends a value."""
    return value.replace("\\", "\\\\").replace(" ", "\\ ")


def _message(error: psycopg.Error) -> str:
    """One line: the server's message and its hint."""
    text = error.diag.message_primary or str(error)
    hint = error.diag.message_hint
    return " ".join(f"{text} {hint or ''}".split())
