"""A generation against the log: everything that must hold within the store, in one snapshot, and how it is repaired.

Repair is by the ordinary path. What is doubtful is marked so that no wanted chunk is taken to be it, and its document
is sent through the log again; the materializer replaces it, and until then the old is served. Only what belongs to no
document, which no materializer comes by, is deleted here.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from psycopg import AsyncConnection
from psycopg.rows import dict_row, tuple_row

from livedex.model import Generation
from livedex.rules.audit import MOST_EXAMPLES, Example, Kind
from livedex.rules.lexical import LEAST_HEAVIEST
from livedex.store.database import Database, translate
from livedex.store.statements import Statements, array_literal, load
from livedex.store.tally import Tally, tally

STATEMENTS = Statements("audit_view")
LOG = load("log")
NORM_TOLERANCE = 0.02
READ_AT_ONCE = 2000
MOST_MISPLACED = 1000
WEIGHT_ROUNDING = 1e-6

HashText = Callable[[str], bytes]
_OF_DOCUMENTS = (Kind.UNAPPLIED, Kind.LEFT_OVER, Kind.OUTDATED, Kind.CHUNKS)


@dataclass(frozen=True, slots=True)
class Drift:
    """What has to be added to the statistics: per term to its frequency, with an upper bound of its weights; to the
    number of chunks; and to the length of them all."""

    terms: Mapping[int, tuple[int, float]] = field(default_factory=dict)
    chunks: int = 0
    terms_length: int = 0

    @property
    def figures(self) -> int:
        return len(self.terms) + bool(self.chunks) + bool(self.terms_length)


@dataclass(frozen=True, slots=True)
class Sampled:
    """A document with chunks and vectors by the hash of what was embedded."""

    document: int
    source_id: int
    table: str
    title: str
    raw: Mapping[str, Any]
    vectors: Mapping[bytes, tuple[int, npt.NDArray[np.float32]]]


@dataclass(slots=True)
class Inspected:
    """What is wrong in one generation. `documents` by kind; `chunks` are the doubtful ones among theirs, by kind;
    `orphans` are (table, number, document)."""

    compared: int = 0
    documents: dict[Kind, set[int]] = field(default_factory=lambda: defaultdict(set))
    chunks: dict[Kind, set[int]] = field(default_factory=lambda: defaultdict(set))
    orphans: list[tuple[str, int, int]] = field(default_factory=list)
    drift: Drift = Drift()
    cursors: int = 0
    watermarks: int = 0
    examples: dict[Kind, tuple[Example, ...]] = field(default_factory=dict)

    @property
    def counts(self) -> dict[Kind, int]:
        """How many of each kind; no kind of which there is none."""
        found = {kind: len(documents) for kind, documents in self.documents.items()}
        found |= {Kind.ORPHAN: len(self.orphans), Kind.STATISTICS: self.drift.figures}
        found |= {Kind.CURSOR: self.cursors, Kind.WATERMARK: self.watermarks}
        return {kind: count for kind, count in found.items() if count}

    def doubt(self, kind: Kind, rows: Iterable[tuple[int, int]]) -> None:
        """Note chunks with their documents."""
        for chunk, document in rows:
            self.chunks[kind].add(chunk)
            self.documents[kind].add(document)


class ViewAudit:
    """One generation. `hash_text` is how shown texts are hashed (`livedex.flow.materialize.text_hash`)."""

    def __init__(self, database: Database, generation: Generation, hash_text: HashText) -> None:
        self._database = database
        self._generation = generation
        self._hash_text = hash_text
        self._sql = STATEMENTS.for_schema(generation.schema)

    async def inspect(self, *, deep: bool = False) -> Inspected:
        """`deep`: also whether the text index has the words that the weights are of."""
        found = Inspected()
        async with self._look() as connection:
            found.compared = (await self._rows(connection, "count"))[0][0]
            for kind in _OF_DOCUMENTS:
                found.documents[kind] |= {row[0] for row in await self._rows(connection, kind.value)}
            found.doubt(Kind.VECTOR, await self._rows(connection, "vectors"))
            found.orphans = await self._rows(connection, "orphans")
            found.cursors = len(await self._rows(connection, "cursors_ahead"))
            found.watermarks = len(await self._rows(connection, "watermarks_ahead"))
            await self._read_texts(connection, found)
            if self._generation.recipe.lexical:
                await self._read_terms(connection, found, deep=deep)
            else:
                found.drift = Drift(chunks=(await self._rows(connection, "sizes"))[0][0])
            found.examples = await self._named(connection, found)
        return found

    async def repair(self, found: Inspected) -> list[int]:
        """Mark what is doubtful and send its documents through the log again, in one transaction. Returns them."""
        again = sorted(set().union(*found.documents.values()))
        doubtful = set().union(*(found.documents[kind] for kind in found.documents if kind not in _NEVER_CUT))
        async with self._database.transaction() as connection:
            for kind, statement in _DOUBTS.items():
                if found.chunks[kind]:
                    await self._run(connection, statement, chunks=sorted(found.chunks[kind]))
            if doubtful:
                await self._run(connection, "doubt_documents", documents=sorted(doubtful))
            if found.orphans:
                relations, numbers, _ = zip(*found.orphans, strict=True)
                await self._run(connection, "drop_orphans", relations=list(relations), numbers=list(numbers))
            if found.cursors:
                await self._run(connection, "reset_cursors")
            if found.watermarks:
                await self._run(connection, "drop_watermarks")
            if again:
                await connection.execute(LOG["touch"], {"documents": again})
                await connection.execute(LOG["notify"], {"news": " "})
        return again

    async def correct(self, drift: Drift) -> None:
        """Bring the statistics to what they would be."""
        values = {
            "terms": array_literal(drift.terms),
            "deltas": array_literal(delta for delta, _ in drift.terms.values()),
            "heaviest": array_literal(heaviest for _, heaviest in drift.terms.values()),
            "chunks": drift.chunks,
            "terms_length": drift.terms_length,
        }
        async with self._database.transaction() as connection:
            await self._run(connection, "correct_statistics", **values)

    async def waiting(self, documents: Collection[int]) -> int:
        """How many of some documents their shards have still to read."""
        async with self._database.connection() as connection:
            return int((await self._rows(connection, "waiting", documents=list(documents)))[0][0])

    async def sample(self, seed: int, limit: int) -> list[Sampled]:
        """Some documents with the vectors of their chunks; other ones for another seed."""
        async with self._look() as connection:
            rows = await self._rows(connection, "sample", seed=seed, limit=limit)
            stored = await self._rows(connection, "vectors_of", documents=[row[0] for row in rows])
        vectors: dict[int, dict[bytes, tuple[int, npt.NDArray[np.float32]]]] = defaultdict(dict)
        for document, text_hash, chunk, vector in stored:
            vectors[document][bytes(text_hash)] = (chunk, vector)
        return [
            Sampled(document, source_id, table, title, raw, vectors[document])
            for document, source_id, table, title, raw in rows
        ]

    async def name(self, documents: Collection[int]) -> tuple[Example, ...]:
        """Some documents as examples."""
        async with self._database.connection() as connection:
            return await self._examples(connection, documents)

    async def _read_texts(self, connection: AsyncConnection[Any], found: Inspected) -> None:
        async for rows in self._streamed(connection, "texts"):
            wrong = await asyncio.to_thread(self._damaged, rows)
            found.doubt(Kind.TEXT, wrong)

    def _damaged(self, rows: Sequence[Mapping[str, Any]]) -> list[tuple[int, int]]:
        return [
            (row["chunk"], row["document"])
            for row in rows
            if self._hash_text(row["text"]) != row["shown_hash"] or len(row["text"]) != row["length"]
        ]

    async def _read_terms(self, connection: AsyncConnection[Any], found: Inspected, *, deep: bool) -> None:
        found.doubt(Kind.TERMS, await self._rows(connection, "terms"))
        total = Tally()
        async for rows in self._streamed(connection, "weights", binary=True):
            owners = {row["chunk"]: row["document"] for row in rows}
            wrong, part = await asyncio.to_thread(tally, rows)
            found.doubt(Kind.TERMS, [(chunk, owners[chunk]) for chunk in wrong])
            total = await asyncio.to_thread(total.plus, part)
        counted = {int(term): (int(n), float(w)) for term, n, w in zip(*total, strict=True)}
        if deep:
            lexemes = dict(await self._rows(connection, "lexemes"))
            met = counted.keys() | lexemes.keys()
            odd = [term for term in met if counted.get(term, (0, 0))[0] != lexemes.get(term, 0)]
            terms = sorted(odd)[:MOST_MISPLACED]
            found.doubt(Kind.TERMS, await self._rows(connection, "misplaced_lexemes", terms=terms) if odd else ())
        noted = {term: (chunks, heaviest) for term, chunks, heaviest in await self._rows(connection, "frequencies")}
        (chunks, terms_length) = (await self._rows(connection, "sizes"))[0]
        found.drift = Drift(_shifts(counted, noted), int(chunks), int(terms_length))

    async def _named(self, connection: AsyncConnection[Any], found: Inspected) -> dict[Kind, tuple[Example, ...]]:
        chosen = {kind: documents for kind, documents in found.documents.items() if documents}
        examples = {kind: await self._examples(connection, documents) for kind, documents in chosen.items()}
        if found.orphans:
            documents = dict.fromkeys(document for _, _, document in found.orphans[:MOST_EXAMPLES])
            examples[Kind.ORPHAN] = tuple(Example(None, document) for document in documents)
        return examples

    async def _examples(self, connection: AsyncConnection[Any], documents: Collection[int]) -> tuple[Example, ...]:
        some = sorted(documents)[:MOST_EXAMPLES]
        names = {row[0]: row[1:] for row in await self._rows(connection, "named", documents=some)}
        return tuple(
            Example(names[number][0], number, bytes(names[number][1])) if number in names else Example(None, number)
            for number in some
        )

    @asynccontextmanager
    async def _look(self) -> AsyncIterator[AsyncConnection[Any]]:
        connection = await self._database.connect()
        try:
            with translate():
                async with connection.transaction():
                    await connection.execute(self._sql["begin_look"])
                    await connection.execute(self._sql["no_idle_limit"])
                    yield connection
        finally:
            await connection.close()

    async def _streamed(
        self, connection: AsyncConnection[Any], name: str, *, binary: bool = False
    ) -> AsyncIterator[list[dict[str, Any]]]:
        async with connection.cursor(f"audit_{name}", row_factory=dict_row, binary=binary) as cursor:
            await cursor.execute(self._sql[name])
            while rows := await cursor.fetchmany(READ_AT_ONCE):
                yield rows

    async def _rows(self, connection: AsyncConnection[Any], name: str, /, **values: Any) -> list[tuple[Any, ...]]:
        async with connection.cursor(row_factory=tuple_row) as cursor:
            await cursor.execute(self._filled(name), self._values(values))
            return await cursor.fetchall()

    async def _run(self, connection: AsyncConnection[Any], name: str, /, **values: Any) -> None:
        await connection.execute(self._filled(name), self._values(values))

    def _filled(self, name: str) -> str:
        return self._sql[name].replace("{judged}", self._sql["judged"])

    def _values(self, values: Mapping[str, Any]) -> dict[str, Any]:
        generation = self._generation
        return {
            "generation": generation.generation,
            "source_ids": list(generation.source_ids),
            "shards": generation.shards,
            "normalised": generation.recipe.model.normalised,
            "tolerance": NORM_TOLERANCE,
            **values,
        }


_DOUBTS = {Kind.VECTOR: "doubt_vectors", Kind.TEXT: "doubt_texts", Kind.TERMS: "doubt_terms"}
_NEVER_CUT = (Kind.UNAPPLIED, Kind.LEFT_OVER)
"""Nothing is applied of these that would have to be doubted."""


def _shifts(
    counted: Mapping[int, tuple[int, float]], noted: Mapping[int, tuple[int, float]]
) -> dict[int, tuple[int, float]]:
    """By how much frequencies are too low, and bounds that some weight exceeds."""
    shifts: dict[int, tuple[int, float]] = {}
    for term in counted.keys() | noted.keys():
        chunks, heaviest = counted.get(term, (0, 0.0))
        noted_chunks, noted_heaviest = noted.get(term, (0, 0.0))
        is_bounded = heaviest <= max(noted_heaviest, LEAST_HEAVIEST) + WEIGHT_ROUNDING
        if chunks != noted_chunks or not is_bounded:
            shifts[term] = (chunks - noted_chunks, heaviest)
    return shifts
