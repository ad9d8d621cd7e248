"""What moves between the materializer and a generation's tables, and its rows for queries/chunks.sql."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from psycopg.types.json import Jsonb

from livedex.model import Document
from livedex.rules.deferral import Deferral, Hold, Reason
from livedex.rules.diff import Move, Plan, Recorded, Wanted
from livedex.store.statements import array_literal
from livedex.store.terms import Terms

Vector = npt.NDArray[np.float32] | npt.NDArray[np.float16]


@dataclass(frozen=True, slots=True)
class LogDocument:
    """A document as read from the log, with what applying it needs. `quarantined`: an earlier version could not be
    processed. `dated`: when it was changed last, by its own word or else by its commit."""

    document: Document
    source_id: int
    commit_seq: int
    content_hash: bytes
    content_bytes: int
    quarantined: bool
    dated: datetime | None = None


@dataclass(frozen=True, slots=True)
class Position:
    """Where a source partition stood in the snapshot in which a batch was read. A source that is read anew begins a new
    epoch."""

    source_id: int
    partition: str
    position: str | None
    position_time: datetime | None
    position_serial: int
    epoch: int = 0


@dataclass(frozen=True, slots=True)
class Applied:
    """Which version of a document is searchable. `lexical_only`: some of its chunks by words alone."""

    document: int
    version: str
    content_hash: bytes
    chunks: int
    lexical_only: bool = False


@dataclass(frozen=True, slots=True)
class Size:
    """Of a whole generation: its chunks, and their length in terms together."""

    chunks: int
    terms_length: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Documents after `after`, in log order, with what is searchable of them: `applied` and `recorded` by document.
    `end` is where the cursor may go once they are applied; `positions` are set only when that is the end of the log,
    and then hold for it. `size` is how large the generation was. `deferral` says how documents stand that wait, where
    the view has any; a batch of such, whose wait is over, ends where it begins."""

    documents: tuple[LogDocument, ...]
    applied: Mapping[int, Applied]
    recorded: Mapping[int, Sequence[Recorded]]
    after: int
    end: int
    positions: tuple[Position, ...]
    size: Size
    at_end: bool
    deferral: Deferral | None = None

    def first(self, count: int) -> Self:
        """The same without what follows its first documents; it ends before the end of the log then."""
        if count == len(self.documents):
            return self
        kept = self.documents[:count]
        end = max(self.after, kept[-1].document.seq)
        return replace(self, documents=kept, end=end, positions=(), at_end=False)


class Spent(NamedTuple):
    """What went through the model for a batch."""

    texts: int = 0
    tokens: int = 0


class Indexed(NamedTuple):
    """Chunks, with their documents, whose rows in `terms` are written; `unindexed` ones' rows go first."""

    chunks: Sequence[int] = ()
    documents: Sequence[int] = ()
    terms: Terms = Terms()
    unindexed: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one document: a plan and its number of chunks, or nothing with the stage and reason of a refusal,
    or with what it waits for. `lexical_only`: some of its chunks have no vector for now. `again`: its version was
    searchable before, by words."""

    source: LogDocument
    plan: Plan
    chunks: int
    is_new: bool
    refusal: tuple[str, str] | None = None
    hold: Hold | None = None
    lexical_only: bool = False
    again: bool = False

    @property
    def is_done(self) -> bool:
        return self.refusal is None and self.hold is None

    @property
    def waits_for(self) -> Hold | None:
        """What its document goes on to wait for."""
        return Hold(Reason.WORDS) if self.lexical_only and self.hold is None else self.hold


def chunk_row(number: int, document: int, wanted: Wanted) -> dict[str, Any]:
    """Columns of `apply`'s new chunks; their values, in order, are those of `copy_chunks`."""
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


NOTHING: Mapping[str, None] = dict.fromkeys(
    (
        "new_chunks", "embeddings", "indexed", "tsvs", "weights", "unindexed", "numbers", "deltas", "heaviest",
        "dropped", "moved", "alive", "gone", "mended", "refused", "timed", "positions", "unrested",
    )
)  # fmt: skip
"""What `apply` takes for what is not in a batch."""


def few_values(
    rows: Sequence[Mapping[str, Any]], embeddings: Sequence[Vector | None], indexed: Indexed
) -> dict[str, Any]:
    """Of `apply`: a few chunks that are inserted with everything else."""
    values = exchanged_values(indexed) if indexed.chunks or indexed.unindexed else {}
    if rows:
        numbered = [_json_row(row, ordinal) for ordinal, row in enumerate(rows, 1)]
        has_vectors = any(embedding is not None for embedding in embeddings)
        values |= {"new_chunks": Jsonb(numbered), "embeddings": list(embeddings) if has_vectors else None}
    if indexed.chunks:
        terms = indexed.terms
        columns = zip(indexed.chunks, indexed.documents, terms.lengths, terms.norms, strict=True)
        names = ("ordinal", "chunk", "document", "length", "norm")
        numbered = [dict(zip(names, (n, *row), strict=True)) for n, row in enumerate(columns, 1)]
        values |= {"indexed": Jsonb(numbered), "tsvs": list(terms.tsvs), "weights": list(terms.weights)}
    return values


def exchanged_values(indexed: Indexed) -> dict[str, Any]:
    """Of `exchange_terms`."""
    terms = indexed.terms
    return {
        "unindexed": list(indexed.unindexed),
        "numbers": array_literal(terms.numbers),
        "deltas": array_literal(terms.frequencies),
        "heaviest": array_literal(terms.heaviest),
    }


def batch_values(
    batch: Batch, outcomes: Sequence[Outcome], indexed: Indexed, spent: Spent, rested: Sequence[bytes]
) -> dict[str, Any]:
    """Of `apply`: everything but new chunks and terms. What there is none of is left out."""
    done = [outcome for outcome in outcomes if outcome.is_done]
    values: dict[str, Sequence[Any]] = {
        "dropped": [chunk for outcome in outcomes for chunk in outcome.plan.drop],
        "gone": [o.source.document.document for o in outcomes if o.source.document.deleted],
        "mended": [outcome.source.document.document for outcome in done if outcome.source.quarantined],
        "unrested": list(rested),
    }
    records: dict[str, Sequence[Any]] = {
        "moved": [_move_row(move) for outcome in outcomes for move in outcome.plan.move],
        "alive": [_applied_row(outcome) for outcome in done if not outcome.source.document.deleted],
        "refused": [_refused_row(outcome) for outcome in outcomes if outcome.refusal is not None],
        "timed": [_lag_row(outcome) for outcome in done if _is_timed(outcome)],
        "positions": [_position_row(position) for position in batch.positions],
    }
    return {
        "progress": Jsonb(_progress(batch, outcomes, indexed.terms, spent)),
        **{name: rows for name, rows in values.items() if rows},
        **{name: Jsonb(rows) for name, rows in records.items() if rows},
    }


def _progress(batch: Batch, outcomes: Sequence[Outcome], terms: Terms, spent: Spent) -> dict[str, float | None]:
    done = [outcome for outcome in outcomes if outcome.is_done]
    alive = [outcome for outcome in done if not outcome.source.document.deleted]
    return {
        "after": batch.after,
        "seq": batch.end,
        "added": sum(outcome.is_new for outcome in alive),
        "updated": sum(not outcome.is_new and not outcome.again for outcome in alive),
        "deleted": sum(not outcome.is_new for outcome in done if outcome.source.document.deleted),
        "embedded": spent.texts,
        "tokens": spent.tokens,
        "inserted": sum(len(outcome.plan.insert) for outcome in outcomes),
        "dropped": sum(len(outcome.plan.drop) for outcome in outcomes),
        "longer": sum(terms.lengths),
        "average": terms.average,
    }


def _is_timed(outcome: Outcome) -> bool:
    return outcome.source.document.source_time is not None and not outcome.again


def deferred_row(outcome: Outcome, hold: Hold) -> dict[str, Any]:
    """Of the statement `defer`."""
    document = outcome.source.document
    return {
        "document": document.document,
        "source_id": outcome.source.source_id,
        "reason": hold.reason.value,
        "since_seq": document.seq,
        "since": _iso(document.captured_at),
        "due": _iso(hold.due),
        "content_hash": "\\x" + outcome.source.content_hash.hex(),
    }


def _json_row(row: Mapping[str, Any], ordinal: int) -> dict[str, Any]:
    hashes = {name: "\\x" + row[name].hex() for name in ("shown_hash", "text_hash", "terms_hash")}
    return {**row, **hashes, "ordinal": ordinal}


def _move_row(move: Move) -> dict[str, Any]:
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


def _applied_row(outcome: Outcome) -> dict[str, Any]:
    document = outcome.source.document
    return {
        "document": document.document,
        "seq": document.seq,
        "version": document.version,
        "content_hash": "\\x" + outcome.source.content_hash.hex(),
        "chunks": outcome.chunks,
        "lexical_only": outcome.lexical_only,
        "source_position": document.source_position,
        "source_time": _iso(document.source_time),
    }


def _lag_row(outcome: Outcome) -> dict[str, Any]:
    document = outcome.source.document
    return {
        "source_id": outcome.source.source_id,
        "document": document.document,
        "deleted": document.deleted,
        "source_time": _iso(document.source_time),
        "captured_at": _iso(document.captured_at),
        "seq": document.seq,
        "chunks_written": len(outcome.plan.insert),
    }


def _refused_row(outcome: Outcome) -> dict[str, Any]:
    assert outcome.refusal is not None
    stage, reason = outcome.refusal
    document = outcome.source.document
    return {"document": document.document, "stage": stage, "reason": reason, "version": document.version}


def _position_row(position: Position) -> dict[str, Any]:
    return {
        "source_id": position.source_id,
        "partition": position.partition,
        "position": position.position,
        "position_time": _iso(position.position_time),
        "position_serial": position.position_serial,
    }


def _iso(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat()
