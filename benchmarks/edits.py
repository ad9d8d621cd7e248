"""What a year of real edits costs: texts embedded and index entries written.

    python benchmarks/edits.py [--changes 6777]

Replays `streams/sourcegraph-2022` (a company handbook) through a real source table, a change a transaction so that
each one's cost is known, a rename as an UPDATE of the key, and counts what the view did: from the counts beside its
cursors, `texts_embedded` and `chunks_inserted`, each of which is one row in the vector table and one insert into HNSW.
Then three changes that should cost nothing. One-paragraph edits are those where a single paragraph of a document with
two headings or more changed.
"""

from __future__ import annotations

import argparse
import asyncio
import difflib
import re
from collections import Counter
from typing import Any

import psycopg
from stage import Stage, print_machine, stage, stream

import livedex

HEADING = re.compile(r"(?m)^#{1,6} ")


def is_one_paragraph(old: str, new: str) -> bool:
    if len(HEADING.findall(new)) < 2:
        return False
    before, after = old.split("\n\n"), new.split("\n\n")
    changed = [
        op for op in difflib.SequenceMatcher(a=before, b=after, autojunk=False).get_opcodes() if op[0] != "equal"
    ]
    return len(changed) == 1 and max(changed[0][2] - changed[0][1], changed[0][4] - changed[0][3]) == 1


def apply(cursor: psycopg.Cursor[Any], line: dict[str, Any]) -> None:
    path, content = line["path"], line["content"]
    match line["op"]:
        case "d":
            cursor.execute("DELETE FROM documents WHERE doc_id = %s", (path,))
        case "m":
            cursor.execute("DELETE FROM documents WHERE doc_id = %s", (path,))
            cursor.execute(
                "UPDATE documents SET doc_id = %s, content = %s WHERE doc_id = %s", (path, content, line["old_path"])
            )
        case _:
            cursor.execute(
                "INSERT INTO documents (doc_id, title, content) VALUES (%s, '', %s) "
                "ON CONFLICT (doc_id) DO UPDATE SET content = excluded.content",
                (path, content),
            )


class Meter:
    """Reads what the view has done so far, and waits until it has done it."""

    def __init__(self, dsn: str) -> None:
        self._connection = psycopg.connect(dsn, autocommit=True)

    def read(self) -> tuple[int, int]:
        """Texts embedded, and rows inserted into the vector table."""
        row = self._connection.execute(
            "SELECT sum(texts_embedded), sum(chunks_inserted) FROM livedex.cursors"
        ).fetchone()
        assert row is not None
        return int(row[0]), int(row[1])

    async def reach(self, lsn: str) -> None:
        """Wait until everything that the source committed after `lsn` was taken from it is searchable."""
        while True:
            row = self._connection.execute(
                "SELECT bool_and(split_part(position, ':', 3)::pg_lsn > %s::pg_lsn) FROM livedex.watermarks", (lsn,)
            ).fetchone()
            if row is not None and row[0]:
                return
            await asyncio.sleep(0.002)

    def close(self) -> None:
        self._connection.close()


def kind_of(line: dict[str, Any], contents: dict[str, str]) -> str:
    """What a change is, keeping `contents` up to date."""
    old = contents.pop(line["old_path"], "") if line["op"] == "m" else contents.get(line["path"], "")
    new = line["content"] or ""
    if line["op"] == "d":
        contents.pop(line["path"], None)
        return "delete"
    contents[line["path"]] = new
    match line["op"]:
        case "c":
            return "create"
        case "m":
            return "rename" if old == new else "rename with edit"
    return "no-op" if old == new else "one-paragraph edit" if is_one_paragraph(old, new) else "other edit"


def position(source: psycopg.Connection[Any]) -> str:
    """Where the source's log stands, within a transaction: its commit comes after that."""
    row = source.execute("SELECT pg_current_wal_insert_lsn()::text").fetchone()
    assert row is not None
    return str(row[0])


async def replay(place: Stage, index: livedex.Index, changes: int) -> None:
    lines = list(stream("sourcegraph-2022"))
    start = [line for line in lines if line["op"] == "r"]
    place.fill([(line["path"], "", line["content"]) for line in start])
    contents = {line["path"]: line["content"] for line in start}
    await index.sync()
    stop = asyncio.Event()
    up = asyncio.create_task(index.up(stop))
    meter, counts, embedded = Meter(index.dsn), Counter[str](), Counter[str]()
    total = meter.read()
    with place.source() as source, source.cursor() as cursor:
        for number, line in enumerate(lines[len(start) :][:changes], 1):
            before = meter.read()
            with source.transaction():
                apply(cursor, line)
                lsn = position(source)
            await meter.reach(lsn)
            kind = kind_of(line, contents)
            counts[kind] += 1
            embedded[kind] += meter.read()[0] - before[0]
            if number % 2000 == 0:
                print(f"  … {number:,} changes", flush=True)
    report(counts, embedded, tuple(b - a for a, b in zip(total, meter.read(), strict=True)))
    await free_changes(place, meter)
    meter.close()
    stop.set()
    await up


def report(counts: Counter[str], embedded: Counter[str], total: tuple[int, ...]) -> None:
    texts, inserted = total
    for kind, number in counts.most_common():
        print(f"  {number:,} x {kind}: {embedded[kind]:,} texts embedded, {embedded[kind] / number:.2f} each")
    edits = [kind for kind in counts if "edit" in kind]
    number = sum(counts[kind] for kind in edits)
    print(f"  all {number:,} edits: {sum(embedded[kind] for kind in edits) / max(1, number):.2f} texts embedded each")
    print(f"  texts embedded: {texts:,}; HNSW inserts: {inserted:,}, {inserted / max(1, texts):.3f} per embedded text")
    print(f"  (the other {inserted - texts:,} inserts are texts that came back: their vectors were known)")


async def free_changes(place: Stage, meter: Meter) -> None:
    """Changes that alter no text."""
    statements = {
        "no-ops": "UPDATE documents SET content = content",
        "changes of metadata alone": "UPDATE documents SET category = 'other'",
        "pure renames": "UPDATE documents SET doc_id = 'moved/' || doc_id",
    }
    for name, statement in statements.items():
        before = meter.read()
        with place.source() as source, source.transaction():
            rows = source.execute(statement).rowcount
            lsn = position(source)
        await meter.reach(lsn)
        after = meter.read()
        print(f"  {rows:,} {name}: {after[0] - before[0]} texts embedded, {after[1] - before[1]} HNSW inserts")


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--changes", type=int, default=6777, help="how many to replay; the year has 6,777")
    chosen = parser.parse_args()
    print_machine()
    print(f"real edits: sourcegraph-2022, {chosen.changes:,} changes, defaults of the markdown chunker")
    async with stage() as place, livedex.open(place.config, environ=place.environ) as index:
        await replay(place, index, chosen.changes)


if __name__ == "__main__":
    asyncio.run(main())
