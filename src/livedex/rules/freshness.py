"""Watermarks: up to where everything is searchable."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from livedex.model import Watermark


@dataclass(frozen=True, slots=True)
class ShardMark:
    """How far one shard of a generation has followed one partition of a source. `serial` orders positions."""

    source: str
    partition: str
    position: str | None
    time: datetime | None
    serial: int
    heartbeat_at: datetime | None


def view_watermarks(marks: Iterable[ShardMark], sources: Sequence[str], shards: int) -> tuple[Watermark, ...]:
    """Per source, the least over shards and partitions; without a position while any of them has none."""
    by_source: dict[str, list[ShardMark]] = {source: [] for source in sources}
    for mark in marks:
        by_source[mark.source].append(mark)
    return tuple(_least(source, found, shards) for source, found in by_source.items())


def _least(source: str, marks: Sequence[ShardMark], shards: int) -> Watermark:
    heard = [mark.heartbeat_at for mark in marks if mark.heartbeat_at is not None]
    heartbeat_at = min(heard, default=None)
    partitions = {mark.partition for mark in marks}
    if not marks or len(marks) < shards * len(partitions) or any(mark.position is None for mark in marks):
        return Watermark(source, None, None, heartbeat_at)
    per_partition = [min((m for m in marks if m.partition == name), key=lambda m: m.serial) for name in partitions]
    # Positions of different partitions have no order among each other: the one that is furthest behind in time speaks.
    behind = min(per_partition, key=lambda mark: (mark.time is not None, mark.time))
    return Watermark(source, behind.position, behind.time, heartbeat_at)


def lag_seconds(marks: Sequence[Watermark], now: datetime) -> float | None:
    """How long ago the oldest watermark was current, in seconds; None while a first snapshot is not complete."""
    times = [mark.time for mark in marks]
    known = [time for time in times if time is not None]
    if not times or len(known) < len(times):
        return None
    return max(0.0, (now - min(known)).total_seconds())
