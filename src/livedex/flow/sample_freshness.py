"""Note again and again which views are within their target lag."""

from __future__ import annotations

from livedex.errors import LivedexError
from livedex.flow.follow import Workshop
from livedex.store import freshness

PRUNE_SECONDS = 3600.0


async def sample_freshness(shop: Workshop) -> None:
    """One sample a slot, for ever. A slot without one counts as one in which the view was late: nobody was there."""
    pruned = -PRUNE_SECONDS
    while True:
        try:
            await freshness.sample(shop.database)
            if shop.clock.monotonic() - pruned >= PRUNE_SECONDS:
                await freshness.prune(shop.database)
                pruned = shop.clock.monotonic()
        except LivedexError as error:
            shop.report("freshness samples", error)
        await shop.clock.sleep(freshness.SAMPLE_SECONDS)
