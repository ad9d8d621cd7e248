"""How far a generation has followed its sources, as read in one snapshot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from livedex.rules.freshness import ShardMark


@dataclass(frozen=True, slots=True)
class Marks:
    """`active_generation` is the view's, which may be another by now. `capturing`: somebody follows every source.
    `now` is the store's time."""

    active_generation: int
    marks: tuple[ShardMark, ...]
    capturing: bool
    now: datetime

    @classmethod
    def of(cls, rows: Sequence[dict[str, Any]]) -> Self:
        """From the rows of the statement `marks`: one or more a shard."""
        known = [row for row in rows if row["partition"] is not None]
        names = ("source", "partition", "position", "time", "serial", "heartbeat_at")
        return cls(
            active_generation=rows[0]["active_generation"],
            marks=tuple(ShardMark(**{name: row[name] for name in names}) for row in known),
            capturing=bool(known) and all(row["followed"] for row in known),
            now=rows[0]["now"],
        )

    @classmethod
    def of_json(cls, rows: Sequence[dict[str, Any]]) -> Self:
        """From the same rows as JSON, where times are text."""
        times = ("now", "time", "heartbeat_at")
        return cls.of(
            [{**row, **{name: row[name] and datetime.fromisoformat(row[name]) for name in times}} for row in rows]
        )
