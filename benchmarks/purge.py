"""Purges: what forgetting costs, and for how long searches wait meanwhile.

    python benchmarks/purge.py [--chunks 10000 100000] [--purged 10]

Real prose (both handbooks and abstracts of papers) with hashed vectors, since graphs and tables are as large with any.
While this process purges documents, a second index searches all the time, words and vectors, one search after another,
and the slowest of them is what a search waited. The transaction that forgets, and the rewriting of the files, are timed
apart; the rewriting concerns whole tables, so its time grows with the index, not with what is purged.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
from stage import Stage, corpus, described, print_machine, stage

import livedex

CHUNKS_PER_DOCUMENT = 16
QUERIES = ("how do we release", "protein binding in cells", "access control and passwords", "children and school")


@asynccontextmanager
async def searching(place: Stage) -> AsyncIterator[list[float]]:
    """Milliseconds of each search that another client makes until the block ends."""
    times: list[float] = []
    stop = asyncio.Event()

    async def search() -> None:
        async with livedex.open(place.config, environ=place.environ) as index:
            while not stop.is_set():
                started = time.perf_counter()
                await index.search("handbook", QUERIES[len(times) % len(QUERIES)])
                times.append((time.perf_counter() - started) * 1000)

    task = asyncio.create_task(search())
    try:
        while len(times) < 20:  # the first searches plan and fill caches
            await asyncio.sleep(0.01)
        times.clear()
        yield times
    finally:
        stop.set()
        await task


def size(dsn: str) -> float:
    with psycopg.connect(dsn) as connection:
        row = connection.execute("SELECT pg_database_size(current_database()) / 2.0 ^ 20").fetchone()
    return float(row[0]) if row else 0.0


async def measure(chunks: int, purged: int) -> None:
    rows = corpus(chunks // CHUNKS_PER_DOCUMENT)
    async with stage() as place:
        place.fill(rows)
        async with livedex.open(place.config, environ=place.environ) as index:
            await index.sync()
            view = (await index.status()).views[0]
            print(f"\n{view.chunks:,} chunks of {view.documents:,} documents, {size(index.dsn):,.0f} MiB")
            keys = [key for key, _, _ in rows[:: max(1, len(rows) // purged)]][:purged]
            async with searching(place) as times:
                await asyncio.sleep(3)
            print(f"  searches at rest:            {described(times)}")
            async with searching(place) as times:
                started = time.perf_counter()
                receipt = await index.forgetting.purge("kb", keys, by="benchmark", rewrite=False)
                seconds = time.perf_counter() - started
                await asyncio.sleep(1)
            rows_gone = sum(receipt.removed.values())
            print(f"  forgetting {receipt.documents} documents, {rows_gone:,} rows: {seconds:.2f} s")
            print(f"    searches meanwhile:        {described(times)}")
            async with searching(place) as times:
                started = time.perf_counter()
                await index.forgetting.finish()
                seconds = time.perf_counter() - started
            print(f"  writing the files anew:      {seconds:.1f} s, {size(index.dsn):,.0f} MiB then")
            print(f"    searches meanwhile:        {described(times)}")


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--chunks", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--purged", type=int, default=10)
    wanted = parser.parse_args()
    print_machine()
    for chunks in wanted.chunks:
        await measure(chunks, wanted.purged)


if __name__ == "__main__":
    asyncio.run(main())
