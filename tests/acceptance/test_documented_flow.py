"""The README, the pages on search and the SQL reference, done as they say against real servers.

The quickstart has test_quickstart.py, the demo test_demo.py, docs/how-to/serve.md test_serve_page.py.
"""

from __future__ import annotations

import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

import livedex
from livedex.store.embedded import EmbeddedServer

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
SEARCH = ROOT / "docs" / "how-to" / "search.md"
QUICKSTART = ROOT / "docs" / "quickstart.md"
ROLE, PASSWORD = "livedex_reader", "choose-one"
PATIENCE_SECONDS = 120.0


def blocks(page: Path, language: str, section: str = "") -> list[str]:
    """The fenced blocks of a language on a page, or in the section under a heading."""
    text = page.read_text(encoding="utf-8")
    if section:
        text = text.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def commands(page: Path, section: str = "") -> list[list[str]]:
    """The words after `livedex` on each line of shell."""
    lines = [line for block in blocks(page, "sh", section) for line in block.splitlines()]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("livedex ")]


@dataclass(frozen=True)
class Shop:
    """`owner_dsn` is the application's way into its database, `environ` what the reader exports."""

    directory: Path
    owner_dsn: str
    environ: dict[str, str]

    def execute(self, *statements: str) -> None:
        with psycopg.connect(self.owner_dsn, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def configure(self, text: str) -> None:
        """The README's configuration, with the publication that the quickstart makes."""
        assert "embedder: hashing" in text  # which needs no download
        text = text.replace("    tables:\n", "    publication: livedex_shop\n    tables:\n")
        (self.directory / "livedex.yaml").write_text(text)

    def run(self, *arguments: str) -> str:
        """Run Python in the reader's directory; what it printed."""
        environ = os.environ | self.environ
        done = subprocess.run([sys.executable, *arguments], cwd=self.directory, env=environ, text=True, check=False,
                              stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE_SECONDS)  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def shop(tmp_path: Path, server: EmbeddedServer, database_on: Callable[[EmbeddedServer], str]) -> Iterator[Shop]:
    """The database of the quickstart, after its sections 1 and 3."""
    owner_dsn = database_on(server)
    environ = {
        "SHOP_DATABASE_URL": make_conninfo(owner_dsn, user=ROLE, password=PASSWORD),
        "LIVEDEX_DATABASE_URL": database_on(server),
        "HOME": str(tmp_path),
    }
    shop = Shop(tmp_path, owner_dsn, environ)
    shop.execute(*blocks(QUICKSTART, "sql", "1. Prepare the database"), *blocks(QUICKSTART, "sql", "3. Check it"))
    try:
        yield shop
    finally:
        with psycopg.connect(owner_dsn, autocommit=True) as connection:
            if connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (ROLE,)).fetchone():
                connection.execute(f"DROP OWNED BY {ROLE}")
                connection.execute(f"DROP ROLE {ROLE}")


def test_readme_leads_from_its_configuration_to_searching(shop: Shop) -> None:
    (configuration,) = blocks(README, "yaml")
    shop.configure(configuration)
    told = commands(README, "Use it")
    assert told.pop(3) == ["up"]  # which the quickstart's test runs
    doctor, sync, search, status, audit = [shop.run("-m", "livedex", *words) for words in told]
    assert "✓ publication" in doctor
    assert [line.split() for line in sync.splitlines()[1:]] == [["handbook", "3", "0", "0", "0", "0", "3"]]
    assert "Refunds are paid within fourteen days" in search.partition(" 2  ")[0]
    assert "nothing waits · indexed" in status
    assert "nothing found" in audit
    (program,) = blocks(README, "python")
    lag, hit, *_ = shop.run("-c", program).splitlines()
    assert lag.endswith("s behind the source")
    assert hit.startswith("refund-policy ")
    (statement,) = blocks(README, "sql")
    printed = shop.run("-m", "livedex", "embed", "handbook", "When are refunds paid?")
    assert numberless(printed) == numberless(statement)
    with psycopg.connect(shop.environ["LIVEDEX_DATABASE_URL"]) as connection:
        assert connection.execute(printed.encode()).fetchall()[0][0] == "refund-policy"


def numberless(statement: str) -> str:
    """Without the vector and the model's name."""
    return re.sub(r"'\[[^]]*\]', '[^']*'", "'[...]', '...'", statement)


def test_page_on_search_finds_what_it_says(shop: Shop) -> None:
    (configuration,) = blocks(SEARCH, "yaml")
    shop.configure(configuration.replace("tables: {", "publication: livedex_shop, tables: {"))
    shop.run("-m", "livedex", "sync")
    hybrid, lexical = [shop.run("-m", "livedex", *words) for words in commands(SEARCH)]
    assert "refund-policy" in hybrid
    assert "error-codes" in lexical
    assert "refund-policy" not in lexical
    for parts in ("retry limit", "payment_retry_limit", "limits"):
        assert "error-codes" in shop.run("-m", "livedex", "search", "handbook", parts, "--mode", "lexical")


async def test_sql_reference_tells_the_columns_and_its_examples_run(shop: Shop) -> None:
    (configuration,) = blocks(README, "yaml")
    shop.configure(configuration.replace("metadata: [category]", "metadata: [category, start]"))
    shop.execute("ALTER TABLE documents ADD COLUMN start date")
    async with livedex.open(shop.directory / "livedex.yaml", environ=shop.environ) as index:
        await index.sync()
        vector, model = await index.embed("handbook", "refunds")
    page = ROOT / "docs" / "reference" / "sql.md"
    written = page.read_text(encoding="utf-8").partition("\n## Freshness")[0]
    told = re.findall(r"^\| `(\w+)` \| (\S+) \| (.+) \|$", written, re.MULTILINE)
    columns = """SELECT attname, atttypid::regtype::text, col_description(attrelid, attnum)
        FROM pg_attribute WHERE attrelid = 'handbook'::regclass AND attnum > 0 ORDER BY attnum"""
    with psycopg.connect(shop.environ["LIVEDEX_DATABASE_URL"], autocommit=True) as connection:
        found = [(n, t.replace("timestamp with time zone", "timestamptz"), m)
                 for n, t, m in connection.execute(columns).fetchall()]  # fmt: skip
        assert found[:-2] == told
        assert [name for name, *_ in found[-2:]] == ["category", "metadata_start"]
        connection.execute("CREATE ROLE application")
        try:
            for example in [block for block in blocks(page, "sql") if "RETURNS" not in block]:
                filled = re.sub(r"'\[0\.0132,\.\.\.\]'", f"'{vector}'", example)
                connection.execute(re.sub(r"'all-MiniLM-L6-v2:\w+'", f"'{model}'", filled).encode())
        finally:
            connection.execute("DROP OWNED BY application")
            connection.execute("DROP ROLE application")


def test_generated_sql_page_has_a_type_for_every_column() -> None:
    script = runpy.run_path(str(ROOT / "docs" / "generate_sql_reference.py"))
    assert script["TYPES"].keys() - script["COLUMNS"].keys() == set()
