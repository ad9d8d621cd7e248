"""Watermarks and states: pure rules, by tables of cases."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from livedex.model import SourceState, Watermark
from livedex.rules.freshness import (
    Captured,
    ShardMark,
    data_timestamp,
    lag_seconds,
    source_state,
    too_stale,
    view_watermarks,
)

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
TARGET_SECONDS = 2.0


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


IDLE = Captured(
    state="streaming",
    failing=False,
    followed=True,
    heartbeat_at=ago(0.9),
    heartbeat_seconds=1.0,
    time=ago(0.91),
    serial=7,
)
"""A source that was heard of 0.9 s ago."""

CASES: dict[str, tuple[Captured, datetime | None, int, SourceState]] = {
    "idle": (IDLE, ago(0.91), 7, SourceState.CURRENT),
    "idle, heard of a minute ago as agreed": (
        replace(IDLE, heartbeat_seconds=60, heartbeat_at=ago(59), time=ago(59.01)), ago(59.01), 7, SourceState.CURRENT,
    ),
    "idle, a heartbeat is on its way into the view": (IDLE, ago(1.95), 6, SourceState.CURRENT),
    "a change just came": (replace(IDLE, heartbeat_at=ago(0.01), time=ago(0.02), serial=8), ago(0.91), 7,
                           SourceState.CURRENT),
    "a change waits for longer than the target": (replace(IDLE, time=ago(2.1), heartbeat_at=ago(2.09), serial=8),
                                                  ago(3), 7, SourceState.BEHIND),
    "many changes wait, the newest for a moment only": (replace(IDLE, time=ago(0.1), serial=20), ago(5), 7,
                                                        SourceState.BEHIND),
    "capture is late, all it has is searchable": (replace(IDLE, time=ago(30)), ago(30), 7, SourceState.BEHIND),
    "read anew while it stays searchable": (replace(IDLE, state="snapshot", time=None, serial=8), ago(30), 7,
                                            SourceState.BEHIND),
    "first load": (replace(IDLE, state="snapshot", time=None), None, 0, SourceState.LOADING),
    "nothing heard": (replace(IDLE, heartbeat_at=ago(5.1), time=ago(5.1)), ago(5.1), 7, SourceState.SILENT),
    "nothing heard for three long heartbeats": (
        replace(IDLE, heartbeat_seconds=60, heartbeat_at=ago(181), time=ago(181)), ago(181), 7, SourceState.SILENT,
    ),
    "never heard": (replace(IDLE, heartbeat_at=None), ago(1), 7, SourceState.SILENT),
    "not reached at the last attempt": (replace(IDLE, failing=True), ago(0.91), 7, SourceState.SILENT),
    "not reached, and nobody tries just now": (replace(IDLE, failing=True, followed=False), ago(9), 7,
                                               SourceState.SILENT),
    "nobody follows": (replace(IDLE, followed=False), ago(0.91), 7, SourceState.UNFOLLOWED),
    "nobody follows, never loaded": (replace(IDLE, state="new", followed=False, time=None), None, 0,
                                     SourceState.UNFOLLOWED),
    "paused": (replace(IDLE, state="paused", failing=True, followed=False), ago(0.91), 7, SourceState.PAUSED),
    "held": (replace(IDLE, state="held", failing=True), ago(0.91), 7, SourceState.HELD),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_source_stands_to_a_view_as_the_table_says(case: str) -> None:
    captured, time, serial, state = CASES[case]
    assert source_state(captured, time, serial, NOW, TARGET_SECONDS) == state


def mark(source: str, time: datetime | None, serial: int, position: str | None = None) -> ShardMark:
    captured = replace(IDLE, time=ago(0.91))
    return ShardMark(source, "main", None if time is None else position or f"at-{serial}", time, serial, captured)


def test_a_view_is_where_its_hindmost_shard_is() -> None:
    (found,) = view_watermarks([mark("kb", ago(1), 7), mark("kb", ago(3), 5)], ["kb"], 2, NOW, TARGET_SECONDS)
    assert (found.position, found.time, found.lag_seconds) == ("at-5", ago(3), 3.0)


def test_a_view_has_no_watermark_while_a_shard_has_none() -> None:
    (found,) = view_watermarks([mark("kb", ago(1), 7), mark("kb", None, 0)], ["kb"], 2, NOW, TARGET_SECONDS)
    assert (found.position, found.lag_seconds, found.state) == (None, None, SourceState.LOADING)


def test_a_view_stands_as_its_worst_shard_does() -> None:
    marks = [mark("kb", ago(0.91), 7), mark("kb", ago(9), 3)]
    assert [m.state for m in view_watermarks(marks, ["kb"], 2, NOW, TARGET_SECONDS)] == [SourceState.BEHIND]


def test_a_source_that_nobody_ever_followed_is_told() -> None:
    assert [m.state for m in view_watermarks([], ["kb"], 1, NOW, TARGET_SECONDS)] == [SourceState.UNFOLLOWED]


def test_the_oldest_source_says_how_old_a_view_is() -> None:
    marks = [Watermark("kb", "1", ago(1)), Watermark("wiki", "2", ago(4))]
    assert (data_timestamp(marks), lag_seconds(marks, NOW)) == (ago(4), 4.0)


def test_a_view_with_a_source_that_is_not_loaded_has_no_age() -> None:
    marks = [Watermark("kb", "1", ago(1)), Watermark("wiki", None, None)]
    assert (data_timestamp(marks), lag_seconds(marks, NOW)) == (None, None)


def test_each_source_that_is_too_old_is_named_with_its_age_and_what_to_do() -> None:
    marks = [
        Watermark("kb", "1", ago(1), None, SourceState.CURRENT, 1.0),
        Watermark("wiki", "2", ago(90), None, SourceState.UNFOLLOWED, 90.0),
    ]
    assert too_stale(marks, 2.0) == [
        "Source wiki is as of 90 s ago, 2 s were allowed. Nothing follows it. Run: livedex up"
    ]


def test_a_source_that_is_not_loaded_is_too_old_for_any_bound() -> None:
    marks = [Watermark("kb", None, None, None, SourceState.LOADING)]
    assert too_stale(marks, 1e9) == ["Source kb has not been read to the end yet. It is being read for the first time."]
