"""The pictures of docs/architecture.md show floors, tables and states as they are."""

from __future__ import annotations

import re
import runpy
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = "docs/generate_pictures.py"
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
drawing: dict[str, Any] = runpy.run_path(str(ROOT / SCRIPT))


@pytest.fixture
async def dsn(tmp_path: Path, fresh_database: str) -> AsyncIterator[str]:
    """A database with one view whose first load is done."""
    environ = {"LIVEDEX_DATABASE_URL": fresh_database, "HOME": str(tmp_path)}
    async with drawing["small_index"](tmp_path, environ) as dsn:
        yield dsn


def stored(name: str) -> str:
    return (ROOT / "docs" / "pictures" / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["floors.svg", "data-flow.svg"])
def test_picture_is_current(name: str) -> None:
    assert stored(name) == drawing["draw_unstored"]()[name], f"run: python {SCRIPT}"


async def test_pictures_of_tables_are_current(dsn: str) -> None:
    for name, picture in drawing["draw_stored"](dsn).items():
        assert stored(name) == picture, f"run: python {SCRIPT}"


async def test_the_page_tells_the_states_of_a_source_partition_that_the_store_allows(dsn: str) -> None:
    (partitions,) = [table for table in drawing["read_tables"](dsn, "livedex") if table.name == "partitions"]
    (allowed,) = [column.values for column in partitions.columns if column.name == "state"]
    told = PAGE.partition("| from | event | to |")[2].partition("\n\n")[0]
    assert set(re.findall(r"`(\w+)`", re.sub(r"`livedex [^`]*`", "", told))) == set(allowed)


def test_every_picture_stands_on_the_page() -> None:
    drawn = {file.name for file in (ROOT / "docs" / "pictures").iterdir()}
    assert set(re.findall(r"!\[[^\]]+\]\(pictures/([\w.-]+)\)", PAGE)) == drawn
