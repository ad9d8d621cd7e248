"""Whether the lexical leg ranks as BM25 does: top ten of every query of SciFact, beside bm25s on the same terms.

    pip install bm25s
    python benchmarks/bm25.py

bm25s (Lucene's variant, k1 = 1.2, b = 0.75) gets what livedex indexed: each chunk's terms, those of the title twice and
those of the headings once more. Compared are the ordinary search, one whose text index may propose only 200 chunks at
first, and an index that did not load the corpus but came to it by edits. Two chunks whose scores differ by less than
1e-5 may change places.
"""

from __future__ import annotations

import argparse
import asyncio
import random
from collections.abc import Mapping, Sequence
from typing import Any

import bm25s
import numpy as np
from beir import Collection, read_collection
from stage import Stage, print_machine, stage

import livedex
from livedex.model import Fusion, Generation, Mode, Query
from livedex.rules.lexical import weighted_words
from livedex.store.database import Database
from livedex.store.lexicon import Lexicon
from livedex.store.search import LOOKED_UP, find, terms_of

TOLERANCE = 1e-5
CHUNKS = """
SELECT c.chunk, d.title, c.heading_path, c.text FROM {g}.chunks c JOIN livedex.documents d USING (document)
WHERE NOT d.deleted ORDER BY d.document_id, c.chunk_index
"""


class Oracle:
    """bm25s over every chunk of a generation."""

    def __init__(self, chunks: Sequence[int], tokens: Sequence[Sequence[str]]) -> None:
        self._chunks = np.array(chunks)
        self._ranker = bm25s.BM25(method="lucene", k1=1.2, b=0.75, dtype="float64")
        self._ranker.index(tokens, show_progress=False)

    def scores(self, tokens: Sequence[str]) -> Mapping[int, float]:
        """By chunk, of those that hold any of the terms."""
        found = self._ranker.get_scores([token for token in tokens if token in self._ranker.vocab_dict])
        return {int(self._chunks[row]): float(found[row]) for row in np.flatnonzero(found)}


async def oracle(database: Database, generation: Generation, lexicon: Lexicon) -> Oracle:
    async with database.connection() as connection:
        cursor = await connection.execute(CHUNKS.replace("{g}", generation.schema))
        rows = await cursor.fetchall()
        chunks, tokens = [], []
        for chunk, title, headings, text in rows:
            written = weighted_words(title, headings, text)
            known = await lexicon.learn(connection, [written])
            chunks.append(chunk)
            tokens.append([known.lexemes[number].decode() for word in written for number in known.numbers[word]])
    return Oracle(chunks, tokens)


def agrees(found: Sequence[Mapping[str, Any]], wanted: Mapping[int, float]) -> bool:
    """Whether at each rank stands a chunk that BM25 scores as it scores the one of that rank."""
    best = sorted(wanted.values(), reverse=True)[: len(found)]
    here = [wanted.get(row["chunk"], 0.0) for row in found]
    scored = [row["words"] for row in found]
    full = len(found) == min(10, len(wanted))
    return full and all(
        abs(a - b) < TOLERANCE and abs(c - b) < TOLERANCE for a, b, c in zip(here, best, scored, strict=True)
    )


async def compare(index: livedex.Index, collection: Collection, label: str, looked_up: int) -> None:
    database = await Database.open(index.dsn)
    try:
        generation = await index.catalog.active_generation("handbook")
        assert generation is not None
        lexicon = Lexicon("english_stem")
        reference = await oracle(database, generation, lexicon)
        same = 0
        for text in collection.queries:
            asked = await terms_of(database, lexicon, text)
            query = Query(text, 10, mode=Mode.LEXICAL)
            found = await find(
                database, generation, query, None, asked, fusion=Fusion.ZSCORE, exact=False, looked_up=looked_up
            )
            pairs = zip(asked.lexemes, asked.occurrences, strict=True)
            same += agrees(found.rows, reference.scores([lexeme for lexeme, n in pairs for _ in range(n)]))
        queries = len(collection.queries)
        print(f"  {label:42}{same} of {queries} top tens are the same ({same / queries:.1%})")
    finally:
        await database.close()


async def by_edits(place: Stage, index: livedex.Index, collection: Collection) -> None:
    """Come to the corpus in three steps, from one where texts, titles and presence are different."""
    rng = random.Random(5)
    texts = [text for _, _, text in collection.documents]
    rows = [(key, title[::-1], rng.choice(texts)) for key, title, _ in collection.documents if rng.random() < 0.7]
    rows += [(f"gone-{number}", "Gone", rng.choice(texts)) for number in range(500)]
    place.fill(rows)
    await index.sync()
    wanted = list(collection.documents)
    rng.shuffle(wanted)
    with place.source() as source, source.cursor() as cursor:
        for part in (wanted[:2000], wanted[2000:]):
            cursor.executemany(
                "INSERT INTO documents (doc_id, title, content) VALUES (%s, %s, %s) ON CONFLICT (doc_id) DO UPDATE "
                "SET title = excluded.title, content = excluded.content",
                part,
            )
            await index.sync()
        cursor.execute("DELETE FROM documents WHERE doc_id LIKE 'gone-%'")
    await index.sync()


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    print_machine()
    collection = read_collection("scifact")
    print(f"SciFact: {len(collection.documents):,} abstracts, cut as by default; bm25s {bm25s.__version__}")
    async with stage() as place, livedex.open(place.config, environ=place.environ) as index:
        place.fill(collection.documents)
        await index.sync()
        await compare(index, collection, "loaded", LOOKED_UP)
        await compare(index, collection, "loaded, 200 chunks looked up at first", 200)
    async with stage() as place, livedex.open(place.config, environ=place.environ) as index:
        await by_edits(place, index, collection)
        await compare(index, collection, "reached by edits", LOOKED_UP)
        await compare(index, collection, "reached by edits, 200 looked up at first", 200)


if __name__ == "__main__":
    asyncio.run(main())
