"""One process of livedex, for tests that kill or freeze it: `python child.py sync|up|purge JOURNAL [OPTIONS]`.

Where LIVEDEX_CONFIG and the other variables of the world say. The journal is a file of lines, `point NAME` for every
fault point that is come by, `embed DIGEST...` for every call of the embedder and `failed NAME` for every failure, each
written through before the process goes on.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import signal
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from unittest.mock import patch

import livedex
from livedex.adapters.embedders.hashing import HashingEmbedder
from livedex.errors import LivedexError
from livedex.faults import Faults, NoFaults
from livedex.flow import follow
from livedex.ports import Vectors
from livedex.store.leases import LEASE_SECONDS, acquire
from livedex.testing.faults import KillAt, StopAt


class Journal:
    """Outlives the process that writes it."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def write(self, *words: str) -> None:
        os.write(self._file, f"{' '.join(words)}\n".encode())


class JournalledFaults:
    """Writes down every point, then goes on to another's."""

    def __init__(self, journal: Journal, inner: Faults) -> None:
        self._journal = journal
        self._inner = inner

    async def reach(self, name: str) -> None:
        self._journal.write("point", name)
        await self._inner.reach(name)


class JournalledEmbedder(HashingEmbedder):
    """Writes down what goes through it; slow enough that there is something to interrupt."""

    batch_size = 32

    def __init__(self, journal: Journal, seconds: float) -> None:
        super().__init__()
        self._journal = journal
        self._seconds = seconds

    async def embed_documents(self, texts: Sequence[str]) -> Vectors:
        self._journal.write("embed", *(digest(text) for text in texts))
        await asyncio.sleep(self._seconds)
        return await super().embed_documents(texts)


def digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def fault(wanted: argparse.Namespace) -> Faults:
    if wanted.kill_at is not None:
        return KillAt(wanted.kill_at)
    if wanted.stop_at is not None:
        return StopAt(wanted.stop_at)
    return NoFaults()


async def run(wanted: argparse.Namespace) -> None:
    journal = Journal(wanted.journal)

    def report(worker: str, error: LivedexError) -> None:
        journal.write("failed", type(error).__name__, worker, str(error))

    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    embedder = JournalledEmbedder(journal, wanted.embedding_seconds)
    faults = JournalledFaults(journal, fault(wanted))
    with patch.object(follow, "acquire", partial(acquire, seconds=wanted.lease_seconds)):
        async with livedex.open(faults=faults, embedders={"hashing": embedder}) as index:
            if wanted.verb == "purge":
                await index.forgetting.purge("kb", wanted.key, by="tests")
            else:
                await (index.sync(report) if wanted.verb == "sync" else index.up(stop, report))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("verb", choices=["sync", "up", "purge"])
    parser.add_argument("journal", type=Path)
    parser.add_argument("--key", action="append")
    parser.add_argument("--kill-at")
    parser.add_argument("--stop-at")
    parser.add_argument("--lease-seconds", type=float, default=LEASE_SECONDS)
    parser.add_argument("--embedding-seconds", type=float, default=0.0)
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
