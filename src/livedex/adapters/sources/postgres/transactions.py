"""Messages of the stream → Changes: transactions grouped or cut into parts. No I/O, never waits for more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from livedex.adapters.sources.postgres.lsn import Position
from livedex.adapters.sources.postgres.pgoutput import Begin, Commit, Message, Relation, Skipped
from livedex.adapters.sources.postgres.tables import RowChange, Tables
from livedex.model import Change
from livedex.ports import Changes


class Transactions:
    """Collects whole transactions until `flush`, or until they fill a batch.

    A transaction's position is the end of its commit record. One that fills a batch alone goes out in parts, before
    that end is known: all its changes, and its parts but the last, carry the start of the commit record instead,
    which lies between the positions of the transactions before and after. The last part's own position is the end.
    """

    def __init__(self, tables: Tables, origin: Position, *, batch_changes: int, batch_bytes: int) -> None:
        self._tables = tables
        self._origin = origin
        self._batch_changes = batch_changes
        self._batch_bytes = batch_bytes
        self._begin: Begin | None = None
        self._rows: list[RowChange] = []
        self._row_bytes = 0
        self._in_parts = False
        self._group: list[Change] = []
        self._group_bytes = 0
        self._group_end: tuple[int, datetime] | None = None

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction has begun whose end was not seen."""
        return self._begin is not None

    def add(self, message: Message, size: int) -> Iterator[Changes]:
        """Take a message of `size` bytes; yields what has filled a batch. Raises SchemaChanged."""
        if isinstance(message, Begin):
            self._begin = message
        elif isinstance(message, Commit):
            yield from self._commit(message)
        elif isinstance(message, Relation):
            self._tables.announce(message)
        elif not isinstance(message, Skipped):
            self._rows += (rows := self._tables.rows(message))
            self._row_bytes += size if rows else 0
            if len(self._rows) >= self._batch_changes or self._row_bytes >= self._batch_bytes:
                yield from self.flush()
                yield self._part()

    def flush(self) -> Iterator[Changes]:
        """Yields the whole transactions that were collected, if any."""
        if self._group_end is not None:
            lsn, time = self._group_end
            group, self._group, self._group_bytes, self._group_end = self._group, [], 0, None
            yield Changes(group, str(self._origin.at(lsn)), time)

    def _part(self) -> Changes:
        begin = self._current()
        position = str(self._origin.at(begin.commit_lsn))
        self._in_parts = True
        return Changes(self._take_rows(position, begin.time), position, begin.time, complete=False)

    def _commit(self, commit: Commit) -> Iterator[Changes]:
        begin = self._current()
        end = str(self._origin.at(commit.end_lsn))
        size = self._row_bytes
        changes = self._take_rows(str(self._origin.at(begin.commit_lsn)) if self._in_parts else end, commit.time)
        in_parts, self._begin, self._in_parts = self._in_parts, None, False
        if in_parts:
            yield Changes(changes, end, commit.time)
        elif changes:
            if len(self._group) + len(changes) > self._batch_changes or self._group_bytes + size > self._batch_bytes:
                yield from self.flush()
            self._group += changes
            self._group_bytes += size
            self._group_end = (commit.end_lsn, commit.time)

    def _take_rows(self, position: str, time: datetime) -> Sequence[Change]:
        rows, self._rows, self._row_bytes = self._rows, [], 0
        return [row.at(position, time) for row in rows]

    def _current(self) -> Begin:
        if self._begin is None:
            raise AssertionError("pgoutput sends rows and commits between Begin and Commit only")
        return self._begin
