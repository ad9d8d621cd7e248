"""Source → log."""

from __future__ import annotations

from livedex.clock import Clock
from livedex.faults import Faults
from livedex.flow.mend import Mender
from livedex.ports import Changes, Heartbeat, SnapshotFinished, SnapshotRows, SnapshotStarted, Source, TableSeen
from livedex.store.catalog import PartitionRow
from livedex.store.documents import Log

ACKNOWLEDGE_SECONDS = 0.1
JUDGE_SECONDS = 1.0
"""How often it is asked whether somebody wants the log judged again."""


async def capture(
    source: Source,
    partition: str,
    stored: PartitionRow,
    log: Log,
    clock: Clock,
    faults: Faults,
    mender: Mender | None = None,
) -> None:
    """Follow one partition of a source, for ever.

    Safe to kill at any point: rows are committed with their position, and a position is acknowledged when they are
    durable. What was not committed is sent again; what was is recognised. Acknowledgements are gathered: one may wait
    for the next change or heartbeat.
    """
    acknowledged = clock.monotonic()
    epoch = stored.epoch
    tables: tuple[str, ...] = ()
    judged = clock.monotonic()
    if stored.position is not None:
        await log.judge_again(epoch)
    async for event in source.open(partition, stored.position):
        await faults.reach("capture.received")
        match event:
            case SnapshotStarted():
                epoch, tables = await log.begin_snapshot(), event.tables
                continue
            case TableSeen():
                await log.see_columns(event.table, event.columns, is_read_anew=event.table in tables)
                continue
            case SnapshotRows():
                await log.append_snapshot(event.changes, epoch)
                continue
            case SnapshotFinished():
                await log.finish_snapshot(tables, epoch, event.position, event.time, event.clock)
                tables, judged = (), clock.monotonic() - JUDGE_SECONDS
            case Heartbeat():
                await log.heartbeat(event.position, event.time, event.clock)
            case Changes(complete=False):
                await log.stage(event.changes)
                continue
            case Changes() if log.is_staging:
                await log.stage(event.changes)
                await log.append_staged(epoch, event.position, event.time, event.clock)
            case Changes():
                await log.append(event.changes, epoch, event.position, event.time, event.clock)
        if isinstance(event, Changes) and clock.monotonic() - acknowledged < ACKNOWLEDGE_SECONDS:
            continue
        await log.flush()
        await faults.reach("capture.before_acknowledge")
        await source.acknowledge(event.position)
        acknowledged = clock.monotonic()
        if acknowledged - judged >= JUDGE_SECONDS:
            await log.judge_again(epoch)
            judged = clock.monotonic()
        if mender is not None:
            await mender.mend(epoch)
