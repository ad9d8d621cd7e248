"""When an idle source may be said to be up to date, and as of when."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from livedex.adapters.sources.postgres.catalog import WrittenPosition
from livedex.adapters.sources.postgres.lsn import Position
from livedex.adapters.sources.postgres.pgoutput import Keepalive
from livedex.ports import Heartbeat


class Heartbeats:
    """Turns keepalives into heartbeats.

    A keepalive says how far the server has *decoded*, and its clock says nothing about how far behind its log that
    is: a server that works through an hour of other tables' changes answers at once. So the time of a heartbeat comes
    from a probe, which reads the end of the log together with the clock; when a keepalive has reached that end,
    everything committed before that time was seen.
    """

    def __init__(self, position: Position, interval_seconds: float, monotonic: Callable[[], float]) -> None:
        self._position = position
        self._interval_seconds = interval_seconds
        self._monotonic = monotonic
        self._due_at = monotonic()
        self._probe: WrittenPosition | None = None
        self._proven: datetime | None = None
        self._read: tuple[datetime, float] | None = None
        self._sent: tuple[datetime, float] | None = None

    @property
    def probe(self) -> WrittenPosition | None:
        """The last probe that is not reached yet."""
        return self._probe

    def expect(self, probe: WrittenPosition) -> None:
        self._probe = probe
        self._read = probe.time, self._monotonic()

    @property
    def clock(self) -> datetime | None:
        """What the server's clock shows now at least, counted on from when it was last read or heard of. Of a clock
        that is set ahead the next frame tells, of one that is set back the next probe."""
        now = self._monotonic()
        shown = [time + timedelta(seconds=now - at) for time, at in filter(None, (self._read, self._sent))]
        return max(shown, default=None)

    def heard(self, sent: tuple[datetime, float] | None) -> None:
        """When the server sent its last frame, by its clock, and when that arrived."""
        self._sent = sent

    def committed(self, position: Position, time: datetime) -> None:
        """Everything up to a commit was handed on."""
        self._position = max(self._position, position, key=lambda each: each.lsn)
        self._proven = time if self._proven is None else max(self._proven, time)

    def observe(self, keepalive: Keepalive) -> Heartbeat | None:
        """To be called when everything before the keepalive was handed on, outside of a transaction.

        At most one heartbeat an interval, except when the server waits for an answer: a server that shuts down does
        so until everything it sent is confirmed.
        """
        if self._probe is not None and keepalive.wal_end >= self._probe.position.lsn:
            self._proven = self._probe.time if self._proven is None else max(self._proven, self._probe.time)
            self._probe = None
        # Decoding starts over from before our position, so the first keepalives may lie behind it.
        if self._proven is None or keepalive.wal_end < self._position.lsn:
            return None
        urgent = keepalive.reply_requested and keepalive.wal_end > self._position.lsn
        if self._monotonic() < self._due_at and not urgent:
            return None
        self._due_at = self._monotonic() + self._interval_seconds
        self._position = self._position.at(keepalive.wal_end)
        return Heartbeat(str(self._position), self._proven, self.clock)
