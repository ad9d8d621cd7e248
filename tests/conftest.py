"""Real PostgreSQL servers, empty databases on them, and the recorded data: what tests at every floor share."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from livedex.store.embedded import EmbeddedServer

_Result = TypeVar("_Result")
_DEBIAN_15 = Path("/usr/lib/postgresql/15/bin")
_DATA = Path(os.environ.get("LIVEDEX_DATA", Path(__file__).parents[2] / "shared" / "data"))
# A test server's data need not survive a power cut.
_TEST_SETTINGS = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "shared_buffers": "128MB"}
_database_numbers = count(1)


def pytest_sessionstart() -> None:
    """End on SIGTERM, which `timeout` sends, as on Ctrl-C, so that no server is left running."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def run_apart(work: Coroutine[Any, Any, _Result]) -> _Result:
    """Run a coroutine to its end on a thread and a loop of its own, so that a fixture belongs to no test's loop."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(asyncio.run, work).result()


@contextmanager
def _running_server(version: int, binaries: Path | None = None) -> Iterator[EmbeddedServer]:
    directory = Path(tempfile.mkdtemp(prefix=f"livedex-tests-{version}-"))
    directory.chmod(0o711)  # root's server runs under another user, who has to get in
    try:
        server = run_apart(EmbeddedServer.start(directory, version=version, settings=_TEST_SETTINGS, binaries=binaries))
        try:
            yield server
        finally:
            run_apart(server.stop())
            shutil.rmtree(server.data)  # elsewhere, where the server's user cannot get into the directory
    finally:
        shutil.rmtree(directory)


@pytest.fixture(scope="session")
def server() -> Iterator[EmbeddedServer]:
    """PostgreSQL 18 with pgvector: the store, and a source where one is needed."""
    with _running_server(18) as running:
        yield running


@pytest.fixture(scope="session")
def server_16() -> Iterator[EmbeddedServer]:
    """PostgreSQL 16 with pgvector."""
    with _running_server(16) as running:
        yield running


@pytest.fixture(scope="session")
def server_15() -> Iterator[EmbeddedServer]:
    """PostgreSQL 15 as Debian packages it, without pgvector: a source only."""
    if not (_DEBIAN_15 / "postgres").is_file():
        pytest.skip(f"no PostgreSQL 15 in {_DEBIAN_15}")
    with _running_server(15, _DEBIAN_15) as running:
        yield running


@pytest.fixture
def database_on() -> Iterator[Callable[[EmbeddedServer], str]]:
    """Makes a new empty database on a server and gives its DSN, as often as it is called; all are dropped after the
    test, their replication slots first."""
    made: list[tuple[str, str]] = []

    def make(server: EmbeddedServer) -> str:
        dsn = make_database(server.dsn)
        made.append((server.dsn, str(conninfo_to_dict(dsn)["dbname"])))
        return dsn

    yield make
    for dsn, name in reversed(made):
        drop_database(dsn, name)


@pytest.fixture
def fresh_database(server: EmbeddedServer, database_on: Callable[[EmbeddedServer], str]) -> str:
    """DSN of a new empty database on PostgreSQL 18, dropped after the test."""
    return database_on(server)


def make_database(dsn: str) -> str:
    """DSN of a new empty database on the server of another DSN."""
    name = f"test_{os.getpid()}_{next(_database_numbers)}"
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    return make_conninfo(dsn, dbname=name)


def drop_database(dsn: str, name: str) -> None:
    """Drop a database whoever is connected to it; a logical slot in it would prevent that, even WITH (FORCE)."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(sql.Identifier(name)))
        connection.execute("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = %s", (name,))
        connection.execute(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = %s", (name,)
        )
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The recorded corpora, query sets and edit histories."""
    if not _DATA.is_dir():
        pytest.skip(f"no test data in {_DATA}; set LIVEDEX_DATA")
    return _DATA
