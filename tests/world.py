"""A source table, an index over it, and what the index must say: shared by tests of whole runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psycopg

import livedex
from livedex.adapters.chunkers.markdown import MarkdownChunker
from livedex.adapters.embedders.hashing import HashingEmbedder
from livedex.faults import Faults

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
CHUNKER = MarkdownChunker(max_tokens=40, min_tokens=10)
EMBEDDER = HashingEmbedder()


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


async def check_view(world: World) -> None:
    """The view is what building it from scratch from the source's table gives: documents, chunks and vectors."""
    rows = world.rows()
    check_documents(world, rows)
    check_chunks(world, rows)
    await check_vectors(world, rows)
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
        for c in CHUNKER.chunk(content, title)
    ]
    assert found == wanted


async def check_vectors(world: World, rows: Mapping[str, tuple[str, str, str]]) -> None:
    found = world.stored('SELECT embedding::text FROM handbook ORDER BY document_id COLLATE "C", chunk_index')
    if not found:
        return
    texts = [c.embedded_text for _, (title, text, _) in sorted(rows.items()) for c in CHUNKER.chunk(text, title)]
    wanted = await EMBEDDER.embed_documents(texts)
    stored = np.array([json.loads(vector) for (vector,) in found], dtype=np.float32)
    np.testing.assert_allclose(stored, wanted.astype(np.float16).astype(np.float32), atol=1e-5)


def check_tables(world: World) -> None:
    """Nothing is left over: every chunk has its vector and its document, every applied document is alive."""
    ((generation,),) = world.stored("SELECT active_generation FROM livedex.views")
    g = f"livedex_g{generation}"
    assert world.stored(f"SELECT chunk FROM {g}.chunks EXCEPT SELECT chunk FROM {g}.vectors") == []
    assert world.stored(f"SELECT chunk FROM {g}.vectors EXCEPT SELECT chunk FROM {g}.chunks") == []
    assert world.stored(f"SELECT chunk FROM {g}.strays EXCEPT SELECT chunk FROM {g}.chunks") == []
    orphans = f"SELECT document FROM {g}.applied EXCEPT SELECT document FROM livedex.documents WHERE NOT deleted"
    assert world.stored(orphans) == []
    assert world.stored("SELECT count(*) FROM livedex.staged") == [(0,)]
    assert world.stored("SELECT reason FROM livedex.quarantine") == []
