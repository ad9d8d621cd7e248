"""What the lexical leg returns is what scoring every visible chunk by hand returns, whatever was edited before, whoever
asks, and wherever its look-ups stop."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.world import World, counted, from_scratch, terms_of_words

import livedex
from livedex.model import Fusion, Mode, Query
from livedex.rules.lexical import idf, saturation, words
from livedex.store.database import Database
from livedex.store.embedded import EmbeddedServer
from livedex.store.lexicon import Lexicon
from livedex.store.search import find, terms_of

TABLE = "CREATE TABLE notes (id text PRIMARY KEY, title text, content text, category text, tenant text, acl text)"
CONFIG = """
sources:
  kb:
    kind: postgres
    url: ${KB_DATABASE_URL}
    tables:
      notes: {key: id, title: title, content: content, tenant: tenant, acl: acl, metadata: [category]}
views:
  handbook: {from: [kb], embedder: hashing, shards: 2, chunker: {kind: markdown, max_tokens: 40, min_tokens: 10}}
"""
VOCABULARY = [first + second + last for first in "bdfgk" for second in "ou" for last in "mnprtx"]
ROUNDS = 4
QUERIES = 50
LIMIT_SECONDS = 20.0
Place = tuple[str, int]


@dataclass(frozen=True)
class Note:
    title: str
    content: str
    category: str
    tenant: str | None
    acl: str


@dataclass(frozen=True)
class Corpus:
    """Every chunk's terms, counted from the source's table. `tombs` are gone, but their chunks still stand."""

    notes: Mapping[str, Note]
    tombs: frozenset[str]
    terms: Mapping[Place, Counter[tuple[str, int]]]
    numbers: Mapping[str, list[tuple[str, int]]]

    def scores(self, query: Query) -> dict[Place, float]:
        lengths = {place: counts.total() for place, counts in self.terms.items()}
        average = max(1.0, sum(lengths.values()) / max(1, len(lengths)))
        frequency = Counter(term for counts in self.terms.values() for term in counts)
        asked = Counter(term for word in words(query.text) for term in self.numbers[word])
        return {
            place: sum(
                times * idf(len(self.terms), frequency[term]) * saturation(counts[term], lengths[place], average)
                for term, times in asked.items()
            )
            for place, counts in self.terms.items()
            if asked.keys() & counts.keys() and self._sees(query, place[0])
        }

    def _sees(self, query: Query, key: str) -> bool:
        note = self.notes[key]
        return (
            key not in self.tombs
            and note.tenant in (None, query.tenant)
            and note.acl in ("*", *query.principals)
            and note.category in query.filters.get("category", [note.category])
        )


def said(rng: random.Random, most: int) -> str:
    """A few words are in nearly every chunk, most of them in few."""
    return " ".join(VOCABULARY[min(len(VOCABULARY), int(rng.paretovariate(0.5))) - 1] for _ in range(most))


def content(rng: random.Random) -> str:
    if rng.random() < 0.1:
        return rng.choice(["", "--- … !!!"])
    return "\n\n".join(f"## {said(rng, 2)}\n\n{said(rng, rng.randrange(1, 40))}." for _ in range(rng.randrange(1, 4)))


def edit(source: psycopg.Connection[Any], rng: random.Random) -> None:
    key = f"n{rng.randrange(150)}"
    match rng.randrange(6):
        case 0:
            source.execute("DELETE FROM notes WHERE id = %s", (key,))
        case 1:
            source.execute("UPDATE notes SET title = %s WHERE id = %s", (said(rng, 3), key))
        case _:
            source.execute(
                "INSERT INTO notes VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (id) DO UPDATE SET content = "
                "excluded.content, tenant = excluded.tenant, acl = excluded.acl, category = excluded.category",
                (
                    key,
                    said(rng, 2),
                    content(rng),
                    rng.choice("abc"),
                    rng.choice([None, None, "acme", "other"]),
                    rng.choice(["*", "*", "ann"]),
                ),
            )


def corpus_of(world: World, tombs: frozenset[str]) -> Corpus:
    with psycopg.connect(world.source_dsn, autocommit=True) as source:
        rows = source.execute("SELECT id, title, content, category, tenant, acl FROM notes").fetchall()
    notes = {key: Note(*columns) for key, *columns in rows}
    places = {
        (key, c.index): [words(note.title), [w for h in c.heading_path for w in words(h)], words(c.embedded_text)]
        for key, note in notes.items()
        for c in from_scratch(note.content, note.title)
    }
    met = {word for parts in places.values() for part in parts for word in part}
    numbers = terms_of_words(world, {*met, *VOCABULARY})
    return Corpus(notes, tombs, {place: counted(parts, numbers) for place, parts in places.items()}, numbers)


def asked(rng: random.Random) -> Query:
    return Query(
        said(rng, rng.choice([1, 1, 2, 3, 5, 20])),
        rng.choice([1, 3, 10, 120, 1000]),
        {"category": rng.sample("abcx", rng.randrange(3))} if rng.random() < 0.4 else {},
        rng.choice([None, None, "acme", "nobody"]),
        rng.choice([(), ("ann",)]),
        rng.random() < 0.1,
        Mode.LEXICAL,
    )


def bury(world: World, rng: random.Random) -> frozenset[str]:
    """As capture leaves them, with the materializer stopped: tombstones in the log, chunks and terms still there."""
    tombs = [f"n{number}" for number in range(150) if rng.random() < 0.1]
    world.stored("UPDATE livedex.documents SET deleted = true WHERE document_id = ANY(%s) RETURNING 1", tombs)
    return frozenset(tombs)


def dig_up(world: World, notes: Collection[str]) -> None:
    live = list(notes)
    world.stored("UPDATE livedex.documents SET deleted = false WHERE document_id = ANY(%s) RETURNING 1", live)


async def check(index: livedex.Index, database: Database, corpus: Corpus, rng: random.Random) -> None:
    generation = await index.catalog.active_generation("handbook")
    assert generation is not None
    for _ in range(QUERIES):
        query, looked_up = asked(rng), rng.choice([1, 10, 500])
        terms = await terms_of(database, Lexicon("english_stem"), query.text)
        async with asyncio.timeout(LIMIT_SECONDS):
            found = await find(
                database, generation, query, None, terms, fusion=Fusion.RRF, exact=query.exact, looked_up=looked_up
            )
        got = {(row["document_id"], row["chunk_index"]): row["words"] for row in found.rows}
        wanted = corpus.scores(query)
        assert len(got) == len(found.rows)
        assert got == pytest.approx({place: wanted.get(place) for place in got}), (query, looked_up)
        best = sorted(wanted.values(), reverse=True)[: query.top_k]
        assert [row["words"] for row in found.rows] == pytest.approx(best), (query, looked_up)


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_the_best_chunks_by_bm25_are_found_after_any_edits_for_anyone(
    server: EmbeddedServer, database_on: Callable[[EmbeddedServer], str], tmp_path: Path, seed: int
) -> None:
    world = World(database_on(server), database_on(server), tmp_path / "livedex.yaml")
    world.config.write_text(CONFIG)
    world.execute(TABLE)
    rng = random.Random(seed)
    async with world.open() as index:
        database = await Database.open(index.dsn)
        try:
            for edits in [200, *(rng.choice([0, 5, 60]) for _ in range(ROUNDS - 1))]:
                with psycopg.connect(world.source_dsn, autocommit=True) as source:
                    for _ in range(edits):
                        edit(source, rng)
                async with asyncio.timeout(60):
                    await index.sync()
                if rng.random() < 0.5:
                    await index.catalog.fold()
                corpus = corpus_of(world, bury(world, rng))
                await check(index, database, corpus, rng)
                dig_up(world, corpus.notes)
        finally:
            await database.close()
