"""One replication connection in streaming mode: frames in, status updates out.

A walsender that hears nothing for wal_sender_timeout closes the connection. Status updates therefore come from a
task of their own, also while the consumer is slow and reading is paused; what waits to be consumed is bounded, and
beyond the bound the server is slowed down by TCP.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

import psycopg
from psycopg import AsyncConnection, errors, pq
from psycopg.rows import TupleRow

from livedex.adapters.sources.postgres.connection import Server
from livedex.adapters.sources.postgres.lsn import format_lsn
from livedex.adapters.sources.postgres.pgoutput import Frame, Keepalive, decode_frame, encode_status
from livedex.adapters.sources.postgres.requirements import quote
from livedex.errors import SourceError, SourceMisconfigured, SourceUnavailable

_ACKNOWLEDGE_SECONDS: Final = 0.1
_LONGEST_STATUS_SECONDS: Final = 10.0
_SHORTEST_SILENCE_SECONDS: Final = 60.0
_FRAME_OVERHEAD_BYTES: Final = 128


def _utc_now() -> datetime:
    return datetime.now(UTC)


class ReplicationStream:
    """A started stream. Made by `start`, ended by `close`."""

    def __init__(
        self,
        connection: AsyncConnection[TupleRow],
        server: Server,
        *,
        durable: int,
        wal_sender_timeout_seconds: float,
        buffer_bytes: int,
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        self._connection = connection
        self._pgconn = connection.pgconn
        self._server = server
        self._durable = self._received = durable
        # The server's own rule is half of the timeout; 0 switches it off.
        timeout = wal_sender_timeout_seconds or 3 * _LONGEST_STATUS_SECONDS
        self._status_seconds = min(_LONGEST_STATUS_SECONDS, timeout / 3)
        self._silence_seconds = max(_SHORTEST_SILENCE_SECONDS, wal_sender_timeout_seconds)
        self._buffer_bytes = buffer_bytes
        self._now = now
        self._loop = asyncio.get_running_loop()
        self._socket = connection.pgconn.socket
        self._watching = False
        self._frames: deque[tuple[Frame, int]] = deque()
        self._buffered_bytes = 0
        self._paused = False
        self._wake = asyncio.Event()
        self._failure: BaseException | None = None
        self.server_clock: tuple[datetime, float] | None = None
        """What the server's clock showed when it sent the last frame, and when that arrived by the loop's time."""
        self._last_heard = self._loop.time()
        self._last_status = 0.0
        self._pending_status: asyncio.TimerHandle | None = None
        self._status_task: asyncio.Task[None] | None = None

    async def start(self, slot: str, publication: str) -> None:
        """Ask for everything after the durable position. Raises SourceUnavailable, SourceMisconfigured."""
        names = quote(publication).replace("'", "''")
        command = (
            f"START_REPLICATION SLOT {quote(slot)} LOGICAL {format_lsn(self._durable)} "
            f"(proto_version '1', publication_names '{names}')"
        )
        with self._server.translated_errors(f'refused to start replication slot "{slot}"'):
            self._pgconn.send_query(command.encode())
            await self._enter_streaming()
        self._last_heard = self._loop.time()
        self._loop.add_reader(self._socket, self._on_readable)
        self._watching = True
        self._send_status()
        self._status_task = self._loop.create_task(self._keep_alive())
        self._status_task.add_done_callback(self.fail_with)

    def take(self) -> Frame | None:
        """The next frame that is here already."""
        if not self._frames:
            self._wake.clear()
            return None
        frame, size = self._frames.popleft()
        self._buffered_bytes -= size
        if self._paused and self._buffered_bytes < self._buffer_bytes // 2:
            self._paused = False
            if self._watching:
                self._loop.add_reader(self._socket, self._on_readable)
            # libpq may hold whole frames that the socket will not announce again.
            self._loop.call_soon(self._on_readable)
        return frame

    async def wait(self) -> None:
        """Until `take` has something. Raises what ended the stream once every frame before it was taken."""
        if not self._frames and self._failure is None:
            self._wake.clear()
            await self._wake.wait()
        if not self._frames and self._failure is not None:
            raise self._failure

    def confirm(self, lsn: int) -> None:
        """Everything before `lsn` is durable; tells the server at once, or soon after it was last told something."""
        if lsn <= self._durable:
            return
        self._durable = lsn
        wait_seconds = self._last_status + _ACKNOWLEDGE_SECONDS - self._loop.time()
        if wait_seconds <= 0:
            self._send_status()
        elif self._pending_status is None:
            self._pending_status = self._loop.call_later(wait_seconds, self._send_status)

    def request_keepalive(self) -> None:
        """Have the server say how far it has decoded."""
        self._send_status(reply_requested=True)

    def fail(self, failure: BaseException) -> None:
        """End the stream: `wait` raises `failure` after the frames that are here."""
        if self._failure is None:
            self._failure = failure
            self._stop_watching()
        self._wake.set()

    def fail_with(self, task: asyncio.Task[None]) -> None:
        """For tasks that the stream cannot do without: their error ends it."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self.fail(error)

    async def close(self) -> None:
        """Tell the server what is durable and let go of the slot."""
        if self._pending_status is not None:
            self._send_status()
        if self._status_task is not None:
            self._status_task.cancel()
            await asyncio.gather(self._status_task, return_exceptions=True)
        self._stop_watching()
        await self._connection.close()

    async def _enter_streaming(self) -> None:
        while True:
            self._pgconn.flush()
            self._pgconn.consume_input()
            if not self._pgconn.is_busy():
                break
            await self._readable()
        result = self._pgconn.get_result()
        if result is None or result.status != pq.ExecStatus.COPY_BOTH:
            raise errors.error_from_result(result) if result else psycopg.OperationalError("no answer")

    async def _readable(self) -> None:
        ready = asyncio.Event()
        self._loop.add_reader(self._socket, ready.set)
        try:
            await ready.wait()
        finally:
            self._loop.remove_reader(self._socket)

    def _on_readable(self) -> None:
        if self._paused or not self._watching:
            return
        try:
            self._pgconn.consume_input()
            self._receive_buffered()
        except psycopg.Error as error:
            self.fail(SourceUnavailable(f"{self._server} closed the replication connection: {_line(error)}"))
        except SourceError as error:
            self.fail(error)
        if self._frames:
            self._wake.set()

    def _receive_buffered(self) -> None:
        while self._buffered_bytes < self._buffer_bytes:
            size, copied = self._pgconn.get_copy_data(1)
            if size == 0:
                return
            if size < 0:
                raise self._end_of_stream()
            self._last_heard = self._loop.time()
            frame = decode_frame(bytes(copied))
            self.server_clock = (frame.time if isinstance(frame, Keepalive) else frame.sent, self._last_heard)
            if isinstance(frame, Keepalive):
                self._received = max(self._received, frame.wal_end)
                if frame.reply_requested:
                    self._send_status()
            self._append(frame, size + _FRAME_OVERHEAD_BYTES)
        self._paused = True
        self._loop.remove_reader(self._socket)

    def _append(self, frame: Frame, size: int) -> None:
        """A keepalive replaces one before it: a server that shuts down sends them as fast as they are answered."""
        if isinstance(frame, Keepalive) and self._frames:
            last, last_size = self._frames[-1]
            if isinstance(last, Keepalive):
                reply_requested = last.reply_requested or frame.reply_requested
                self._frames[-1] = (replace(frame, reply_requested=reply_requested), last_size)
                return
        self._frames.append((frame, size))
        self._buffered_bytes += size

    def _end_of_stream(self) -> SourceError:
        result = self._pgconn.get_result()
        if result is None or result.status == pq.ExecStatus.COMMAND_OK:
            return SourceUnavailable(f"{self._server} ended the replication stream; it is shutting down.")
        error = errors.error_from_result(result)
        message = f"{self._server} ended the replication stream: {_line(error)}"
        if isinstance(error, errors.UndefinedObject):
            return SourceMisconfigured(f"{message}. A publication must not be dropped or made anew while in use.")
        return SourceUnavailable(message)

    def _send_status(self, *, reply_requested: bool = False) -> None:
        if self._pending_status is not None:
            self._pending_status.cancel()
            self._pending_status = None
        if not self._watching:
            return
        self._last_status = self._loop.time()
        received = max(self._received, self._durable)
        try:
            self._pgconn.put_copy_data(
                encode_status(received, self._durable, self._now(), reply_requested=reply_requested)
            )
            self._flush()
        except psycopg.Error as error:
            self.fail(SourceUnavailable(f"{self._server} closed the replication connection: {_line(error)}"))

    def _flush(self) -> None:
        if self._pgconn.flush():
            self._loop.add_writer(self._socket, self._on_writable)

    def _on_writable(self) -> None:
        try:
            if self._pgconn.flush() == 0:
                self._loop.remove_writer(self._socket)
        except psycopg.Error as error:
            self.fail(SourceUnavailable(f"{self._server} closed the replication connection: {_line(error)}"))

    async def _keep_alive(self) -> None:
        while self._failure is None:
            await asyncio.sleep(self._status_seconds)
            silence = self._loop.time() - self._last_heard
            if self._paused:
                self._last_heard = self._loop.time()
            elif silence > self._silence_seconds:
                self.fail(SourceUnavailable(f"{self._server} has not answered for {silence:.0f} seconds."))
            self.request_keepalive()

    def _stop_watching(self) -> None:
        """To be called before anything else runs: libpq may have closed the socket, and its number goes to the next
        one that is opened."""
        if self._watching:
            self._watching = False
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)


def _line(error: psycopg.Error) -> str:
    return " ".join(str(error).split()).rstrip(".")
