"""PostgreSQL as a source: a snapshot, then the stream of committed changes from exactly where it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import replace
from datetime import timedelta

from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from livedex.adapters.sources.postgres import audit, catalog, publication, requirements, slots, snapshot
from livedex.adapters.sources.postgres.catalog import ServerState, Table, WrittenPosition
from livedex.adapters.sources.postgres.connection import Server, Session
from livedex.adapters.sources.postgres.heartbeats import Heartbeats
from livedex.adapters.sources.postgres.lsn import Position
from livedex.adapters.sources.postgres.pgoutput import Keepalive, decode
from livedex.adapters.sources.postgres.replication import ReplicationStream
from livedex.adapters.sources.postgres.tables import Layout, Tables, mapped_tables
from livedex.adapters.sources.postgres.tokens import Tokens
from livedex.adapters.sources.postgres.transactions import Transactions
from livedex.errors import NotFound, PositionLost, SchemaChanged, SourceError
from livedex.faults import Faults, NoFaults
from livedex.model import TableMapping
from livedex.ports import Changes, Heartbeat, SnapshotFinished, SnapshotRows, SnapshotStarted, SourceEvent, TableSeen

PARTITION = "main"

Types = Mapping[str, Mapping[str, int]]
"""Table → column → type."""


class PostgresSource:
    """Follows tables of one PostgreSQL database through logical replication. Implements `livedex.ports.Source`.

    The source needs PostgreSQL 15 or newer with wal_level = logical, and a role with REPLICATION, SELECT on the
    tables and, unless `publication` is given, the right to publish them.

    Two things that PostgreSQL does not send are found by an audit only: TRUNCATE of a single partition, and a
    partition that is detached.
    """

    def __init__(
        self,
        url: str,
        tables: Mapping[str, TableMapping],
        columns: Mapping[str, Sequence[str]],
        *,
        name: str,
        store_id: str,
        slot: str | None = None,
        publication: str | None = None,
        heartbeat_seconds: float = 1.0,
        snapshot_connections: int = 2,
        batch_changes: int = 1000,
        batch_bytes: int = 4 * 1024 * 1024,
        faults: Faults | None = None,
    ) -> None:
        """`tables` by name, qualified (`kb.documents`) unless in schema public; `columns` names the mapped columns of
        each, key included. A `slot` or `publication` that is given must exist and is never changed."""
        default = slots.default_name(store_id, name)
        self._server = Server(url, application_name=f"livedex source {name}")
        self._session = Session(self._server)
        self._mappings = dict(tables)
        self._columns = {table: tuple(columns[table]) for table in tables}
        self._name = name
        self._slot, self._own_slot = slot or default, slot is None
        self._publication, self._own_publication = publication or default, publication is None
        self._heartbeat_seconds = heartbeat_seconds
        self._snapshot_connections = snapshot_connections
        self._batch_changes = batch_changes
        self._batch_bytes = batch_bytes
        self._faults = faults or NoFaults()
        self._tokens = Tokens(self._session, name)
        self._seen: Mapping[str, Mapping[str, str]] = {}
        self._changed: list[TableSeen] = []
        """Tables that have other columns as of the next probe."""
        self._origin: Position | None = None
        self._streaming: ReplicationStream | None = None

    async def partitions(self) -> Sequence[str]:
        return (PARTITION,)

    async def open(self, partition: str, resume: str | None) -> AsyncGenerator[SourceEvent]:
        """See `Source.open`. On another timeline than `resume` the source is read again from a snapshot: nothing else
        proves that the new primary had received everything."""
        _check_partition(partition)
        state = await catalog.server_state(self._session)
        requirements.check_server(state, str(self._server))
        start = None if resume is None else await self._resumable(Position.parse(resume))
        types: Types = {}
        if start is None:
            tables = await self._described_tables(state)
            async with aclosing(self._snapshot(state, tables)) as events:
                async for event in events:
                    if isinstance(event, SnapshotFinished):
                        start = Position.parse(event.position)
                    yield event
            types = {name: table.types for name, table in tables.items()}
        if start is None:
            raise AssertionError("a snapshot ends with its position")
        if not types:
            self._seen = await catalog.column_types(self._session, self._mappings)
            for name, columns in self._seen.items():
                yield TableSeen(name, columns)
        async with aclosing(self._stream(state, start, types)) as events:
            async for event in events:
                yield event

    async def acknowledge(self, position: str) -> None:
        """Tells the server within a tenth of a second, while the partition is open."""
        acknowledged = Position.parse(position)
        if self._streaming is not None and self._origin is not None and acknowledged.same_history(self._origin):
            self._streaming.confirm(acknowledged.lsn)

    async def head(self, partition: str) -> str:
        """The end of the server's log. It is reached within about a second on an idle source."""
        _check_partition(partition)
        written = await catalog.written_position(self._session)
        if written.flushed < written.position.lsn:
            await catalog.request_flush(self._session)
        return str(written.position)

    def reached(self, position: str | None, target: str) -> bool:
        """False between different servers or timelines, whose positions do not compare."""
        if position is None:
            return False
        ours, theirs = Position.parse(position), Position.parse(target)
        return ours.same_history(theirs) and ours.lsn >= theirs.lsn

    @asynccontextmanager
    async def look(self, *, patience_seconds: float) -> AsyncGenerator[audit.PostgresLook]:
        """See `livedex.ports.Auditable`. Holds one snapshot open while it lasts."""
        state = await catalog.server_state(self._session)
        tables = await self._described_tables(state)
        layouts = await self._layouts(state, tables)
        given = None if self._own_publication else await catalog.publication(self._session, self._publication)
        async with audit.looking(self._server, self._session, tables, layouts, given, patience_seconds) as look:
            yield look

    async def locate(self, token: str, near: str | None) -> str | None:
        """See `Source.locate`. A token is a position, or `<system identifier>:xid:<transaction id>`."""
        return await self._tokens.locate(token, near)

    async def close(self) -> None:
        await self._session.close()

    async def remove(self) -> None:
        """Drop the slot and the publication that livedex made, so that the server stops keeping its log for us.

        To be called when the source is given up, with no partition open. Raises SourceUnavailable.
        """
        if self._own_slot:
            await slots.drop(self._session, self._slot)
        if self._own_publication:
            await publication.drop(self._session, self._publication)

    async def _resumable(self, resume: Position) -> Position | None:
        """`resume`, or None when the source must be read again. Raises PositionLost, SchemaChanged.

        Columns are not checked here: what follows `resume` may be from before they were changed.
        """
        written = (await catalog.written_position(self._session)).position
        if written.system != resume.system:
            raise PositionLost(
                f"{self._server} is another server than the one that was followed (system identifier {written.system}, "
                f"not {resume.system}). Correct the url, or run: livedex source resync {self._name}"
            )
        if written.timeline != resume.timeline:
            return None
        existing = await catalog.tables(self._session, self._mappings)
        if gone := [name for name in self._mappings if name not in existing]:
            raise SchemaChanged(
                f'Table "{gone[0]}" is gone: it was dropped or renamed. Bring it back, or change livedex.yaml and run: '
                f"livedex source resync {self._name}"
            )
        await slots.check_resumable(self._session, self._slot, resume, written, self._name)
        await self._check_covered()
        return resume

    async def _described_tables(self, state: ServerState) -> dict[str, Table]:
        found = await catalog.tables(self._session, self._mappings)
        if len(found) < len(self._mappings):
            requirements.check_tables_exist(self._mappings, found, await catalog.table_names(self._session))
        for name, table in found.items():
            mapping = self._mappings[name]
            requirements.check_table(table, mapping, self._columns[name], source=self._name, state=state)
        return found

    async def _snapshot(self, state: ServerState, tables: Mapping[str, Table]) -> AsyncGenerator[SourceEvent]:
        async with AsyncExitStack() as resources:
            await self._prepare_publication_and_slot(state, tables)
            guard = await self._server.connect()
            resources.push_async_callback(guard.close)
            await snapshot.lock(guard, self._server, tables.values())
            layouts = await self._layouts(state, tables)
            columns = self._seen = await catalog.column_types(self._session, self._mappings)
            written = await catalog.written_position(self._session)
            read_at = asyncio.get_running_loop().time()
            lsn, readers = await self._take_snapshot(resources)
            given = None if self._own_publication else await catalog.publication(self._session, self._publication)
            pieces = await snapshot.plan(self._session, tables.values(), layouts, given)
            yield SnapshotStarted(tuple(tables))
            for name in tables:
                yield TableSeen(name, columns[name])
            batches = snapshot.read(
                self._server, readers, pieces, batch_changes=self._batch_changes, batch_bytes=self._batch_bytes
            )
            async with aclosing(batches):
                async for batch in batches:
                    await self._faults.reach("snapshot.rows")
                    yield SnapshotRows(batch)
        await self._faults.reach("snapshot.before_finished")
        # The time from before the slot was made: what was committed then is in the snapshot, whatever came later.
        clock = written.time + timedelta(seconds=asyncio.get_running_loop().time() - read_at)
        yield SnapshotFinished(str(written.position.at(lsn)), written.time, clock)

    async def _prepare_publication_and_slot(self, state: ServerState, tables: Mapping[str, Table]) -> None:
        if self._own_publication:
            await publication.ensure(self._session, self._publication, tables, state.version)
        else:
            await publication.check_given(self._session, self._publication, tables, self._columns)
        if self._own_slot:
            # What is there belongs to an attempt that did not finish, or to a position that was given up.
            await slots.drop(self._session, self._slot)
        else:
            await slots.check_given(self._session, self._slot)
        requirements.check_free_slot(await catalog.server_state(self._session), str(self._server))

    async def _layouts(self, state: ServerState, tables: Mapping[str, Table]) -> dict[str, Layout]:
        domains = await catalog.domains(self._session)
        mapped = mapped_tables(self._mappings, self._columns, {name: table.oid for name, table in tables.items()})
        layouts = {}
        for table in mapped:
            columns = [(name, tables[table.name].columns[name].type_oid) for name in table.columns]
            layouts[table.name] = Layout(table, columns, domains, self._name)
        return layouts

    async def _take_snapshot(self, resources: AsyncExitStack) -> tuple[int, list[AsyncConnection[TupleRow]]]:
        """Where the stream will begin, and connections that see everything committed before.

        A given slot is not made here, so a temporary one marks the place in its stead; the given slot, which stands
        before it, is later started from there.
        """
        replication = await self._server.connect_replication()
        try:
            slot = self._slot if self._own_slot else f"livedex_snapshot_{replication.info.backend_pid}"
            lsn, snapshot_id = await slots.create(replication, self._server, slot, temporary=not self._own_slot)
            await self._faults.reach("snapshot.after_slot")
            return lsn, await snapshot.open_readers(self._server, snapshot_id, self._snapshot_connections, resources)
        finally:
            await replication.close()

    async def _stream(self, state: ServerState, start: Position, types: Types) -> AsyncGenerator[SourceEvent]:
        transactions = Transactions(
            await self._mapped_tables(types), start, batch_changes=self._batch_changes, batch_bytes=self._batch_bytes
        )
        heartbeats = Heartbeats(start, self._heartbeat_seconds, asyncio.get_running_loop().time)
        stream = ReplicationStream(
            await self._server.connect_replication(),
            self._server,
            durable=start.lsn,
            wal_sender_timeout_seconds=state.wal_sender_timeout_seconds,
            buffer_bytes=self._batch_bytes,
        )
        try:
            await stream.start(self._slot, self._publication)
            self._origin, self._streaming = start, stream
            pulse = asyncio.create_task(self._pulse(stream, heartbeats))
            pulse.add_done_callback(stream.fail_with)
            try:
                while True:
                    await stream.wait()
                    for event in _arrived(stream, transactions, heartbeats):
                        if isinstance(event, Changes):
                            await self._faults.reach("stream.received")
                        yield event
                        if isinstance(event, Heartbeat) and heartbeats.probe is None:
                            for seen in self._take_changed():
                                yield seen
            finally:
                pulse.cancel()
                await asyncio.gather(pulse, return_exceptions=True)
        finally:
            self._streaming = None
            await stream.close()

    async def _mapped_tables(self, types: Types) -> Tables:
        existing = await catalog.tables(self._session, self._mappings)
        mapped = mapped_tables(self._mappings, self._columns, {name: table.oid for name, table in existing.items()})
        return Tables(mapped, types, await catalog.domains(self._session), self._name)

    async def _pulse(self, stream: ReplicationStream, heartbeats: Heartbeats) -> None:
        """Ask again and again how far the server is, while it has nothing to tell on its own."""
        while True:
            if heartbeats.probe is None:
                changed = await self._look_at_columns()
                # Before the position: with that everything was sent that was committed while columns were as before.
                heartbeats.expect(await self._probe())
                self._changed += changed
            elif heartbeats.probe.flushed < heartbeats.probe.position.lsn:
                await catalog.request_flush(self._session)
            stream.request_keepalive()
            await asyncio.sleep(self._heartbeat_seconds)

    def _take_changed(self) -> list[TableSeen]:
        changed, self._changed = self._changed, []
        return changed

    async def _look_at_columns(self) -> list[TableSeen]:
        columns = await catalog.column_types(self._session, self._mappings)
        changed = [TableSeen(name, found) for name, found in columns.items() if found != self._seen.get(name)]
        self._seen = columns
        return changed

    async def _probe(self) -> WrittenPosition:
        await self._check_covered()
        return await catalog.written_position(self._session)

    async def _check_covered(self) -> None:
        """Raises PositionLost: newer servers leave out what a publication does not cover without a word."""
        existing = await catalog.publication(self._session, self._publication)
        if missing := requirements.uncovered(existing, self._mappings):
            raise PositionLost(
                f'Publication "{self._publication}" of {self._server} does not cover table "{missing[0]}" any more, so '
                f"changes were not sent. Run: livedex source resync {self._name}"
            )


def _arrived(stream: ReplicationStream, transactions: Transactions, heartbeats: Heartbeats) -> Iterator[SourceEvent]:
    """Events of everything that is here. What came before an error is handed on before it is raised."""
    for event in _decoded(stream, transactions, heartbeats):
        if isinstance(event, Changes) and event.complete:
            heartbeats.committed(Position.parse(event.position), event.time)
            yield replace(event, clock=heartbeats.clock)
        else:
            yield event


def _decoded(stream: ReplicationStream, transactions: Transactions, heartbeats: Heartbeats) -> Iterator[SourceEvent]:
    heartbeats.heard(stream.server_clock)
    try:
        while (frame := stream.take()) is not None:
            if isinstance(frame, Keepalive):
                yield from transactions.flush()
                if not transactions.in_transaction and (heartbeat := heartbeats.observe(frame)):
                    yield heartbeat
            else:
                yield from transactions.add(decode(frame.message), len(frame.message))
    except SourceError:
        yield from transactions.flush()
        raise
    yield from transactions.flush()


def _check_partition(partition: str) -> None:
    if partition != PARTITION:
        raise NotFound(f'A PostgreSQL source has one partition, "{PARTITION}"; there is no "{partition}".')
