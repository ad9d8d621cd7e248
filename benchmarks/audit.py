"""How long an audit takes over documents of which nothing is wrong, and how much of them it reads from the source.

Documents are generated prose of about 1.5 KB. Bytes are those of the rows that the source's connection delivered, and
the content is what the rows would have been. What a plain read of every row takes is measured in the same run.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import time

import psycopg
from stage import print_machine, stage

import livedex
from livedex.rules.audit import Part, Report

TARGET_SECONDS = 20.0
TARGET_SHARE = 0.01


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--audits", type=int, default=3)
    arguments = parser.parse_args()
    print_machine()
    async with stage() as place:
        # One chunk a document: a vector index over made-up prose takes long to build.
        place.config.write_text(
            place.config.read_text().replace("shards: 1", "shards: 1, chunker: {kind: fixed, max_tokens: 1024}")
        )
        started = time.monotonic()
        place.fill(prose(arguments.documents))
        async with livedex.open(place.config, environ=place.environ) as index:
            await index.sync()
            print(f"inputs: {arguments.documents:,} documents, loaded in {time.monotonic() - started:.0f} s")
            for number in range(arguments.audits):
                started = time.monotonic()
                report = await index.audit()
                describe(number + 1, report, time.monotonic() - started)
        started = time.monotonic()
        read = read_everything(place.source_dsn)
        print(f"reading every row instead: {read / 2**20:.1f} MiB in {time.monotonic() - started:.1f} s")


def prose(documents: int) -> list[tuple[str, str, str]]:
    """Made-up sentences of a fixed vocabulary, no two documents alike."""
    dice = random.Random(7)
    vocabulary = [f"word{number}" for number in range(20_000)]
    weights = [1 / (rank + 1) for rank in range(len(vocabulary))]
    rows = []
    for number in range(documents):
        words = dice.choices(vocabulary, weights, k=210)
        sentences = [" ".join(words[start : start + 14]) + "." for start in range(0, len(words), 14)]
        rows.append((f"doc-{number}", f"Document {number}", f"## About {number}\n\n{' '.join(sentences)}"))
    return rows


def describe(number: int, report: Report, seconds: float) -> None:
    source = next(part for part in report.parts if part.subject == "source")
    view = next(part for part in report.parts if part.subject == "view")
    share = source.source_bytes / source.content_bytes
    verdict = "within" if seconds <= TARGET_SECONDS and share <= TARGET_SHARE else "BEYOND"
    print(
        f"audit {number}: {seconds:.1f} s ({part(source)}, {part(view)}), {source.source_bytes:,} bytes of "
        f"{source.content_bytes:,} from the source = {share:.3%}; findings {report.found}; "
        f"{verdict} {TARGET_SECONDS:.0f} s and {TARGET_SHARE:.0%}"
    )


def part(of: Part) -> str:
    return f"{of.subject} {of.seconds:.1f} s"


def read_everything(dsn: str) -> int:
    """Bytes of a COPY of the mapped columns."""
    read = 0
    everything = "COPY (SELECT doc_id, title, content, category, updated_at FROM documents) TO STDOUT"
    with psycopg.connect(dsn) as connection, connection.cursor() as cursor, cursor.copy(everything) as copy:
        for piece in copy:
            read += len(piece)
    return read


asyncio.run(main())
