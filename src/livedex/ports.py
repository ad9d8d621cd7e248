"""What livedex asks of the systems around it. An adapter promises what the docstrings here say; the conformance kits
in `livedex.testing` check that it keeps the promise."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, runtime_checkable

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
    follow; `time` (UTC) is when the snapshot was taken. `clock`: see `Heartbeat`."""

    position: str
    time: datetime
    clock: datetime | None = None


@dataclass(frozen=True, slots=True)
class Changes:
    """One or more whole source transactions in commit order, or, when `complete` is False, a part of one that is too
    large to hold: the parts that follow belong to the same transaction, up to one with `complete` True.
    `position` and `time` (UTC) are those of the last commit; a part that is not complete carries its transaction's
    position too, which must not be stored before the last part is. `clock`: see `Heartbeat`."""

    changes: Sequence[Change]
    position: str
    time: datetime
    complete: bool = True
    clock: datetime | None = None


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Nothing that concerns us happened up to `position`; the source was seen alive at `time` (UTC).

    `clock` is what the source's own clock shows as the event is handed on, or showed a little earlier; None where that
    is not known. It is how a clock that is ahead of others is noticed.
    """

    position: str
    time: datetime
    clock: datetime | None = None


@dataclass(frozen=True, slots=True)
class TableSeen:
    """A mapped table has these columns, by name with their types as the source calls them. Sent within a snapshot of
    the table, when following begins, and when the columns are others than before and everything committed until then
    was sent. Only by sources whose tables have columns of their own."""

    table: str
    columns: Mapping[str, str]


SourceEvent = SnapshotStarted | SnapshotRows | SnapshotFinished | Changes | Heartbeat | TableSeen


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

    async def locate(self, token: str, near: str | None) -> str | None:
        """The position at which what a token names is contained; None while that is not decided, because its
        transaction has not ended.

        A token is a position, as `head` gives one, or what else the kind of source lets its writers name. `near` is
        where the caller stands: a token of the same system from before its positions began anew does not compare with
        it. Raises TokenRefused for what is no token, one of another system or history, and for a transaction that was
        rolled back, and SourceUnavailable.
        """
        ...

    async def close(self) -> None:
        """Release connections. The source's own state (slots, publications) stays."""
        ...


@dataclass(frozen=True, slots=True)
class Compared:
    """How a source can be compared with the log without sending its rows: which of a table's mapped columns are, and
    per range (`livedex.digests`) that has rows their number and the exclusive or of their digests. The other columns
    cannot be written alike on both sides."""

    columns: tuple[str, ...]
    ranges: Mapping[int, tuple[int, int]]


class Look(Protocol):
    """What a source holds at one moment. Digests and ranges are those of `livedex.digests`; keys are key texts.

    `settled`: it shows everything that `open` had delivered before the look was asked for. A source may deliver a
    change a moment before it shows it to others.
    """

    @property
    def settled(self) -> bool: ...

    @property
    def received_bytes(self) -> int:
        """How much the source has sent for this look so far."""
        ...

    async def compare(self, table: str) -> Compared: ...

    async def digests(self, table: str, ranges: Collection[int]) -> Mapping[str, int]:
        """Of every row in some ranges, by key text."""
        ...

    async def rows(self, table: str, keys: Collection[str]) -> Sequence[Change]:
        """The rows under some keys as READ changes, as a snapshot would give them. A key that is not among them has no
        row."""
        ...

    async def position(self) -> str:
        """A position at or after everything that the look has shown."""
        ...


@runtime_checkable
class Auditable(Protocol):
    """A source of one partition that can be looked at without following it."""

    def look(self, *, patience_seconds: float) -> AbstractAsyncContextManager[Look]:
        """Waits at most so long for the look to be settled. Raises what `Source.open` raises."""
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
