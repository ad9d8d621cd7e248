"""The store's schema is brought up to date once, whole, and never silently changed."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest

from livedex.errors import MigrationError, StorePermission
from livedex.store.database import Database
from livedex.store.migrate import migrate

CHILD = """
import asyncio, os, signal, sys
from pathlib import Path
from livedex.store.database import Database
from livedex.store.migrate import migrate

class KilledAt:
    async def reach(self, name):
        if name == sys.argv[3]:
            os.kill(os.getpid(), signal.SIGKILL)

async def main():
    await migrate(await Database.open(sys.argv[1]), faults=KilledAt(), directory=Path(sys.argv[2]))

asyncio.run(main())
"""


@pytest.fixture
async def database(fresh_database: str) -> AsyncIterator[Database]:
    opened = await Database.open(fresh_database)
    yield opened
    await opened.close()


@pytest.fixture
def migrations(tmp_path: Path) -> Path:
    (tmp_path / "0001_notes.sql").write_text(
        "CREATE TABLE livedex.notes (note text);\nCREATE INDEX ON livedex.notes (note);\n"
    )
    (tmp_path / "0002_marks.sql").write_text("CREATE TABLE livedex.marks (mark halfvec(3));\n")
    return tmp_path


async def tables(database: Database) -> set[str]:
    async with database.connection() as connection:
        cursor = await connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'livedex'")
        return {name for (name,) in await cursor.fetchall()}


async def test_an_empty_database_gets_every_migration_in_order(database: Database, migrations: Path) -> None:
    assert await migrate(database, directory=migrations) == ["0001_notes", "0002_marks"]
    assert await tables(database) == {"migrations", "notes", "marks"}


async def test_a_second_run_does_nothing(database: Database, migrations: Path) -> None:
    await migrate(database, directory=migrations)
    assert await migrate(database, directory=migrations) == []


async def test_only_what_is_new_is_applied(database: Database, migrations: Path) -> None:
    await migrate(database, directory=migrations)
    (migrations / "0003_more.sql").write_text("CREATE TABLE livedex.more ();")
    assert await migrate(database, directory=migrations) == ["0003_more"]


async def test_two_at_once_apply_each_migration_once(database: Database, fresh_database: str, migrations: Path) -> None:
    other = await Database.open(fresh_database)
    applied = await asyncio.gather(migrate(database, directory=migrations), migrate(other, directory=migrations))
    await other.close()
    assert sorted(applied) == [[], ["0001_notes", "0002_marks"]]


async def test_two_that_open_an_empty_database_at_once_both_succeed(fresh_database: str) -> None:
    for opened in await asyncio.gather(*(Database.open(fresh_database) for _ in range(4))):
        await opened.close()


@pytest.mark.parametrize(
    ("point", "left"),
    [
        ("migration.before_commit", {"migrations"}),
        ("migration.after_commit", {"migrations", "notes"}),
    ],
)
async def test_a_kill_leaves_a_migration_applied_with_its_record_or_not_at_all(
    database: Database, fresh_database: str, migrations: Path, point: str, left: set[str]
) -> None:
    killed = await asyncio.create_subprocess_exec(sys.executable, "-c", CHILD, fresh_database, str(migrations), point)
    assert await killed.wait() == -signal.SIGKILL
    assert await tables(database) == left
    await migrate(database, directory=migrations)
    assert await tables(database) == {"migrations", "notes", "marks"}


async def test_a_migration_that_fails_leaves_nothing_and_is_named(database: Database, migrations: Path) -> None:
    (migrations / "0002_marks.sql").write_text("CREATE TABLE livedex.marks (); SELECT nonsense;")
    with pytest.raises(MigrationError, match=r'(?s)0002_marks failed: column "nonsense" does not exist.*rolled back'):
        await migrate(database, directory=migrations)
    assert await tables(database) == {"migrations", "notes"}


async def test_a_migration_edited_after_it_was_applied_is_refused(database: Database, migrations: Path) -> None:
    await migrate(database, directory=migrations)
    (migrations / "0001_notes.sql").write_text("CREATE TABLE livedex.notes (note text, author text);")
    with pytest.raises(MigrationError, match="0001_notes has another text than the one that was applied"):
        await migrate(database, directory=migrations)


async def test_a_checkout_with_other_line_ends_is_the_same_migration(database: Database, migrations: Path) -> None:
    await migrate(database, directory=migrations)
    file = migrations / "0001_notes.sql"
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    assert await migrate(database, directory=migrations) == []


async def test_a_database_of_a_newer_livedex_is_refused(database: Database, migrations: Path) -> None:
    await migrate(database, directory=migrations)
    (migrations / "0002_marks.sql").unlink()
    with pytest.raises(MigrationError, match="0002_marks, which this livedex does not know: a newer livedex"):
        await migrate(database, directory=migrations)


async def test_two_files_with_one_number_are_refused(database: Database, migrations: Path) -> None:
    (migrations / "0002_other.sql").write_text("SELECT 1;")
    with pytest.raises(MigrationError, match="Two migrations have the number 2"):
        await migrate(database, directory=migrations)


async def test_a_user_without_the_right_is_told_what_an_administrator_has_to_run(
    database: Database, fresh_database: str, migrations: Path
) -> None:
    role = f"plain_{os.getpid()}"
    async with database.connection() as connection:
        await connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'plain'")
    try:
        dsn = psycopg.conninfo.make_conninfo(fresh_database, user=role, password="plain")
        plain = await Database.open(dsn)
        with pytest.raises(StorePermission, match=f'ALTER SCHEMA livedex OWNER TO "{role}"'):
            await migrate(plain, directory=migrations)
        await plain.close()
    finally:
        async with database.connection() as connection:
            await connection.execute(f"DROP ROLE {role}")


async def test_what_the_permission_error_says_to_run_helps(
    database: Database, fresh_database: str, migrations: Path
) -> None:
    role = f"helped_{os.getpid()}"
    async with database.connection() as connection:
        await connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'plain'")
    try:
        dsn = psycopg.conninfo.make_conninfo(fresh_database, user=role, password="plain")
        plain = await Database.open(dsn)
        with pytest.raises(StorePermission) as refused:
            await migrate(plain, directory=migrations)
        async with database.connection() as connection:
            await connection.execute(str(refused.value).partition(": ")[2])
        assert await migrate(plain, directory=migrations) == ["0001_notes", "0002_marks"]
        await plain.close()
    finally:
        async with database.connection() as connection:
            await connection.execute("DROP SCHEMA IF EXISTS livedex CASCADE")
            await connection.execute(f"DROP ROLE {role}")
