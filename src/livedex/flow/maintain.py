"""Keep the store small and its indexes good: vacuum, rebuild, and let go of what is kept for a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from livedex.clock import Clock
from livedex.errors import LivedexError
from livedex.flow.build_indexes import probe_index
from livedex.flow.follow import Workshop
from livedex.model import Generation
from livedex.rules.upkeep import Action, Kind, Thresholds, due
from livedex.store.database import Database
from livedex.store.generations import GenerationTables
from livedex.store.upkeep import Keeper, sole_keeper


@dataclass(frozen=True, slots=True)
class Policy:
    """How often a running livedex looks, and for how long things are kept, in seconds."""

    every_seconds: float = 300.0
    history_seconds: float = 90 * 86400.0
    tombstone_seconds: float = 7 * 86400.0
    thresholds: Thresholds = field(default_factory=Thresholds)


@dataclass(frozen=True, slots=True)
class Upkeep:
    """What was done, or would be: `actions` by the schema they concern. `elsewhere`: another process is at it, and
    nothing was done here."""

    actions: tuple[Action, ...] = ()
    partitions_dropped: tuple[str, ...] = ()
    tombstones_dropped: int = 0
    elsewhere: bool = False


@dataclass(slots=True)
class _Done:
    actions: list[Action] = field(default_factory=list)
    rebuilt: list[Generation] = field(default_factory=list)


async def maintain(
    database: Database,
    generations: Sequence[Generation],
    policy: Policy,
    clock: Clock,
    *,
    gently: bool = False,
    dry_run: bool = False,
) -> Upkeep:
    """Measure every generation and do what is due, one thing at a time. Searches and edits go on meanwhile. One that is
    still being loaded has nothing to mend yet.

    Safe to kill at any point: a rebuild that did not end leaves an index that is not valid, which the next one drops.
    """
    async with sole_keeper(database, gently=gently) as keeper:
        if keeper is None:
            return Upkeep(elsewhere=True)
        done = _Done()
        for generation in (each for each in generations if each.indexed):
            await _look_after(keeper, generation, policy.thresholds, done, dry_run=dry_run)
        if dry_run:
            return Upkeep(tuple(done.actions))
        partitions = await keeper.drop_history(policy.history_seconds)
        tombstones = await keeper.drop_tombstones(policy.tombstone_seconds)
    for generation in done.rebuilt:
        await probe_index(GenerationTables(database), generation, clock)
    return Upkeep(tuple(done.actions), tuple(partitions), tombstones)


async def _look_after(
    keeper: Keeper, generation: Generation, thresholds: Thresholds, done: _Done, *, dry_run: bool
) -> None:
    measured = await keeper.measure(generation)
    for action in due(measured, thresholds):
        if action in done.actions:
            continue  # the log's tables stand beside every generation's
        done.actions.append(action)
        if dry_run:
            continue
        await keeper.act(action, generation)
        if action.kind is Kind.REINDEX and action.target == measured.vector_index:
            done.rebuilt.append(generation)


async def keep_maintained(shop: Workshop, policy: Policy) -> None:
    """Maintain every so often, for ever."""
    while True:
        await shop.clock.sleep(policy.every_seconds)
        try:
            generations = await shop.catalog.generations()
            await maintain(shop.database, generations, policy, shop.clock, gently=True)
        except LivedexError as error:
            shop.report("upkeep", error)
