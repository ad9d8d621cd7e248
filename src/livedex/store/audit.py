"""The log's side of an audit: what it says of a source's rows, what capture is asked to read again, and the record."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import dict_row, tuple_row
from psycopg.types.json import Jsonb

from livedex.digests import is_key, key_of
from livedex.model import Change, Op
from livedex.rules.audit import Example, Held, Part, unlike
from livedex.rules.folding import fold
from livedex.store.database import Database, translate
from livedex.store.entries import Entry, SourceRow, hashes, key_hash, resolve
from livedex.store.forgotten import Forgotten
from livedex.store.statements import load

SQL = load("audit")
LOG = load("log")
READ_AT_ONCE = 500
RESTING_TOLERANCE = 0.02


@dataclass(frozen=True, slots=True)
class Ranges:
    """What a table's documents come to by range (`livedex.ports.Compared`), and how much content they hold."""

    ranges: Mapping[int, tuple[int, int]]
    documents: int
    content_bytes: int


@dataclass(frozen=True, slots=True)
class PartitionState:
    partition: str
    state: str
    position: str | None
    error: str | None


class LogAudit:
    """What the log holds of one source."""

    def __init__(self, database: Database, source: SourceRow) -> None:
        self._database = database
        self.source = source

    async def state(self) -> list[PartitionState]:
        return [PartitionState(**row) for row in await self._rows("state")]

    async def ranges(self, table: str, columns: Sequence[str]) -> Ranges:
        rows = await self._rows("log_ranges", table=table, columns=list(columns), ranges=None)
        return Ranges(
            {row["range"]: (row["documents"], row["digest"]) for row in rows},
            sum(row["documents"] for row in rows),
            sum(row["content_bytes"] for row in rows),
        )

    async def keys(self, table: str, columns: Sequence[str], ranges: Collection[int]) -> dict[str, Held]:
        """Of the live documents in some ranges, by key text."""
        rows = await self._rows("log_keys", table=table, columns=list(columns), ranges=sorted(ranges))
        return {row["key"]: Held(row["seq"], row["digest"]) for row in rows}

    async def documents(self) -> int:
        return int((await self._rows("live_documents"))[0]["documents"])

    async def damaged(self, part: int, parts: int) -> AsyncIterator[tuple[str, Example]]:
        """Live documents that are not what their own columns make of them, with their key texts; of one of so many
        parts of the source's documents, counted from 0."""
        async with (
            self._database.transaction() as connection,
            connection.cursor("audit_documents", row_factory=dict_row) as cursor,
        ):
            await cursor.execute(SQL["documents"], self._values({"part": part, "parts": parts}))
            while rows := await cursor.fetchmany(READ_AT_ONCE):
                for damaged in await asyncio.to_thread(self._wrong, rows):
                    yield damaged

    async def still_damaged(self, keys: Collection[str]) -> set[str]:
        """Those of some key texts whose documents are."""
        rows = await self._rows("documents_of_key_texts", keys=list(keys))
        return {key for key, _ in self._wrong(rows)}

    async def differing(self, changes: Sequence[Change]) -> set[str]:
        """Key texts of rows that the log holds otherwise than they are now."""
        wanted = _wanted(self.source, [change for change in changes if not change.unchanged])
        stored = await self._rows(
            "documents_of_keys", key_hashes=[key_hash((change.table, change.key)) for change in changes]
        )
        return {
            row["key"]
            for row in stored
            if row["key"] in wanted and not row["refused"] and unlike(wanted[row["key"]], row)
        }

    async def lacking(self, changes: Sequence[Change]) -> set[str]:
        """Key texts of rows that capture would write, were they sent now: not forgotten, not too old."""
        async with self._database.connection() as connection:
            left = await Forgotten(connection, self.source.source_id).pass_over(changes)
            folded = fold(left)
            keys, with_raw = hashes(folded)
            values = self._values({"key_hashes": keys, "with_raw": with_raw})
            async with connection.cursor(row_factory=tuple_row) as cursor:
                await cursor.execute(LOG["existing"], values)
                entries = [Entry(*row) for row in await cursor.fetchall()]
        return {row["key"] for row in resolve(folded, self.source, entries).rows}

    def _wrong(self, rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, Example]]:
        judged = [row for row in rows if not row["refused"]]
        changes = [
            Change(Op.READ, *key_of(row["key"]), columns=row["raw"])
            for row in judged
            if row["raw"] is not None and is_key(row["key"]) and key_of(row["key"])[0] in self.source.mapping
        ]
        wanted = _wanted(self.source, changes)
        return [
            (row["key"], Example(row["document_id"], row["document"], bytes(row["key_hash"])))
            for row in judged
            if row["key"] not in wanted or unlike(wanted[row["key"]], row)
        ]

    async def _rows(self, name: str, /, **values: Any) -> list[dict[str, Any]]:
        async with self._database.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(SQL[name].replace("{digests}", SQL["digests"]), self._values(values))
            return await cursor.fetchall()

    def _values(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return {"source_id": self.source.source_id, **values}


def _wanted(source: SourceRow, changes: Sequence[Change]) -> dict[str, dict[str, Any]]:
    """By key text, the columns of the log's rows for some rows of the source."""
    rows = resolve(fold(changes), source, ()).rows
    return {row["key"]: _as_stored(row) for row in rows}


def _as_stored(row: Mapping[str, Any]) -> dict[str, Any]:
    hashed = {name: bytes.fromhex(row[name][2:]) for name in ("key_hash", "raw_hash", "content_hash")}
    updated_at = None if row["updated_at"] is None else datetime.fromisoformat(row["updated_at"])
    named = ("collection", "document_id", "tenant", "acl", "title", "metadata", "version", "content_bytes", "raw")
    return {**{name: row[name] for name in named}, **hashed, "updated_at": updated_at}


class Audits:
    """The record of audits, and what they ask for."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def due(self, every_seconds: float) -> bool:
        return bool((await self._row("due", every=every_seconds))["due"])

    async def begin(self, owner: str, wanted: Mapping[str, Any]) -> tuple[int, datetime]:
        row = await self._row("begin", owner=owner, wanted=Jsonb(dict(wanted)))
        return int(row["audit_id"]), row["started_at"]

    async def finish(self, audit_id: int, parts: Sequence[Part], error: str | None) -> datetime:
        """Keep what an audit came to. Examples stand by themselves, so that a purge can take them out."""
        figures = [part.figures for part in parts]
        examples = [
            {"subject": part.name, "kind": finding.kind.value, "ordinal": number, **_example(example)}
            for part in parts
            for finding in part.findings
            for number, example in enumerate(finding.examples)
        ]
        async with self._database.transaction() as connection:
            await connection.execute(load("purge")["hold_back_purges"])
            await connection.execute(SQL["add_examples"], {"audit_id": audit_id, "examples": Jsonb(examples)})
            await connection.execute(SQL["prune"])
            values = {"audit_id": audit_id, "report": Jsonb(figures), "error": error}
            cursor = await connection.execute(SQL["finish"], values)
            row = await cursor.fetchone()
        assert row is not None
        finished: datetime = row[0]
        return finished

    async def last(self) -> dict[str, Any] | None:
        """The newest audit that ended: audit_id, started_at, finished_at, wanted, report, error."""
        async with self._database.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(SQL["last"])
            return await cursor.fetchone()

    async def ask(self, audit_id: int, source: SourceRow, keys: Collection[str]) -> None:
        """Have whoever captures a source read these key texts again. A text that is no key names no row."""
        named = sorted(filter(is_key, keys))
        values = {"audit_id": audit_id, "source_id": source.source_id, "keys": named}
        await self._execute("ask", **values, key_hashes=[key_hash(key_of(key)) for key in named])
        await self._execute("rehash", **values, key_hashes=[key_hash(key_of(key)) for key in named])

    async def asked(self, audit_id: int, source: SourceRow) -> tuple[int, str | None]:
        """How many keys are still to be read, and why others were not."""
        row = await self._row("asked", audit_id=audit_id, source_id=source.source_id)
        return int(row["waiting"]), row["error"]

    async def withdraw(self, audit_id: int) -> None:
        await self._execute("withdraw", audit_id=audit_id)

    async def behind_log_end(self) -> list[Example]:
        rows = await self._rows("behind_log_end")
        return [Example(row["document_id"], row["document"], bytes(row["key_hash"])) for row in rows]

    async def raise_log_end(self) -> None:
        await self._execute("raise_log_end")

    async def resting(self) -> int:
        return int((await self._row("resting", tolerance=RESTING_TOLERANCE))["found"])

    async def drop_resting(self) -> None:
        await self._execute("drop_resting", tolerance=RESTING_TOLERANCE)

    async def _execute(self, name: str, /, **values: Any) -> None:
        async with self._database.connection() as connection:
            await connection.execute(SQL[name], values)

    async def _rows(self, name: str, /, **values: Any) -> list[dict[str, Any]]:
        async with self._database.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(SQL[name], values)
            return await cursor.fetchall()

    async def _row(self, name: str, /, **values: Any) -> dict[str, Any]:
        (row,) = await self._rows(name, **values)
        return row


@dataclass(frozen=True, slots=True)
class Repair:
    """A key that capture is asked to read again."""

    repair_id: int
    key: str
    key_hash: bytes

    @property
    def place(self) -> tuple[str, tuple[str, ...]]:
        return key_of(self.key)


class Repairs:
    """What capture is asked to read again of one source, on the lease holder's own connection (autocommit)."""

    def __init__(self, connection: AsyncConnection[Any], source: SourceRow) -> None:
        self._connection = connection
        self.source = source

    async def next(self, limit: int) -> list[Repair]:
        values = {"source_id": self.source.source_id, "limit": limit}
        with translate():
            async with self._connection.cursor(row_factory=tuple_row) as cursor:
                await cursor.execute(SQL["next_repairs"], values)
                return [Repair(number, key, bytes(hashed)) for number, key, hashed in await cursor.fetchall()]

    async def doubt(self, repairs: Sequence[Repair]) -> None:
        """Have what comes next under these keys written, though the log may believe that it has it."""
        hashed = [repair.key_hash for repair in repairs]
        await self._execute("doubt", source_id=self.source.source_id, key_hashes=hashed)

    async def finish(self, repairs: Sequence[Repair]) -> None:
        await self._execute("finish_repairs", repair_ids=[repair.repair_id for repair in repairs])

    async def give_up(self, repairs: Sequence[Repair], error: str) -> None:
        await self._execute("give_up_repairs", repair_ids=[repair.repair_id for repair in repairs], error=error)

    async def _execute(self, name: str, /, **values: Any) -> None:
        with translate():
            await self._connection.execute(SQL[name], values)


def _example(example: Example) -> dict[str, Any]:
    hashed = None if example.key_hash is None else "\\x" + example.key_hash.hex()
    return {**asdict(example), "key_hash": hashed}


def example_of(source: SourceRow, key: str) -> Example:
    """A key text as an example."""
    place = key_of(key)
    return Example(source.document_id(place), None, key_hash(place))
