"""Wanted chunks of a document × recorded ones → what to insert, keep, move and drop.

A chunk is the same chunk when its embedded text is the same; its place in the document, and what the embedding does not
see of its text, may change. So an edit costs one embedding for each text that is new, and a chunk that merely slid
keeps its vector.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from livedex.model import Chunk


@dataclass(frozen=True, slots=True)
class Wanted:
    """A chunk as it should stand. `text_hash` is of its embedded text, `shown_hash` of its text, `terms_hash` of what
    is indexed lexically: the embedded text, and the title and headings above it."""

    chunk: Chunk
    text_hash: bytes
    shown_hash: bytes
    terms_hash: bytes


@dataclass(frozen=True, slots=True)
class Recorded:
    """A chunk as it stands in a generation's table, without its text. Not `embedded`: it has no vector, since there was
    no budget for one."""

    chunk: int
    text_hash: bytes
    shown_hash: bytes
    terms_hash: bytes
    index: int
    start: int
    end: int
    heading_path: tuple[str, ...]
    section_type: str
    embedded: bool = True

    def stands_like(self, wanted: Wanted) -> bool:
        chunk = wanted.chunk
        standing = (self.shown_hash, self.terms_hash, self.index, self.start, self.end, self.heading_path)
        return (*standing, self.section_type) == (
            wanted.shown_hash,
            wanted.terms_hash,
            chunk.index,
            chunk.start,
            chunk.end,
            chunk.heading_path,
            chunk.section_type,
        )


@dataclass(frozen=True, slots=True)
class Move:
    """A recorded chunk and how it stands from now on. `shown_anew`: its text changed, its embedded text did not.
    `indexed_anew`: its terms changed."""

    recorded: int
    wanted: Wanted
    shown_anew: bool
    indexed_anew: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """`insert` holds wanted chunks that are new, `drop` recorded ones that are gone; `kept` counts those that need
    nothing."""

    insert: tuple[Wanted, ...] = ()
    move: tuple[Move, ...] = ()
    drop: tuple[int, ...] = ()
    kept: int = 0


def plan(wanted: Sequence[Wanted], recorded: Sequence[Recorded]) -> Plan:
    """Match equal texts in document order, so that of several equal chunks the nearest stay where they are.

    `recorded` may be incomplete: what is missing there is inserted. A chunk without a vector counts as missing, and
    goes.
    """
    standing: dict[bytes, deque[Recorded]] = defaultdict(deque)
    for row in sorted(recorded, key=lambda row: row.index):
        if row.embedded:
            standing[row.text_hash].append(row)
    insert: list[Wanted] = []
    move: list[Move] = []
    kept = 0
    for want in wanted:
        same = _claim(standing, want.text_hash)
        if same is None:
            insert.append(want)
        elif same.stands_like(want):
            kept += 1
        else:
            move.append(
                Move(
                    same.chunk,
                    want,
                    shown_anew=same.shown_hash != want.shown_hash,
                    indexed_anew=same.terms_hash != want.terms_hash,
                )
            )
    without_vector = (row.chunk for row in recorded if not row.embedded)
    drop = (*(row.chunk for rows in standing.values() for row in rows), *without_vector)
    return Plan(tuple(insert), tuple(move), drop, kept)


def _claim(standing: Mapping[bytes, deque[Recorded]], text_hash: bytes) -> Recorded | None:
    rows = standing.get(text_hash)
    return rows.popleft() if rows else None
