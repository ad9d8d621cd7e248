"""Delete to unsearchable while other documents wait in the log: from the commit at the source until no search finds it.

    python benchmarks/deletes.py [--documents 10000] [--deletes 400]

Every document is edited in one transaction, and a process of its own captures that. Then documents are deleted one
after another, each by a commit, and this process searches through `Index.search` (both legs) for a word that only that
document has, until it is gone. First nothing is worked off: the whole backlog waits. Then `livedex up` works through
it, which takes its share of the machine; edits are made anew whenever less than a tenth of them is left.

Clocks: from the return of COMMIT to the return of the first search without the document; between searches it waits
1 ms. One search is part of the figure and quoted beside it, as is the log's own figure (`delete_p99_seconds`), which is
from the source's commit time to the tombstone's.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
from stage import Stage, corpus, described, print_machine, running, stage

import livedex

POLL_SECONDS = 0.001
PER_SECOND = 20
PATIENCE_SECONDS = 120.0
TARGET_MS = 30.0
WAITING = """
SELECT count(*) FROM livedex.documents d JOIN livedex.cursors c ON d.seq > c.seq WHERE NOT d.deleted
"""


class NothingIsWorkedOff:
    """Whoever comes to read the log waits for ever."""

    async def reach(self, name: str) -> None:
        if name == "materialize.read":
            await asyncio.Event().wait()


async def capture_only(config: Path) -> None:
    """What the process beside this one does."""
    async with livedex.open(config, faults=NothingIsWorkedOff()) as index:
        await index.up(asyncio.Event())


@asynccontextmanager
async def capturing(place: Stage) -> AsyncIterator[None]:
    command = [sys.executable, __file__, "--capture-only", str(place.config)]
    process = subprocess.Popen(command, env=place.environ, stdout=subprocess.DEVNULL)  # our own program
    try:
        yield
    finally:
        process.kill()  # it would wait for what is never worked off
        await asyncio.to_thread(process.wait, 30)


def word(number: int) -> str:
    return f"only{number}x"


def edit_everything(place: Stage) -> None:
    with place.source() as source:
        source.execute("UPDATE documents SET content = content || E'\\n\\n## Edited\\n\\n' || clock_timestamp()")


def waiting(store: psycopg.Connection[tuple[Any, ...]]) -> int:
    row = store.execute(WAITING).fetchone()
    return 0 if row is None else int(row[0])


async def until_waiting(store: psycopg.Connection[tuple[Any, ...]], least: int) -> None:
    deadline = time.perf_counter() + PATIENCE_SECONDS
    while waiting(store) < least:
        if time.perf_counter() > deadline:
            raise TimeoutError(f"not so many as {least} documents came to wait in the log")
        await asyncio.sleep(0.2)


async def until_heard(index: livedex.Index, times: int) -> None:
    """Wait until the source was heard of so many times more: a process that has just been started needs a while."""
    seen = set()
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(seen) <= times:
            seen.add((await index.status()).sources[0].heartbeat_at)
            await asyncio.sleep(0.1)


async def gone(index: livedex.Index, key: str, query: str, searches: list[float]) -> float:
    started = time.perf_counter()
    while True:
        began = time.perf_counter()
        found = await index.search("handbook", query)
        ended = time.perf_counter()
        searches.append((ended - began) * 1000)
        if key not in {hit.document_id for hit in found.hits}:
            return (ended - started) * 1000
        if ended - started > PATIENCE_SECONDS:
            raise TimeoutError(f"{key} is still found")
        await asyncio.sleep(POLL_SECONDS)


async def delete(
    place: Stage, index: livedex.Index, keys: Sequence[tuple[str, int]], least: int, title: str
) -> None:  # fmt: skip
    """Delete documents at a steady pace, while at least so many wait, and print how long each was still found."""
    await until_heard(index, 3)
    times: list[float] = []
    searches: list[float] = []
    backlog: list[int] = []
    with psycopg.connect(index.dsn, autocommit=True) as store:
        async with await psycopg.AsyncConnection.connect(place.source_dsn, autocommit=True) as source:
            for key, number in keys:
                due = time.perf_counter() + 1 / PER_SECOND
                backlog.append(waiting(store))
                if backlog[-1] < least:
                    edit_everything(place)
                    await until_waiting(store, least)
                    backlog[-1] = waiting(store)
                found = await index.search("handbook", word(number))
                assert key in {hit.document_id for hit in found.hits}, f"{key} is not found before it is deleted"
                await source.execute("DELETE FROM documents WHERE doc_id = %s", (key,))
                times.append(await gone(index, key, word(number), searches))
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
    view = (await index.status()).views[0]
    slow = sum(value > TARGET_MS for value in times)
    print(f"\n{title}: {min(backlog):,} to {max(backlog):,} documents waited")
    print(f"  delete to unsearchable  {described(times)}; over {TARGET_MS:g} ms: {slow} of {len(times)}")
    print(f"  of it one search        {described(searches)}")
    if view.delete_p50_seconds is not None and view.delete_p99_seconds is not None:
        p50, p99 = view.delete_p50_seconds * 1000, view.delete_p99_seconds * 1000
        print(f"  by the log, so far      p50 {p50:.1f}, p99 {p99:.1f} ms")


async def measure(documents: int, deletes: int) -> None:
    rows = [
        (f"{key}-{n}", title, f"{content}\n\n## Number\n\n{word(n)}")
        for n, (key, title, content) in enumerate(corpus(documents + 2 * deletes))
    ]
    async with stage("hashing") as place:
        place.fill(rows)
        async with livedex.open(place.config, environ=place.environ) as index:
            await index.sync()
            status = (await index.status()).views[0]
            print(f"{status.documents:,} documents, {status.chunks:,} chunks, {PER_SECOND} deletes a second")
            keys = [(key, number) for number, (key, _, _) in enumerate(rows)]
            with psycopg.connect(index.dsn, autocommit=True) as store:
                async with capturing(place):
                    edit_everything(place)
                    await until_waiting(store, documents)
                    await delete(place, index, keys[:deletes], documents // 10, "nothing is worked off")
                async with running(place):
                    await delete(
                        place, index, keys[deletes : 2 * deletes], documents // 10, "the backlog is being worked off"
                    )


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=10_000, help="how many wait in the log")
    parser.add_argument("--deletes", type=int, default=400, help="how many are deleted, in each of the two runs")
    parser.add_argument("--capture-only", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.capture_only is not None:
        await capture_only(chosen.capture_only)
        return
    print_machine()
    await measure(chosen.documents, chosen.deletes)


if __name__ == "__main__":
    asyncio.run(main())
