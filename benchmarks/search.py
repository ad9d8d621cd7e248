"""Search: latency and recall as the index grows, and under filters.

    python benchmarks/search.py [--chunks 10000 100000 300000] [--queries 100]

No collection of 300,000 real chunks is at hand, so the vectors are mixtures of real ones: each chunk says which two
abstracts of SciFact it mixes and how much of each, and the embedder of this benchmark answers with that mixture of
their all-MiniLM-L6-v2 vectors, with a little noise, and its words are 45 of the larger part's, from a random place on.
They go through the ordinary load into the ordinary index. Queries are SciFact's claims; their vectors are further
mixtures. Latency is that of `Index.search`, one client, without the query embedding (it is cached): hybrid and lexical
for the top 10, as people ask, dense for the top 100 too. Recall@10 is dense search's, compared with `exact=True` on the
same index; the lexical leg is exact (benchmarks/bm25.py). Filters leave about 50, 5, 0.5 and 0.05 % of the documents
visible.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import re
import time
from collections.abc import Mapping, Sequence

import numpy as np
from beir import read_collection
from scifact_dense import CACHE, embed_corpus
from stage import described, print_machine, stage

import livedex
from livedex.adapters.embedders.local import LocalEmbedder
from livedex.model import ModelIdentity
from livedex.ports import Vectors

CHUNKS_PER_DOCUMENT = 16
WORDS = 45
NOISE = 0.02
MIXTURE = re.compile(r"mixture (\d+) (\d+) (\d+)")
SHARES = {"half": 50.0, "twentieth": 5.0, "two_hundredth": 0.5, "two_thousandth": 0.05}


class Mixtures:
    """Answers a text that names a mixture with the mixture. Implements `livedex.ports.Embedder`."""

    identity = ModelIdentity(model="mixtures", revision="1", dimensions=384)
    batch_size = 512

    def __init__(self, vectors: Vectors) -> None:
        self.vectors = vectors

    async def embed_documents(self, texts: Sequence[str]) -> Vectors:
        return self._mixed([self._of(text) for text in texts])

    async def embed_query(self, text: str) -> Vectors:
        vector: Vectors = self._mixed([self._of(text)])[0]
        return vector

    def _of(self, text: str) -> list[int]:
        """What the text names; of a query, and of a chunk that was cut in two, something of its own."""
        named = MIXTURE.search(text)
        return [int(part) for part in named.groups()] if named else _named(random.Random(text), len(self.vectors))

    def _mixed(self, named: Sequence[Sequence[int]]) -> Vectors:
        parts = np.array(named)
        share = parts[:, 2:] / 1000
        mixed = share * self.vectors[parts[:, 0]] + (1 - share) * self.vectors[parts[:, 1]]
        noise = np.stack([np.random.default_rng(row).standard_normal(384) for row in parts])
        mixed = mixed + NOISE * noise
        normalised: Vectors = (mixed / np.linalg.norm(mixed, axis=1, keepdims=True)).astype(np.float32)
        return normalised

    async def close(self) -> None:
        return None


def _named(rng: random.Random, count: int) -> list[int]:
    return [rng.randrange(count), rng.randrange(count), rng.randrange(500, 1000)]


def corpus(chunks: int, texts: Sequence[str], rng: random.Random) -> list[tuple[str, str, str]]:
    """Documents of 16 chunks; each names its mixture and goes on with words of its larger part."""
    rows = []
    for number in range(chunks // CHUNKS_PER_DOCUMENT):
        sections = []
        for _ in range(CHUNKS_PER_DOCUMENT):
            first, second, share = _named(rng, len(texts))
            words = texts[first].split()
            start = rng.randrange(max(1, len(words) - WORDS))
            sections.append(f"## mixture {first} {second} {share}\n\n{' '.join(words[start : start + WORDS])}")
        rows.append((f"document-{number}", "", "\n\n".join(sections)))
    return rows


def recall(found: livedex.Retrieval, exact: livedex.Retrieval) -> float:
    """Share of the exact first ten that were found; a hit as near as the tenth is as good as it."""
    if not exact.hits:
        return 1.0
    worst = exact.hits[:10][-1].score - 1e-6
    return min(1.0, sum(hit.score >= worst for hit in found.hits[:10]) / len(exact.hits[:10]))


async def timed(
    index: livedex.Index, queries: Sequence[str], mode: str, top_k: int, filters: Mapping[str, str]
) -> list[float]:
    times = []
    for query in queries:
        await index.embed("handbook", query)
        started = time.perf_counter()
        await index.search("handbook", query, top_k=top_k, filters=filters, mode=mode)
        times.append((time.perf_counter() - started) * 1000)
    return times


async def recalled(index: livedex.Index, queries: Sequence[str], filters: Mapping[str, str]) -> float:
    recalls = []
    for query in queries:
        found = await index.search("handbook", query, top_k=10, filters=filters, mode="dense")
        exact = await index.search("handbook", query, top_k=10, filters=filters, mode="dense", exact=True)
        recalls.append(recall(found, exact))
    return sum(recalls) / len(recalls)


async def measure(chunks: int, queries: int, vectors: Vectors, texts: Sequence[str]) -> None:
    rng = random.Random(11)
    embedder = Mixtures(vectors)
    async with stage() as place:
        place.fill(corpus(chunks, texts, rng))
        with place.source() as source:
            # Every document falls into the rarest class that its number divides into.
            source.execute(
                "UPDATE documents SET category = CASE WHEN n % 2000 = 0 THEN 'two_thousandth' "
                "WHEN n % 200 = 1 THEN 'two_hundredth' WHEN n % 20 = 2 THEN 'twentieth' WHEN n % 2 = 1 THEN 'half' "
                "ELSE 'rest' END FROM (SELECT doc_id AS id, row_number() OVER (ORDER BY md5(doc_id)) AS n "
                "FROM documents) AS numbered WHERE doc_id = id"
            )
        async with livedex.open(place.config, environ=place.environ, embedders={"hashing": embedder}) as index:
            await index.sync()
            view = (await index.status()).views[0]
            claims = [claim for name in ("scifact", "scifact-train") for claim in read_collection(name).queries]
            asked = rng.sample(claims, queries)
            print(f"{view.chunks:,} chunks of {view.documents:,} documents")
            for mode, top_k in (("hybrid", 10), ("lexical", 10), ("dense", 10), ("dense", 100)):
                await timed(index, asked[:20], mode, top_k, {})
                print(f"  {mode} top {top_k}: {described(await timed(index, asked, mode, top_k, {}))}", flush=True)
            print(f"  dense recall@10 {await recalled(index, asked[:100], {}):.3f}", flush=True)
            for category, share in SHARES.items():
                filters = {"category": category}
                times = await timed(index, asked[:100], "hybrid", 10, filters)
                found = await recalled(index, asked[:30], filters)
                print(f"  hybrid, {share:g} % visible: {described(times)}, dense recall@10 {found:.3f}", flush=True)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chunks", type=int, nargs="+", default=[10_000, 100_000, 300_000])
    parser.add_argument("--queries", type=int, default=500)
    chosen = parser.parse_args()
    print_machine()
    print("search, one client, mixtures of all-MiniLM-L6-v2 vectors, without the query embedding")
    texts = [f"{title} {text}" for _, title, text in read_collection("scifact").documents]
    vectors, _ = await embed_corpus(LocalEmbedder(cache_directory=CACHE), texts)
    for chunks in chosen.chunks:
        await measure(chunks, chosen.queries, vectors, texts)


if __name__ == "__main__":
    asyncio.run(main())
