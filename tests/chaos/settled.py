"""When all is quiet: whether what livedex holds is what building it from scratch from the sources would give, nothing
lost, nothing double, nothing left behind."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
from tests.chaos.endpoint import DIMENSIONS
from tests.world import counted, from_scratch, occurrences, terms_of_words

from livedex.adapters.embedders.hashing import HashingEmbedder
from livedex.config import MarkdownChunker
from livedex.model import Chunk
from livedex.parts import build_cutter
from livedex.rules.lexical import words

CHUNKER = MarkdownChunker(max_tokens=40, min_tokens=10)
CUTTER = build_cutter(CHUNKER)
LOST_WITH_THE_STORE_SECONDS = 5.0
"""Workers commit without waiting for the disk: what was committed shortly before the store crashed may be lost."""


@dataclass(frozen=True, slots=True)
class Row:
    title: str
    content: str
    metadata: Mapping[str, Any]
    tenant: str


class Store:
    """Asks the store; passes for a World where that is all that is asked of one."""

    def __init__(self, dsn: str) -> None:
        self._connection = psycopg.connect(dsn, autocommit=True, application_name="chaos")

    def stored(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        return self._connection.execute(query, values).fetchall()

    def close(self) -> None:
        self._connection.close()


def source_rows(dsn: str) -> dict[str, Row]:
    with psycopg.connect(dsn, autocommit=True, application_name="chaos") as connection:
        found = connection.execute("SELECT doc_id, title, content, category, tenant FROM documents").fetchall()
    return {key: Row(title, text, {"category": category}, tenant or "") for key, title, text, category, tenant in found}


def folder_rows(folder: Path) -> dict[str, Row]:
    files = [path for path in folder.rglob("*.md") if not path.name.startswith(".")]
    return {str(path.relative_to(folder)): Row("", path.read_text(), {}, "") for path in files}


async def check(store: Store, view: str, source: str, rows: Mapping[str, Row]) -> int:
    """Compare a view with what its source says; the number of chunks compared. Raises AssertionError."""
    found = store.stored(
        "SELECT d.document_id, d.title, d.raw ->> 'content', d.metadata, d.tenant FROM livedex.documents d "
        "JOIN livedex.sources s USING (source_id) WHERE NOT d.deleted AND s.name = %s",
        source,
    )
    standing = {key: Row(title, content or "", metadata, tenant) for key, title, content, metadata, tenant in found}
    assert len(standing) == len(found), f"{source}: a key stands twice in the log"
    assert standing.keys() == rows.keys(), _difference(source, standing.keys(), rows.keys())
    if source == "kb":
        different = [key for key in rows if standing[key] != rows[key]]
        assert different == [], f"{source}: {different[:5]} differ: {[standing[k] for k in different[:2]]}"
    else:
        assert {key: row.content for key, row in standing.items()} == {key: row.content for key, row in rows.items()}
    titles = {key: row.title for key, row in standing.items()}
    chunks = {
        (key, chunk.index): chunk
        for key, row in rows.items()
        for chunk in from_scratch(row.content, titles[key], CUTTER)
    }
    ((generation,),) = store.stored("SELECT active_generation FROM livedex.views WHERE name = %s", view)
    _check_chunks(store, view, chunks)
    await _check_vectors(store, view, chunks)
    _check_terms(store, generation, chunks, titles)
    _check_tables(store, f"livedex_g{generation}")
    return len(chunks)


def _difference(source: str, found: Any, wanted: Any) -> str:
    lost, ghosts = sorted(wanted - found), sorted(found - wanted)
    return f"{source}: {len(lost)} lost {lost[:5]}, {len(ghosts)} that are no more {ghosts[:5]}"


def _check_chunks(store: Store, view: str, chunks: Mapping[tuple[str, int], Chunk]) -> None:
    found = store.stored(
        f'SELECT document_id, chunk_index, start, "end", chunk_text, section, section_type, stale FROM {view}'
    )
    standing = {(row[0], row[1]): row[2:] for row in found}
    assert len(standing) == len(found), f"{view}: a chunk stands twice"
    assert standing.keys() == chunks.keys(), _difference(view, standing.keys(), chunks.keys())
    wanted = {
        place: (c.start, c.end, c.text, list(c.heading_path), c.section_type, False) for place, c in chunks.items()
    }
    different = {place: (standing[place], wanted[place]) for place in wanted if standing[place] != wanted[place]}
    assert not different, f"{view}: {len(different)} chunks differ, such as {next(iter(different.items()))}"


async def _check_vectors(store: Store, view: str, chunks: Mapping[tuple[str, int], Chunk]) -> None:
    found = {
        (key, index): vector
        for key, index, vector in store.stored(f"SELECT document_id, chunk_index, embedding::text FROM {view}")
    }
    if not found:
        return
    places = sorted(chunks)
    wanted = await HashingEmbedder(DIMENSIONS).embed_documents([chunks[place].embedded_text for place in places])
    standing = np.array([json.loads(found[place]) for place in places], dtype=np.float32)
    worst = np.abs(standing - wanted).max(axis=1)
    wrong = [places[at] for at in np.flatnonzero(worst > 1e-3)]
    assert wrong == [], f"{view}: {len(wrong)} vectors are not their texts', such as {wrong[:5]}"


def _check_terms(
    store: Store, generation: int, chunks: Mapping[tuple[str, int], Chunk], titles: Mapping[str, str]
) -> None:
    """Each chunk's terms, the statistics over them and the size of the whole."""
    g = f"livedex_g{generation}"
    found = store.stored(
        "SELECT d.document_id, c.chunk_index, t.length, t.norm, tsvector_to_array(t.tsv), t.weights::text "
        f"FROM {g}.terms t JOIN {g}.chunks c USING (chunk) JOIN livedex.documents d ON d.document = t.document"
    )
    texts = {
        (key, index): [words(titles[key]), [w for h in c.heading_path for w in words(h)], words(c.embedded_text)]
        for (key, index), c in chunks.items()
    }
    said = {word for parts in texts.values() for part in parts for word in part}
    numbers = terms_of_words(store, said)
    wanted = {place: counted(parts, numbers) for place, parts in texts.items()}
    lengths = {(key, index): length for key, index, length, *_ in found}
    assert lengths == {place: sum(counts.values()) for place, counts in wanted.items()}, f"{g}: lengths differ"
    for key, index, _, norm, lexemes, weights in found:
        counts = wanted[key, index]
        assert sorted(lexemes) == sorted(lexeme for lexeme, _ in counts), f"{g}: lexemes of {key} {index}"
        occurring = {number: count for (_, number), count in counts.items()}
        assert occurrences(weights, norm) == occurring, f"{g}: weights of {key} {index}"
    chunks_with: Counter[int] = Counter(number for counts in wanted.values() for _, number in counts)
    held = dict(store.stored(f"SELECT term, sum(delta) FROM {g}.frequencies GROUP BY 1 HAVING sum(delta) <> 0"))
    assert held == dict(chunks_with), f"{g}: {len(held.items() ^ dict(chunks_with).items())} frequencies differ"
    size = store.stored(f"SELECT sum(chunks), sum(terms_length) FROM livedex.cursors WHERE generation = {generation}")
    assert size == [(len(wanted), sum(sum(counts.values()) for counts in wanted.values()))], f"{g}: size is {size}"


def _check_tables(store: Store, g: str) -> None:
    """Nothing is left over."""
    for some, others in (("chunks", "vectors"), ("vectors", "chunks"), ("terms", "chunks"), ("strays", "chunks")):
        rest = store.stored(f"SELECT chunk FROM {g}.{some} EXCEPT SELECT chunk FROM {g}.{others}")
        assert rest == [], f"{g}: {len(rest)} {some} without {others}"
    orphans = f"SELECT document FROM {g}.applied EXCEPT SELECT document FROM livedex.documents WHERE NOT deleted"
    assert store.stored(orphans) == [], f"{g}: applied documents that are no more"
    assert store.stored("SELECT count(*) FROM livedex.staged") == [(0,)]
    assert store.stored("SELECT reason FROM livedex.quarantine") == []


def check_nothing_twice(store: Store) -> None:
    """No change stands twice in the log's history, and none was made searchable twice."""
    twice = store.stored(
        "SELECT document, source_position FROM livedex.changes JOIN livedex.sources s USING (source_id) "
        "WHERE source_time IS NOT NULL AND s.kind = 'postgres' "
        "GROUP BY document, source_position, op HAVING count(*) > 1"
    )
    assert twice == [], f"{len(twice)} changes stand twice in the log: {twice[:5]}"


def check_leases_are_free(store: Store) -> None:
    held = store.stored("SELECT resource, owner FROM livedex.leases WHERE expires_at >= clock_timestamp()")
    assert held == [], f"leases are held though nobody runs: {held}"
    locks = store.stored("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")
    assert locks == [(0,)], f"{locks[0][0]} advisory locks are held though nobody runs"


def check_slots(source_dsn: str) -> None:
    with psycopg.connect(source_dsn, autocommit=True, application_name="chaos") as connection:
        slots = connection.execute("SELECT slot_name, active, temporary FROM pg_replication_slots").fetchall()
    assert len(slots) == 1, f"replication slots: {slots}"
    assert not slots[0][1], f"the slot {slots[0][0]} is in use though nobody runs"


def embedded_again(journals: Sequence[Path], outages: Sequence[float]) -> tuple[int, int, dict[str, tuple[int, int]]]:
    """How many texts were embedded, how many of them again, and those that were embedded more often than is excused:
    digest → how often again, and how often it was excused.

    Excused is what was cut off: embedded by a worker that did not commit after it, or whose commit the store may have
    lost when it ended at one of `outages`.
    """
    made: Counter[str] = Counter()
    cut_off: Counter[str] = Counter()
    for journal in journals:
        pending: dict[str, list[str]] = defaultdict(list)
        for line in journal.read_text(errors="replace").splitlines():
            time, word, worker, *rest = line.split(" ")
            if word == "embed":
                made.update(rest)
                pending[worker] += rest
            elif word == "point" and rest == ["materialize.after_commit"]:
                at = float(time)
                if any(at <= outage + 1 and outage - at < LOST_WITH_THE_STORE_SECONDS for outage in outages):
                    cut_off.update(pending[worker])
                pending[worker].clear()
            elif word == "point" and rest == ["materialize.read"]:
                cut_off.update(pending[worker])
                pending[worker].clear()
        for left in pending.values():
            cut_off.update(left)
    again = {text: times - 1 for text, times in made.items() if times > 1}
    too_often = {text: (times, cut_off[text]) for text, times in again.items() if times > cut_off[text]}
    return made.total(), sum(again.values()), too_often
