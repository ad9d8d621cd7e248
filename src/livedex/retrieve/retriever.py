"""Query → hits."""

from __future__ import annotations

import time
import uuid
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from livedex.errors import ModelMismatch, NotFound, QueryError, StoreDamaged
from livedex.model import Fusion, Generation, Hit, Mode, Query, Retrieval
from livedex.ports import Embedder, Vectors
from livedex.rules.freshness import data_timestamp, lag_seconds
from livedex.store.catalog import Catalog
from livedex.store.database import Database
from livedex.store.lexicon import Lexicon
from livedex.store.search import Asked, Found, find, terms_of

CACHED_QUERIES = 1024
MOST_HITS = 1000
PROMOTIONS_DURING_A_QUERY = 3


class Retriever:
    """Answers queries over one view. Holds the active generation, which each query checks in its own snapshot."""

    def __init__(
        self,
        database: Database,
        catalog: Catalog,
        generation: Generation,
        embedder: Embedder,
        lexicon: Lexicon,
        fusion: Fusion = Fusion.ZSCORE,
        *,
        counts_chunks: bool = False,
    ) -> None:
        self._database = database
        self._catalog = catalog
        self._generation = generation
        self._embedder = embedder
        self._lexicon = lexicon
        self._fusion = fusion
        self._counts_chunks = counts_chunks
        self._cache: OrderedDict[str, Vectors] = OrderedDict()

    @property
    def model(self) -> str:
        """The name of the model whose vectors this view holds."""
        return self._generation.recipe.model.name

    async def retrieve(self, query: Query) -> Retrieval:
        """The chunks that answer a query best, as seen in one snapshot of one generation.

        Raises QueryError for a query that cannot be answered and ModelMismatch when the embedder is not the
        generation's.
        """
        _check(query)
        started = time.perf_counter()
        vector = None if query.mode is Mode.LEXICAL else await self.embed(query.text)
        embedded = time.perf_counter()
        asked = Asked() if query.mode is Mode.DENSE else await terms_of(self._database, self._lexicon, query.text)
        generation, found = await self._find(query, vector, asked)
        done = time.perf_counter()
        return _retrieval(generation, found, query.mode, {"embed": embedded - started, "search": done - embedded})

    async def embed(self, text: str) -> Vectors:
        """The query vector of a text, of the generation's model or not at all. Shape (dimensions,)."""
        self._check_model(self._generation)
        if text in self._cache:
            self._cache.move_to_end(text)
            return self._cache[text]
        vector = await self._embedder.embed_query(text)
        self._cache[text] = vector
        if len(self._cache) > CACHED_QUERIES:
            self._cache.popitem(last=False)
        return vector

    def _check_model(self, generation: Generation) -> None:
        wanted = generation.recipe.model
        if self._embedder.identity != wanted:
            raise ModelMismatch(
                f"View {generation.view} was embedded with {wanted.name}, the configured embedder is "
                f"{self._embedder.identity.name}. Their vectors cannot be compared; configure the former."
            )

    async def _find(self, query: Query, vector: Vectors | None, asked: Asked) -> tuple[Generation, Found]:
        for _ in range(PROMOTIONS_DURING_A_QUERY):
            generation = self._generation  # another query may come to know a newer one meanwhile
            if vector is not None:
                self._check_model(generation)
            try:
                found = await self._look(generation, query, vector, asked, exact=query.exact)
            except StoreDamaged:
                if query.exact:
                    raise
                # An index cannot be read; the tables can. Upkeep builds it anew.
                found = await self._look(generation, query, vector, asked, exact=True)
            if found.marks.active_generation == generation.generation and not found.complete:
                # The index came up short, as it may under narrow filters and heavy churn: measure everything visible.
                found = await self._look(generation, query, vector, asked, exact=True)
            if found.marks.active_generation == generation.generation:
                return generation, found
            await self._refresh()
        raise QueryError(f"View {self._generation.view} changed its generation again and again during the query.")

    async def _look(
        self, generation: Generation, query: Query, vector: Vectors | None, asked: Asked, *, exact: bool
    ) -> Found:
        return await find(
            self._database,
            generation,
            query,
            vector,
            asked,
            fusion=self._fusion,
            exact=exact,
            counts_chunks=self._counts_chunks,
        )

    async def _refresh(self) -> None:
        generation = await self._catalog.active_generation(self._generation.view)
        if generation is None:
            raise NotFound(f"View {self._generation.view} has no generation any more.")
        self._generation = generation
        self._cache.clear()


def _retrieval(generation: Generation, found: Found, mode: Mode, seconds: Mapping[str, float]) -> Retrieval:
    marks = found.marks.watermarks()
    return Retrieval(
        retrieval_id=uuid.uuid4().hex,
        view=generation.view,
        generation=generation.generation,
        hits=_hits(found.rows, generation, mode),
        watermark=marks,
        lag_seconds=lag_seconds(marks, found.marks.now),
        capturing=found.marks.capturing,
        timings={f"{name}_ms": round(value * 1000, 3) for name, value in seconds.items()},
        lexical_only=found.lexical_only,
        data_timestamp=data_timestamp(marks),
        searched_at=found.marks.now,
    )


def _check(query: Query) -> None:
    if not query.text.strip():
        raise QueryError("The query is empty. Give it some words.")
    if "\x00" in query.text:
        raise QueryError("The query holds a NUL character, which no document can hold.")
    named = [*query.filters, *(value for values in query.filters.values() for value in values), *query.principals]
    if any("\x00" in text or not _is_unicode(text) for text in (*named, query.tenant or "")):
        raise QueryError("A filter, tenant or principal holds a NUL or half a character, which no document can hold.")
    if not 1 <= query.top_k <= MOST_HITS:
        raise QueryError(f"top_k is {query.top_k}; it must be between 1 and {MOST_HITS}.")


def _is_unicode(text: str) -> bool:
    """False for text with half of a surrogate pair, as some JSON has it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _hits(rows: Sequence[Mapping[str, Any]], generation: Generation, mode: Mode) -> tuple[Hit, ...]:
    model, schema_version = generation.recipe.model.name, generation.recipe.schema_version
    return tuple(_hit(row, generation.generation, model, schema_version, mode) for row in rows)


def _hit(row: Mapping[str, Any], generation: int, model: str, schema_version: str, mode: Mode) -> Hit:
    scores = {}
    if mode is not Mode.LEXICAL and row["distance"] is not None:
        scores["dense"] = 1.0 - float(row["distance"])
    if mode is not Mode.DENSE:
        scores["lexical"] = float(row["words"])
    return Hit(
        document_id=row["document_id"],
        document_version=row["document_version"],
        chunk_id=f"g{generation}-{row['chunk']}",
        chunk_index=row["chunk_index"],
        source=row["source"],
        title=row["title"],
        section=tuple(row["section"]),
        section_type=row["section_type"],
        start=row["start"],
        end=row["end"],
        text=row["text"],
        metadata=row["metadata"],
        score=float(row["score"]),
        scores=scores,
        source_position=row["source_position"],
        source_time=row["source_time"],
        created_at=row["created_at"],
        embedding_model=model,
        schema_version=schema_version,
        stale=row["stale"],
        updated_at=row["updated_at"],
        stale_since=row["stale_since"],
        complete=row["complete"],
    )
