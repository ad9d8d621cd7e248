"""Positions of a PostgreSQL source: `<system identifier>:<timeline>:<LSN>`, such as `7391406215:1:0/16B3748`.

A position names the first byte that has not been seen. For a commit that is the end of its commit record, so that
resuming there sends the next transaction and not this one again: the server leaves out transactions whose commit
record *starts* before the position that it is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

from livedex.errors import SourceError


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the write-ahead log of one server on one timeline. Two positions compare only on the same ones."""

    system: str
    timeline: int
    lsn: int

    def __str__(self) -> str:
        return f"{self.system}:{self.timeline}:{format_lsn(self.lsn)}"

    @classmethod
    def parse(cls, text: str) -> Position:
        """Raises SourceError for text that `str(position)` did not make."""
        try:
            system, timeline, lsn = text.split(":")
            return cls(system, int(timeline), parse_lsn(lsn))
        except ValueError:
            raise SourceError(
                f'"{text}" is not a position of a PostgreSQL source, which looks like 7391406215:1:0/16B3748. '
                "It was stored by a source of another kind; give this source a new name in livedex.yaml."
            ) from None

    def at(self, lsn: int) -> Position:
        return Position(self.system, self.timeline, lsn)

    def same_history(self, other: Position) -> bool:
        return (self.system, self.timeline) == (other.system, other.timeline)


def parse_lsn(text: str) -> int:
    """`16/B374D848` → 96,931,084,360. Raises ValueError."""
    high, low = text.split("/")
    return (int(high, 16) << 32) | int(low, 16)


def format_lsn(lsn: int) -> str:
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def end_of_written(insert_lsn: int, page_bytes: int, segment_bytes: int) -> int:
    """Where the last record ends, given where the next one will start.

    When the last record fills its page exactly, `pg_current_wal_insert_lsn()` lies behind the header of the next
    page, which holds nothing yet. A reader that has seen everything stands before that header, and would never reach
    the insert position on an idle server.
    """
    page_start = insert_lsn - insert_lsn % page_bytes
    header = 40 if page_start % segment_bytes == 0 else 24
    return page_start if insert_lsn - page_start == header else insert_lsn
