"""Workers: each holds one lease and follows one thing until it is told to stop.

A worker that fails says so where people look (the store's `error` columns and `report`), waits, and begins again by the
ordinary path: claim, read the stored position, go on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from psycopg import AsyncConnection
from psycopg.pq import PipelineStatus, TransactionStatus

from livedex.clock import Backoff, Clock
from livedex.errors import (
    EmbedderMisconfigured,
    LivedexError,
    PositionLost,
    SchemaChanged,
    SourceHeld,
    SourceMisconfigured,
    WeightsUnavailable,
)
from livedex.faults import Faults
from livedex.flow.build_indexes import build_indexes, probe_index
from livedex.flow.capture import capture
from livedex.flow.defer import Deferring, deferring
from livedex.flow.hold import holding
from livedex.flow.materialize import Follower, Pace, Parts, materialize
from livedex.flow.mend import Mender
from livedex.model import Generation, TableMapping
from livedex.ports import Source
from livedex.store.audit import Repairs
from livedex.store.brake import Brake, hold
from livedex.store.catalog import Catalog
from livedex.store.chunks import Shard
from livedex.store.database import Database, translate
from livedex.store.documents import Log, hear
from livedex.store.entries import SourceRow
from livedex.store.generations import GenerationTables
from livedex.store.leases import Lease, acquire, release

HELD = "held"
FOR_A_PERSON = (SchemaChanged, SourceHeld, SourceMisconfigured, PositionLost, EmbedderMisconfigured, WeightsUnavailable)
"""Errors that waiting does not mend."""
LOCKS_PER_GENERATION = 4096
"""Texts being embedded at once hold an advisory lock each; a server's default room is about 6,400."""
IDLE_SECONDS = 1.0
LOOK_SECONDS = 0.1
"""How long a shard that was told of nothing waits before it looks how far the log goes."""
STANDBY_SECONDS = 1.0


class Signal:
    """Tells waiters that something happened. Take `next` before looking, then nothing is missed."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def ring(self) -> None:
        self._event.set()
        self._event = asyncio.Event()

    def next(self) -> asyncio.Event:
        return self._event


class LogSignal:
    """Tells shards that documents in their slots changed. The others look by themselves, a moment later: all that is
    new to them is how far the log goes."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[int, int], Signal] = {}

    def of(self, shards: int, shard: int) -> Signal:
        """The signal of one shard out of so many."""
        return self._waiting.setdefault((shards, shard), Signal())

    def ring(self, slots: Collection[int]) -> None:
        for (shards, shard), signal in self._waiting.items():
            if any(slot % shards == shard for slot in slots):
                signal.ring()


@dataclass(frozen=True, slots=True)
class Workshop:
    """What all workers of a process share. `report` is told of every failure, by the name of the worker."""

    database: Database
    catalog: Catalog
    owner: str
    clock: Clock
    faults: Faults
    log_changed: LogSignal
    applied: Signal
    report: Callable[[str, LivedexError], None]
    backoff: Backoff = Backoff()


async def follow_source(shop: Workshop, source: Source, row: SourceRow, partition: str) -> None:
    """Capture one partition whenever its lease is to be had, for ever."""
    name = f"source {row.name}"

    brake: Brake | None = None

    async def work(connection: AsyncConnection[Any], lease: Lease) -> None:
        nonlocal brake
        brake = None
        stored = await shop.catalog.partition(row, partition)
        if stored.state == HELD:
            raise SourceHeld(stored.error)
        brake = Brake(connection, row, partition, shop.clock.monotonic)
        log = Log(connection, row, partition, lease, shop.faults, committed=shop.log_changed.ring, brake=brake)
        with translate():
            await Log.prepare(connection)
            await brake.load()
            # An audit has asked the brake's question already.
            mending = Log(
                connection, row, partition, lease, shop.faults, shop.log_changed.ring, forgotten=log.forgotten
            )
            mender = Mender(source, mending, Repairs(connection, row), shop.clock, shop.faults)
            await capture(source, partition, stored, log, shop.clock, shop.faults, mender)

    async def note(error: LivedexError) -> None:
        if isinstance(error, SourceHeld):
            if brake is not None and brake.question is not None:
                await shop.faults.reach("brake.before_hold")
                await hold(shop.database, row, partition, brake.question, str(error))
        elif isinstance(error, FOR_A_PERSON):
            await shop.catalog.pause(row, partition, str(error))
        else:
            await shop.catalog.note_source_error(row, partition, str(error))

    async def answered() -> bool:
        return (await shop.catalog.partition(row, partition)).state != HELD

    await _keep(shop, name, f"source:{row.source_id}:{partition}", work, note, answered)


async def follow_shard(
    shop: Workshop,
    generation: Generation,
    shard_number: int,
    mappings: Mapping[int, tuple[str, Mapping[str, TableMapping]]],
    parts: Parts,
) -> None:
    """Materialize one shard whenever its lease is to be had, for ever."""
    name = f"view {generation.view}, shard {shard_number}"

    async def work(connection: AsyncConnection[Any], lease: Lease) -> None:
        with translate():
            await Shard.prepare(connection)
            # Words of documents that may have been purged since: a purge ends all leases.
            parts.lexicon.forget()
            shard = Shard(connection, generation, shard_number, mappings, lease, parts.lexicon, shop.faults)
            await shard.refresh_sharing()
            most = LOCKS_PER_GENERATION // generation.shards
            signal = shop.log_changed.of(generation.shards, shard_number)
            follower = Follower(await shard.cursor(), Pace(most_texts=most, texts=min(256, most)))
            follower.deferral = await deferring(shard, generation, parts.limits)
            async with holding(shop.database, lease):
                while True:
                    changed = signal.next()
                    await materialize(shard, follower, parts)
                    await tell(follower.deferral)
                    shop.applied.ring()
                    await _rung(changed, LOOK_SECONDS)

    async def tell(deferral: Deferring | None) -> None:
        if deferral is not None and (spent := deferral.to_say()) is not None:
            if str(spent) != deferral.said:
                deferral.said = str(spent)
                shop.report(name, spent)
            await note(spent)

    async def note(error: LivedexError) -> None:
        async with shop.database.connection() as connection:
            await Shard.note_error(connection, generation, shard_number, str(error))

    await _keep(shop, name, f"shard:{generation.generation}:{shard_number}", work, note)


async def follow_indexes(shop: Workshop, generation: Generation, *, probe: bool) -> None:
    """Build a generation's indexes as soon as its first load is done, and `probe` them; ends after that."""
    tables = GenerationTables(shop.database)
    failures = 0
    while True:
        applied = shop.applied.next()
        try:
            if await build_indexes(tables, generation, shop.faults):
                if probe:
                    await probe_index(tables, generation, shop.clock)
                return
            failures = 0
        except LivedexError as error:
            failures += 1
            shop.report(f"view {generation.view}, indexes", error)
            await shop.clock.sleep(shop.backoff.seconds(failures, shop.clock.jitter()))
        await _rung(applied, IDLE_SECONDS)


async def listen(shop: Workshop) -> None:
    """Hear of commits by other processes. Losing the connection costs only time: everybody looks once a second."""
    failures = 0
    while True:
        try:
            connection = await shop.database.connect()
            try:
                with translate():
                    async for news in hear(connection):
                        failures = 0
                        if news.owner != shop.owner:
                            shop.log_changed.ring(news.slots)
            finally:
                await connection.close()
        except LivedexError as error:
            failures += 1
            shop.report("listener", error)
            await shop.clock.sleep(shop.backoff.seconds(failures, shop.clock.jitter()))


async def _keep(
    shop: Workshop,
    name: str,
    resource: str,
    work: Callable[[AsyncConnection[Any], Lease], Any],
    note: Callable[[LivedexError], Any],
    answered: Callable[[], Awaitable[bool]] | None = None,
) -> None:
    """Hold a lease and work; on failure say so, wait and begin again. `answered` says whether a person has dealt with
    what a source is held for; nobody tries before."""
    failures = 0
    while True:
        started = shop.clock.monotonic()
        try:
            connection = await shop.database.connect()
            try:
                lease = await _taken(shop, connection, resource)
                if lease is None:
                    failures = 0
                    await shop.clock.sleep(STANDBY_SECONDS)
                    continue
                try:
                    await work(connection, lease)
                finally:
                    await asyncio.shield(_give_back(shop, connection, lease))
            finally:
                await connection.close()
        except LivedexError as error:
            # A worker that ran well for a while before it failed begins with the shortest wait again.
            failures = 1 if shop.clock.monotonic() - started > shop.backoff.most else failures + 1
            if isinstance(error, SourceHeld) and answered is not None:
                # Who is told may end this process: what is asked has to stand by then.
                await _note(shop, name, note, error)
                shop.report(name, error)
                await _until(shop, answered)
                continue
            shop.report(name, error)
            await _note(shop, name, note, error)
            wait = shop.backoff.most if isinstance(error, FOR_A_PERSON) else None
            await shop.clock.sleep(wait or shop.backoff.seconds(failures, shop.clock.jitter()))


async def _until(shop: Workshop, answered: Callable[[], Awaitable[bool]]) -> None:
    with suppress(LivedexError):  # a store that is away is met again, and reported, by whoever takes the lease next
        while True:
            await shop.clock.sleep(STANDBY_SECONDS)
            if await answered():
                return


async def _taken(shop: Workshop, connection: AsyncConnection[Any], resource: str) -> Lease | None:
    """Take a lease, if it is to be had. Whoever is cancelled while the store hands it over gives it back: a lease of
    which nobody knows would look held until it expires."""
    taking = asyncio.create_task(acquire(connection, resource, shop.owner))
    try:
        return await asyncio.shield(taking)
    except asyncio.CancelledError:
        with suppress(LivedexError):  # then it was not handed over, or expires
            if (lease := await taking) is not None:
                await _give_back(shop, connection, lease)
        raise


async def _give_back(shop: Workshop, connection: AsyncConnection[Any], lease: Lease) -> None:
    """Let others have it at once, and nobody believe that we still work. One whose connection is lost expires."""
    if connection.closed:
        return
    idle = connection.info.transaction_status is TransactionStatus.IDLE
    if idle and connection.info.pipeline_status is PipelineStatus.OFF:
        await release(connection, lease)
        return
    # Interrupted while it wrote: whatever else it is sent would end with it, uncommitted.
    await connection.close()
    async with shop.database.connection() as another:
        await release(another, lease)


async def _note(shop: Workshop, name: str, note: Callable[[LivedexError], Any], error: LivedexError) -> None:
    try:
        await note(error)
    except LivedexError as second:
        # The store is away too: the error that we could not write down was reported above.
        shop.report(name, second)


async def _rung(event: asyncio.Event, seconds: float) -> bool:
    """Whether the event came within the time."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
