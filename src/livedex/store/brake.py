"""The brake on losses: counts what each transaction would delete or empty, before it is written, and asks a person
where that is too much.

Counts live in memory. What was deleted before this process followed the source is read from the history, so that a
restart does not begin a new window.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

from psycopg import AsyncConnection
from psycopg.rows import dict_row

from livedex.errors import SourceHeld
from livedex.rules.brake import Losses, Question, exceeded, explained, may_exceed, recent, total
from livedex.store.database import Database
from livedex.store.entries import Resolved, SourceRow
from livedex.store.statements import load

SQL = load("brake")
MOST_EXAMPLES = 10
COUNTED_SECONDS = 5.0
"""How long the number of documents is taken for right while losses are being counted."""


@dataclass(frozen=True, slots=True)
class Lost:
    """What a transaction takes away: documents deleted, less those that came back, and documents that lose most of what
    they say; some of either. `born` are documents that it brings."""

    deletes: int = 0
    shrinks: int = 0
    born: int = 0
    examples: tuple[int, ...] = ()

    @classmethod
    def of(cls, resolved: Resolved) -> Self:
        return cls(
            len(resolved.gone) - len(resolved.revived),
            len(resolved.shrunk),
            sum(row["document"] is None for row in resolved.rows),
            (*resolved.gone[:MOST_EXAMPLES], *resolved.shrunk[:MOST_EXAMPLES]),
        )

    def __add__(self, other: Lost) -> Lost:
        examples = (*self.examples, *other.examples)[:MOST_EXAMPLES]
        return Lost(
            self.deletes + other.deletes, self.shrinks + other.shrinks, self.born + other.born, examples
        )  # fmt: skip


class Brake:
    """Of one partition, as one holder of its lease sees it. `monotonic` gives a time in seconds."""

    def __init__(
        self,
        connection: AsyncConnection[Any],
        source: SourceRow,
        partition: str,
        monotonic: Callable[[], float],
    ) -> None:
        self.question: Question | None = None
        """What the source is held for, once `check` has raised."""
        self._connection = connection
        self._source = source
        self._partition = partition
        self._limits = source.brake
        self._monotonic = monotonic
        self._window: list[Losses] = []
        self._waiting = Losses(0.0)
        self._approved: tuple[int, tuple[str, ...]] | None = None
        self._quiet_since: float | None = None
        self._counted: tuple[float, int] | None = None

    async def load(self) -> None:
        """Learn what went before, and what somebody has let pass."""
        if self._limits is None:
            return
        now = self._monotonic()
        deletes = await self._rows("recent_deletes", seconds=self._limits.window_seconds)
        self._window = [Losses(now - row["age"], deletes=row["deletes"]) for row in deletes]
        approvals = await self._rows("approval")
        self._approved = (approvals[0]["hold_id"], tuple(approvals[0]["kinds"])) if approvals else None

    async def check(self, lost: Lost) -> None:
        """Raises SourceHeld when what the open transaction has taken away goes too far."""
        deletes, shrinks = max(0, lost.deletes), lost.shrinks
        if self._limits is None or not (deletes or shrinks):
            return
        now = self._monotonic()
        self._waiting = Losses(now, deletes, shrinks)
        self._window = recent(self._window, now, self._limits.window_seconds)
        with_these = total([*self._window, self._waiting], now)
        if not may_exceed(self._limits, with_these):
            return
        documents = await self._count(now, with_these.deletes - lost.born)
        kinds = exceeded(self._limits, with_these, documents)
        if not set(kinds) - set(self._approved[1] if self._approved else ()):
            return
        self.question = Question(
            kinds, with_these.deletes, with_these.shrinks, documents, lost.examples[:MOST_EXAMPLES]
        )  # fmt: skip
        raise SourceHeld(explained(self.question, self._limits, self._source.name))

    async def passed(self, *, advanced: bool) -> None:
        """What was checked is committed. `advanced`: and a position with it."""
        losses, self._waiting = self._waiting, Losses(0.0)
        has_lost = bool(losses.deletes or losses.shrinks)
        if has_lost:
            self._window.append(losses)
        if self._approved is None or self._limits is None or not advanced:
            return
        now = self._monotonic()
        if has_lost or self._quiet_since is None:
            self._quiet_since = now
        elif now - self._quiet_since > self._limits.window_seconds:
            await self._connection.execute(SQL["end"], {"hold_id": self._approved[0]})
            self._approved = None

    async def _count(self, now: float, lost: int) -> int:
        """How many documents there were at the start of the window, as the transaction that is open has lost some."""
        if self._counted is None or now - self._counted[0] > COUNTED_SECONDS:
            (row,) = await self._rows("count_documents")
            self._counted = now, row["documents"] + lost
        return self._counted[1]

    async def _rows(self, name: str, **values: Any) -> list[dict[str, Any]]:
        async with self._connection.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(
                SQL[name], {"source_id": self._source.source_id, "partition": self._partition, **values}
            )
            return await cursor.fetchall()


async def hold(database: Database, source: SourceRow, partition: str, question: Question, error: str) -> None:
    """Stop following a partition until somebody answers."""
    values = {"source_id": source.source_id, "partition": partition}
    asked = {
        "kinds": list(question.kinds),
        "deletes": question.deletes,
        "shrinks": question.shrinks,
        "documents": question.documents,
        "examples": list(question.examples),
    }
    async with database.transaction() as connection:
        await connection.execute(SQL["end_others"], values)
        await connection.execute(SQL["ask"], values | asked)
        await connection.execute(SQL["hold"], values | {"error": error})


async def questions(database: Database, source: SourceRow) -> list[dict[str, Any]]:
    """What a source was held for, the newest first."""
    async with database.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(SQL["questions"], {"source_id": source.source_id})
        return await cursor.fetchall()


async def approve(database: Database, source: SourceRow, by: str) -> bool:
    """Let pass what a source is held for, and more of the same until it has been quiet for a window. Whether it was
    held."""
    async with database.connection() as connection:
        found = await connection.execute(SQL["approve"], {"source_id": source.source_id, "by": by})
        return found.rowcount > 0


async def retry(database: Database, source: SourceRow) -> bool:
    """Look again at a held source, and let nothing pass. Whether it was held."""
    async with database.connection() as connection:
        return (await connection.execute(SQL["retry"], {"source_id": source.source_id})).rowcount > 0
