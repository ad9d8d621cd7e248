"""What stands for the user's own application: a PostgreSQL server with an ordinary table of documents."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from typing import Any

from psycopg import AsyncConnection

CREATE = """\
CREATE TABLE documents (
    doc_id text PRIMARY KEY,
    title text NOT NULL,
    content text NOT NULL,
    category text NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
)"""
INSERT = "INSERT INTO documents (doc_id, title, content, category) VALUES (%s, %s, %s, %s)"
SIZE = "SELECT count(*), coalesce(sum(length(content)), 0) FROM documents"


@dataclass(frozen=True, slots=True)
class Page:
    """One document of the handbook, as a row of the table."""

    doc_id: str
    title: str
    content: str
    category: str


def handbook() -> list[Page]:
    """The documents that come with livedex, by category and id."""
    pages = []
    for folder in files("livedex.demo").joinpath("handbook").iterdir():
        for file in folder.iterdir():
            content = file.read_text(encoding="utf-8")
            title = content.partition("\n")[0].removeprefix("# ")
            pages.append(Page(file.name.removesuffix(".md"), title, content, folder.name))
    return sorted(pages, key=lambda page: (page.category, page.doc_id))


class Application:
    """The application's connection to its database. It knows nothing of livedex."""

    def __init__(self, connection: AsyncConnection[Any]) -> None:
        self._connection = connection

    async def set_up(self) -> None:
        """Create the table and fill it, in one transaction."""
        pages = handbook()
        async with self._connection.transaction(), self._connection.cursor() as cursor:
            await cursor.execute(CREATE)
            await cursor.executemany(INSERT, [(p.doc_id, p.title, p.content, p.category) for p in pages])

    async def size(self) -> tuple[int, int]:
        """How many documents there are, and how many characters they hold together."""
        row = await (await self._connection.execute(SIZE)).fetchone()
        assert row is not None
        return int(row[0]), int(row[1])

    async def commit(self, statement: str) -> datetime:
        """Run a statement and commit it; a time just before, by the server's clock."""
        row = await (await self._connection.execute("SELECT clock_timestamp()")).fetchone()
        assert row is not None
        await self._connection.execute(statement.encode())
        started: datetime = row[0]
        return started
