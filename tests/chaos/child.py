"""One process of livedex in a chaos run: `python -m tests.chaos.child up|search JOURNAL`.

Where LIVEDEX_CONFIG and the other variables say. It ends when its standard input does, so that none outlives the run.

`up` reads a line `kill POINT` or `stop POINT` and does that at the next passage. Its journal has lines of a time by the
monotonic clock, a word, a number that stands for one worker, and: `point NAME`, `embed DIGEST...`, `failed NAME TEXT`.
`search` reads questions and writes answers, each a line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import asdict
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psycopg
from tests.crash.child import Journal, digest

import livedex
from livedex import config
from livedex.clock import SystemClock
from livedex.errors import LivedexError
from livedex.flow import follow
from livedex.model import Mode, Query
from livedex.parts import build_embedder
from livedex.ports import Embedder, Vectors
from livedex.store.leases import acquire

LEASE_SECONDS = 5.0
LONGEST_WAIT_SECONDS = 2.0
UNEXPECTED = 70
EMBEDDER = "endpoint"
MARKS = """
SELECT s.name, p.position FROM livedex.partitions p JOIN livedex.sources s USING (source_id)
UNION ALL
SELECT NULL, d.document_id FROM livedex.quarantine q JOIN livedex.documents d USING (document)
"""

_worker: ContextVar[int] = ContextVar("worker", default=0)
_workers = count(1)


class HastyClock(SystemClock):
    """Time as it is, but nobody waits long: backoffs of half a minute would be most of a run."""

    async def sleep(self, seconds: float) -> None:
        await super().sleep(min(seconds, LONGEST_WAIT_SECONDS))


class Strikes:
    """Ends or stops this process where it was told to; writes down every point."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.armed: dict[str, int] = {}

    async def reach(self, name: str) -> None:
        if not _worker.get():
            _worker.set(next(_workers))
        self._journal.write(now(), "point", str(_worker.get()), name)
        if (number := self.armed.pop(name, None)) is not None:
            os.kill(os.getpid(), number)


class JournalledEmbedder:
    """Writes down what goes through it."""

    def __init__(self, inner: Embedder, journal: Journal) -> None:
        self._inner = inner
        self._journal = journal
        self.identity = inner.identity
        self.batch_size = inner.batch_size

    async def embed_documents(self, texts: Sequence[str]) -> Vectors:
        vectors = await self._inner.embed_documents(texts)
        self._journal.write(now(), "embed", str(_worker.get()), *(digest(text) for text in texts))
        return vectors

    async def embed_query(self, text: str) -> Vectors:
        return await self._inner.embed_query(text)

    async def close(self) -> None:
        await self._inner.close()


def now() -> str:
    return f"{time.monotonic():.3f}"


async def lines() -> asyncio.StreamReader:
    reader = asyncio.StreamReader(limit=2**24)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


async def up(journal: Journal) -> None:
    strikes = Strikes(journal)

    def report(worker: str, error: LivedexError) -> None:
        journal.write(now(), "failed", "0", type(error).__name__, worker, " ".join(str(error).split()))

    async def obey() -> None:
        reader = await lines()
        while line := await reader.readline():
            verb, point = line.decode().split()
            strikes.armed[point] = signal.SIGKILL if verb == "kill" else signal.SIGSTOP
        os._exit(0)  # whoever started us is gone

    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    obeying = asyncio.create_task(obey())
    settings = config.load(None, os.environ)
    embedder = JournalledEmbedder(build_embedder(settings.embedders[EMBEDDER], settings.cache_directory), journal)
    with patch.object(follow, "acquire", partial(acquire, seconds=LEASE_SECONDS)):
        async with livedex.open(faults=strikes, embedders={EMBEDDER: embedder}, clock=HastyClock()) as index:
            journal.write(now(), "started", "0")
            await index.up(stop, report)
    obeying.cancel()


async def search() -> None:
    reader = await lines()
    tasks: set[asyncio.Task[None]] = set()
    store = Store()
    async with livedex.open() as index:
        while line := await reader.readline():
            task = asyncio.create_task(answer(index, store, json.loads(line)))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
    os._exit(0)


class Store:
    """Says how far the log has been written, by source, and what is in quarantine."""

    def __init__(self) -> None:
        self._connection: psycopg.AsyncConnection[tuple[Any, ...]] | None = None

    async def marks(self) -> dict[str, Any]:
        if self._connection is None or self._connection.closed:
            self._connection = await psycopg.AsyncConnection.connect(
                os.environ["LIVEDEX_DATABASE_URL"], autocommit=True, application_name="chaos", connect_timeout=5
            )
        rows = await (await self._connection.execute(MARKS)).fetchall()
        return {
            "positions": {name: position for name, position in rows if name is not None},
            "set_aside": [document_id for name, document_id in rows if name is None],
        }


async def answer(index: livedex.Index, store: Store, asked: dict[str, Any]) -> None:
    reply: dict[str, Any] = {"id": asked["id"], "asked_at": time.monotonic()}
    try:
        before = await store.marks()
        retrieval = await index.retrieve(asked["view"], query(asked))
        after = await store.marks()
        reply |= {"before": before, "set_aside": [*before["set_aside"], *after["set_aside"]]}
        reply["retrieval"] = asdict(retrieval)
    except LivedexError as error:
        reply |= {"error": type(error).__name__, "message": str(error)}
    except psycopg.OperationalError as error:
        reply |= {"error": "StoreUnavailable", "message": str(error)}
    except Exception:  # noqa: BLE001  # what nobody foresaw is what the run is looking for
        reply["unexpected"] = traceback.format_exc()
    reply["answered_at"] = time.monotonic()
    sys.stdout.write(json.dumps(reply, default=str) + "\n")
    sys.stdout.flush()


def query(asked: dict[str, Any]) -> Query:
    wanted: dict[str, Any] = {name: asked[name] for name in ("top_k", "exact", "tenant") if name in asked}
    if "at_least" in asked:
        wanted["at_least"] = tuple(asked["at_least"])
    return Query(asked["text"], mode=Mode(asked.get("mode", "hybrid")), **wanted)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("verb", choices=["up", "search"])
    parser.add_argument("journal", type=Path)
    wanted = parser.parse_args()
    journal = Journal(wanted.journal)
    try:
        asyncio.run(up(journal) if wanted.verb == "up" else search())
    except LivedexError as error:
        journal.write(now(), "ended", "0", type(error).__name__, " ".join(str(error).split()))
        sys.exit(error.exit_code)
    except Exception:  # noqa: BLE001  # likewise
        traceback.print_exc()
        sys.exit(UNEXPECTED)


if __name__ == "__main__":
    main()
