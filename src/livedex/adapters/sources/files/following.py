"""One reading of the folder: a snapshot, then what happens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from livedex.adapters.sources.files.folder import Folder, Stat
from livedex.adapters.sources.files.holdings import Holdings, Vanished
from livedex.adapters.sources.files.positions import Position, as_time
from livedex.adapters.sources.files.reading import Reading, read
from livedex.adapters.sources.files.rows import COLUMNS, KEY, TABLE, columns, shown
from livedex.adapters.sources.files.settling import Settling
from livedex.adapters.sources.files.watching import Heard, Watch
from livedex.errors import SourceUnavailable
from livedex.faults import Faults
from livedex.model import Change, Op
from livedex.ports import Changes, Heartbeat, SnapshotFinished, SnapshotRows, SnapshotStarted, SourceEvent

MARKER_SECONDS = 15.0
"""When a marker has not arrived after this long, the watcher has lost what it should have told."""
SHARE_OF_TIME = 0.1
"""How much of the time looking at everything may take, where that is how changes are found."""


@dataclass(frozen=True, slots=True)
class Options:
    metadata: Sequence[str]
    max_bytes: int
    heartbeat_seconds: float
    rescan_seconds: float
    batch_changes: int
    batch_bytes: int


@dataclass(frozen=True, slots=True)
class _Read:
    path: str
    reading: Reading | None
    columns: Mapping[str, Any]


class Following:
    """`moment` gives the time in nanoseconds, each time a later one.

    What holds the position back is everything that may have happened earlier and was not sent: files that are not quiet
    yet, and folders that are new, in which something may have happened before they were watched.
    """

    def __init__(
        self, folder: Folder, watch: Watch, options: Options, moment: Callable[[], int], faults: Faults
    ) -> None:
        self._folder = folder
        self._watch = watch
        self._options = options
        self._moment = moment
        self._faults = faults
        self._now = asyncio.get_running_loop().time
        self._holdings = Holdings()
        self._settling = Settling()
        self._new_folders: dict[str, tuple[int, int]] = {}
        """To the marker after which nothing in it can be missed, and the moment from before it was heard of."""
        self._asked: tuple[int, int, float] | None = None
        """The marker that has not arrived yet, the moment before it was made, and when that was."""
        self._confirmed = 0
        """The watcher has told everything up to this moment."""
        self._at = Position(0)
        self._survey_seconds = 0.0

    async def snapshot(self, expected: Position | None) -> AsyncGenerator[SourceEvent]:
        """Everything in the folder. Raises SourceUnavailable when it is empty, though another folder, with documents,
        stood here when the source was last followed."""
        self._confirmed = self._moment()
        found = await asyncio.to_thread(self._folder.scan)
        self._check_is_meant_to_be_empty(found, expected)
        yield SnapshotStarted((TABLE,))
        self._settling.note(found, self._confirmed, self._now())
        ready = self._taken_of(found)
        while True:
            async for batch in self._read(ready):
                if rows := [row for read in batch if (row := self._row(read)) is not None]:
                    await self._faults.reach("snapshot.rows")
                    yield SnapshotRows(rows)
            if not self._settling:
                break
            await asyncio.sleep(max(0.0, (self._settling.next_due or 0) - self._now()))
            ready = await self._settled()
            for path in [path for path, stat in ready.items() if stat is None]:
                self._settling.done(path)
                del ready[path]
        # What could not be found says something only if it was looked for in the right folder to the end.
        await asyncio.to_thread(self._folder.check)
        await self._faults.reach("snapshot.before_finished")
        self._advance()
        yield SnapshotFinished(str(self._at), self._at.time, self._clock())

    async def follow(self) -> AsyncGenerator[SourceEvent]:
        """What happens after the snapshot; endless. Raises SourceUnavailable and SourceMisconfigured."""
        beat_at = self._now()
        rescan_at = self._now() + self._options.rescan_seconds
        while True:
            if self._now() >= beat_at:
                await asyncio.to_thread(self._folder.check)
                self._ask()
                beat_at = self._now() + max(self._options.heartbeat_seconds, self._survey_seconds / SHARE_OF_TIME)
            wake_at = beat_at if self._settling.next_due is None else min(beat_at, self._settling.next_due)
            await self._take(await self._watch.wait(max(0.0, wake_at - self._now())))
            if self._now() >= rescan_at:
                await self._survey({"", *self._holdings.unreadable}, self._confirmed)
                rescan_at = self._now() + self._options.rescan_seconds
            async for changes in self._changes():
                await self._faults.reach("stream.received")
                yield changes
            if self._advance():
                yield Heartbeat(str(self._at), self._at.time, self._clock())

    def _check_is_meant_to_be_empty(self, found: Collection[str], expected: Position | None) -> None:
        if found or expected is None or not expected.documents or expected.identity == self._folder.identity:
            return
        raise SourceUnavailable(
            f"{self._folder.path} holds no documents, and it is another folder than the one that was followed, which "
            f"held {expected.documents}: it is probably not mounted. Mount it; nothing was deleted. If it is meant to "
            f"be empty, run: livedex source resync {self._folder.name}"
        )

    def _ask(self) -> None:
        """Learn up to when the watcher has told everything."""
        if self._asked is None:
            moment = self._moment()
            self._asked = (self._watch.mark(), moment, self._now())
        elif self._now() - self._asked[2] > MARKER_SECONDS:
            raise SourceUnavailable(f"The watcher of {self._folder.path} has lost track; the folder is read again.")

    async def _take(self, heard: Heard) -> None:
        """Note what was told, then how far that reaches."""
        if heard.paths:
            for folder in await self._survey(heard.paths, self._confirmed):
                self._new_folders.setdefault(folder, (self._watch.marker + 1, self._confirmed))
        if self._asked is None or heard.marker < self._asked[0]:
            return
        watched = {path: since for path, (marker, since) in self._new_folders.items() if marker <= heard.marker}
        if watched:
            await self._survey(set(watched), min(watched.values()))
        for path in watched:
            del self._new_folders[path]
        self._confirmed, self._asked = self._asked[1], None

    async def _survey(self, paths: Collection[str], after: int) -> Collection[str]:
        """Note which files have to be looked at; the folders among the paths."""
        started = self._now()
        survey = await asyncio.to_thread(self._folder.survey, paths, self._holdings.stats, self._holdings.links)
        if self._watch.looks_everywhere:
            self._survey_seconds = self._now() - started
        self._settling.note(survey.dirty, after, self._now())
        self._settling.note((path for path in paths if path in self._holdings), after, self._now())
        return survey.folders

    async def _settled(self) -> dict[str, Stat | None]:
        """Files that may be taken, as they look."""
        due = self._settling.due(self._now())
        return self._taken_of(await asyncio.to_thread(self._folder.look_at, due)) if due else {}

    def _taken_of(self, looks: Mapping[str, Stat | None]) -> dict[str, Stat | None]:
        now, now_ns = self._now(), self._moment()
        return {path: stat for path, stat in looks.items() if self._settling.is_settled(path, stat, now, now_ns)}

    async def _read(self, stats: Mapping[str, Stat | None]) -> AsyncGenerator[list[_Read]]:
        for batch in self._batches(stats):
            yield await asyncio.to_thread(self._read_batch, batch)

    def _read_batch(self, paths: Iterable[str]) -> list[_Read]:
        found = []
        for path in paths:
            reading = read(self._folder, path, self._options.max_bytes)
            row = {} if reading is None else columns(path, reading, self._options.metadata)
            found.append(_Read(path, reading, row))
        return found

    def _batches(self, stats: Mapping[str, Stat | None]) -> Iterator[list[str]]:
        batch: list[str] = []
        size = 0
        for path, stat in stats.items():
            if stat is not None:
                batch.append(path)
                size += min(stat.size, self._options.max_bytes)
                if len(batch) >= self._options.batch_changes or size >= self._options.batch_bytes:
                    yield batch
                    batch, size = [], 0
        if batch:
            yield batch

    def _row(self, read: _Read) -> Change | None:
        if read.reading is None:
            self._settling.unsettle(read.path, self._now())
            return None
        self._settling.done(read.path)
        self._holdings.put(read.path, read.reading)
        return self._change(Op.READ, read, read.reading, None, None)

    async def _changes(self) -> AsyncGenerator[Changes]:
        """Files that have settled, in batches; first what stands, so that a moved file is known again."""
        ready = await self._settled()
        if not ready:
            return
        vanished = Vanished(self._holdings, self._settling.gone())
        async for batch in self._read(ready):
            if changes := [change for read in batch if (change := self._difference(read, vanished)) is not None]:
                yield self._sent(changes)
        gone = []
        for path in [path for path, stat in ready.items() if stat is None]:
            self._settling.done(path)
            if path in self._holdings:
                gone.append(path)
        for start in range(0, len(gone), self._options.batch_changes):
            yield self._sent(await self._deleted(gone[start : start + self._options.batch_changes]))

    def _difference(self, read: _Read, vanished: Vanished) -> Change | None:
        """What to say of a file that stands; None if it is what was said last."""
        reading = read.reading
        if reading is None:
            self._settling.unsettle(read.path, self._now())
            return None
        self._settling.done(read.path)
        held = self._holdings.get(read.path)
        old = vanished.take(read.path, reading) if held is None else None
        self._holdings.put(read.path, reading)
        if old is not None:
            self._holdings.remove(old)
            self._settling.done(old)
        elif held is not None and held.says_the_same(reading):
            return None
        op = Op.CREATE if held is None and old is None else Op.UPDATE
        return self._change(op, read, reading, old, self._time(reading.stat.changed_ns, is_moved=held is None))

    def _change(self, op: Op, read: _Read, reading: Reading, old: str | None, time: datetime | None) -> Change:
        mapped = {*COLUMNS, *self._options.metadata} - {KEY}
        return Change(
            op,
            TABLE,
            (shown(read.path),),
            read.columns,
            old_key=None if old is None else (shown(old),),
            # What cannot be read now may still be what it was.
            unchanged=frozenset(mapped) if reading.is_unreadable else frozenset(),
            time=time,
            refused=reading.refusal,
        )

    async def _deleted(self, paths: Sequence[str]) -> list[Change]:
        """Raises SourceUnavailable when it is the folder that went away."""
        times = await asyncio.to_thread(lambda: [self._folder.vanished_at(path) for path in paths])
        await asyncio.to_thread(self._folder.check)
        changes = []
        for path, changed_ns in zip(paths, times, strict=True):
            time = self._time(changed_ns, is_moved=True)
            changes.append(Change(Op.DELETE, TABLE, (shown(path),), time=time))
            self._holdings.remove(path)
        return changes

    def _time(self, changed_ns: int | None, *, is_moved: bool) -> datetime:
        """When a change happened. A file that came or went with its folder has no time stamp of that: then it is known
        only that it was not there when we last knew everything."""
        now = self._moment()
        changed_ns = now if changed_ns is None else min(changed_ns, now)
        return as_time(max(changed_ns, self._at.nanoseconds) if is_moved else changed_ns)

    def _sent(self, changes: Sequence[Change]) -> Changes:
        """A batch with its position, which lies after the moment that is proven, and before the next one."""
        self._at = Position(self._at.nanoseconds, self._at.batch + 1, self._folder.identity, len(self._holdings))
        position = str(self._at)
        return Changes([replace(change, position=position) for change in changes], position, self._at.time)

    def _clock(self) -> datetime:
        return as_time(self._moment())

    def _advance(self) -> bool:
        """Whether the position has come further."""
        held_back = [after for _, after in self._new_folders.values()]
        if self._settling.oldest is not None:
            held_back.append(self._settling.oldest)
        reached = min([self._confirmed, *held_back])
        if reached <= self._at.nanoseconds:
            return False
        self._at = Position(reached, 0, self._folder.identity, len(self._holdings))
        return True
