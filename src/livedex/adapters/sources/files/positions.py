"""Positions of a folder: moments up to which everything that was written has been sent.

A folder has no log, so what orders is time: a position names the moment before which every write was seen, and how many
batches of changes came since. Two processes on one machine, or on machines whose clocks agree, can compare theirs. A
stored position also says which folder was read and how many documents it gave, so that a folder that is not mounted can
be told from one that was emptied.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Self

from livedex.errors import PositionLost

_WRITTEN = re.compile(r"(\d{19})\.(\d{6})(?:@([0-9a-f]+)-([0-9a-f]+)/(\d+))?")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Identity:
    """Which directory a path leads to: its device and inode."""

    device: int
    inode: int


@dataclass(frozen=True, slots=True)
class Position:
    """`nanoseconds` since 1970, then `batch`. `identity` is None where no folder was looked at."""

    nanoseconds: int
    batch: int = 0
    identity: Identity | None = None
    documents: int = 0

    @classmethod
    def parse(cls, written: str) -> Self:
        """Raises PositionLost for what is no position of a folder."""
        match = _WRITTEN.fullmatch(written)
        if match is None:
            raise PositionLost(f'"{written}" is no position of a folder. Run: livedex source resync NAME')
        nanoseconds, batch, device, inode, documents = match.groups()
        identity = None if device is None else Identity(int(device, 16), int(inode, 16))
        return cls(int(nanoseconds), int(batch), identity, int(documents or 0))

    def __str__(self) -> str:
        moment = f"{self.nanoseconds:019d}.{self.batch:06d}"
        if self.identity is None:
            return moment
        return f"{moment}@{self.identity.device:x}-{self.identity.inode:x}/{self.documents}"

    @property
    def order(self) -> tuple[int, int]:
        return self.nanoseconds, self.batch

    @property
    def time(self) -> datetime:
        return as_time(self.nanoseconds)


def is_position(written: str) -> bool:
    return _WRITTEN.fullmatch(written) is not None


def as_time(nanoseconds: int) -> datetime:
    """In UTC; a time stamp that no calendar has is the nearest that one has."""
    try:
        return _EPOCH + timedelta(microseconds=nanoseconds // 1000)
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC) if nanoseconds > 0 else datetime.min.replace(tzinfo=UTC)
