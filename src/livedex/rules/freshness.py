"""Watermarks: up to where everything is searchable, how old that is, and whether it is as fresh as was asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from livedex.model import Query, SourceState, Watermark

SILENT_SECONDS = 5.0
"""A source of which nothing was heard for so long, or for three heartbeats, is silent."""
GRACE_SECONDS = 1.0
"""How much later than after two heartbeats an idle source may be heard of and still be current."""

WORST_FIRST = (
    SourceState.HELD,
    SourceState.PAUSED,
    SourceState.SILENT,
    SourceState.UNFOLLOWED,
    SourceState.LOADING,
    SourceState.BEHIND,
    SourceState.CURRENT,
)
NEEDS_A_LOOK = (SourceState.HELD, SourceState.PAUSED, SourceState.SILENT)
"""To run `livedex up` mends none of them; the worst first."""
REMEDIES: Mapping[SourceState, str] = {
    SourceState.HELD: "It is held until somebody agrees to what it would delete: livedex source resume {source}",
    SourceState.PAUSED: "It is paused until somebody mends what livedex status tells.",
    SourceState.SILENT: "Nothing is heard of it; livedex status says why, if that is known.",
    SourceState.UNFOLLOWED: "Nothing follows it. Run: livedex up",
    SourceState.LOADING: "It is being read for the first time.",
    SourceState.BEHIND: "Its changes are being worked through.",
    SourceState.CURRENT: "It is followed; ask again in a moment.",
}


@dataclass(frozen=True, slots=True)
class Captured:
    """What capture knows of one partition of a source, by the store's clock.

    `state` is new, snapshot, streaming, paused or held. `failing`: its last attempt ended with an error. `followed`:
    somebody captures it. `serial` counts stored positions, `time` is when the source was as the last of them has it.
    """

    state: str
    failing: bool
    followed: bool
    heartbeat_at: datetime | None
    heartbeat_seconds: float
    time: datetime | None
    serial: int


@dataclass(frozen=True, slots=True)
class ShardMark:
    """How far one shard of a generation has followed one partition of a source. `serial` orders positions."""

    source: str
    partition: str
    position: str | None
    time: datetime | None
    serial: int
    captured: Captured


def view_watermarks(
    marks: Iterable[ShardMark], sources: Sequence[str], shards: int, now: datetime, target_seconds: float
) -> tuple[Watermark, ...]:
    """Per source, the least over shards and partitions; without a position while any of them has none."""
    by_source: dict[str, list[ShardMark]] = {source: [] for source in sources}
    for mark in marks:
        by_source[mark.source].append(mark)
    return tuple(_least(source, found, shards, now, target_seconds) for source, found in by_source.items())


def _least(source: str, marks: Sequence[ShardMark], shards: int, now: datetime, target_seconds: float) -> Watermark:
    heard = [mark.captured.heartbeat_at for mark in marks if mark.captured.heartbeat_at is not None]
    heartbeat_at = min(heard, default=None)
    partitions = {mark.partition for mark in marks}
    states = {source_state(mark.captured, mark.time, mark.serial, now, target_seconds) for mark in marks}
    state = next((state for state in WORST_FIRST if state in states), SourceState.UNFOLLOWED)
    if not marks or len(marks) < shards * len(partitions) or any(mark.position is None for mark in marks):
        return Watermark(source, None, None, heartbeat_at, state)
    per_partition = [min((m for m in marks if m.partition == name), key=lambda m: m.serial) for name in partitions]
    # Positions of different partitions have no order among each other: the one that is furthest behind in time speaks.
    behind = min(per_partition, key=lambda mark: (mark.time is not None, mark.time))
    lag = None if behind.time is None else max(0.0, (now - behind.time).total_seconds())
    return Watermark(source, behind.position, behind.time, heartbeat_at, state, lag)


def source_state(
    captured: Captured, time: datetime | None, serial: int, now: datetime, target_seconds: float
) -> SourceState:
    """How one partition stands; `time` and `serial` are those of the position up to which it is searchable.

    `livedex.source_state` in the store is the same rule; a test holds them together.
    """
    if captured.state == "held":
        return SourceState.HELD
    if captured.state == "paused":
        return SourceState.PAUSED
    if captured.failing:
        return SourceState.SILENT
    if not captured.followed:
        return SourceState.UNFOLLOWED
    if time is None:
        return SourceState.LOADING
    if captured.heartbeat_at is None or _seconds(now, captured.heartbeat_at) > _silence(captured.heartbeat_seconds):
        return SourceState.SILENT
    if _waited_seconds(captured, captured.heartbeat_at, time, serial, now) > target_seconds:
        return SourceState.BEHIND
    return SourceState.CURRENT


def _waited_seconds(
    captured: Captured, heartbeat_at: datetime, time: datetime, serial: int, now: datetime
) -> float:  # fmt: skip
    """How long the oldest change that is not searchable may have waited.

    An idle source is heard of once a heartbeat: its watermark is as old as that, and nothing waits. So where all that
    was captured is searchable, what counts is how late that was captured.
    """
    quiet = 2 * captured.heartbeat_seconds + GRACE_SECONDS
    if captured.time is None:
        return _seconds(now, time)
    if serial >= captured.serial and _seconds(now, heartbeat_at) <= quiet:
        return _seconds(heartbeat_at, captured.time)
    if serial + 1 == captured.serial:
        return _seconds(now, captured.time)
    return _seconds(now, time)


def _silence(heartbeat_seconds: float) -> float:
    return max(SILENT_SECONDS, 3 * heartbeat_seconds)


def _seconds(later: datetime, earlier: datetime) -> float:
    return (later - earlier).total_seconds()


def lag_seconds(marks: Sequence[Watermark], now: datetime) -> float | None:
    """How long ago the oldest watermark was current, in seconds; None while a first snapshot is not complete."""
    oldest = data_timestamp(marks)
    return None if oldest is None else max(0.0, _seconds(now, oldest))


def data_timestamp(marks: Sequence[Watermark]) -> datetime | None:
    """Everything that was committed before is searchable; None while a first snapshot is not complete."""
    times = [mark.time for mark in marks]
    known = [time for time in times if time is not None]
    return min(known) if known and len(known) == len(times) else None


def too_stale(marks: Iterable[Watermark], most_seconds: float) -> list[str]:
    """Why sources are older than was allowed, a sentence each; empty when none is."""
    unmet = []
    for mark in marks:
        if mark.lag_seconds is None:
            unmet.append(f"Source {mark.source} has not been read to the end yet. {_remedy(mark)}".strip())
        elif mark.lag_seconds > most_seconds:
            unmet.append(
                f"Source {mark.source} is as of {mark.lag_seconds:.3g} s ago, {most_seconds:g} s were allowed. "
                f"{_remedy(mark)}".strip()
            )
    return unmet


def trouble(marks: Sequence[Watermark]) -> str | None:
    """Which sources of a view are in the worst of the states that need a look, in words; None without any."""
    for state in NEEDS_A_LOOK:
        names = [mark.source for mark in marks if mark.state is state]
        if names:
            return f"{' and '.join(names)} {'is' if len(names) == 1 else 'are'} {state}"
    return None


def not_reached(mark: Watermark, token: str, *, is_open: bool) -> str:
    """Why a token is not met. `is_open`: its transaction has not been committed."""
    if is_open:
        return f"The transaction of {token} is still open at its source. Ask again when it is committed."
    where = "nothing" if mark.position is None else f"everything up to {mark.position}"
    return f"Of source {mark.source} {where} is searchable, which does not cover {token}. {_remedy(mark)}".strip()


def asks_for_freshness(query: Query) -> bool:
    return query.max_staleness_seconds is not None or bool(query.at_least)


def _remedy(mark: Watermark) -> str:
    return "" if mark.state is None else REMEDIES[mark.state].format(source=mark.source)
