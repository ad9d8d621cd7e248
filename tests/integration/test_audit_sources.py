"""Both sides of an audit compute the same digests, whatever a column's type; and folders can be audited like tables."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psycopg
import pytest

import livedex
from livedex.adapters.sources.files import FilesSource
from livedex.adapters.sources.postgres import PostgresSource
from livedex.digests import digest_of, key_text, range_of
from livedex.model import TableMapping
from livedex.ports import SnapshotFinished
from livedex.rules.audit import Kind
from livedex.store.embedded import EmbeddedServer

MAPPING = TableMapping(key=("id", "part"), content="body", metadata=("a", "b", "c", "d", "e", "f", "g", "h", "i", "j"))
COLUMNS = ("a", "b", "body", "c", "d", "e", "f", "g", "h", "i", "id", "j", "part")
TABLE = """
CREATE TABLE odd (id int, part text, body text, a boolean, b double precision, c real, d jsonb, e text[], f numeric,
    g timestamptz, h json, i char(6), j inet, PRIMARY KEY (id, part))
"""
ROWS = """
INSERT INTO odd VALUES
    (1, 'a', E'tab\\there "quoted" \\u00e9 \\U0001F600', true, 1e16, 0.1, '{"bb": [1, 2.5, null], "a": "x"}',
     '{a,"b,c",NULL}', 1.50, '2026-01-02 03:04:05+02', '{"k":  1}', 'ab', '10.0.0.1'),
    (2, E'back\\\\slash "and" \\x01', NULL, false, 'NaN', '-Infinity', '"a string"', '{}', NULL, 'infinity', NULL, '',
     '::1'),
    (3, '', '', NULL, -0.0, 5e-45, 'null', '{{a,b},{c,d}}', 'NaN', NULL, '[]', NULL, NULL),
    (4, 'd', 'four', true, 100000, 16777216, '[]', NULL, 0, '0044-03-15 00:00:00 BC', '1', 'x', '10.1.0.0/16')
"""
EVERY_RANGE = range(4096)


def source_of(dsn: str) -> PostgresSource:
    return PostgresSource(dsn, {"odd": MAPPING}, {"odd": COLUMNS}, name="kb", store_id="0123456789")


@pytest.fixture
def odd_table(fresh_database: str) -> str:
    with psycopg.connect(fresh_database, autocommit=True) as connection:
        connection.execute(TABLE)
        connection.execute(ROWS)
    return fresh_database


async def test_a_digest_computed_by_postgresql_is_that_of_the_row_that_it_sends(odd_table: str) -> None:
    source = source_of(odd_table)
    try:
        async with source.look(patience_seconds=5) as look:
            compared = await look.compare("odd")
            theirs = await look.digests("odd", EVERY_RANGE)
            rows = await look.rows("odd", theirs)
    finally:
        await source.close()
    ours = {key_text("odd", row.key): row.columns for row in rows}
    assert set(COLUMNS) - set(compared.columns) == {"h"}
    assert theirs == {key: digest_of(key, columns, compared.columns) for key, columns in ours.items()}
    assert compared.ranges == combined(ours, compared.columns)


def combined(rows: Mapping[str, Mapping[str, Any]], columns: tuple[str, ...]) -> dict[int, tuple[int, int]]:
    assert len({range_of(key) for key in rows}) == len(rows)
    return {range_of(key): (1, digest_of(key, row, columns)) for key, row in rows.items()}


async def test_a_table_of_every_type_is_audited_without_a_finding(
    odd_table: str, server: EmbeddedServer, database_on: Callable[[EmbeddedServer], str], tmp_path: Path
) -> None:
    (tmp_path / "livedex.yaml").write_text(
        "sources:\n  kb:\n    kind: postgres\n    url: ${KB}\n    tables:\n"
        f"      odd: {{key: [id, part], content: body, metadata: [{', '.join(MAPPING.metadata)}]}}\n"
        "views:\n  odd_ones: {from: kb, embedder: hashing}\n"
    )
    environ = {"KB": odd_table, "LIVEDEX_DATABASE_URL": database_on(server), "HOME": str(tmp_path)}
    async with livedex.open(tmp_path / "livedex.yaml", environ=environ) as index, asyncio.timeout(60):
        await index.sync()
        reports = [await index.audit(), await index.audit("kb", deep=True)]
    assert [(part.name, part.findings, part.skipped) for report in reports for part in report.parts] == [
        ("store", (), None), ("kb", (), None), ("odd_ones", (), None), ("kb", (), None)
    ]  # fmt: skip


async def test_a_look_shows_what_was_delivered_before_it(odd_table: str) -> None:
    source = source_of(odd_table)
    events = source.open("main", None)
    try:
        finished = ""
        while not finished:
            event = await anext(events)
            finished = event.position if isinstance(event, SnapshotFinished) else ""
        with psycopg.connect(odd_table) as connection:
            connection.execute("UPDATE odd SET body = 'under way' WHERE id = 4")
            async with source.look(patience_seconds=0.1) as unsettled:
                assert not unsettled.settled
        async with source.look(patience_seconds=20) as settled:
            assert settled.settled
            (row,) = await settled.rows("odd", [key_text("odd", ("4", "d"))])
            assert row.columns["body"] == "under way"
            assert source.reached(await settled.position(), finished)
    finally:
        await events.aclose()
        await source.close()


async def test_keys_that_the_type_does_not_know_have_no_row(odd_table: str) -> None:
    source = source_of(odd_table)
    try:
        async with source.look(patience_seconds=5) as look:
            rows = await look.rows("odd", [key_text("odd", ("ghost", "a")), key_text("odd", ("1", "a"))])
    finally:
        await source.close()
    assert [row.key for row in rows] == [("1", "a")]


def followed(store: str) -> bool:
    """Whether somebody has read the folder and goes on."""
    with psycopg.connect(store) as connection:
        return connection.execute("SELECT state FROM livedex.partitions").fetchall() == [("streaming",)]


async def until(happened: Callable[[], bool]) -> None:
    while True:
        if happened():
            return
        await asyncio.sleep(0.05)


async def test_invariant_11_a_folder_is_audited_and_repaired(
    server: EmbeddedServer, database_on: Callable[[EmbeddedServer], str], tmp_path: Path
) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    for name in ("one", "two", "three"):
        (folder / f"{name}.md").write_text(f"---\nteam: {name}\ntags: [a, b]\n---\n# {name}\n\nText of {name}.")
    (folder / "broken.md").write_bytes(b"\xff\xfe\xff broken")
    (tmp_path / "livedex.yaml").write_text(
        "sources:\n  docs: {kind: files, path: docs, metadata: [team, tags]}\n"
        "views:\n  handbook: {from: docs, embedder: hashing}\n"
    )
    store = database_on(server)
    environ = {"LIVEDEX_DATABASE_URL": store, "HOME": str(tmp_path)}
    async with livedex.open(tmp_path / "livedex.yaml", environ=environ) as index, asyncio.timeout(60):
        stop = asyncio.Event()
        following = asyncio.create_task(index.up(stop))
        await until(lambda: followed(store))
        clean = await index.audit()
        with psycopg.connect(store, autocommit=True) as connection:
            connection.execute("DELETE FROM livedex.documents WHERE document_id = 'one.md'")
            forged = """UPDATE livedex.documents SET raw = raw || '{"title": "x"}' WHERE document_id = 'two.md'"""
            connection.execute(forged)
        repaired, again = await index.audit(repair=True), await index.audit()
        stop.set()
        await following
    assert [(part.name, part.findings, part.skipped) for part in clean.parts] == [
        ("store", (), None), ("docs", (), None), ("handbook", (), None)
    ]  # fmt: skip
    assert {finding.kind: finding.left for part in repaired.parts for finding in part.findings} == {
        Kind.MISSING: 0, Kind.DIFFERENT: 0, Kind.ORPHAN: 0
    }  # fmt: skip
    assert again.found == 0


def test_the_digest_of_a_folder_is_that_of_its_rows(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("# Title\n\nText.")

    async def look() -> tuple[dict[str, int], dict[str, int]]:
        source = FilesSource(tmp_path, name="docs", include=["**/*"])
        async with source.look(patience_seconds=0) as look:
            compared = await look.compare("files")
            rows = await look.rows("files", await look.digests("files", EVERY_RANGE))
            ours = {key_text("files", row.key): row.columns for row in rows}
            digests = {key: digest_of(key, columns, compared.columns) for key, columns in ours.items()}
            return dict(await look.digests("files", EVERY_RANGE)), digests

    theirs, ours = asyncio.run(look())
    assert theirs == ours != {}
