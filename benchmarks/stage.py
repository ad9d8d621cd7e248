"""What the benchmarks share: the machine's description, servers to run on, real text, and percentiles."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from livedex.store.embedded import EmbeddedServer

DATA = Path(os.environ.get("LIVEDEX_DATA", Path(__file__).parents[2] / "shared" / "data"))
TABLE = """
CREATE TABLE documents (
    doc_id text PRIMARY KEY, title text, content text, category text, updated_at timestamptz DEFAULT now())
"""
CONFIG = """
sources:
  kb:
    kind: postgres
    url: ${KB_DATABASE_URL}
    tables:
      documents: {key: doc_id, title: title, content: content, updated_at: updated_at, metadata: [category]}
views:
  handbook: {from: kb, embedder: EMBEDDER, shards: SHARDS}
"""


@dataclass(frozen=True)
class Stage:
    """A source database with an empty table, and a livedex.yaml over it, each on an embedded server of its own with
    the settings that livedex gives it (fsync on)."""

    directory: Path
    source_dsn: str

    @property
    def config(self) -> Path:
        return self.directory / "livedex.yaml"

    @property
    def environ(self) -> dict[str, str]:
        return {**os.environ, "KB_DATABASE_URL": self.source_dsn}

    def source(self) -> psycopg.Connection[tuple[Any, ...]]:
        return psycopg.connect(self.source_dsn, autocommit=True)

    def fill(self, documents: Sequence[tuple[str, str, str]]) -> None:
        """Rows of (doc_id, title, content), in one transaction."""
        with self.source() as connection, connection.cursor() as cursor:
            with cursor.copy("COPY documents (doc_id, title, content, category) FROM STDIN") as copy:
                for number, (doc_id, title, content) in enumerate(documents):
                    copy.write_row((doc_id, title, content, f"c{number % 20}"))
            cursor.execute("ANALYZE documents")


@asynccontextmanager
async def stage(embedder: str = "hashing", shards: int = 1) -> AsyncIterator[Stage]:
    directory = Path(tempfile.mkdtemp(prefix="livedex-benchmark-"))
    directory.chmod(0o711)
    server = await EmbeddedServer.start(directory / "source")
    try:
        (directory / "livedex.yaml").write_text(CONFIG.replace("EMBEDDER", embedder).replace("SHARDS", str(shards)))
        with psycopg.connect(server.dsn, autocommit=True) as connection:
            connection.execute(TABLE)
        yield Stage(directory, server.dsn)
    finally:
        await server.stop()
        shutil.rmtree(server.data, ignore_errors=True)
        shutil.rmtree(directory, ignore_errors=True)


@asynccontextmanager
async def running(place: Stage) -> AsyncIterator[subprocess.Popen[bytes]]:
    """`livedex up` as a process of its own."""
    command = [sys.executable, "-m", "livedex", "--config", str(place.config), "up"]
    process = subprocess.Popen(command, env=place.environ, stdout=subprocess.DEVNULL)  # our own program
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(process.wait, 30)


def print_machine() -> None:
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text()) if sys.platform == "linux" else None
    name = model[1] if model else platform.processor()
    print(f"machine: {len(os.sched_getaffinity(0))} cores ({name}), {memory:.0f} GiB, load {os.getloadavg()[0]:.2f}, "
          f"Python {platform.python_version()}")  # fmt: skip


def percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def described(values: Sequence[float], unit: str = "ms") -> str:
    shares = ", ".join(f"p{share * 100:g} {percentile(values, share):.1f}" for share in (0.5, 0.9, 0.99))
    return f"{shares}, max {max(values):.1f} {unit} (n={len(values)})"


def stream(name: str) -> Iterator[dict[str, Any]]:
    """Lines of a recorded edit stream."""
    with gzip.open(DATA / "streams" / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def corpus(documents: int) -> list[tuple[str, str, str]]:
    """Real prose as documents of about 16 chunks: both handbooks as they stood at the start, then abstracts of papers,
    eight a document, each under its title. Where that is not enough, abstracts are dealt out again in another order."""
    rows = [
        (line["path"], line["path"], line["content"])
        for name in ("sourcegraph-2022", "govuk-2y")
        for line in stream(name)
        if line["op"] == "r"
    ]
    with gzip.open(DATA / "ir" / "scifact" / "corpus.jsonl.gz", "rt", encoding="utf-8") as lines:
        papers = [json.loads(line) for line in lines]
    number = 0
    while len(rows) < documents:
        stride = 1 + 2 * (number * 8 // len(papers))
        chosen = [papers[(number * 8 + n) * stride % len(papers)] for n in range(8)]
        content = "\n\n".join(f"## {paper['title']} ({number})\n\n{paper['text']}" for paper in chosen)
        rows.append((f"papers-{number}", f"Papers {number}", content))
        number += 1
    return rows[:documents]
