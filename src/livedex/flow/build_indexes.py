"""The vector index of a generation, once its first load is done."""

from __future__ import annotations

from livedex.faults import Faults
from livedex.model import Generation
from livedex.store.generations import GenerationTables


async def build_indexes(tables: GenerationTables, generation: Generation, faults: Faults) -> bool:
    """Build what a generation lacks, once every shard has reached the end of the log. Returns whether it stands.

    Before that every search is exact. Building lets edits go on; a build that was killed is begun again.
    """
    async with tables.sole_builder(generation) as builder:
        if builder is None:
            return False
        state = await builder.state()
        if state.indexed or not state.loaded:
            return state.indexed
        await builder.build(faults)
        return True
