"""Records of retrievals: what they add to a search, and what they take up.

    python benchmarks/records.py [--documents 700] [--rounds 20] [--queries 250]

Two ways to the same index in one process, hybrid, top 10, query embeddings cached: a search whose retrieval is
recorded, and one whose is not. They take turns in blocks of `--queries` searches, the first block of a round by lot, so
that neither has the machine's better moments; a block with records ends before its last batch is waited for, which is
not counted. One client, which searches without a pause: more a second than any real one.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import time

import psycopg
from stage import corpus, described, percentile, print_machine, stage

import livedex
from livedex.model import Query
from livedex.retrieve import Retrieves
from livedex.retrieve.replayed import NoTickets


async def timed(retriever: Retrieves, queries: list[Query]) -> list[float]:
    """Milliseconds a search."""
    took = []
    for query in queries:
        started = time.perf_counter()
        await retriever.retrieve(query)
        took.append((time.perf_counter() - started) * 1000)
    return took


async def measure(documents: int, rounds: int, block: int) -> None:
    async with stage() as place:
        rows = corpus(documents)
        place.fill(rows)
        async with livedex.open(place.config, environ=place.environ) as index:
            await index.sync()
            dice = random.Random(7)
            texts = [" ".join(dice.choice(rows)[2].split()[:8]) or "refund" for _ in range(block)]
            queries = [Query(text) for text in texts]
            ways = {
                "recorded": await index._retriever("handbook"),
                "bare": await index._assembly.answering("handbook", NoTickets()),
            }
            took: dict[str, list[float]] = {name: [] for name in ways}
            for way in ways.values():
                await timed(way, queries)  # embeds the queries, and fills caches
            await index.retrievals(last=1)
            for _ in range(rounds):
                for name in dice.sample(list(ways), 2):
                    took[name] += await timed(ways[name], queries)
                    await index.retrievals(last=1)
            for name, values in took.items():
                print(f"  {name}: {described(values)}, mean {statistics.mean(values):.2f} ms")
            ratios = [percentile(took["recorded"], share) / percentile(took["bare"], share) for share in (0.5, 0.99)]
            print(f"  recorded / bare: p50 {ratios[0]:.3f}, p99 {ratios[1]:.3f}; lost {index._past.recorder.lost}")
            describe_size(index.dsn)


def describe_size(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        for table in ("retrievals", "retrieval_hits", "retrieval_texts"):
            size = (
                "SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0) FROM pg_class c "
                "WHERE c.relkind = 'r' AND c.relnamespace = 'livedex'::regnamespace AND c.relname ~ %s"
            )
            (taken,) = connection.execute(size, [f"^{table}(_\\d+)?$"]).fetchone() or (0,)
            (rows,) = connection.execute(f"SELECT count(*) FROM livedex.{table}").fetchone() or (0,)
            print(
                f"  {table}: {rows:,} rows, {int(taken) / 2**20:.1f} MiB, {int(taken) / max(1, rows):.0f} bytes a row"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=700)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--queries", type=int, default=250)
    chosen = parser.parse_args()
    print_machine()
    print(f"records: {chosen.documents} documents, {chosen.rounds} rounds of {chosen.queries} searches each way")
    asyncio.run(measure(chosen.documents, chosen.rounds, chosen.queries))


if __name__ == "__main__":
    main()
