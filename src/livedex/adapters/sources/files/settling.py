"""Files that something happened to, until they are quiet enough to be taken. Pure: times are passed in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from livedex.adapters.sources.files.folder import Stat

QUIET_SECONDS = 0.05
"""How long a file must not have changed."""
LONGEST_QUIET_SECONDS = 1.0
"""The time doubles up to this while the file goes on changing: somebody writes it piece by piece."""
GONE_SECONDS = 0.1
"""Editors take a file away for a moment before they put the new one in its place."""
EMPTY_SECONDS = 0.5
"""A file is emptied before it is written anew."""
PATIENCE_SECONDS = 10.0
"""A file that never rests is taken as it is after this long, and again later."""


@dataclass(slots=True)
class _Waiting:
    after: int
    first: float
    since: float
    due: float
    stat: Stat | None = None
    is_seen: bool = False
    restless: int = 0

    @property
    def quiet(self) -> float:
        if self.stat is None:
            least = GONE_SECONDS
        elif self.stat.size == 0:
            least = EMPTY_SECONDS
        else:
            least = QUIET_SECONDS
        return max(least, min(LONGEST_QUIET_SECONDS, QUIET_SECONDS * 2.0 ** min(self.restless, 10)))


class Settling:
    """`now` is a monotonic clock in seconds, `now_ns` the time of day in nanoseconds. `after` is the moment up to which
    everything had been seen when the file was named: its change is later."""

    def __init__(self) -> None:
        self._waiting: dict[str, _Waiting] = {}

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def note(self, paths: Iterable[str], after: int, now: float) -> None:
        for path in paths:
            if path not in self._waiting:
                self._waiting[path] = _Waiting(after, now, now, now)

    def due(self, now: float) -> list[str]:
        return [path for path, waiting in self._waiting.items() if waiting.due <= now]

    @property
    def next_due(self) -> float | None:
        return min((waiting.due for waiting in self._waiting.values()), default=None)

    @property
    def oldest(self) -> int | None:
        """Everything up to here was dealt with, if nothing else is in the way."""
        return min((waiting.after for waiting in self._waiting.values()), default=None)

    def is_settled(self, path: str, stat: Stat | None, now: float, now_ns: int) -> bool:
        """Tell how a file looks now, and learn whether it may be taken."""
        waiting = self._waiting[path]
        if not waiting.is_seen or waiting.stat != stat:
            waiting.restless += waiting.is_seen and waiting.stat is not None
            waiting.stat, waiting.is_seen, waiting.since = stat, True, now
        # The file's own clock may run apart from ours, so either of the two is enough.
        age = now - waiting.since if stat is None else max(now - waiting.since, (now_ns - stat.modified_ns) / 1e9)
        if age >= waiting.quiet or now - waiting.first >= PATIENCE_SECONDS:
            return True
        waiting.due = now + waiting.quiet - age
        return False

    def unsettle(self, path: str, now: float) -> None:
        """It changed while it was read."""
        waiting = self._waiting[path]
        waiting.restless += 1
        waiting.since, waiting.due = now, now + waiting.quiet

    def gone(self) -> list[str]:
        """Files that were not there when last looked at."""
        return [path for path, waiting in self._waiting.items() if waiting.is_seen and waiting.stat is None]

    def done(self, path: str) -> None:
        self._waiting.pop(path, None)
