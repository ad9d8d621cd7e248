"""What became of each version of a document: the history of the log, joined to when what was searchable. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Served(StrEnum):
    """How a version stood to one generation.

    searchable: it is now. replaced: it was. replaced_first: a later one was captured before it was read.
    deleted: a deletion, which is in effect as soon as it is captured. waiting: it has not been read yet. refused: it
    could not be processed. earlier: it was replaced before this generation was begun. unknown: it was captured longer
    ago than times are kept for.
    """

    SEARCHABLE = "searchable"
    REPLACED = "replaced"
    REPLACED_FIRST = "replaced_first"
    DELETED = "deleted"
    WAITING = "waiting"
    REFUSED = "refused"
    EARLIER = "earlier"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Recorded:
    """One state of a document in the history. `op` is one of Debezium's letters. `before` counts the states that came
    after it under the same `seq`: only the last of them was ever to be read."""

    seq: int
    before: int
    op: str
    version: str
    position: str | None
    committed_at: datetime | None
    captured_at: datetime
    expired: bool = False

    @property
    def deleted(self) -> bool:
        return self.op in ("d", "t")


@dataclass(frozen=True, slots=True)
class Sample:
    """That a generation had applied the state at `seq`."""

    seq: int
    searchable_at: datetime
    embedded_at: datetime | None
    chunks_written: int | None


@dataclass(frozen=True, slots=True)
class Reader:
    """A generation that follows the log. `cursor` is how far the document's shard has read, `applied` the state that
    is searchable, `refused` the reason why the newest one could not be processed. `since`: when it was begun."""

    generation: int
    view: str
    active: bool
    since: datetime
    cursor: int
    applied: int | None
    embedded_at: datetime | None
    refused: str | None
    samples: Sequence[Sample]


@dataclass(frozen=True, slots=True)
class Serving:
    """One version in one generation. `replaced_at` is when it stopped being searchable. `lag_seconds`: from commit to
    searchable; of a deletion, to unsearchable. `texts_written` counts its chunks that were not there before; a vector
    that was known already was not made again."""

    view: str
    generation: int
    active: bool
    served: Served
    embedded_at: datetime | None = None
    searchable_at: datetime | None = None
    replaced_at: datetime | None = None
    lag_seconds: float | None = None
    texts_written: int | None = None


@dataclass(frozen=True, slots=True)
class DocumentVersion:
    """One version of a document: what happened (`op`), where and when it was committed in the source, when livedex
    captured it. A version that was there at the start has no commit time. `expired`: its time to live was over."""

    op: str
    version: str
    position: str | None
    committed_at: datetime | None
    captured_at: datetime
    expired: bool
    served: tuple[Serving, ...]


def versions(
    history: Sequence[Recorded], readers: Sequence[Reader], kept_since: datetime
) -> tuple[DocumentVersion, ...]:
    """Every version that the history has, oldest first. Times of what was searchable are known from `kept_since` on."""
    ordered = sorted(history, key=lambda state: (state.seq, -state.before))
    return tuple(
        DocumentVersion(
            op=state.op,
            version=state.version,
            position=state.position,
            committed_at=state.committed_at,
            captured_at=state.captured_at,
            expired=state.expired,
            served=tuple(_serving(ordered, place, reader, kept_since) for reader in readers),
        )
        for place, state in enumerate(ordered)
    )


def _serving(ordered: Sequence[Recorded], place: int, reader: Reader, kept_since: datetime) -> Serving:
    state, later = ordered[place], ordered[place + 1 :]
    first = _first_sample(ordered, place, reader)
    searchable_at = None if first is None else first.searchable_at
    embedded_at = None if first is None else first.embedded_at
    if state.deleted and state.before == 0:
        return Serving(reader.view, reader.generation, reader.active, Served.DELETED, replaced_at=state.captured_at,
                       lag_seconds=_seconds(state.committed_at, state.captured_at))  # fmt: skip
    served = _served(state, later, first, reader, kept_since)
    return Serving(
        view=reader.view,
        generation=reader.generation,
        active=reader.active,
        served=served,
        embedded_at=embedded_at or (reader.embedded_at if served is Served.SEARCHABLE else None),
        searchable_at=searchable_at,
        replaced_at=_replaced_at(ordered, place, reader) if served is Served.REPLACED else None,
        lag_seconds=_seconds(state.committed_at, searchable_at),
        texts_written=None if first is None else first.chunks_written,
    )


def _served(
    state: Recorded, later: Sequence[Recorded], first: Sample | None, reader: Reader, kept_since: datetime
) -> Served:
    if state.before > 0:
        return Served.REPLACED_FIRST
    upto = later[0].seq if later else None
    if reader.applied is not None and reader.applied >= state.seq and (upto is None or reader.applied < upto):
        # A deletion is in effect at once, whatever the generation still holds.
        return Served.SEARCHABLE if upto is None or not _gone_since(later) else Served.REPLACED
    if first is not None:
        return Served.REPLACED
    if upto is None:
        return Served.REFUSED if reader.refused is not None and reader.cursor >= state.seq else Served.WAITING
    if later[0].captured_at <= reader.since:
        return Served.EARLIER
    return Served.REPLACED_FIRST if state.captured_at >= kept_since else Served.UNKNOWN


def _gone_since(later: Sequence[Recorded]) -> bool:
    return any(state.deleted for state in later)


def _first_sample(ordered: Sequence[Recorded], place: int, reader: Reader) -> Sample | None:
    """A document that is sent through the log again has a seq of its own, after that of its newest state."""
    state = ordered[place]
    if state.before > 0:
        return None
    upto = ordered[place + 1].seq if place + 1 < len(ordered) else None
    found = [s for s in reader.samples if s.seq >= state.seq and (upto is None or s.seq < upto)]
    return min(found, key=lambda sample: sample.searchable_at, default=None)


def _replaced_at(ordered: Sequence[Recorded], place: int, reader: Reader) -> datetime | None:
    """When the next state took its place: a deletion by being captured, another by becoming searchable."""
    for later in range(place + 1, len(ordered)):
        if ordered[later].deleted and ordered[later].before == 0:
            return ordered[later].captured_at
        if (sample := _first_sample(ordered, later, reader)) is not None:
            return sample.searchable_at
    return None


def _seconds(start: datetime | None, end: datetime | None) -> float | None:
    return None if start is None or end is None else (end - start).total_seconds()
