"""One shard of a generation: reading the log after its cursor, and applying what became of a batch.

A batch is applied with its cursor in one transaction, under the shard's lease. The commit is asynchronous: should the
server crash, batch and cursor are lost together, and the log has both again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import class_row, dict_row
from psycopg.types.json import Jsonb

from livedex.errors import DocumentError, LeaseLost
from livedex.faults import Faults
from livedex.model import Document, Generation, TableMapping
from livedex.rules.diff import Recorded
from livedex.rules.mapping import render
from livedex.store.chunk_rows import (
    Applied, Batch, LogDocument, Outcome, Position, Vector, applied_row, chunk_row, lag_row, move_row, position_row,
    refused_row,
)
from livedex.store.leases import Lease
from livedex.store.statements import Statements

STATEMENTS = Statements("chunks")
CHUNKS_PER_BLOCK = 1000

class Shard:
    """A shard's store, on the lease holder's own connection (autocommit)."""

    def __init__(
        self,
        connection: AsyncConnection[Any],
        generation: Generation,
        shard: int,
        mappings: Mapping[int, tuple[str, Mapping[str, TableMapping]]],
        lease: Lease,
        faults: Faults,
    ) -> None:
        self._connection = connection
        self._generation = generation
        self._shard = shard
        self._mappings = mappings
        self._lease = lease
        self._faults = faults
        self._sql = STATEMENTS.for_schema(generation.schema)
        self._sharing = {generation.generation}
        self._numbers: list[int] = []

    async def cursor(self) -> int:
        return int((await self._rows("cursor"))[0]["seq"])

    async def read(self, after: int, *, limit: int, max_bytes: int) -> Batch:
        """Up to `limit` documents and `max_bytes` of content after a cursor; at least one if there is any."""
        async with self._connection.pipeline(), self._connection.transaction():
            await self._connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            rows_cursor = self._connection.cursor(row_factory=dict_row)
            await rows_cursor.execute(
                self._sql["read_after"], self._values(after=after, limit=limit, bytes=max_bytes)
            )  # fmt: skip
            end_cursor = self._connection.cursor(row_factory=dict_row)
            await end_cursor.execute(self._sql["log_end"], self._values())
            rows, ends = await rows_cursor.fetchall(), await end_cursor.fetchall()
        head = int(ends[0]["seq"])
        documents = [self._document(row) for row in rows]
        full = len(rows) == limit or sum(row["content_bytes"] for row in rows) >= max_bytes
        if not full:
            positions = tuple(_position(row) for row in ends if row["partition"] is not None)
            return Batch(tuple(documents), after, head, positions)
        documents = _whole_transactions(documents)
        return Batch(tuple(documents), after, documents[-1].document.seq, ())

    async def recorded(self, documents: Sequence[int]) -> tuple[dict[int, Applied], dict[int, list[Recorded]]]:
        """What is searchable of some documents now, and their chunks without text."""
        keys = self._values(documents=list(documents))
        async with self._connection.pipeline():
            applied_cursor = self._connection.cursor(row_factory=class_row(Applied))
            await applied_cursor.execute(self._sql["applied"], keys)
            chunk_cursor = self._connection.cursor()
            await chunk_cursor.execute(self._sql["recorded"], keys)
            applied = {row.document: row for row in await applied_cursor.fetchall()}
            chunks: dict[int, list[Recorded]] = {document: [] for document in documents}
            for document, chunk, text_hash, index, start, end, headings, kind in await chunk_cursor.fetchall():
                row = Recorded(chunk, bytes(text_hash), index, start, end, tuple(headings), kind)
                chunks[document].append(row)
        return applied, chunks

    async def claim_texts(self, hashes: Sequence[bytes]) -> set[bytes]:
        """Those of the texts that nobody else is embedding; they are ours until `release_texts`."""
        rows = await self._rows("claim_texts", text_hashes=list(hashes))
        return {bytes(row["text_hash"]) for row in rows}

    async def release_texts(self) -> None:
        await self._execute("release_texts")

    async def known_vectors(self, hashes: Sequence[bytes]) -> dict[bytes, Vector]:
        """Vectors of texts that some live generation of the same model has, or that rest."""
        if not hashes:
            return {}
        parts = [self._schema_sql(number)["known_in_generation"] for number in sorted(self._sharing)]
        statement = " UNION ALL ".join([*parts, self._sql["known_resting"]])
        async with self._connection.cursor() as cursor:
            await cursor.execute(statement, self._values(text_hashes=list(hashes)), binary=True)
            return {bytes(text_hash): embedding for text_hash, embedding in await cursor.fetchall()}

    async def refresh_sharing(self) -> None:
        """Look up again which live generations have vectors of our model."""
        rows = await self._rows("sharing_model")
        self._sharing = {int(row["generation"]) for row in rows}

    async def rest(self, vectors: Mapping[bytes, Vector]) -> None:
        """Keep vectors of a batch that is not applied yet."""
        await self._execute("rest", text_hashes=list(vectors), embeddings=list(vectors.values()))

    async def apply(
        self, batch: Batch, outcomes: Sequence[Outcome], vectors: Mapping[bytes, Vector], embedded: int,
        rested: Sequence[bytes],
    ) -> None:  # fmt: skip
        """Make a batch searchable and move the cursor, in one transaction. Raises LeaseLost if it is not ours."""
        await self._reserve(sum(len(outcome.plan.insert) for outcome in outcomes))
        connection = self._connection
        async with connection.transaction():
            await self._execute("hold", resource=self._lease.resource, epoch=self._lease.epoch, seconds=self._lease.seconds)
            await self._insert(outcomes, vectors)
            await self._faults.reach("materialize.half_written")
            async with connection.pipeline():
                await self._change(outcomes)
                await self._mark(batch, outcomes)
                if rested:
                    await self._execute("unrest", text_hashes=list(rested))
                moved = await self._move_cursor(batch, outcomes, embedded)
            if not moved:
                raise LeaseLost(f"The cursor of {self._lease.resource} was moved by another worker.")
            await self._faults.reach("materialize.before_commit")
        await self._faults.reach("materialize.after_commit")

    @staticmethod
    async def note_error(connection: AsyncConnection[Any], generation: Generation, shard: int, error: str) -> None:
        """Show why a shard makes no progress."""
        values = {"generation": generation.generation, "shard": shard, "error": error}
        await connection.execute(STATEMENTS["note_cursor_error"], values)

    async def _insert(self, outcomes: Sequence[Outcome], vectors: Mapping[bytes, Vector]) -> None:
        rows = [(o.source.document.document, chunk, text_hash) for o in outcomes for chunk, text_hash in o.plan.insert]
        if not rows:
            return
        numbered = [(self._numbers.pop(), *row) for row in rows]
        cursor = self._connection.cursor()
        async with cursor.copy(self._sql["copy_chunks"]) as copy:
            copy.set_types(["int8", "int8", "int4", "int4", "int4", "text[]", "text", "text", "bytea"])
            for number, document, chunk, text_hash in numbered:
                await copy.write_row(chunk_row(number, document, chunk, text_hash))
        async with cursor.copy(self._sql["copy_vectors"]) as copy:
            copy.set_types(["int8", "int8", "halfvec"])
            for number, document, _, text_hash in numbered:
                await copy.write_row((number, document, vectors[text_hash]))

    async def _change(self, outcomes: Sequence[Outcome]) -> None:
        drops = [chunk for outcome in outcomes for chunk in outcome.plan.drop]
        moves = [move_row(number, chunk) for outcome in outcomes for number, chunk in outcome.plan.move]
        if drops:
            await self._execute("drop_chunks", chunks=drops)
        if moves:
            await self._execute("move_chunks", moves=Jsonb(moves))

    async def _mark(self, batch: Batch, outcomes: Sequence[Outcome]) -> None:
        done = [outcome for outcome in outcomes if outcome.refusal is None]
        alive = [applied_row(outcome) for outcome in done if not outcome.source.document.deleted]
        gone = [o.source.document.document for o in outcomes if o.source.document.deleted]
        timed = [lag_row(outcome) for outcome in done if outcome.source.document.source_time is not None]
        refused = [refused_row(outcome) for outcome in outcomes if outcome.refusal is not None]
        if alive:
            await self._execute("mark_applied", documents=Jsonb(alive))
        if gone:
            await self._execute("mark_gone", documents=gone)
        if refused:
            await self._execute("quarantine", documents=Jsonb(refused))
        if done:
            await self._execute("unquarantine", documents=[outcome.source.document.document for outcome in done])
        if timed:
            await self._execute("sample_lag", documents=Jsonb(timed))
        if batch.positions:
            await self._execute("mark_watermarks", positions=Jsonb([position_row(p) for p in batch.positions]))

    async def _move_cursor(self, batch: Batch, outcomes: Sequence[Outcome], embedded: int) -> bool:
        done = [outcome for outcome in outcomes if outcome.refusal is None]
        alive = [outcome for outcome in done if not outcome.source.document.deleted]
        rows = await self._rows(
            "move_cursor",
            after=batch.after,
            seq=batch.end,
            added=sum(outcome.is_new for outcome in alive),
            updated=sum(not outcome.is_new for outcome in alive),
            deleted=sum(not outcome.is_new for outcome in done if outcome.source.document.deleted),
            embedded=embedded,
            inserted=sum(len(outcome.plan.insert) for outcome in outcomes),
        )
        return len(rows) == 1

    async def _reserve(self, count: int) -> None:
        missing = count - len(self._numbers)
        if missing > 0:
            rows = await self._rows("reserve_chunks", blocks=-(-missing // CHUNKS_PER_BLOCK))
            starts = [row["block"] * CHUNKS_PER_BLOCK for row in rows]
            numbers = [number for start in starts for number in range(start, start + CHUNKS_PER_BLOCK)]
            self._numbers = sorted([*self._numbers, *numbers], reverse=True)

    def _document(self, row: Mapping[str, Any]) -> LogDocument:
        source, mapping = self._mappings[row["source_id"]]
        deleted = row["deleted"]
        content = "" if deleted else _content(mapping[row["collection"]], row["raw"])
        document = Document(
            document=row["document"],
            source=source,
            table=row["collection"],
            document_id=row["document_id"],
            seq=row["seq"],
            version=row["version"],
            title=row["title"],
            content=content,
            deleted=deleted,
            source_position=row["source_position"],
            source_time=row["source_time"],
            captured_at=row["captured_at"],
        )
        return LogDocument(
            document, row["source_id"], row["commit_seq"], bytes(row["content_hash"]), row["content_bytes"]
        )

    def _schema_sql(self, generation: int) -> Mapping[str, str]:
        return STATEMENTS.for_schema(f"livedex_g{generation}")

    async def _execute(self, name: str, **values: Any) -> None:
        await self._connection.execute(self._sql[name], self._values(**values))

    async def _rows(self, name: str, **values: Any) -> list[dict[str, Any]]:
        async with self._connection.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(self._sql[name], self._values(**values))
            return await cursor.fetchall()

    def _values(self, **values: Any) -> dict[str, Any]:
        generation = self._generation
        return {
            "generation": generation.generation,
            "model_id": generation.model_id,
            "source_ids": list(generation.source_ids),
            "shards": generation.shards,
            "shard": self._shard,
            **values,
        }


def _content(mapping: TableMapping, raw: Mapping[str, Any]) -> str:
    try:
        return render(mapping, raw).content
    except DocumentError:
        return ""  # Capture refused it and says so in quarantine; until it is mended it has nothing to show.


def _position(row: Mapping[str, Any]) -> Position:
    return Position(
        row["source_id"], row["partition"], row["position"], row["position_time"], row["position_serial"]
    )


def _whole_transactions(documents: list[LogDocument]) -> list[LogDocument]:
    """Leave out the start of a source transaction whose end did not fit, unless there is nothing before it."""
    last = documents[-1]
    if last.commit_seq <= last.document.seq:
        return documents
    whole = [row for row in documents if row.commit_seq != last.commit_seq]
    return whole or documents
