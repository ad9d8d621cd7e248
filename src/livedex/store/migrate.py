"""Brings the store's schema up to date: numbered SQL files, each applied once, in order, in one transaction."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any

import psycopg

from livedex.errors import MigrationError, StorePermission
from livedex.faults import Faults, NoFaults
from livedex.store import statements
from livedex.store.database import Connection, Database, translate

_FILE = re.compile(r"(\d{4})_(\w+)\.sql")
_NO_FAULTS = NoFaults()


@dataclass(frozen=True, slots=True)
class _Migration:
    number: int
    name: str
    text: str

    @property
    def title(self) -> str:
        return f"{self.number:04}_{self.name}"

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


async def migrate(
    database: Database, *, faults: Faults = _NO_FAULTS, directory: Traversable | None = None
) -> list[str]:
    """Apply what is missing; the names of the migrations that were applied now, such as `0001_spine`.

    Safe to run from several processes at once: the others wait, then find nothing to do. Safe to kill: a migration is
    applied with its record or not at all. `directory` holds `NNNN_name.sql` files, by default livedex's own.

    Raises MigrationError when a file fails or does not fit what was applied before, and StorePermission.
    """
    wanted = _read(directory or resources.files(__package__) / "migrations")
    with translate():
        async with await database.connect() as connection:
            await connection.execute(statements.load("migrations")["lock"])
            await _ensure_records(connection)
            missing = await _missing(connection, wanted)
            for migration in missing:
                await _apply(connection, migration, faults)
    return [migration.title for migration in missing]


def _read(directory: Traversable) -> Sequence[_Migration]:
    """The migrations in order. Line ends are evened out, so that a checkout's settings do not change checksums."""
    found: dict[int, _Migration] = {}
    for file in directory.iterdir():
        if name := _FILE.fullmatch(file.name):
            number = int(name[1])
            if number in found:
                raise MigrationError(f"Two migrations have the number {number}: {found[number].title} and {file.name}.")
            found[number] = _Migration(number, name[2], file.read_bytes().decode().replace("\r\n", "\n"))
    return [found[number] for number in sorted(found)]


async def _ensure_records(connection: Connection) -> None:
    sql = statements.load("migrations")
    try:
        if not await _truth(connection, sql["schema_exists"]):
            await connection.execute(sql["create_schema"])
        if not await _truth(connection, sql["table_exists"]):
            await connection.execute(sql["create_table"])
    except psycopg.errors.InsufficientPrivilege as error:
        name, user = connection.info.dbname, connection.info.user
        raise StorePermission(
            f'The user "{user}" may not create the schema livedex or its tables. Let an administrator run this in the '
            f'database "{name}": CREATE SCHEMA IF NOT EXISTS livedex; ALTER SCHEMA livedex OWNER TO "{user}";'
        ) from error


async def _missing(connection: Connection, wanted: Sequence[_Migration]) -> Sequence[_Migration]:
    """Those after the applied ones, which must be the first of the wanted ones, word for word."""
    cursor = await connection.execute(statements.load("migrations")["applied"])
    applied = await cursor.fetchall()
    for position, (number, name, checksum) in enumerate(applied):
        if position >= len(wanted) or wanted[position].number != number:
            raise MigrationError(
                f"The database has the migration {number:04}_{name}, which this livedex does not know: a newer livedex "
                "set it up. Install that version or a later one. Nothing was changed."
            )
        if wanted[position].checksum != checksum:
            raise MigrationError(
                f"The migration {wanted[position].title} has another text than the one that was applied to this "
                "database. Install the livedex that set it up, or a later release; if the file was edited, restore "
                "it and put the change into a new migration. Nothing was changed."
            )
    return wanted[len(applied) :]


async def _apply(connection: Connection, migration: _Migration, faults: Faults) -> None:
    record: dict[str, Any] = {
        "number": migration.number,
        "name": migration.name,
        "checksum": migration.checksum,
    }
    try:
        async with connection.transaction():
            await connection.execute(migration.text, prepare=False)
            await connection.execute(statements.load("migrations")["record"], record)
            await faults.reach("migration.before_commit")
    except psycopg.Error as error:
        with translate():  # what is the store's trouble is told as such
            try:
                raise error
            except (psycopg.ProgrammingError, psycopg.DataError, psycopg.IntegrityError) as mistake:
                if isinstance(mistake, psycopg.errors.InsufficientPrivilege):
                    raise
                raise MigrationError(
                    f"The migration {migration.title} failed: {str(mistake).strip()}\nIt was rolled back; "
                    "those before it stay applied."
                ) from mistake
    await faults.reach("migration.after_commit")


async def _truth(connection: Connection, statement: str) -> bool:
    row = await (await connection.execute(statement)).fetchone()
    return row == (True,)
