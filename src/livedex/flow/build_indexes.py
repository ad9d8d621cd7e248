"""The vector index of a generation, once its first load is done."""

from __future__ import annotations

from livedex.clock import Clock
from livedex.faults import Faults
from livedex.model import Generation
from livedex.store.generations import GenerationTables


async def build_indexes(tables: GenerationTables, generation: Generation, faults: Faults) -> bool:
    """Build what a generation lacks, once every shard has reached the end of the log. Returns whether it stands.

    Before that every search is exact. Building lets edits go on; a build that was killed is begun again.
    """
    state = await tables.state(generation)
    if state.indexed or not state.loaded:
        return state.indexed
    async with tables.sole_builder(generation) as builder:
        if builder is None:
            return False
        if not (await tables.state(generation)).indexed:
            await builder.build(faults)
        return True


async def probe_index(tables: GenerationTables, generation: Generation, clock: Clock) -> None:
    """Look every chunk up by its own vector, so that searches measure those which the index does not find.

    What is applied later is looked up as it is applied. Takes about half of one processor core's time while it runs.
    """
    async with tables.sole_builder(generation) as builder:
        if builder is None:
            return
        while True:
            started = clock.monotonic()
            if not await builder.probe():
                return
            await clock.sleep(clock.monotonic() - started)
