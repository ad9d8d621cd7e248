"""One look at a folder, as an audit compares it: every file is read, nothing of it leaves the machine.

The folder may change while it is looked at. A file that stands in a state for a moment only misleads one look, and an
audit believes two.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from livedex.adapters.sources.files.folder import Folder
from livedex.adapters.sources.files.positions import Position
from livedex.adapters.sources.files.reading import read
from livedex.adapters.sources.files.rows import COLUMNS, KEY, TABLE, columns, shown
from livedex.digests import digest_of, key_of, key_text, range_of
from livedex.model import Change, Op
from livedex.ports import Compared


class FilesLook:
    """Implements `livedex.ports.Look`. `moment` gives the time in nanoseconds."""

    settled = True

    def __init__(self, folder: Folder, metadata: Sequence[str], max_bytes: int, moment: Callable[[], int]) -> None:
        self._folder = folder
        self._metadata = metadata
        self._max_bytes = max_bytes
        self._moment = moment
        self._compared = tuple(sorted({KEY, *COLUMNS, *metadata}))
        self._digests: dict[str, int] | None = None
        self.received_bytes = 0

    async def compare(self, table: str) -> Compared:
        ranges: dict[int, tuple[int, int]] = {}
        for key, digest in (await self._all()).items():
            rows, together = ranges.get(range_of(key), (0, 0))
            ranges[range_of(key)] = (rows + 1, together ^ digest)
        return Compared(self._compared, ranges)

    async def digests(self, table: str, ranges: Collection[int]) -> Mapping[str, int]:
        return {key: digest for key, digest in (await self._all()).items() if range_of(key) in ranges}

    async def rows(self, table: str, keys: Collection[str]) -> Sequence[Change]:
        wanted = {key_of(key)[1] for key in keys}
        paths = [path for path in await asyncio.to_thread(self._folder.scan) if (shown(path),) in wanted]
        changes = await asyncio.to_thread(self._read, paths)
        return [change for change in changes if change is not None]

    async def position(self) -> str:
        return str(Position(self._moment()))

    async def _all(self) -> Mapping[str, int]:
        """By key text the digest of every document, read once."""
        if self._digests is None:
            paths = await asyncio.to_thread(self._folder.scan)
            self._digests = await asyncio.to_thread(self._digest, paths)
            # What could not be found says something only if it was looked for in the right folder to the end.
            await asyncio.to_thread(self._folder.check)
        return self._digests

    def _digest(self, paths: Iterable[str]) -> dict[str, int]:
        digests = {}
        for path in paths:
            if (row := self._row(path)) is not None:
                key = key_text(TABLE, (shown(path),))
                digests[key] = digest_of(key, row[0], self._compared)
        return digests

    def _read(self, paths: Iterable[str]) -> list[Change | None]:
        return [self._change(path) for path in paths]

    def _change(self, path: str) -> Change | None:
        row = self._row(path)
        if row is None:
            return None
        found, refused, is_unreadable = row
        mapped = frozenset({*COLUMNS, *self._metadata} - {KEY})
        unchanged: frozenset[str] = mapped if is_unreadable else frozenset()
        return Change(Op.READ, TABLE, (shown(path),), found, unchanged=unchanged, refused=refused)

    def _row(self, path: str) -> tuple[Mapping[str, Any], str | None, bool] | None:
        """Columns, why the file cannot be a document, and whether only reading failed; None for one that is gone."""
        reading = read(self._folder, path, self._max_bytes)
        if reading is None:
            return None
        self.received_bytes += reading.stat.size
        return columns(path, reading, self._metadata), reading.refusal, reading.is_unreadable
