"""A source table, an index over it, and what the index must say: shared by tests of whole runs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import psycopg

import livedex
from livedex import config
from livedex.adapters.embedders.hashing import HashingEmbedder
from livedex.faults import Faults
from livedex.flow.cut import Cutter
from livedex.model import Chunk, Document
from livedex.parts import build_cutter
from livedex.rules.lexical import HEADING_WEIGHT, TITLE_WEIGHT, forms, words

TABLE = """
CREATE TABLE documents (
    doc_id text PRIMARY KEY, title text, content text, category text, updated_at timestamptz DEFAULT now())
"""
CONFIG = """
sources:
  kb:
    kind: postgres
    url: ${KB_DATABASE_URL}
    tables:
      documents: {key: doc_id, title: title, content: content, updated_at: updated_at, metadata: [category]}
views:
  handbook: {from: [kb], embedder: hashing, shards: SHARDS, chunker: {kind: markdown, max_tokens: 40, min_tokens: 10}}
"""
CUTTER = build_cutter(config.MarkdownChunker(max_tokens=40, min_tokens=10))
EMBEDDER = HashingEmbedder()


class Stored(Protocol):
    """Whoever can ask the store."""

    def stored(self, query: str, *values: Any) -> list[tuple[Any, ...]]: ...


@dataclass(frozen=True)
class World:
    """`source_dsn` holds the table, `store_dsn` the index, `config` is its livedex.yaml."""

    source_dsn: str
    store_dsn: str
    config: Path

    @classmethod
    def make(cls, source_dsn: str, store_dsn: str, directory: Path, *, shards: int = 2) -> World:
        config = directory / "livedex.yaml"
        config.write_text(CONFIG.replace("SHARDS", str(shards)))
        with psycopg.connect(source_dsn, autocommit=True) as connection:
            connection.execute(TABLE)
        return cls(source_dsn, store_dsn, config)

    @property
    def environ(self) -> dict[str, str]:
        return {
            "KB_DATABASE_URL": self.source_dsn,
            "LIVEDEX_DATABASE_URL": self.store_dsn,
            "HOME": str(self.config.parent),
        }

    def open(self, faults: Faults | None = None) -> AbstractAsyncContextManager[livedex.Index]:
        return livedex.open(self.config, environ=self.environ, faults=faults)

    def execute(self, statement: str, *values: Any) -> None:
        """Run one statement in the source, committed at once."""
        with psycopg.connect(self.source_dsn, autocommit=True) as connection:
            connection.execute(statement, values)

    def rows(self) -> dict[str, tuple[str, str, str]]:
        """The source's table: key to title, content and category."""
        with psycopg.connect(self.source_dsn, autocommit=True) as connection:
            found = connection.execute("SELECT doc_id, title, content, category FROM documents").fetchall()
        return {key: (title or "", content or "", category) for key, title, content, category in found}

    def stored(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Ask the store."""
        with psycopg.connect(self.store_dsn, autocommit=True) as connection:
            return connection.execute(query, values).fetchall()


def from_scratch(content: str, title: str = "", cutter: Cutter = CUTTER) -> Sequence[Chunk]:
    """What a document of no known media type is cut into."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return cutter.cut(Document(1, "kb", "documents", "a", 1, "v", title, content, False, None, None, now)).chunks


async def check_view(world: World) -> None:
    """The view is what building it from scratch from the source's table gives: documents, chunks and vectors."""
    rows = world.rows()
    check_documents(world, rows)
    check_chunks(world, rows)
    await check_vectors(world, rows)
    check_terms(world, rows)
    check_tables(world)


def check_documents(world: World, rows: Mapping[str, tuple[str, str, str]]) -> None:
    live = world.stored(
        "SELECT document_id, title, raw ->> 'content', metadata FROM livedex.documents WHERE NOT deleted"
    )
    wanted = {key: (title, content, {"category": category}) for key, (title, content, category) in rows.items()}
    assert {key: (title, content or "", metadata) for key, title, content, metadata in live} == wanted


def check_chunks(world: World, rows: Mapping[str, tuple[str, str, str]]) -> None:
    found = world.stored(
        'SELECT document_id, chunk_index, start, "end", chunk_text, section, section_type, title, category, stale '
        'FROM handbook ORDER BY document_id COLLATE "C", chunk_index'
    )
    wanted = [
        (key, c.index, c.start, c.end, c.text, list(c.heading_path), c.section_type, title, category, False)
        for key, (title, content, category) in sorted(rows.items())
        for c in from_scratch(content, title)
    ]
    assert found == wanted


async def check_vectors(world: World, rows: Mapping[str, tuple[str, str, str]]) -> None:
    found = world.stored('SELECT embedding::text FROM handbook ORDER BY document_id COLLATE "C", chunk_index')
    if not found:
        return
    texts = [c.embedded_text for _, (title, text, _) in sorted(rows.items()) for c in from_scratch(text, title)]
    wanted = await EMBEDDER.embed_documents(texts)
    stored = np.array([json.loads(vector) for (vector,) in found], dtype=np.float32)
    np.testing.assert_allclose(stored, wanted.astype(np.float16).astype(np.float32), atol=1e-5)


def check_terms(world: World, rows: Mapping[str, tuple[str, str, str]]) -> None:
    """Each chunk's terms, the statistics over them and the size of the whole are those of the texts as they are."""
    ((generation,),) = world.stored("SELECT active_generation FROM livedex.views")
    g = f"livedex_g{generation}"
    found = world.stored(
        "SELECT d.document_id, c.chunk_index, t.length, t.norm, tsvector_to_array(t.tsv), t.weights::text "
        f"FROM {g}.terms t JOIN {g}.chunks c USING (chunk) JOIN livedex.documents d ON d.document = t.document"
    )
    texts = {
        (key, c.index): [words(title), [w for h in c.heading_path for w in words(h)], words(c.embedded_text)]
        for key, (title, content, _) in rows.items()
        for c in from_scratch(content, title)
    }
    numbers = terms_of_words(world, {word for parts in texts.values() for part in parts for word in part})
    wanted = {place: counted(parts, numbers) for place, parts in texts.items()}
    assert {(key, index): length for key, index, length, *_ in found} == {
        place: sum(counts.values()) for place, counts in wanted.items()
    }
    for key, index, _, norm, lexemes, weights in found:
        counts = wanted[key, index]
        assert sorted(lexemes) == sorted(lexeme for lexeme, _ in counts)
        assert occurrences(weights, norm) == {number: count for (_, number), count in counts.items()}
    chunks_with: Counter[int] = Counter(number for counts in wanted.values() for _, number in counts)
    assert dict(
        world.stored(f"SELECT term, sum(delta) FROM {g}.frequencies GROUP BY 1 HAVING sum(delta) <> 0")
    ) == dict(chunks_with)
    size = world.stored(f"SELECT sum(chunks), sum(terms_length) FROM livedex.cursors WHERE generation = {generation}")
    assert size == [(len(wanted), sum(sum(counts.values()) for counts in wanted.values()))]


def terms_of_words(world: Stored, met: Collection[str]) -> dict[str, list[tuple[str, int]]]:
    """Word → its lexemes with their numbers, as the server has them."""
    asked = sorted({form for word in met for form in forms(word)})
    rows = world.stored(
        "SELECT form, lexeme, livedex.term_number(lexeme, (SELECT term_seed FROM livedex.store)) "
        "FROM unnest(%s::text[]) AS form CROSS JOIN LATERAL unnest(ts_lexize('english_stem', form)) AS lexeme",
        asked,
    )
    by_form = {form: (lexeme, number) for form, lexeme, number in rows}
    return {word: [by_form[form] for form in forms(word) if form in by_form] for word in met}


def counted(parts: list[list[str]], numbers: Mapping[str, list[tuple[str, int]]]) -> Counter[tuple[str, int]]:
    counts: Counter[tuple[str, int]] = Counter()
    for weight, part in zip((TITLE_WEIGHT, HEADING_WEIGHT, 1), parts, strict=True):
        for word in part:
            for term in numbers[word]:
                counts[term] += weight
    return counts


def occurrences(weights: str, norm: float) -> dict[int, int]:
    """Number → how often the term occurs, from the text form of a sparsevec of weights."""
    pairs = [pair.split(":") for pair in weights[1 : weights.index("}")].split(",") if pair]
    return {int(number): round(float(w) * norm / (1 - float(w))) for number, w in pairs}


def check_tables(world: World) -> None:
    """Nothing is left over: every chunk has its vector and its document, every applied document is alive."""
    ((generation,),) = world.stored("SELECT active_generation FROM livedex.views")
    g = f"livedex_g{generation}"
    assert world.stored(f"SELECT chunk FROM {g}.chunks EXCEPT SELECT chunk FROM {g}.vectors") == []
    assert world.stored(f"SELECT chunk FROM {g}.vectors EXCEPT SELECT chunk FROM {g}.chunks") == []
    assert world.stored(f"SELECT chunk FROM {g}.terms EXCEPT SELECT chunk FROM {g}.chunks") == []
    assert world.stored(f"SELECT chunk FROM {g}.strays EXCEPT SELECT chunk FROM {g}.chunks") == []
    orphans = f"SELECT document FROM {g}.applied EXCEPT SELECT document FROM livedex.documents WHERE NOT deleted"
    assert world.stored(orphans) == []
    assert world.stored("SELECT count(*) FROM livedex.staged") == [(0,)]
    assert world.stored("SELECT reason FROM livedex.quarantine") == []
