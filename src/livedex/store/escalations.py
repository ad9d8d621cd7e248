"""Tickets: questions that a view's contract left to a person."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from hashlib import blake2b
from typing import Any

from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from livedex.errors import NotFound
from livedex.model import Dropped, Query, Retrieval, Verdict, Violation
from livedex.rules.escalations import Move, State, moved
from livedex.store.answers import storable
from livedex.store.database import Connection, Database
from livedex.store.statements import Statements, load

STATEMENTS = Statements("escalations")


@dataclass(frozen=True, slots=True)
class Escalation:
    """`question` is None where queries are not to be kept. It was asked `times` times; contract, violations, retrieval
    and `nearest`, what was withheld best first, are those of the last time."""

    escalation: int
    view: str
    state: State
    question: str | None
    tenant: str | None
    contract: str
    violations: tuple[Violation, ...]
    nearest: tuple[Dropped, ...]
    retrieval_id: str
    times: int
    opened_at: datetime
    last_at: datetime
    taken_by: str | None
    taken_at: datetime | None
    resolved_by: str | None
    resolved_at: datetime | None
    resolution: str | None


class Escalations:
    """`keep_questions`: False leaves a keyed hash of a question only, enough to know it again."""

    def __init__(self, database: Database, hash_key: bytes, *, keep_questions: bool = True) -> None:
        self._database = database
        self._hash_key = hash_key
        self._keep_questions = keep_questions

    async def open(self, query: Query, retrieval: Retrieval, verdict: Verdict) -> int:
        """Open a ticket for a question, or count it on the one that waits for an answer to the same question: the same
        words and filters, asked on the same behalf. Its number."""
        values = {
            "view": retrieval.view,
            "question": storable(query.text) if self._keep_questions else None,
            "question_hash": self._hash(retrieval.view, query),
            "tenant": query.tenant,
            "contract": verdict.contract,
            "violations": Jsonb([asdict(violation) for violation in verdict.violations]),
            "retrieval_id": retrieval.retrieval_id,
        }
        async with self._database.transaction() as connection:
            await connection.execute(load("purge")["hold_back_purges"])
            row = await (await connection.execute(STATEMENTS["open"], values)).fetchone()
            if row is None:
                raise NotFound(f"There is no view {retrieval.view} in this index any more.")
            number = int(row[0])
            await connection.execute(STATEMENTS["forget_nearest"], {"escalation": number})
            nearest = Jsonb([_nearest(rank, each) for rank, each in enumerate(verdict.dropped, 1)])
            noting = STATEMENTS.for_schema(f"livedex_g{retrieval.generation}")["note_nearest"]
            await connection.execute(noting, {"escalation": number, "nearest": nearest})
        return number

    async def list(self, states: Sequence[State] = tuple(State)) -> list[Escalation]:
        """Tickets in these states, oldest first."""
        async with self._database.connection() as connection:
            return await _tickets(connection, states, None)

    async def one(self, number: int) -> Escalation:
        """Raises NotFound."""
        async with self._database.connection() as connection:
            found = await _tickets(connection, tuple(State), number)
        if not found:
            raise NotFound(f"There is no escalation {number}. See: livedex escalations list --all")
        return found[0]

    async def take(self, number: int, by: str) -> Escalation:
        """Say who looks into it. Raises NotFound, and IllegalMove when somebody else was faster."""
        return await self._move(number, Move.TAKE, by, None)

    async def resolve(self, number: int, by: str, resolution: str) -> Escalation:
        """Close it with what came of it. Raises NotFound, and IllegalMove when it is closed already."""
        return await self._move(number, Move.RESOLVE, by, resolution)

    async def _move(self, number: int, move: Move, by: str, resolution: str | None) -> Escalation:
        while True:  # each turn that ends in nothing, somebody else has moved it on; states lead one way
            found = await self.one(number)
            to = moved(found.state, move, number=number, by=found.resolved_by or found.taken_by)
            values = {"escalation": number, "from": found.state, "to": to, "by": by, "resolution": resolution}
            async with self._database.connection() as connection:
                row = await (await connection.execute(STATEMENTS[move.value], values)).fetchone()
            if row is not None:
                return await self.one(number)

    def _hash(self, view: str, query: Query) -> bytes:
        filters = {name: sorted(values) for name, values in query.filters.items()}
        asked = [view, query.text.strip(), query.tenant, sorted(query.principals), filters]
        canonical = json.dumps(asked, sort_keys=True)
        return blake2b(canonical.encode(), digest_size=16, key=self._hash_key).digest()


def _nearest(rank: int, dropped: Dropped) -> dict[str, Any]:
    return {"rank": rank, "chunk": int(dropped.chunk_id.rpartition("-")[2]), **asdict(dropped)}


async def _tickets(connection: Connection, states: Sequence[State], number: int | None) -> list[Escalation]:
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(STATEMENTS["tickets"], {"states": [state.value for state in states], "escalation": number})
        return [_ticket(row) for row in await cursor.fetchall()]


def _ticket(row: dict[str, Any]) -> Escalation:
    nearest = tuple(Dropped(**{**each, "violations": _violations(each["violations"])}) for each in row["nearest"])
    return Escalation(
        **{**row, "state": State(row["state"]), "violations": _violations(row["violations"]), "nearest": nearest}
    )


def _violations(stored: Sequence[dict[str, str]]) -> tuple[Violation, ...]:
    return tuple(Violation(**each) for each in stored)
