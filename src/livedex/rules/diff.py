"""Wanted chunks of a document × recorded ones → what to insert, keep, move and drop.

A chunk is the same chunk when its embedded text is the same; its place in the document is only where it stands. So an
edit costs one embedding for each text that is new, and a chunk that merely slid keeps its vector.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from livedex.model import Chunk


@dataclass(frozen=True, slots=True)
class Recorded:
    """A chunk as it stands in a generation's table, without its text."""

    chunk: int
    text_hash: bytes
    index: int
    start: int
    end: int
    heading_path: tuple[str, ...]
    section_type: str

    def stands_like(self, wanted: Chunk) -> bool:
        return (self.index, self.start, self.end, self.heading_path, self.section_type) == (
            wanted.index,
            wanted.start,
            wanted.end,
            wanted.heading_path,
            wanted.section_type,
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """`insert` holds wanted chunks with the hash of their text, `move` the recorded chunk and its new place, `drop`
    recorded chunks that are gone; `kept` counts those that need nothing."""

    insert: tuple[tuple[Chunk, bytes], ...] = ()
    move: tuple[tuple[int, Chunk], ...] = ()
    drop: tuple[int, ...] = ()
    kept: int = 0


def plan(wanted: Sequence[tuple[Chunk, bytes]], recorded: Sequence[Recorded]) -> Plan:
    """Match equal texts in document order, so that of several equal chunks the nearest stay where they are.

    `wanted` pairs each chunk with the hash of its embedded text. `recorded` may be incomplete: what is missing there is
    inserted.
    """
    standing: dict[bytes, deque[Recorded]] = defaultdict(deque)
    for row in sorted(recorded, key=lambda row: row.index):
        standing[row.text_hash].append(row)
    insert: list[tuple[Chunk, bytes]] = []
    move: list[tuple[int, Chunk]] = []
    kept = 0
    for chunk, text_hash in wanted:
        same = _claim(standing, text_hash)
        if same is None:
            insert.append((chunk, text_hash))
        elif same.stands_like(chunk):
            kept += 1
        else:
            move.append((same.chunk, chunk))
    drop = tuple(row.chunk for rows in standing.values() for row in rows)
    return Plan(tuple(insert), tuple(move), drop, kept)


def _claim(standing: Mapping[bytes, deque[Recorded]], text_hash: bytes) -> Recorded | None:
    rows = standing.get(text_hash)
    return rows.popleft() if rows else None
