"""A day of churn: what is left of an index when every document was edited fifty times.

    python benchmarks/churn.py [--documents 2000] [--edits 50] [--queries 200]

Each document has eight chunks whose vectors are mixtures of real ones, as in benchmarks/search.py. In every round each
document gets one section replaced by another, 100 documents a transaction; livedex follows, embeds and applies them in
the ordinary way. After every round upkeep runs as it does within `livedex up`: with 50 rounds a day that is once in
half an hour, where `up` would look every five minutes. At the end the same source is loaded into a fresh index. Both
are asked the same queries; recall@10 is dense search's against `exact=True` on the same index, and sizes are those of
the generation's tables with all indexes.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import re
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from beir import read_collection
from scifact_dense import CACHE, embed_corpus
from search import Mixtures, recalled
from stage import Stage, print_machine, stage

import livedex
from livedex.adapters.embedders.local import LocalEmbedder

SECTIONS = 8
WORDS = 45
DOCUMENTS_A_TRANSACTION = 100


def section(texts: Sequence[str], rng: random.Random) -> str:
    first, second, share = rng.randrange(len(texts)), rng.randrange(len(texts)), rng.randrange(500, 1000)
    words = texts[first].split()
    start = rng.randrange(max(1, len(words) - WORDS))
    return f"## mixture {first} {second} {share}\n\n{' '.join(words[start : start + WORDS])}"


def edit(place: Stage, contents: list[list[str]], texts: Sequence[str], rng: random.Random) -> None:
    """Replace one section of each document."""
    numbers = list(range(len(contents)))
    rng.shuffle(numbers)
    for number in numbers:
        contents[number][rng.randrange(SECTIONS)] = section(texts, rng)
    with place.source() as source:
        for start in range(0, len(numbers), DOCUMENTS_A_TRANSACTION):
            with source.transaction(), source.cursor() as cursor:
                cursor.executemany(
                    "UPDATE documents SET content = %s WHERE doc_id = %s",
                    [("\n\n".join(contents[n]), f"document-{n}") for n in numbers[start:][:DOCUMENTS_A_TRANSACTION]],
                )


async def report(name: str, index: livedex.Index, queries: Sequence[str]) -> tuple[float, int]:
    view = (await index.status()).views[0]
    recall = await recalled(index, queries, {})
    print(
        f"{name}: {view.chunks:,} chunks, recall@10 {recall:.4f}, {view.size.bytes / 2**20:.1f} MiB "
        f"({view.size.bytes / view.chunks / 1024:.2f} KiB a chunk; HNSW {view.size.vector_index_bytes / 2**20:.1f}, "
        f"GIN {view.size.text_index_bytes / 2**20:.1f} MiB), dead share {view.size.dead_share:.3f}",
        flush=True,
    )
    return recall, view.size.bytes


async def churn(
    place: Stage, embedder: Mixtures, texts: Sequence[str], documents: int, edits: int, asked: list[str]
) -> None:
    rng = random.Random(5)
    contents = [[section(texts, rng) for _ in range(SECTIONS)] for _ in range(documents)]
    place.fill([(f"document-{n}", "", "\n\n".join(sections)) for n, sections in enumerate(contents)])
    done: Counter[str] = Counter()
    async with livedex.open(place.config, environ=place.environ, embedders={"hashing": embedder}) as index:
        await index.sync()
        await index.maintain()
        await report("before", index, asked)
        started, maintaining = time.perf_counter(), 0.0
        for number in range(1, edits + 1):
            edit(place, contents, texts, rng)
            await index.sync()
            begun = time.perf_counter()
            upkeep = await index.maintain()
            maintaining += time.perf_counter() - begun
            done.update(f"{action.kind} {re.sub(r'livedex_g[0-9]+.', '', action.target)}" for action in upkeep.actions)
            if number % 10 == 0:
                await report(f"after {number} edits of each", index, asked)
        took = time.perf_counter() - started
        print(f"{edits * documents:,} edits in {took:.0f} s, {maintaining:.0f} s of that upkeep: {dict(done)}")
        churned = await report("churned", index, asked)
    fresh_file = place.directory / "fresh" / "livedex.yaml"
    fresh_file.parent.mkdir()
    fresh_file.parent.chmod(0o711)
    fresh_file.write_text(Path(place.config).read_text())
    async with livedex.open(
        fresh_file, environ=place.environ, embedders={"hashing": Mixtures(embedder.vectors)}
    ) as index:
        await index.sync()
        fresh = await report("fresh", index, asked)
    print(f"recall {churned[0] - fresh[0]:+.4f}, size {churned[1] / fresh[1]:.2f} times that of a fresh index")


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=2000)
    parser.add_argument("--edits", type=int, default=50)
    parser.add_argument("--queries", type=int, default=200)
    chosen = parser.parse_args()
    print_machine()
    print(f"churn: {chosen.documents:,} documents of {SECTIONS} chunks, {chosen.edits} edits each")
    texts = [f"{title} {text}" for _, title, text in read_collection("scifact").documents]
    vectors, _ = await embed_corpus(LocalEmbedder(cache_directory=CACHE), texts)
    claims = [claim for name in ("scifact", "scifact-train") for claim in read_collection(name).queries]
    asked = random.Random(3).sample(claims, chosen.queries)
    async with stage() as place:
        await churn(place, Mixtures(vectors), texts, chosen.documents, chosen.edits, asked)


if __name__ == "__main__":
    asyncio.run(main())
