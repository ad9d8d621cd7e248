"""Dense search: latency and recall as the index grows, and under filters.

    python benchmarks/search.py [--chunks 10000 100000 300000] [--queries 300]

Chunks of real prose, embedded by hashing, go through the ordinary load. Latency is that of `Index.search` for the top
100, one client, without the query embedding (it is cached). Recall@10 compares with `exact=True` on the same index.
Queries are passages of 12 words from the corpus. Filters leave about 50, 5, 0.5 and 0.05 % of the documents visible.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import time

from stage import corpus, described, print_machine, stage

import livedex

SHARES = {"half": 50.0, "twentieth": 5.0, "two_hundredth": 0.5, "two_thousandth": 0.05}


def passages(texts: list[str], count: int, rng: random.Random) -> list[str]:
    found = []
    while len(found) < count:
        words = rng.choice(texts).split()
        if len(words) > 40:
            start = rng.randrange(len(words) - 20)
            found.append(" ".join(words[start : start + 12]))
    return found


def recall(found: livedex.Retrieval, exact: livedex.Retrieval) -> float:
    """Share of the exact first ten that were found; a hit as near as the tenth is as good as it."""
    if not exact.hits:
        return 1.0
    worst = exact.hits[:10][-1].score - 1e-6
    return min(1.0, sum(hit.score >= worst for hit in found.hits[:10]) / len(exact.hits[:10]))


async def timed(index: livedex.Index, queries: list[str], filters: dict[str, str]) -> tuple[list[float], float]:
    times, recalls = [], []
    for query in queries:
        await index.embed("handbook", query)
        started = time.perf_counter()
        found = await index.search("handbook", query, top_k=100, filters=filters)
        times.append((time.perf_counter() - started) * 1000)
        recalls.append(recall(found, await index.search("handbook", query, top_k=10, filters=filters, exact=True)))
    return times, sum(recalls) / len(recalls)


async def measure(chunks: int, queries: int) -> None:
    rng = random.Random(11)
    documents = corpus(chunks // 14)
    async with stage() as place:
        place.fill(documents)
        with place.source() as source:
            # Every document falls into the rarest class that its number divides into.
            source.execute(
                "UPDATE documents SET category = CASE WHEN n % 2000 = 0 THEN 'two_thousandth' "
                "WHEN n % 200 = 1 THEN 'two_hundredth' WHEN n % 20 = 2 THEN 'twentieth' WHEN n % 2 = 1 THEN 'half' "
                "ELSE 'rest' END FROM (SELECT doc_id AS id, row_number() OVER (ORDER BY md5(doc_id)) AS n "
                "FROM documents) AS numbered WHERE doc_id = id"
            )
        async with livedex.open(place.config, environ=place.environ) as index:
            await index.sync()
            view = (await index.status()).views[0]
            asked = passages([text for _, _, text in documents], queries, rng)
            await timed(index, asked[:20], {})
            times, found = await timed(index, asked, {})
            print(f"{view.chunks:,} chunks of {view.documents:,} documents: {described(times)}, recall@10 {found:.3f}")
            for category, share in SHARES.items():
                times, found = await timed(index, asked[: queries // 3], {"category": category})
                print(f"  {share:g} % visible: {described(times)}, recall@10 {found:.3f}")


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chunks", type=int, nargs="+", default=[10_000, 100_000, 300_000])
    parser.add_argument("--queries", type=int, default=300)
    chosen = parser.parse_args()
    print_machine()
    print("dense search, top 100, one client, hashing embedder, without the query embedding")
    for chunks in chosen.chunks:
        await measure(chunks, chosen.queries)


if __name__ == "__main__":
    asyncio.run(main())
