"""The quickstart, the README and the SQL reference, done as they say against real servers."""

from __future__ import annotations

import os
import re
import runpy
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
QUICKSTART = ROOT / "docs" / "quickstart.md"
ROLE, PASSWORD = "livedex_reader", "choose-one"
PATIENCE_SECONDS = 120.0


def blocks(page: Path, language: str, section: str = "") -> list[str]:
    """The fenced blocks of a language on a page, or in the section under a heading."""
    text = page.read_text(encoding="utf-8")
    if section:
        text = text.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def statements(section: str) -> list[str]:
    return [part for block in blocks(QUICKSTART, "sql", section) for part in re.split(r"(?<=;)\n", block.strip())]


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
        """A page's configuration, with the embedder that needs no download."""
        if "embedder" not in text:
            text = text.replace("    from: shop\n", "    from: shop\n    embedder: hashing\n")
        assert "embedder: hashing" in text
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
    """Section 1 of the quickstart has been done."""
    owner_dsn = database_on(server)
    environ = {
        "SHOP_DATABASE_URL": make_conninfo(owner_dsn, user=ROLE, password=PASSWORD),
        "LIVEDEX_DATABASE_URL": database_on(server),
        "HOME": str(tmp_path),
    }
    shop = Shop(tmp_path, owner_dsn, environ)
    shop.execute(*statements("1. Prepare the database"))
    try:
        yield shop
    finally:
        with psycopg.connect(owner_dsn, autocommit=True) as connection:
            if connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (ROLE,)).fetchone():
                connection.execute(f"DROP OWNED BY {ROLE}")
                connection.execute(f"DROP ROLE {ROLE}")


def test_quickstart_leads_from_a_table_to_searching_it_and_cleans_up(shop: Shop) -> None:
    (configuration,) = blocks(QUICKSTART, "yaml")
    shop.configure(configuration)
    synced = shop.run("-m", "livedex", "sync")
    assert [line.split() for line in synced.splitlines()[1:]] == [["handbook", "2", "0", "0", "0", "0", "2"]]
    shop.execute(*statements("5. Follow it"))
    shop.run("-m", "livedex", "sync")
    assert "within three working days" in shop.run("-m", "livedex", "search", "handbook", "refunds", "--top-k", "1")
    (program,) = blocks(QUICKSTART, "python")
    assert program.count('"When do I get my money back?"') == 1
    question = program.replace("When do I get my money back?", "When are refunds paid?")  # hashing knows words only
    assert shop.run("-c", question).startswith("Refund policy 2")
    shop.execute(*statements("Clean up"))
    with psycopg.connect(shop.owner_dsn) as connection:
        left = connection.execute(
            "SELECT slot_name FROM pg_replication_slots WHERE database = current_database() "
            "UNION ALL SELECT pubname FROM pg_publication UNION ALL SELECT rolname FROM pg_roles WHERE rolname = %s",
            (ROLE,),
        ).fetchall()
    assert left == []


def test_readme_configuration_and_program_search_the_table(shop: Shop) -> None:
    (configuration,) = blocks(ROOT / "README.md", "yaml")
    shop.configure(configuration.replace("    tables:\n", "    publication: livedex_shop\n    tables:\n"))
    (program,) = blocks(ROOT / "README.md", "python")
    lag, hit, *_ = shop.run("-c", program).splitlines()
    assert lag.endswith("s behind the source")
    assert hit.startswith("refund-policy ")


async def test_sql_reference_tells_the_columns_and_its_examples_run(shop: Shop) -> None:
    (configuration,) = blocks(QUICKSTART, "yaml")
    shop.configure(configuration.replace("metadata: [category]", "metadata: [category, start]"))
    shop.execute("ALTER TABLE documents ADD COLUMN start date")
    async with livedex.open(shop.directory / "livedex.yaml", environ=shop.environ) as index:
        await index.sync()
        vector, model = await index.embed("handbook", "refunds")
    page = ROOT / "docs" / "reference" / "sql.md"
    told = re.findall(r"^\| `(\w+)` \| (\S+) \| (.+) \|$", page.read_text(encoding="utf-8"), re.MULTILINE)
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
