"""A folder of files as a source: a snapshot of it, then what happens in it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

from livedex.adapters.sources.files.audit import FilesLook
from livedex.adapters.sources.files.folder import Folder
from livedex.adapters.sources.files.following import Following, Options
from livedex.adapters.sources.files.positions import Position, is_position
from livedex.adapters.sources.files.selection import Selection
from livedex.adapters.sources.files.watching import Polling, Watch, watching
from livedex.errors import NotFound, TokenRefused
from livedex.faults import Faults, NoFaults
from livedex.ports import SnapshotFinished, SnapshotStarted, SourceEvent

PARTITION = "main"


class FilesSource:
    """Follows the files of one folder. Implements `livedex.ports.Source`.

    A folder keeps no history, so `open` always begins with a snapshot, whatever `resume` says: what is unchanged is
    recognised by the log, and what was deleted meanwhile was not seen. `resume` says which folder was read last: should
    another one stand there that is empty, it is taken for a mount that is missing.

    A batch of `Changes` holds what the watcher told together; it is no transaction of anybody's.
    """

    def __init__(
        self,
        path: Path,
        *,
        name: str,
        include: Sequence[str],
        exclude: Sequence[str] = (),
        metadata: Sequence[str] = (),
        max_bytes: int = 10_000_000,
        polling: bool = False,
        heartbeat_seconds: float = 1.0,
        rescan_seconds: float = 300.0,
        batch_changes: int = 500,
        batch_bytes: int = 4 * 1024 * 1024,
        faults: Faults | None = None,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """`polling`: look at every file with every heartbeat, instead of being told by the operating system."""
        self._path = path
        self._name = name
        self._selection = Selection(include, exclude)
        self._options = Options(
            metadata, max_bytes, heartbeat_seconds, rescan_seconds, batch_changes, batch_bytes
        )  # fmt: skip
        self._polling = polling
        self._faults = faults or NoFaults()
        self._now_ns = now_ns
        self._last_moment = 0
        self._unfinished: Position | None = None

    async def partitions(self) -> Sequence[str]:
        return (PARTITION,)

    async def open(self, partition: str, resume: str | None) -> AsyncGenerator[SourceEvent]:
        """See `Source.open`."""
        _check_partition(partition)
        # A snapshot that was broken off has taken the stored position with it.
        before = self._unfinished if resume is None else Position.parse(resume)
        if before is not None:
            self._last_moment = max(self._last_moment, before.nanoseconds)
        folder = await asyncio.to_thread(Folder, self._path, self._selection, self._name)
        async with self._watch(folder) as watch:
            following = Following(folder, watch, self._options, self._moment, self._faults)
            async with aclosing(following.snapshot(before)) as events:
                async for event in events:
                    if isinstance(event, SnapshotStarted):
                        self._unfinished = before
                    yield event
                    if isinstance(event, SnapshotFinished):
                        self._unfinished = None
            async with aclosing(following.follow()) as events:
                async for event in events:
                    yield event

    async def acknowledge(self, position: str) -> None:
        """A folder keeps nothing for us."""

    async def head(self, partition: str) -> str:
        """This moment. It is reached within a heartbeat or two, and when files that are being written are quiet."""
        _check_partition(partition)
        return str(Position(self._moment()))

    def reached(self, position: str | None, target: str) -> bool:
        return position is not None and Position.parse(position).order >= Position.parse(target).order

    @asynccontextmanager
    async def look(self, *, patience_seconds: float) -> AsyncIterator[FilesLook]:
        """See `livedex.ports.Auditable`. What was sent was read before, so every look is settled."""
        folder = await asyncio.to_thread(Folder, self._path, self._selection, self._name)
        yield FilesLook(folder, self._options.metadata, self._options.max_bytes, self._moment)

    async def locate(self, token: str, near: str | None) -> str | None:
        """See `Source.locate`. A token is a position: a moment, by the clock of the machine that follows the folder."""
        if not is_position(token):
            raise TokenRefused(
                f'"{token}" is no moment of a folder, such as livedex token {self._name} prints. Make a new one.'
            )
        return token

    async def close(self) -> None:
        """Nothing outlives `open`."""

    def _moment(self) -> int:
        """Now, and later than ever before, also when the clock was set back."""
        self._last_moment = max(self._now_ns(), self._last_moment + 1)
        return self._last_moment

    @asynccontextmanager
    async def _watch(self, folder: Folder) -> AsyncIterator[Watch]:
        if self._polling:
            yield Polling()
            return
        async with watching(folder) as watch:
            yield watch


def _check_partition(partition: str) -> None:
    if partition != PARTITION:
        raise NotFound(f'A folder has one partition, "{PARTITION}"; there is no "{partition}".')
