"""All workers of a process together: until it is stopped (`keep_up`), or until everything up to now is searchable
(`sync`)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from livedex.errors import BudgetSpent, EmbedderError, LivedexError, SourceError, StoreError
from livedex.flow.expire import keep_expired
from livedex.flow.follow import FOR_A_PERSON, Workshop, follow_indexes, follow_shard, follow_source, listen
from livedex.flow.materialize import Parts
from livedex.model import Generation, TableMapping
from livedex.ports import Source
from livedex.store.cost import read_pause
from livedex.store.entries import SourceRow
from livedex.store.generations import GenerationTables

DRAIN_SECONDS = 20.0
PRUNE_SECONDS = 3600.0
FOLD_SECONDS = 60.0
LOOK_SECONDS = 0.25
HEARD_SECONDS = 1.5
CANCEL_SECONDS = 5.0
"""How long a worker may take to end before it is told again. Who is told twice may leave a lease to expire."""
PATIENCE = 3
"""Failures in a row of one worker after which `sync` gives up."""


@dataclass(frozen=True, slots=True)
class Followed:
    """A source with its adapter, and how old its documents may become."""

    row: SourceRow
    source: Source
    ttl: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Built:
    """A generation with what it is made with."""

    generation: Generation
    parts: Parts


@dataclass(frozen=True, slots=True)
class Work:
    """Everything that a configuration asks to follow."""

    sources: Sequence[Followed]
    built: Sequence[Built]

    @property
    def mappings(self) -> dict[int, tuple[str, Mapping[str, TableMapping]]]:
        return {followed.row.source_id: (followed.row.name, followed.row.mapping) for followed in self.sources}


@dataclass(frozen=True, slots=True)
class Counts:
    """What a `sync` did to one view, in documents; `unchanged` are those it holds that were not touched."""

    added: int
    updated: int
    unchanged: int
    deleted: int
    quarantined: int
    texts_embedded: int
    documents: int


class Failures:
    """Remembers what workers report, and says when there is no point in waiting longer."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._fatal: LivedexError | None = None

    def note(self, worker: str, error: LivedexError) -> None:
        if not isinstance(error, (SourceError, EmbedderError, StoreError)) or isinstance(error, BudgetSpent):
            return  # A spent budget stops nothing else: `sync` goes on with what there is to do, and says so then.
        self._counts[worker] = self._counts.get(worker, 0) + 1
        if isinstance(error, (*FOR_A_PERSON, EmbedderError)) or self._counts[worker] >= PATIENCE:
            self._fatal = self._fatal or error

    def check(self) -> None:
        if self._fatal is not None:
            raise self._fatal


Beside = Callable[[Workshop], Coroutine[Any, Any, None]]
"""A worker that looks after the store while others capture and materialize; endless."""


async def keep_up(shop: Workshop, work: Work, stop: asyncio.Event, beside: Sequence[Beside] = ()) -> None:
    """Capture and materialize until `stop` is set; then finish what was captured, and end."""
    async with _workers(shop, work, beside, probe=True) as (captures, _):
        stopped = asyncio.create_task(stop.wait())
        try:
            await _until_done_or_failed({stopped, *captures}, stopped)
        finally:
            stopped.cancel()
        await end(captures)
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                await _drained(shop, work)
        except TimeoutError:
            return  # What is left in the log is read by whoever follows it next.


async def sync(shop: Workshop, work: Work, failures: Failures) -> dict[str, Counts]:
    """Bring everything that is committed in the sources by now to be searchable, with indexes, and count per view.

    Where another process captures or materializes already, its work is waited for. Raises the error of a worker that
    cannot go on.
    """
    before = {built.generation.view: await shop.catalog.counters(built.generation) for built in work.built}
    known = await _serials(shop, work)
    async with _workers(shop, work, (), probe=False) as (_, tasks):
        targets = await _targets(work)
        while True:
            applied = shop.applied.next()
            failures.check()
            _check_tasks(tasks)
            if await _reached(shop, work, targets):
                break
            await _check_budgets(shop, work)
            await _wait_a_little(applied)
        while not await _indexed(shop, work):
            failures.check()
            _check_tasks(tasks)
            await shop.clock.sleep(LOOK_SECONDS)
        await _heard(shop, work, known)
    after = {built.generation.view: await shop.catalog.counters(built.generation) for built in work.built}
    return {view: _counts(before[view], after[view]) for view in after}


@asynccontextmanager
async def _workers(
    shop: Workshop, work: Work, beside: Sequence[Beside], *, probe: bool
) -> AsyncIterator[tuple[list[asyncio.Task[None]], list[asyncio.Task[None]]]]:
    """Runs every worker; yields those that capture, and all."""
    captures = [
        asyncio.create_task(follow_source(shop, followed.source, followed.row, partition))
        for followed in work.sources
        for partition in await followed.source.partitions()
    ]
    others: list[Coroutine[Any, Any, None]] = [listen(shop), _upkeep(shop), *(worker(shop) for worker in beside)]
    others.append(keep_expired(shop, [(each.row, each.ttl) for each in work.sources if each.ttl is not None]))
    for built in work.built:
        others.append(follow_indexes(shop, built.generation, probe=probe))
        others += [
            follow_shard(shop, built.generation, number, work.mappings, built.parts)
            for number in range(built.generation.shards)
        ]
    tasks = [*captures, *(asyncio.create_task(coroutine) for coroutine in others)]
    try:
        yield captures, tasks
    finally:
        await end(tasks)


async def end(tasks: Sequence[asyncio.Task[None]], patience_seconds: float = CANCEL_SECONDS) -> None:
    """Cancel tasks until they have ended, however.

    Once is not enough: in Python 3.11 `asyncio.wait_for`, in which psycopg's pool hands out connections, forgets a
    cancellation that comes together with what it waits for (python/cpython#86296), and its task would go on for ever.
    """
    running = set(tasks)
    while running:
        for task in running:
            task.cancel()
        _, running = await asyncio.wait(running, timeout=patience_seconds)
    await asyncio.gather(*tasks, return_exceptions=True)


async def _until_done_or_failed(tasks: set[asyncio.Task[Any]], stopped: asyncio.Task[Any]) -> None:
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in done - {stopped}:
        task.result()


def _check_tasks(tasks: Sequence[asyncio.Task[None]]) -> None:
    """A worker ends by itself only through an error that nobody foresaw."""
    for task in tasks:
        if task.done() and not task.cancelled():
            task.result()


async def _check_budgets(shop: Workshop, work: Work) -> None:
    """Raises BudgetSpent when a view has done all it can today."""
    for built in work.built:
        if built.parts.limits.budget is None or built.parts.limits.lexical_only:
            continue  # nothing waits by these limits; what a shard says may be of those that it had before
        cost = await shop.catalog.cost(built.generation)
        waits = cost.debounced or any(row["documents"] for row in await shop.catalog.backlog(built.generation))
        spent = cost.tokens_per_day is not None and cost.tokens_today >= cost.tokens_per_day
        if spent and not waits and (said := await read_pause(shop.database, built.generation)) is not None:
            raise BudgetSpent(said)


async def _targets(work: Work) -> dict[str, dict[str, str]]:
    """Per source and partition: a position after everything that is committed now."""
    return {
        followed.row.name: {part: await followed.source.head(part) for part in await followed.source.partitions()}
        for followed in work.sources
    }


async def _reached(shop: Workshop, work: Work, targets: Mapping[str, Mapping[str, str]]) -> bool:
    by_name = {followed.row.name: followed.source for followed in work.sources}
    for built in work.built:
        for mark in (await shop.catalog.marks(built.generation)).watermarks():
            source = by_name[mark.source]
            if not all(source.reached(mark.position, target) for target in targets[mark.source].values()):
                return False
    return True


async def _heard(shop: Workshop, work: Work, known: Mapping[tuple[str, str, str], int]) -> None:
    """Wait for word of every source, so that what did not change is as fresh as what did. Another process that captures
    may be told to ask seldom; that long is not waited."""
    deadline = shop.clock.monotonic() + HEARD_SECONDS
    while shop.clock.monotonic() < deadline:
        applied = shop.applied.next()
        serials = await _serials(shop, work)
        if all(serial > known.get(place, -1) for place, serial in serials.items()):
            return
        await _wait_a_little(applied)


async def _serials(shop: Workshop, work: Work) -> dict[tuple[str, str, str], int]:
    """Per view, source and partition: how often what its hindmost shard knows was brought up to date."""
    serials: dict[tuple[str, str, str], int] = {}
    for built in work.built:
        for mark in (await shop.catalog.marks(built.generation)).marks:
            place = (built.generation.view, mark.source, mark.partition)
            serials[place] = min(mark.serial, serials.get(place, mark.serial))
    return serials


async def _indexed(shop: Workshop, work: Work) -> bool:
    """Whether the indexes stand that this process, or another, is building."""
    tables = GenerationTables(shop.database)
    return all([(await tables.state(built.generation)).indexed for built in work.built])


async def _drained(shop: Workshop, work: Work) -> None:
    while True:
        applied = shop.applied.next()
        backlogs = [row for built in work.built for row in await shop.catalog.backlog(built.generation)]
        if not any(row["documents"] for row in backlogs):
            return
        await _wait_a_little(applied)


async def _upkeep(shop: Workshop) -> None:
    pruned = -PRUNE_SECONDS
    while True:
        try:
            if shop.clock.monotonic() - pruned >= PRUNE_SECONDS:
                await shop.catalog.prune()
                pruned = shop.clock.monotonic()
            await shop.catalog.fold()
        except LivedexError as error:
            shop.report("upkeep", error)
        await shop.clock.sleep(FOLD_SECONDS)


async def _wait_a_little(event: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(LOOK_SECONDS):
            await event.wait()
    except TimeoutError:
        return


def _counts(before: Mapping[str, int], after: Mapping[str, int]) -> Counts:
    added, updated, deleted = (after[name] - before[name] for name in ("added", "updated", "deleted"))
    return Counts(
        added=added,
        updated=updated,
        unchanged=max(0, after["documents"] - added - updated - after["quarantined"]),
        deleted=deleted,
        quarantined=after["quarantined"],
        texts_embedded=after["texts_embedded"] - before["texts_embedded"],
        documents=after["documents"],
    )
