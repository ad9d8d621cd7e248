"""Hearing of what happens in the folder: from the operating system, or by looking again and again.

How far the system has told us is learned with a marker: a file of our own in a temporary directory, watched by the same
watcher. What happens in watched directories is told in order, so when the marker arrives, everything that happened
before it was made has arrived too.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import threading
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from livedex.adapters.sources.files.folder import Folder
from livedex.errors import LivedexError, SourceMisconfigured, SourceUnavailable

STEP_MS = 15
"""What happens within this time is told together."""
MOST_MS = 60
FIRST_MARKER_SECONDS = 0.05
START_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Heard:
    """Relative paths at which something happened, `""` for anywhere. `marker`: everything before it was written has
    been told."""

    paths: Collection[str]
    marker: int


class Watch(Protocol):
    """Markers count from 1. `looks_everywhere`: each marker makes its caller look at all files."""

    @property
    def looks_everywhere(self) -> bool: ...

    @property
    def marker(self) -> int:
        """The last marker that was asked for."""
        ...

    def mark(self) -> int:
        """Ask for the next marker."""
        ...

    async def wait(self, seconds: float) -> Heard:
        """What happened since the last call, as soon as something did; nothing when the time is over. Raises
        SourceUnavailable or SourceMisconfigured when the watcher has failed."""
        ...


class Polling:
    """Tells with every marker that anything may have happened: who asks for one looks everywhere."""

    looks_everywhere = True

    def __init__(self) -> None:
        self.marker = 0
        self._told = 0

    def mark(self) -> int:
        self.marker += 1
        return self.marker

    async def wait(self, seconds: float) -> Heard:
        if self._told == self.marker:
            await asyncio.sleep(seconds)
            return Heard((), self.marker)
        self._told = self.marker
        return Heard(("",), self.marker)


@asynccontextmanager
async def watching(folder: Folder) -> AsyncIterator[Watch]:
    """A watch that is established: from here on nothing that happens is missed. Raises SourceUnavailable and
    SourceMisconfigured."""
    # The name begins with a dot, so that nobody takes it for documents where the folder holds temporary directories.
    directory = await asyncio.to_thread(_own_directory)
    watcher = _Watcher(folder, directory)
    try:
        await watcher.start()
        yield watcher
    finally:
        try:
            await asyncio.shield(asyncio.to_thread(watcher.stop))
        finally:
            await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)


def _own_directory() -> str:
    return os.path.realpath(tempfile.mkdtemp(prefix=".livedex-watch-"))


class _Watcher:
    """The operating system's notifications, received on a thread of their own."""

    looks_everywhere = False

    def __init__(self, folder: Folder, directory: str) -> None:
        self.marker = 0
        self._folder = folder
        self._directory = directory
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._paths: set[str] = set()
        self._seen = 0
        self._failure: LivedexError | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._receive, name="livedex files watcher", daemon=True)

    async def start(self) -> None:
        self._thread.start()
        try:
            async with asyncio.timeout(START_SECONDS):
                self.mark()
                while (await self.wait(FIRST_MARKER_SECONDS)).marker == 0:
                    self.mark()  # the one before came too early to be told
        except TimeoutError:
            raise SourceUnavailable(
                f"The operating system tells nothing of changes in {self._folder.path}. Where it cannot, as for "
                "network mounts, set polling: true for this source in livedex.yaml."
            ) from None

    def stop(self) -> None:
        """Blocks for a moment."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()

    def mark(self) -> int:
        """Each marker is a name of its own: one file's changes could not be told apart when they arrive."""
        with suppress(FileNotFoundError):  # somebody tidied temporary directories; the marker will be missed
            Path(self._directory, str(self.marker)).unlink(missing_ok=True)
            self.marker += 1
            Path(self._directory, str(self.marker)).touch()
        return self.marker

    async def wait(self, seconds: float) -> Heard:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()
        self._news.clear()
        if self._failure is not None:
            raise self._failure
        paths, self._paths = self._paths, set()
        return Heard(paths, self._seen)

    def _receive(self) -> None:
        try:
            from watchfiles import watch

            events = watch(
                self._folder.real,
                self._directory,
                watch_filter=None,
                debounce=MOST_MS,
                step=STEP_MS,
                stop_event=self._stop,
                force_polling=False,
                ignore_permission_denied=True,
            )
            for changes in events:
                self._tell({path for _, path in changes}, None)
        except Exception as error:  # noqa: BLE001  # whatever ends the thread must end the source, not only the thread
            self._tell(set(), self._translated(error))

    def _tell(self, absolute: set[str], failure: LivedexError | None) -> None:
        markers = {path for path in absolute if path.startswith(self._directory + os.sep)}
        marker = max((int(Path(path).name) for path in markers), default=0)
        named = (self._folder.relative(path) for path in absolute - markers)
        paths = {path for path in named if path is not None}
        with suppress(RuntimeError):  # the loop was closed while this thread was stopping
            self._loop.call_soon_threadsafe(self._take, paths, marker, failure)

    def _take(self, paths: set[str], marker: int, failure: LivedexError | None) -> None:
        self._paths |= paths
        self._seen = max(self._seen, marker)
        self._failure = self._failure or failure
        self._news.set()

    def _translated(self, error: Exception) -> LivedexError:
        said = str(error)
        if "watch limit" in said or "No space left" in said or "Too many open files" in said:
            return SourceMisconfigured(
                f"The operating system's limit on watched folders is reached at {self._folder.path}: {said}. Raise "
                "fs.inotify.max_user_watches (and max_user_instances), or set polling: true for this source in "
                "livedex.yaml."
            )
        return SourceUnavailable(f"The folder {self._folder.path} can no longer be watched: {said}")
