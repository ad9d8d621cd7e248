"""Initial load: rows of a PostgreSQL table until every chunk is searchable, and until the vector index stands.

    python benchmarks/load.py [--documents 2000] [--times 10]

Runs `Index.sync` in a process of its own, so that its memory can be told from ours: peak resident memory of that
process (PostgreSQL not included) for the corpus and for a corpus `--times` as large, to show that it does not grow.
Beside it, in the same run, a plain batch script without capture, log or index: read, cut, embed, COPY.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time

import psycopg
from stage import Stage, corpus, print_machine, stage

import livedex
from livedex.adapters.chunkers.markdown import MarkdownChunker
from livedex.adapters.embedders.hashing import HashingEmbedder
from livedex.store.vectors import literal

SHARDS = 1
CHILD = """
import asyncio, json, sys, time
import livedex

async def main():
    async with livedex.open(sys.argv[1]) as index:
        await index.prepare()
        started = time.perf_counter()
        sync = asyncio.create_task(index.sync())
        searchable = None
        while not sync.done():
            await asyncio.sleep(0.05)
            if searchable is None:
                progress = await index.progress()
                if progress and all(view.loaded and not view.waiting for view in progress):
                    searchable = time.perf_counter() - started
        counts = (await sync)["handbook"]
        indexed = time.perf_counter() - started
        chunks = (await index.status()).views[0].chunks
        # Not ru_maxrss: that one begins with the size of the process that started this one.
        (peak,) = [int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith("VmHWM")]
        print(json.dumps({"searchable": searchable or indexed, "indexed": indexed, "chunks": chunks,
                          "documents": counts.documents, "peak_mib": peak}))

asyncio.run(main())
"""


async def load(documents: int) -> None:
    async with stage(shards=SHARDS) as place:
        place.fill(corpus(documents))
        command = [sys.executable, "-c", CHILD, str(place.config)]
        output = await asyncio.to_thread(subprocess.check_output, command, env=place.environ)
        found = json.loads(output)
        rates = [found["chunks"] / found[until] for until in ("searchable", "indexed")]
        print(f"  {found['documents']:,} documents, {found['chunks']:,} chunks: "
              f"searchable after {found['searchable']:.1f} s ({rates[0]:,.0f} chunks/s), "
              f"vector index after {found['indexed']:.1f} s ({rates[1]:,.0f} chunks/s), "
              f"peak memory of the process {found['peak_mib']:.0f} MiB")  # fmt: skip
        if documents <= 5000:
            await batch_script(place)


async def batch_script(place: Stage) -> None:
    """What people write by hand: no log, no index, nothing incremental."""
    chunker, embedder = MarkdownChunker(), HashingEmbedder()
    async with livedex.open(place.config, environ=place.environ) as index:
        dsn = index.dsn
        started = time.perf_counter()
        with psycopg.connect(place.source_dsn) as source, psycopg.connect(dsn) as store:
            store.execute("CREATE TABLE batch (doc_id text, chunk int, text text, embedding halfvec(384))")
            rows = source.execute("SELECT doc_id, title, content FROM documents").fetchall()
            count = 0
            with store.cursor().copy("COPY batch FROM STDIN") as copy:
                for key, title, content in rows:
                    chunks = chunker.chunk(content, title)
                    vectors = await embedder.embed_documents([chunk.text for chunk in chunks])
                    for chunk, vector in zip(chunks, vectors, strict=True):
                        copy.write_row((key, chunk.index, chunk.text, literal(vector)))
                    count += len(chunks)
        seconds = time.perf_counter() - started
        print(f"  a plain batch script without any index, same run: {seconds:.1f} s ({count / seconds:,.0f} chunks/s)")


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=2000)
    parser.add_argument(
        "--times", type=int, default=10, help="how many times as large the second corpus is; 0 for none"
    )
    chosen = parser.parse_args()
    print_machine()
    print("initial load, hashing embedder, 1 shard")
    await load(chosen.documents)
    if chosen.times:
        await load(chosen.documents * chosen.times)


if __name__ == "__main__":
    asyncio.run(main())
