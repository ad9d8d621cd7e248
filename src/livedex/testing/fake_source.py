"""A source in memory, for tests of what follows a source: scripted transactions, resumable, and able to break.

`FakeDatabase` is the system, which outlives its readers; `FakeSource` is one reader, as one process would make it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from livedex.digests import digest_of, key_text, range_of
from livedex.errors import PositionLost, SourceError, SourceUnavailable, TokenRefused
from livedex.model import Change, Op
from livedex.ports import Changes, Compared, Heartbeat, SnapshotFinished, SnapshotRows, SnapshotStarted, SourceEvent

PARTITION = "main"

Row = tuple[str, tuple[str, ...]]
"""Table and key."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True)
class FakeDatabase:
    """Tables of rows, and the log of what was committed. Positions are `fake:<number of commits>`.

    It forgets what was acknowledged: a consumer that acknowledges before it has stored loses changes here too.
    """

    tables: tuple[str, ...]
    now: Callable[[], datetime] = _utc_now
    rows: dict[Row, Change] = field(default_factory=dict)
    acknowledged: int = 0
    _log: list[Changes] = field(default_factory=list)
    _failures: list[tuple[int, SourceError]] = field(default_factory=list)
    _committed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def end(self) -> int:
        return len(self._log)

    def commit(self, *changes: Change) -> str:
        """One transaction; its position and time are filled in. Returns the position."""
        position, time = position_of(self.end + 1), self.now()
        committed = tuple(replace(change, position=position, time=time) for change in changes)
        for change in committed:
            self._apply(change)
        self._log.append(Changes(committed, position, time))
        self._committed.set()
        self._committed = asyncio.Event()
        return position

    def fail_after(self, events: int, error: SourceError | None = None) -> None:
        """The next reader that has been sent this many events gets an error, by default one that invites a retry."""
        self._failures.append((events, error or SourceUnavailable("The source broke off, as the test wanted.")))

    def next_failure(self) -> tuple[int, SourceError] | None:
        """Taken by a reader when it opens."""
        return self._failures.pop(0) if self._failures else None

    def acknowledge(self, number: int) -> None:
        self.acknowledged = max(self.acknowledged, number)

    def after(self, number: int) -> Iterator[Changes]:
        return iter(self._log[number:])

    async def wait_for_commit(self, number: int, seconds: float) -> bool:
        """Whether there is a commit after `number`, or comes one in time."""
        if self.end <= number:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._committed.wait(), seconds)
        return self.end > number

    def _apply(self, change: Change) -> None:
        if change.op is Op.TRUNCATE:
            self.rows = {row: kept for row, kept in self.rows.items() if row[0] != change.table}
            return
        before = self.rows.pop((change.table, change.old_key or change.key), None)
        if change.op is not Op.DELETE:
            columns = {**(before.columns if before else {}), **change.columns}
            self.rows[change.table, change.key] = Change(Op.READ, change.table, change.key, columns)


class FakeLook:
    """The rows of a `FakeDatabase` at one moment. Implements `livedex.ports.Look`."""

    settled = True

    def __init__(self, rows: Mapping[Row, Change], position: str) -> None:
        self._rows = {key_text(*row): change for row, change in rows.items()}
        self._position = position
        self.received_bytes = 0

    async def compare(self, table: str) -> Compared:
        ranges: dict[int, tuple[int, int]] = {}
        for key, digest in self._digests(table).items():
            rows, together = ranges.get(range_of(key), (0, 0))
            ranges[range_of(key)] = (rows + 1, together ^ digest)
        return Compared(tuple(sorted({name for change in self._of(table).values() for name in change.columns})), ranges)

    async def digests(self, table: str, ranges: Collection[int]) -> Mapping[str, int]:
        return {key: digest for key, digest in self._digests(table).items() if range_of(key) in ranges}

    async def rows(self, table: str, keys: Collection[str]) -> Sequence[Change]:
        return [change for key, change in self._of(table).items() if key in keys]

    async def position(self) -> str:
        return self._position

    def _of(self, table: str) -> dict[str, Change]:
        return {key: change for key, change in self._rows.items() if change.table == table}

    def _digests(self, table: str) -> dict[str, int]:
        return {key: digest_of(key, change.columns, change.columns) for key, change in self._of(table).items()}


class FakeSource:
    """One reader of a `FakeDatabase`. Implements `livedex.ports.Source`."""

    def __init__(
        self, database: FakeDatabase, *, heartbeat_seconds: float = 0.01, batch_changes: int | None = None
    ) -> None:
        """A transaction of more than `batch_changes` changes comes in parts."""
        self._database = database
        self._heartbeat_seconds = heartbeat_seconds
        self._batch_changes = batch_changes

    async def partitions(self) -> Sequence[str]:
        return (PARTITION,)

    async def open(self, partition: str, resume: str | None) -> AsyncIterator[SourceEvent]:
        failure = self._database.next_failure()
        sent = 0
        async for event in self._events(resume):
            if failure is not None and sent == failure[0]:
                raise failure[1]
            yield event
            sent += 1

    async def acknowledge(self, position: str) -> None:
        self._database.acknowledge(number_of(position))

    async def head(self, partition: str) -> str:
        return position_of(self._database.end)

    def reached(self, position: str | None, target: str) -> bool:
        return position is not None and number_of(position) >= number_of(target)

    @asynccontextmanager
    async def look(self, *, patience_seconds: float) -> AsyncIterator[FakeLook]:
        yield FakeLook(dict(self._database.rows), position_of(self._database.end))

    async def locate(self, token: str, near: str | None) -> str | None:
        if not re.fullmatch(r"fake:\d{1,18}", token):
            raise TokenRefused(f'"{token}" is no position of this source.')
        return token

    async def close(self) -> None:
        return None

    async def _events(self, resume: str | None) -> AsyncIterator[SourceEvent]:
        if resume is None:
            number, time = self._database.end, self._database.now()
            rows = list(self._database.rows.values())
            yield SnapshotStarted(self._database.tables)
            for start in range(0, len(rows), self._batch_changes or len(rows) or 1):
                yield SnapshotRows(rows[start : start + (self._batch_changes or len(rows))])
            yield SnapshotFinished(position_of(number), time, self._database.now())
        else:
            number = number_of(resume)
            if number < self._database.acknowledged:
                raise PositionLost(f"The changes after {resume} were acknowledged and are gone.")
        while True:
            if await self._database.wait_for_commit(number, self._heartbeat_seconds):
                for transaction in self._database.after(number):
                    for part in self._parts(transaction):
                        yield part
                    number += 1
            else:
                yield Heartbeat(position_of(number), now := self._database.now(), now)

    def _parts(self, transaction: Changes) -> Iterator[Changes]:
        size = self._batch_changes or len(transaction.changes) or 1
        for start in range(0, len(transaction.changes), size):
            last = start + size >= len(transaction.changes)
            yield replace(transaction, changes=transaction.changes[start : start + size], complete=last)


def position_of(number: int) -> str:
    return f"fake:{number}"


def number_of(position: str) -> int:
    return int(position.removeprefix("fake:"))
