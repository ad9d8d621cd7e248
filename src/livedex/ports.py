"""What livedex asks of the systems around it. An adapter promises what the docstrings here say; the conformance kits
in `livedex.testing` check that it keeps the promise."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from livedex.model import Change, Chunk, ModelIdentity

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class SnapshotStarted:
    """All documents of `tables` will be read again; the log opens a new epoch for them."""

    tables: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SnapshotRows:
    """Some rows of the snapshot, in any order."""

    changes: Sequence[Change]


@dataclass(frozen=True, slots=True)
class SnapshotFinished:
    """Every row was sent. Documents of the tables that were not among them no longer exist. Changes after `position`
    follow; `time` (UTC) is when the snapshot was taken."""

    position: str
    time: datetime


@dataclass(frozen=True, slots=True)
class Changes:
    """One or more whole source transactions in commit order, or, when `complete` is False, a part of one that is too
    large to hold: the parts that follow belong to the same transaction, up to one with `complete` True.
    `position` and `time` (UTC) are those of the last commit; a part that is not complete carries its transaction's
    position too, which must not be stored before the last part is."""

    changes: Sequence[Change]
    position: str
    time: datetime
    complete: bool = True


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Nothing that concerns us happened up to `position`; the source was seen alive at `time` (UTC)."""

    position: str
    time: datetime


SourceEvent = SnapshotStarted | SnapshotRows | SnapshotFinished | Changes | Heartbeat


class Source(Protocol):
    """A place where documents come from.

    Delivery is at least once and in order per key: after a crash, everything after the last stored position is sent
    again. The log makes it effectively once. Beware of off-by-one errors in the resume position: it names the last
    change that was stored, so the first one to send is the next.
    """

    async def partitions(self) -> Sequence[str]:
        """Names of the parts that can be followed independently; stable between runs. At least one."""
        ...

    def open(self, partition: str, resume: str | None) -> AsyncIterator[SourceEvent]:
        """Follow a partition from after `resume`, or with a snapshot first when it is None. Endless.

        Raises SourceUnavailable (try again), SourceMisconfigured, SchemaChanged or PositionLost (a person must act).
        Closing the iterator releases what it holds at the source.
        """
        ...

    async def acknowledge(self, position: str) -> None:
        """The rows up to `position` are durable; the source may forget what led to them. Called only after that."""
        ...

    async def head(self, partition: str) -> str:
        """A position at or after everything that was committed before the call."""
        ...

    def reached(self, position: str | None, target: str) -> bool:
        """Whether `position` is at or after `target`."""
        ...

    async def close(self) -> None:
        """Release connections. The source's own state (slots, publications) stays."""
        ...


class Parser(Protocol):
    """Turns what a document is written in into Markdown, which chunkers cut. Pure: the same content gives the same
    text, on every machine, in time and memory that grow with the content's length only.

    The text is what the document says from then on: chunks' offsets refer to it. Content without any text gives an
    empty one. Nothing is escaped beyond what a line's first characters need, so that chunks read as they were written.
    Raises DocumentError for content it cannot read.
    """

    @property
    def recipe(self) -> Mapping[str, Any]:
        """`kind`, `version` and every setting that changes the result; goes into the generation's recipe."""
        ...

    @property
    def media_types(self) -> Sequence[str]:
        """What it reads, in lower case: `text/html`."""
        ...

    def parse(self, content: str) -> str: ...


class Chunker(Protocol):
    """Cuts a document. Pure: the same content and title give the same chunks, on every machine.

    Chunks come in document order, do not overlap unless the kind says so, are never blank, and keep
    `content[start:end] == text`. Blank content gives no chunks. Raises DocumentError for content it cannot cut.
    """

    @property
    def recipe(self) -> Mapping[str, Any]:
        """`kind`, `version` and every setting that changes the result; goes into the generation's recipe."""
        ...

    def chunk(self, content: str, title: str) -> Sequence[Chunk]: ...


class Embedder(Protocol):
    """Turns texts into vectors of one model identity.

    A text's vector does not depend on what else is in the call, within 1e-5 per component. Vectors are float32 and
    have length 1 if the identity says normalised.

    Raises EmbedderUnavailable (try again), EmbedderMisconfigured (a person must act), InputRejected (never).
    """

    @property
    def identity(self) -> ModelIdentity: ...

    @property
    def batch_size(self) -> int:
        """How many texts a call of `embed_documents` should hold at most, for speed."""
        ...

    async def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """Shape (len(texts), dimensions). Offline traffic: waits while queries are being embedded."""
        ...

    async def embed_query(self, text: str) -> Vectors:
        """Shape (dimensions,). Online traffic: goes first."""
        ...

    async def close(self) -> None: ...
