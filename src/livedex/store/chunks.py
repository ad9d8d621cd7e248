"""One shard of a generation: reading the log after its cursor, and applying what became of a batch.

A batch is applied with its cursor in one transaction, under the shard's lease. The commit is asynchronous: should the
server crash, batch and cursor are lost together, and the log has both again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar

from psycopg import AsyncConnection
from psycopg.rows import dict_row, tuple_row

from livedex.errors import DocumentError
from livedex.faults import Faults
from livedex.model import Chunk, Document, Generation, TableMapping
from livedex.rules.deferral import Limits
from livedex.rules.diff import Recorded
from livedex.rules.lexical import weighted_words
from livedex.rules.mapping import render
from livedex.store.chunk_rows import (
    NOTHING,
    Applied,
    Batch,
    Indexed,
    LogDocument,
    Outcome,
    Position,
    Size,
    Spent,
    Vector,
    batch_values,
    chunk_row,
    exchanged_values,
    few_values,
)
from livedex.store.cost import Waiters
from livedex.store.leases import Lease
from livedex.store.lexicon import Lexicon
from livedex.store.statements import Statements, load
from livedex.store.terms import weigh

STATEMENTS = Statements("chunks")
_Made = TypeVar("_Made")
CHUNKS_PER_BLOCK = 32
"""A shard takes numbers in blocks; small ones, so that the highest numbers are the newest chunks whoever made them."""
FEW_CHUNKS = 32
"""Up to so many are inserted together with the rest of a batch; copying more is faster, but takes more journeys."""


class Shard:
    """A shard's store, on the lease holder's own connection (autocommit)."""

    def __init__(
        self,
        connection: AsyncConnection[Any],
        generation: Generation,
        shard: int,
        mappings: Mapping[int, tuple[str, Mapping[str, TableMapping]]],
        lease: Lease,
        lexicon: Lexicon,
        faults: Faults,
    ) -> None:
        self._connection = connection
        self._generation = generation
        self._shard = shard
        self._mappings = mappings
        self._lease = lease
        self._lexicon = lexicon
        self._faults = faults
        self._sql = STATEMENTS.for_schema(generation.schema)
        self._sharing = {generation.generation}
        self._numbers: list[int] = []
        self._waiters = Waiters(connection, generation.schema)

    @staticmethod
    async def prepare(connection: AsyncConnection[Any]) -> None:
        """Set a connection up for a shard's work."""
        for name in ("prepare_worker", "commit_asynchronously"):
            await connection.execute(load("session")[name])

    async def cursor(self) -> int:
        return int((await self._rows("cursor"))[0]["seq"])

    async def any_deferred(self, max_ages: Sequence[timedelta | None], said: str) -> bool:
        """Whether documents wait. Those that are not too old any more, by the ages of the sources, go on. An error of
        the cursor that begins with `said` is taken back."""
        await self._waiters.begin(self._values(said=said))
        await self._waiters.revive(self._values(max_ages=list(max_ages)))
        return await self._waiters.any(self._values())

    async def read_due(self, after: int, *, limit: int, max_bytes: int, limits: Limits) -> Batch:
        """Documents behind the cursor whose wait is over, those first that wait longest, and what is searchable of
        them; in one snapshot."""
        values = self._values(after=after, limit=limit, bytes=max_bytes, at_once=limits.debounce is None)
        async with self._connection.transaction():
            await self._connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            deferral = await self._waiters.deferral(values)
            rows = await self._waiters.due(values, limits.due_reasons(deferral))
            if not rows:
                return Batch((), {}, {}, after, after, (), Size(0, 0), at_end=False, deferral=deferral)
            documents = [self._document(*row) for row in rows]
            found = await self._waiters.found(self._values(documents=[row.document.document for row in documents]))
            ends = await self._connection.execute(self._sql["log_end"], values)
            size = Size(*(await ends.fetchall())[0][1:3])
        searchable = {row[0]: Applied(*row) for row in found.applied}
        chunks = await self._recorded(documents, searchable, found.recorded)
        deferral = replace(deferral, standing=found.standing)
        return Batch(tuple(documents), searchable, chunks, after, after, (), size, at_end=False, deferral=deferral)

    async def read(self, after: int, *, limit: int, max_bytes: int, deferring: bool = False) -> Batch:
        """Up to `limit` documents and `max_bytes` of content after a cursor, at least one if there is any, and what is
        searchable of them; all in one snapshot and one journey. `deferring`: with what waits."""
        values = self._values(after=after, limit=limit, bytes=max_bytes)
        connection = self._connection
        async with connection.pipeline(), connection.transaction():
            await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            read, end, applied, recorded = (connection.cursor(row_factory=tuple_row) for _ in range(4))
            await read.execute(self._sql["read_after"], values)
            await end.execute(self._sql["log_end"], values)
            await applied.execute(self._sql["applied_after"], values)
            await recorded.execute(self._sql["recorded_after"], values)
            deferral = await self._waiters.deferral(values, of_next=True) if deferring else None
            rows, ends = await read.fetchall(), await end.fetchall()
            searchable = {row[0]: Applied(*row) for row in await applied.fetchall()}
            standing = await recorded.fetchall()
        head, size = int(ends[0][0]), Size(*ends[0][1:3])
        documents = [self._document(*row) for row in rows]
        chunks = await self._recorded(documents, searchable, standing)
        full = len(rows) == limit or sum(row.content_bytes for row in documents) >= max_bytes
        if full:
            documents = _whole_transactions(documents)
            last = documents[-1].document.seq
            return Batch(tuple(documents), searchable, chunks, after, last, (), size, at_end=False, deferral=deferral)
        positions = tuple(Position(*row[3:]) for row in ends if row[3] is not None)
        at_end = bool(positions)
        return Batch(tuple(documents), searchable, chunks, after, head, positions, size, at_end, deferral)

    async def claim_texts(self, hashes: Sequence[bytes]) -> tuple[set[bytes], dict[bytes, Vector]]:
        """Those of the texts that nobody else is embedding, which are ours until `release_texts`; and the vectors that
        some live generation of the same model has, or that rest."""
        values = self._values(text_hashes=list(hashes))
        parts = [STATEMENTS.for_schema(f"livedex_g{number}")["known_in_generation"] for number in sorted(self._sharing)]
        known = " UNION ALL ".join([*parts, self._sql["known_resting"]])
        # Two statements: the second sees what was committed before the claims were ours.
        async with self._connection.pipeline():
            claims, vectors = self._connection.cursor(), self._connection.cursor(binary=True)
            await claims.execute(self._sql["claim_texts"], values)
            await vectors.execute(known, values)
            claimed = {bytes(text_hash) for (text_hash,) in await claims.fetchall()}
            return claimed, {bytes(text_hash): vector for text_hash, vector in await vectors.fetchall()}

    async def release_texts(self) -> None:
        await self._execute("release_texts")

    async def refresh_sharing(self) -> None:
        """Look up again which live generations have vectors of our model."""
        rows = await self._rows("sharing_model")
        self._sharing = {int(row["generation"]) for row in rows}

    async def rest(self, vectors: Mapping[bytes, Vector]) -> None:
        """Keep vectors of a batch that is not applied yet. Raises LeaseLost: a purge must not find them afterwards."""
        async with self._connection.pipeline(), self._connection.transaction():
            await self._hold()
            await self._execute("rest", text_hashes=list(vectors), embeddings=list(vectors.values()))

    async def apply(
        self,
        batch: Batch,
        outcomes: Sequence[Outcome],
        vectors: Mapping[bytes, Vector],
        spent: Spent,
        rested: Sequence[bytes],
    ) -> None:
        """Make a batch searchable and move the cursor, in one transaction. Raises LeaseLost if it is not ours."""
        inserts = [(o.source.document.document, wanted) for o in outcomes for wanted in o.plan.insert]
        await self._reserve(len(inserts))
        rows = [chunk_row(self._numbers.pop(), *insert) for insert in inserts]
        embeddings = [vectors.get(row["text_hash"]) for row in rows]
        indexed = await self._indexed(batch.size, outcomes, [row["chunk"] for row in rows])
        few = len(indexed.chunks) <= FEW_CHUNKS
        connection = self._connection
        async with connection.transaction():
            if not few:
                await self._hold()
                await self._copy(rows, embeddings)
                await self._copy_terms(indexed)
                await self._faults.reach("materialize.half_written")
            values = batch_values(batch, outcomes, indexed, spent, rested)
            if few:
                values |= few_values(rows, embeddings, indexed)
            async with connection.pipeline():
                if few:
                    await self._hold()
                if batch.deferral is not None:
                    await self._waiters.note(self._values(), outcomes)
                await self._execute("apply", **{**NOTHING, **values})
            await self._faults.reach("materialize.before_commit")
        await self._faults.reach("materialize.after_commit")
        if rows:
            # After the commit: until then, and as long as they are new, searches measure them anyway.
            await self._execute("note_strays", chunks=[row["chunk"] for row in rows])

    @staticmethod
    async def note_error(connection: AsyncConnection[Any], generation: Generation, shard: int, error: str) -> None:
        """Show why a shard makes no progress."""
        values = {"generation": generation.generation, "shard": shard, "error": error}
        await connection.execute(STATEMENTS["note_cursor_error"], values)

    async def _hold(self) -> None:
        lease = self._lease
        await self._execute("hold", resource=lease.resource, epoch=lease.epoch, seconds=lease.seconds)

    async def _copy(self, rows: Sequence[Mapping[str, Any]], embeddings: Sequence[Vector | None]) -> None:
        cursor = self._connection.cursor()
        async with cursor.copy(self._sql["copy_chunks"]) as copy:
            copy.set_types(
                ["int8", "int8", "int4", "int4", "int4", "text[]", "text", "text", "bytea", "bytea", "bytea"]
            )
            for row in rows:
                await copy.write_row(tuple(row.values()))
        async with cursor.copy(self._sql["copy_vectors"]) as copy:
            copy.set_types(["int8", "int8", "halfvec"])
            for row, embedding in zip(rows, embeddings, strict=True):
                if embedding is not None:
                    await copy.write_row((row["chunk"], row["document"], embedding))

    async def _copy_terms(self, indexed: Indexed) -> None:
        # What is written anew goes first: its row is in the way.
        await self._execute("exchange_terms", **exchanged_values(indexed))
        terms = indexed.terms
        async with self._connection.cursor().copy(self._sql["copy_terms"]) as copy:
            copy.set_types(["int8", "int8", "int4", "float8", "tsvector", "sparsevec"])
            for row in zip(
                indexed.chunks, indexed.documents, terms.lengths, terms.norms, terms.tsvs, terms.weights, strict=True
            ):
                await copy.write_row(row)

    async def _indexed(self, size: Size, outcomes: Sequence[Outcome], numbers: Sequence[int]) -> Indexed:
        """What is indexed lexically: every new chunk, in the order of its numbers, and those whose terms changed."""
        named = [(o.source.document, wanted.chunk) for o in outcomes for wanted in o.plan.insert]
        anew = [(o.source.document, m) for o in outcomes for m in o.plan.move if m.indexed_anew]
        named += [(document, move.wanted.chunk) for document, move in anew]
        replaced = [move.recorded for _, move in anew]
        unindexed = [*(chunk for outcome in outcomes for chunk in outcome.plan.drop), *replaced]
        if not named:
            return Indexed(unindexed=unindexed)
        written = await self._aside(len(named), partial(_written, named))
        known = await self._lexicon.learn(self._connection, written)
        terms = await self._aside(len(named), partial(weigh, written, known, size.chunks, size.terms_length))
        return Indexed([*numbers, *replaced], [document.document for document, _ in named], terms, unindexed)

    @staticmethod
    async def _aside(chunks: int, work: Callable[[], _Made]) -> _Made:
        """Work on so many chunks, in a thread if that takes long enough to be worth one."""
        return work() if chunks <= FEW_CHUNKS else await asyncio.to_thread(work)

    async def _reserve(self, count: int) -> None:
        missing = count - len(self._numbers)
        if missing > 0:
            rows = await self._rows("reserve_chunks", blocks=-(-missing // CHUNKS_PER_BLOCK))
            starts = [row["block"] * CHUNKS_PER_BLOCK for row in rows]
            numbers = [number for start in starts for number in range(start, start + CHUNKS_PER_BLOCK)]
            self._numbers = sorted([*self._numbers, *numbers], reverse=True)

    def _document(
        self,
        document: int,
        source_id: int,
        collection: str,
        document_id: str,
        seq: int,
        commit_seq: int,
        version: str,
        title: str,
        deleted: bool,
        content_hash: bytes,
        content_bytes: int,
        source_position: str | None,
        source_time: datetime | None,
        captured_at: datetime,
        raw: Mapping[str, Any] | None,
        quarantined: bool,
        dated: datetime | None,
    ) -> LogDocument:
        """A row of `read_after`."""
        source, mapping = self._mappings[source_id]
        # What capture refused says nothing, whatever its columns hold.
        content, media_type = ("", "") if raw is None or not content_bytes else _content(mapping[collection], raw)
        value = Document(
            document=document,
            source=source,
            table=collection,
            document_id=document_id,
            seq=seq,
            version=version,
            title=title,
            content=content,
            deleted=deleted,
            source_position=source_position,
            source_time=source_time,
            captured_at=captured_at,
            media_type=media_type,
        )
        return LogDocument(value, source_id, commit_seq, bytes(content_hash), content_bytes, quarantined, dated)

    async def _recorded(
        self, documents: Sequence[LogDocument], applied: Mapping[int, Applied], rows: Sequence[tuple[Any, ...]]
    ) -> dict[int, list[Recorded]]:
        """Chunks by document. Only we write them, so which of them have vectors may be asked afterwards."""
        partly = [document for document, row in applied.items() if row.lexical_only]
        embedded = await self._waiters.embedded(self._values(documents=partly)) if partly else set()
        return _by_document(documents, rows, lambda document, chunk: document not in partly or chunk in embedded)

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


def _content(mapping: TableMapping, raw: Mapping[str, Any]) -> tuple[str, str]:
    """What a row says, and what that is written in. The metadata stands in the log."""
    try:
        rendered = render(mapping, raw, with_front_matter=False)
    except DocumentError:
        return "", ""  # Capture refused it and says so in quarantine; until it is mended it has nothing to show.
    return rendered.content, rendered.media_type


def _by_document(
    documents: Sequence[LogDocument], rows: Sequence[tuple[Any, ...]], has_vector: Callable[[int, int], bool]
) -> dict[int, list[Recorded]]:
    chunks: dict[int, list[Recorded]] = {row.document.document: [] for row in documents}
    for document, chunk, text_hash, shown_hash, terms_hash, index, start, end, headings, section_type in rows:
        # The byte limit of a batch may have left out a document whose chunks were read.
        if document in chunks:
            hashes = bytes(text_hash), bytes(shown_hash), bytes(terms_hash)
            place = (chunk, *hashes, index, start, end, tuple(headings), section_type)
            chunks[document].append(Recorded(*place, has_vector(document, chunk)))
    return chunks


def _written(chunks: Sequence[tuple[Document, Chunk]]) -> list[list[str]]:
    return [weighted_words(document.title, c.heading_path, c.embedded_text) for document, c in chunks]


def _whole_transactions(documents: list[LogDocument]) -> list[LogDocument]:
    """Leave out the start of a source transaction whose end did not fit, unless there is nothing before it."""
    last = documents[-1]
    if last.commit_seq <= last.document.seq:
        return documents
    whole = [row for row in documents if row.commit_seq != last.commit_seq]
    return whole or documents
