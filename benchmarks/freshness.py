"""Commit to searchable, and delete to unsearchable, as a searcher in another process sees it.

    python benchmarks/freshness.py [--documents 2000] [--edits 400] [--local-edits 60]

`livedex up` runs as a process of its own. This process commits an edit in the source, then searches through
`Index.search` (the same path as the CLI's, both legs) for six words of the new text, until that is among the first
ten hits; for a delete, until the document is gone. Clocks: from the return of COMMIT to the return of the search;
between searches it waits 3 ms. The search is part of the figure and quoted beside it. The query embedding is cached
before the commit. Then it inserts rows and searches once for each with its token.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import psycopg
from stage import Stage, corpus, described, print_machine, running, stage

import livedex

POLL_SECONDS = 0.003
PATIENCE_SECONDS = 30.0


@dataclass
class Observed:
    searchable: list[float] = field(default_factory=list)
    gone: list[float] = field(default_factory=list)
    search: list[float] = field(default_factory=list)


def asked(marker: str, words: Sequence[str]) -> str:
    """What a person would type who wants the new text: its rarest word above all."""
    return " ".join([marker, marker, marker, *[word for word in words if word.isalpha()][:5]])


def edit(content: str, marker: str, rng: random.Random) -> tuple[str, str]:
    """Replace the first long enough paragraph after a random place; the whole text, and what to search for."""
    paragraphs = content.split("\n\n")
    candidates = [n for n, text in enumerate(paragraphs) if 200 < len(text) < 800 and text[0].isalpha()]
    place = rng.choice(candidates)
    words = paragraphs[place].split()
    rng.shuffle(words)
    paragraphs[place] = f"{marker} {marker} {' '.join(words)} {marker} {marker}"
    return "\n\n".join(paragraphs), asked(marker, words)


async def observe(index: livedex.Index, query: str, seen: str, *, present: bool, times: list[float]) -> float:
    started = time.perf_counter()
    while True:
        began = time.perf_counter()
        found = await index.search("handbook", query, top_k=10)
        ended = time.perf_counter()
        times.append((ended - began) * 1000)
        if any(seen in (hit.text if present else hit.document_id) for hit in found.hits) == present:
            return (ended - started) * 1000
        if ended - started > PATIENCE_SECONDS:
            raise TimeoutError(f"{seen!r} did not become {'searchable' if present else 'unsearchable'}")
        await asyncio.sleep(POLL_SECONDS)


async def run(place: Stage, index: livedex.Index, edits: int, per_second: float, rng: random.Random) -> Observed:
    observed = Observed()
    async with await psycopg.AsyncConnection.connect(place.source_dsn, autocommit=True) as source:
        rows = await (await source.execute("SELECT doc_id, content FROM documents ORDER BY doc_id")).fetchall()
        editable = [
            (key, text) for key, text in rows if any(200 < len(p) < 800 and p[0].isalpha() for p in text.split("\n\n"))
        ]
        for number in range(edits):
            due = time.perf_counter() + 1 / per_second
            key, content = rng.choice(editable)
            marker = f"marker{number}x{rng.randrange(10**6)}"
            changed, query = edit(content, marker, rng)
            await index.search("handbook", query, top_k=1)
            await source.execute("UPDATE documents SET content = %s WHERE doc_id = %s", (changed, key))
            observed.searchable.append(await observe(index, query, marker, present=True, times=observed.search))
            if number % 4 == 3:
                await source.execute("DELETE FROM documents WHERE doc_id = %s", (key,))
                observed.gone.append(await observe(index, query, key, present=False, times=observed.search))
                await source.execute("INSERT INTO documents VALUES (%s, %s, %s, 'c0')", (key, key, content))
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
    return observed


async def unobserved(place: Stage, index: livedex.Index, edits: int, per_second: float, rng: random.Random) -> str:
    """The same edits while nobody searches: from the source's commit time to the transaction that made each searchable,
    as the store's lag samples have it. Shows what the observer's searching costs on a small machine."""
    with psycopg.connect(index.dsn, autocommit=True) as store, place.source() as source:
        store.execute("DELETE FROM livedex.lag_samples")
        rows = source.execute("SELECT doc_id, content FROM documents ORDER BY doc_id").fetchall()
        editable = [row for row in rows if any(200 < len(p) < 800 and p[0].isalpha() for p in row[1].split("\n\n"))]
        for number in range(edits):
            key, content = rng.choice(editable)
            changed, _ = edit(content, f"unseen{number}x{rng.randrange(10**6)}", rng)
            source.execute("UPDATE documents SET content = %s WHERE doc_id = %s", (changed, key))
            await asyncio.sleep(1 / per_second)
        await asyncio.sleep(2)
        lags = store.execute(
            "SELECT extract(epoch FROM searchable_at - committed_at)::float * 1000 FROM livedex.lag_samples"
        ).fetchall()
    return described([lag for (lag,) in lags])


async def burst(place: Stage, index: livedex.Index, rows: int, rng: random.Random) -> float:
    """One transaction that edits so many documents: until the last of them is searchable, in ms."""
    with place.source() as source:
        statement = "SELECT doc_id, content FROM documents WHERE length(content) > 2000 ORDER BY doc_id LIMIT %s"
        found = source.execute(statement, (rows,)).fetchall()
        queries = []
        with source.transaction():
            for key, content in found:
                marker = f"burst{rng.randrange(10**9)}"
                text = f"{marker} " + " ".join(rng.sample(content.split()[:400], 40))
                queries.append((asked(marker, text.split()[1:]), marker))
                source.execute(
                    "UPDATE documents SET content = %s WHERE doc_id = %s", (f"{content}\n\n## {marker}\n\n{text}", key)
                )
    started = time.perf_counter()
    for text, marker in (queries[0], queries[len(queries) // 2], queries[-1]):
        await observe(index, text, marker, present=True, times=[])
    return (time.perf_counter() - started) * 1000


async def read_your_writes(place: Stage, index: livedex.Index, edits: int) -> None:
    """Commit, then search once with the write's token: until that search answers, in ms. Beside it what a search costs
    that asks for nothing."""
    position = (
        "SELECT 'kb:' || system_identifier || ':' || ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))"
        "::bit(32)::int || ':' || pg_current_wal_insert_lsn() FROM pg_control_system()"
    )
    transaction = "SELECT 'kb:' || system_identifier || ':xid:' || pg_current_xact_id() FROM pg_control_system()"
    times: dict[str, list[float]] = {"position": [], "transaction": [], "met already": [], "asks for nothing": []}
    async with await psycopg.AsyncConnection.connect(place.source_dsn, autocommit=True) as source:
        for number in range(edits):
            name, query = ("position", position) if number % 2 else ("transaction", transaction)
            async with source.transaction():
                await source.execute("INSERT INTO documents VALUES (%s, '', %s)", (f"own{number}", f"own{number} text"))
                row = await (await source.execute(transaction)).fetchone()
            started = time.perf_counter()
            if query == position:
                row = await (await source.execute(position)).fetchone()
            assert row is not None
            found = await index.search("handbook", f"own{number}", at_least=row[0], wait_seconds=PATIENCE_SECONDS)
            times[name].append((time.perf_counter() - started) * 1000)
            assert f"own{number}" in {hit.document_id for hit in found.hits}, "the own write is found"
            for again, token in (("met already", row[0]), ("asks for nothing", ())):
                began = time.perf_counter()
                await index.search("handbook", f"own{number}", at_least=token)
                times[again].append((time.perf_counter() - began) * 1000)
            await asyncio.sleep(0.02)
    for name, found_times in times.items():
        print(f"  read your own write, {name}: {described(found_times)}")


async def settled(index: livedex.Index) -> None:
    """Wait until changes are captured and every chunk of the first load was looked up in the new vector index."""
    with psycopg.connect(index.dsn, autocommit=True) as store:
        while True:
            row = store.execute("SELECT bool_and(probed_chunk >= (SELECT max(chunk) FROM livedex_g1.vectors)) "
                                "FROM livedex.generations").fetchone()  # fmt: skip
            if row and row[0] and (await index.status()).views[0].capturing:
                return
            await asyncio.sleep(0.5)


async def measure(embedder: str, documents: int, edits: int, per_second: float) -> None:
    rng = random.Random(7)
    async with stage(embedder) as place:
        place.fill(corpus(documents))
        async with livedex.open(place.config, environ=place.environ) as index:
            await index.sync()
            async with running(place):
                await settled(index)
                await run(place, index, min(20, edits), per_second, rng)
                observed = await run(place, index, edits, per_second, rng)
                status = (await index.status()).views[0]
                print(
                    f"\n{embedder}: {status.documents:,} documents, {status.chunks:,} chunks, "
                    f"{per_second:g} edits a second"
                )
                print(f"  commit to searchable    {described(observed.searchable)}")
                print(f"  delete to unsearchable  {described(observed.gone)}")
                print(f"  of it one search        {described(observed.search)}")
                await read_your_writes(place, index, max(10, edits // 4))
                without = await unobserved(place, index, edits, per_second, rng)
                print(f"  while nobody searches, commit to searchable by the store's clock: {without}")
                if embedder == "hashing":
                    print(
                        "  a transaction of 361 rows, until all of it is searchable: "
                        f"{await burst(place, index, 361, rng):.0f} ms"
                    )


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=2000)
    parser.add_argument("--local-documents", type=int, default=40, help="fewer: the model needs its time to load them")
    parser.add_argument("--edits", type=int, default=400)
    parser.add_argument("--local-edits", type=int, default=60)
    chosen = parser.parse_args()
    print_machine()
    if chosen.edits:
        await measure("hashing", chosen.documents, chosen.edits, 20)
    if chosen.local_edits:
        await measure("local", chosen.local_documents, chosen.local_edits, 2)


if __name__ == "__main__":
    asyncio.run(main())
