"""Documents that grew too old → tombstones.

Searches do not show what is too old by the time they begin, whether this runs or not; here it is taken out of the
views, so that it costs no room. What is taken out stays out while its row stays as it is in the source.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from livedex.errors import LivedexError
from livedex.flow.follow import Workshop
from livedex.store.cost import expire
from livedex.store.entries import SourceRow

LOOK_SECONDS = 60.0


async def keep_expired(shop: Workshop, bounded: Sequence[tuple[SourceRow, timedelta]]) -> None:
    """Look once a minute for what has grown too old in some sources, for ever. Several processes may; a document is
    taken out once."""
    while bounded:
        for source, ttl in bounded:
            try:
                await expire(shop.database, source, ttl)
            except LivedexError as error:
                shop.report(f"source {source.name}, expiry", error)
        await shop.clock.sleep(LOOK_SECONDS)
