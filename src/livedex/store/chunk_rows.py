"""What moves between the materializer and a generation's tables, and its rows for queries/chunks.sql."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from livedex.model import Document
from livedex.rules.diff import Move, Plan, Recorded, Wanted
from livedex.store.terms import Terms

Vector = npt.NDArray[np.float32] | npt.NDArray[np.float16]


@dataclass(frozen=True, slots=True)
class LogDocument:
    """A document as read from the log, with what applying it needs. `quarantined`: an earlier version could not be
    processed."""

    document: Document
    source_id: int
    commit_seq: int
    content_hash: bytes
    content_bytes: int
    quarantined: bool


@dataclass(frozen=True, slots=True)
class Position:
    """Where a source partition stood in the snapshot in which a batch was read."""

    source_id: int
    partition: str
    position: str | None
    position_time: datetime | None
    position_serial: int


@dataclass(frozen=True, slots=True)
class Applied:
    """Which version of a document is searchable."""

    document: int
    version: str
    content_hash: bytes
    chunks: int


@dataclass(frozen=True, slots=True)
class Size:
    """Of a whole generation: its chunks, and their length in terms together."""

    chunks: int
    terms_length: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Documents after `after`, in log order, with what is searchable of them: `applied` and `recorded` by document.
    `end` is where the cursor may go once they are applied; `positions` are set only when that is the end of the log,
    and then hold for it. `size` is how large the generation was."""

    documents: tuple[LogDocument, ...]
    applied: Mapping[int, Applied]
    recorded: Mapping[int, Sequence[Recorded]]
    after: int
    end: int
    positions: tuple[Position, ...]
    size: Size

    @property
    def at_end(self) -> bool:
        return bool(self.positions)

    def first(self, count: int) -> Self:
        """The same without what follows its first documents; it ends before the end of the log then."""
        if count == len(self.documents):
            return self
        kept = self.documents[:count]
        return replace(self, documents=kept, end=kept[-1].document.seq, positions=())


class IndexedChunk(NamedTuple):
    """A chunk's row in `terms`."""

    chunk: int
    document: int
    terms: Terms


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one document: a plan and its number of chunks, or None with the stage and reason of a refusal."""

    source: LogDocument
    plan: Plan
    chunks: int
    is_new: bool
    refusal: tuple[str, str] | None = None


def chunk_row(number: int, document: int, wanted: Wanted) -> dict[str, Any]:
    """Columns of `insert_chunks`; their values, in order, are those of `copy_chunks`."""
    chunk = wanted.chunk
    return {
        "chunk": number,
        "document": document,
        "index": chunk.index,
        "start": chunk.start,
        "end": chunk.end,
        "heading_path": list(chunk.heading_path),
        "section_type": chunk.section_type,
        "text": chunk.text,
        "shown_hash": wanted.shown_hash,
        "text_hash": wanted.text_hash,
        "terms_hash": wanted.terms_hash,
    }


def json_row(row: Mapping[str, Any], ordinal: int) -> dict[str, Any]:
    """A `chunk_row` as JSON for `insert_chunks`."""
    hashes = {name: "\\x" + row[name].hex() for name in ("shown_hash", "text_hash", "terms_hash")}
    return {**row, **hashes, "ordinal": ordinal}


def move_row(move: Move) -> dict[str, Any]:
    chunk = move.wanted.chunk
    return {
        "chunk": move.recorded,
        "index": chunk.index,
        "start": chunk.start,
        "end": chunk.end,
        "heading_path": chunk.heading_path,
        "section_type": chunk.section_type,
        "text": chunk.text if move.shown_anew else None,
        "shown_hash": "\\x" + move.wanted.shown_hash.hex(),
        "terms_hash": "\\x" + move.wanted.terms_hash.hex(),
    }


def applied_row(outcome: Outcome) -> dict[str, Any]:
    document = outcome.source.document
    return {
        "document": document.document,
        "seq": document.seq,
        "version": document.version,
        "content_hash": "\\x" + outcome.source.content_hash.hex(),
        "chunks": outcome.chunks,
        "source_position": document.source_position,
        "source_time": _iso(document.source_time),
    }


def lag_row(outcome: Outcome) -> dict[str, Any]:
    document = outcome.source.document
    return {
        "source_id": outcome.source.source_id,
        "document": document.document,
        "deleted": document.deleted,
        "source_time": _iso(document.source_time),
        "captured_at": _iso(document.captured_at),
    }


def refused_row(outcome: Outcome) -> dict[str, Any]:
    assert outcome.refusal is not None
    stage, reason = outcome.refusal
    document = outcome.source.document
    return {"document": document.document, "stage": stage, "reason": reason, "version": document.version}


def position_row(position: Position) -> dict[str, Any]:
    return {
        "source_id": position.source_id,
        "partition": position.partition,
        "position": position.position,
        "position_time": _iso(position.position_time),
        "position_serial": position.position_serial,
    }


def _iso(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat()
