"""Records of retrievals go when their time is over."""

from __future__ import annotations

from livedex.errors import LivedexError
from livedex.flow.follow import Workshop
from livedex.store.answers import Records

FORGET_SECONDS = 3600.0
AGAIN_SECONDS = 60.0


async def forget_records(shop: Workshop, keep_seconds: float) -> None:
    """Once an hour, for ever."""
    while True:
        wait = FORGET_SECONDS
        try:
            await Records(shop.database).forget(keep_seconds)
        except LivedexError as error:
            shop.report("records of retrievals", error)
            wait = AGAIN_SECONDS
        await shop.clock.sleep(wait)
