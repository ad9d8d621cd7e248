"""The log: documents in the order in which their changes were committed here, each key once.

Appending has three steps. `fold` says what a sequence of changes comes to; `resolve` compares that with what the log
holds, before any lock, since one lease holder alone writes a partition's documents; the write takes the log's lock,
hands out `seq` and commits together with the source position. Nothing waits for a source under that lock.

Commits are not waited for: readers see them at once, `flush` makes them durable, and only then may a position be
acknowledged. Should the server crash in between, the log and everything made from it go back to the same moment, and
the source sends again what followed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Self

from psycopg import AsyncConnection
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from livedex.faults import Faults
from livedex.model import Change, Op
from livedex.rules.folding import Folded, destinations, fold
from livedex.store.brake import Brake, Lost
from livedex.store.entries import (
    SLOTS,
    Entry,
    Resolved,
    SourceRow,
    change_from_json,
    change_to_json,
    hashes,
    key_hash,
    resolve,
)
from livedex.store.expectations import Crowd, Page, judged, living, note_judged
from livedex.store.forgotten import Forgotten
from livedex.store.leases import Lease
from livedex.store.schema_changes import see_columns
from livedex.store.statements import load

SQL = load("log")
EVERY_EPOCH = 2**31 - 1
ALL_SLOTS = range(SLOTS)
MOST_NAMED_SLOTS = 100
STAGED_PART = 2000
"""Changes of a large transaction that are held in memory at a time."""


@dataclass(frozen=True, slots=True)
class Appended:
    """How many rows took a new `seq`, and how many changes altered nothing."""

    written: int
    unchanged: int


@dataclass(frozen=True, slots=True)
class News:
    """That a process wrote to the log: `slots` of the documents, all of them when there are too many to name."""

    owner: str
    slots: frozenset[int]

    @property
    def written(self) -> str:
        named = "" if len(self.slots) > MOST_NAMED_SLOTS else ",".join(map(str, sorted(self.slots)))
        return f"{self.owner} {named}"

    @classmethod
    def read(cls, written: str) -> Self:
        owner, _, named = written.rpartition(" ")
        return cls(owner, frozenset(map(int, named.split(","))) if named else frozenset(ALL_SLOTS))


async def hear(connection: AsyncConnection[Any]) -> AsyncIterator[News]:
    """What processes, this one included, write to the log from now on; endless."""
    await connection.execute(SQL["listen"])
    async for notification in connection.notifies():
        yield News.read(notification.payload)


class Log:
    """Appends for one partition of a source, on the lease holder's own connection (autocommit)."""

    def __init__(
        self,
        connection: AsyncConnection[Any],
        source: SourceRow,
        partition: str,
        lease: Lease,
        faults: Faults,
        committed: Callable[[Collection[int]], None],
        brake: Brake | None = None,
        forgotten: Forgotten | None = None,
    ) -> None:
        self._connection = connection
        self._source = source
        self._partition = partition
        self._lease = lease
        self._faults = faults
        self._committed = committed
        self._staged = 0
        self.forgotten = forgotten or Forgotten(connection, source.source_id)
        self._crowd = Crowd(connection, source)
        self._brake = brake

    @staticmethod
    async def prepare(connection: AsyncConnection[Any]) -> None:
        """Set a connection up for appending."""
        for name in ("prepare_worker", "commit_asynchronously"):
            await connection.execute(load("session")[name])

    async def flush(self) -> None:
        """Wait until everything that was appended is durable."""
        async with self._connection.pipeline(), self._connection.transaction():
            await self._execute("flush")

    async def append(
        self, changes: Sequence[Change], epoch: int, position: str, time: datetime, clock: datetime | None = None
    ) -> Appended:
        """Write whole source transactions and the position after them, in one transaction of the store. `clock` is what
        the source's clock shows now, where that is known."""
        changes = await self.forgotten.pass_over(changes)
        folded = await self._fold(changes)
        resolved = await self._resolve(folded)
        async with self._commit({row["slot"] for row in resolved.rows}):
            await self._check(await self._write(folded, resolved, epoch))
            await self._execute("advance", position=position, time=time, clock=clock)
        return _appended(changes, resolved)

    async def append_snapshot(self, changes: Sequence[Change], epoch: int) -> Appended:
        """Write rows of a snapshot. They move no position: a snapshot counts when it is finished."""
        changes = await self.forgotten.pass_over(changes)
        folded = await self._fold(changes)
        resolved = await self._resolve(folded)
        async with self._commit(advances=False):
            await self._check(await self._write(folded, resolved, epoch))
            await self._execute("alive")
        return _appended(changes, resolved)

    async def begin_snapshot(self) -> int:
        """Open a new epoch, in which every document must be seen again. Returns it."""
        async with self._commit(advances=False):
            opened = await self._row("begin_epoch")
        return int(opened["epoch"])

    async def finish_snapshot(
        self, tables: Sequence[str], epoch: int, position: str, time: datetime, clock: datetime | None = None
    ) -> int:
        """Remove what the snapshot did not see, and store its position. Returns the number of documents removed."""
        async with self._commit():
            lost = await self._tombstone(tables, [], epoch, Op.DELETE, position, None)
            await self._check(lost)
            if epoch == 1 or not self._crowd.is_limited:
                await note_judged(self._connection, self._source, self._partition)  # every row was read
            await self._execute("advance", position=position, time=time, clock=clock)
        return lost.deletes

    async def heartbeat(self, position: str, time: datetime, clock: datetime | None = None) -> None:
        """Nothing happened up to here. `clock` is what the source's clock shows now, where that is known."""
        async with self._commit():
            await self._execute("advance", position=position, time=time, clock=clock)

    async def stage(self, changes: Sequence[Change]) -> None:
        """Keep a part of a large transaction aside until `append_staged`."""
        changes = await self.forgotten.pass_over(changes)
        async with self._connection.transaction():
            if self._staged == 0:
                await self._execute("unstage")
            await self._execute("stage", changes=Jsonb([change_to_json(c) for c in changes]), after=self._staged)
        self._staged += len(changes)

    @property
    def is_staging(self) -> bool:
        return self._staged > 0

    async def append_staged(self, epoch: int, position: str, time: datetime, clock: datetime | None = None) -> Appended:
        """Write a large transaction from its parts, as one: nobody sees half of it."""
        facts = await self._row("staged_facts")
        # Rows that swap keys must be followed together; without such moves each part stands for itself.
        part = int(facts["count"]) if facts["moves_keys"] else STAGED_PART
        written, lost = 0, Lost()
        async with self._commit():
            base = await self._row("lock_head")
            async for changes in self._parts(part):
                folded = await self._fold(changes)
                resolved = await self._resolve(folded)
                lost += await self._write(folded, resolved, epoch)
                written += len(resolved.rows)
            if lost.deletes > 0:
                (stillborn,) = await self._rows("stillborn", after=base["document"])
                lost += Lost(deletes=-stillborn["documents"], born=-stillborn["documents"])
            await self._check(lost)
            await self._execute("commit_together", after=base["seq"])
            await self._execute("unstage")
            await self._execute("advance", position=position, time=time, clock=clock)
        unchanged, self._staged = self._staged - written, 0
        return Appended(written, unchanged)

    async def _parts(self, size: int) -> AsyncIterator[list[Change]]:
        after = 0
        while rows := await self._rows("staged_after", after=after, limit=size):
            yield [change_from_json(row["change"]) for row in rows]
            after = rows[-1]["ordinal"]

    async def _check(self, lost: Lost) -> None:
        """Ask the brake about the transaction that is open."""
        if self._brake is not None:
            await self._brake.check(lost)

    async def _fold(self, changes: Sequence[Change]) -> Folded:
        places = {key_hash(place): place for place in destinations(changes)}
        if not places:
            return fold(changes)
        standing = {entry.key_hash for entry in await self._entries(list(places), []) if not entry.deleted}
        return fold(changes, vacant={place for hashed, place in places.items() if hashed not in standing})

    async def see_columns(self, table: str, columns: Mapping[str, str], *, is_read_anew: bool) -> None:
        """Note which columns a table has. Raises SchemaChanged: see `store/schema_changes.py`."""
        await see_columns(self._connection, self._source, table, columns, is_read_anew=is_read_anew)

    async def judge_again(self, epoch: int) -> None:
        """Where something else is expected than the log was judged by, find out what of it is as it should be now."""
        before = await judged(self._connection, self._source, self._partition)
        if before == self._source.expected:
            return
        await self._crowd.clear()
        lost = Lost()
        async for page in living(self._connection, self._source):
            lost += Lost.of(await asyncio.to_thread(resolve, Folded({}, page.effects), self._source, page.entries))
        await self._check(lost)
        async for page in living(self._connection, self._source):
            await self._judge_page(page, epoch)
        await note_judged(self._connection, self._source, self._partition)

    async def _judge_page(self, page: Page, epoch: int) -> None:
        nothing = Folded({}, ())
        resolved = await asyncio.to_thread(resolve, Folded({}, page.effects), self._source, page.entries)
        await self._crowd.judge(resolved)
        if resolved.rows:
            async with self._commit({row["slot"] for row in resolved.rows}, advances=False):
                await self._write(nothing, replace(resolved, seen=[]), epoch)
        if not self._crowd.is_limited:
            return
        standing = Resolved()
        crowded = await self._crowd.judge(standing, page.candidates(resolved, self._source))
        others = page.only(crowded)
        refused = resolve(Folded({}, others.effects), self._source, others.entries)
        for index, row in enumerate(refused.rows):
            refused.refuse(index, crowded[row["document"]])
        async with self._commit({row["slot"] for row in refused.rows}, advances=False):
            await self._write(nothing, refused, epoch)
            await self._crowd.settle(standing, [])

    async def _resolve(self, folded: Folded) -> Resolved:
        entries = await self._entries(*hashes(folded))
        if not self._source.expects:
            return resolve(folded, self._source, entries)
        # Reading every text to its end takes a while.
        resolved = await asyncio.to_thread(resolve, folded, self._source, entries)
        await self._crowd.judge(resolved)
        return resolved

    async def _entries(self, keys: Sequence[bytes], with_raw: Sequence[bytes]) -> list[Entry]:
        cursor = await self._connection.execute(
            SQL["existing"], self._values({"key_hashes": keys, "with_raw": with_raw})
        )
        return [Entry(*row) for row in await cursor.fetchall()]

    async def _write(self, folded: Folded, resolved: Resolved, epoch: int) -> Lost:
        lost = Lost.of(resolved)
        for table, change in folded.truncated.items():
            lost += await self._tombstone(
                [table], resolved.survivors, EVERY_EPOCH, Op.TRUNCATE, change.position, change.time
            )  # fmt: skip
        if resolved.rows:
            values = {"rows": Jsonb(resolved.rows), "count": len(resolved.rows), "epoch": epoch}
            if resolved.refusals or self._crowd.is_limited:
                written = await self._rows("write", **values)
                await self._quarantine(resolved, written)
                await self._crowd.settle(resolved, written)
            else:
                await self._execute("write", **values)
        if resolved.seen:
            await self._execute("see", documents=resolved.seen, epoch=epoch)
        if resolved.mended:
            await self._execute("accept", documents=resolved.mended)
        if resolved.released:
            await self._execute("release", documents=resolved.released)
        return lost

    async def _quarantine(self, resolved: Resolved, written: Sequence[Mapping[str, Any]]) -> None:
        refused = [
            {
                "document": written[n]["document"],
                "stage": "expect" if n in resolved.unexpected else "map",
                "reason": reason,
                "version": resolved.rows[n]["version"],
            }
            for n, reason in resolved.refusals.items()
        ]
        if refused:
            await self._execute("refuse", rows=Jsonb(refused))

    async def _tombstone(
        self,
        tables: Sequence[str],
        survivors: Sequence[int],
        epoch: int,
        op: Op,
        position: str | None,
        time: datetime | None,
    ) -> Lost:
        row = await self._row(
            "tombstone",
            survivors=list(survivors),
            before_epoch=epoch,
            tables=list(tables),
            mapped=list(self._source.mapping),
            op=op.value,
            position=position,
            time=time,
        )
        return Lost(int(row["gone"]), examples=tuple(row["examples"] or ()))

    @asynccontextmanager
    async def _commit(self, slots: Collection[int] = ALL_SLOTS, *, advances: bool = True) -> AsyncIterator[None]:
        """One transaction that only the lease holder completes, sent in one go; readers of the log are told."""
        lease = self._lease
        async with self._connection.pipeline(), self._connection.transaction():
            await self._execute("hold", resource=lease.resource, epoch=lease.epoch, seconds=lease.seconds)
            yield
            await self.forgotten.follow()
            await self._execute("notify", news=News(lease.owner, frozenset(slots)).written)
            await self._faults.reach("capture.before_commit")
        self._committed(slots)
        if self._brake is not None:
            await self._brake.passed(advanced=advances)
        await self._faults.reach("capture.after_commit")

    async def _execute(self, name: str, **values: Any) -> None:
        await self._connection.execute(SQL[name], self._values(values))

    async def _rows(self, name: str, **values: Any) -> list[dict[str, Any]]:
        async with self._connection.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(SQL[name], self._values(values))
            return await cursor.fetchall()

    async def _row(self, name: str, **values: Any) -> dict[str, Any]:
        (row,) = await self._rows(name, **values)
        return row

    def _values(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return {"source_id": self._source.source_id, "partition": self._partition, **values}


def _appended(changes: Sequence[Change], resolved: Resolved) -> Appended:
    return Appended(len(resolved.rows), max(0, len(changes) - len(resolved.rows)))
