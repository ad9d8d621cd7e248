"""How far a generation has followed its sources, as read in one snapshot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from livedex.model import Watermark
from livedex.rules.freshness import Captured, ShardMark, view_watermarks


@dataclass(frozen=True, slots=True)
class Marks:
    """`active_generation` is the view's, which may be another by now. `capturing`: somebody follows every source.
    `now` is the store's time."""

    active_generation: int
    marks: tuple[ShardMark, ...]
    capturing: bool
    now: datetime
    sources: tuple[str, ...]
    shards: int
    target_seconds: float

    @classmethod
    def of(cls, rows: Sequence[dict[str, Any]]) -> Self:
        """From the rows of the statement `marks`: one or more a shard."""
        known = [row for row in rows if row["partition"] is not None]
        places = {row["source"]: row["place"] for row in rows if row["source"] is not None}
        return cls(
            active_generation=rows[0]["active_generation"],
            marks=tuple(_mark(row) for row in known),
            capturing=bool(known) and all(row["followed"] for row in known),
            now=rows[0]["now"],
            sources=tuple(sorted(places, key=places.__getitem__)),
            shards=rows[0]["shards"],
            target_seconds=rows[0]["target_seconds"],
        )

    @classmethod
    def of_json(cls, rows: Sequence[dict[str, Any]]) -> Self:
        """From the same rows as JSON, where times are text."""
        times = ("now", "time", "heartbeat_at", "captured_time")
        return cls.of(
            [{**row, **{name: row[name] and datetime.fromisoformat(row[name]) for name in times}} for row in rows]
        )

    def watermarks(self) -> tuple[Watermark, ...]:
        """Per source of the generation, in its order."""
        return view_watermarks(self.marks, self.sources, self.shards, self.now, self.target_seconds)


def _mark(row: Mapping[str, Any]) -> ShardMark:
    return ShardMark(
        source=row["source"],
        partition=row["partition"],
        position=row["position"],
        time=row["time"],
        serial=row["serial"],
        captured=Captured(
            state=row["state"],
            failing=row["failing"],
            followed=row["followed"],
            heartbeat_at=row["heartbeat_at"],
            heartbeat_seconds=row["heartbeat_seconds"],
            time=row["captured_time"],
            serial=row["captured_serial"],
        ),
    )
