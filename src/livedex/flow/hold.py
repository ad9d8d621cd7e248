"""Keep a lease while the work that it stands for takes its time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from livedex.errors import LeaseLost, StoreError
from livedex.store.database import Database
from livedex.store.leases import Lease, renew


@asynccontextmanager
async def holding(database: Database, lease: Lease) -> AsyncIterator[None]:
    """Renew a lease for as long as the block runs: an embedder that throttles may keep one batch longer than a lease
    lasts. On connections of the pool, since the holder's own is in the middle of something. A lease that is lost is
    noticed by the next write under it."""
    ended = asyncio.Event()
    renewing = asyncio.create_task(_renew(database, lease, ended))
    try:
        yield
    finally:
        ended.set()  # a cancellation may be forgotten in the pool, see keep_up.end
        renewing.cancel()
        await asyncio.gather(renewing, return_exceptions=True)


async def _renew(database: Database, lease: Lease, ended: asyncio.Event) -> None:
    while not ended.is_set():
        try:
            async with asyncio.timeout(lease.seconds / 4):
                await ended.wait()
        except TimeoutError:
            try:
                async with database.connection() as connection:
                    await renew(connection, lease)
            except LeaseLost:
                return
            except StoreError:
                continue  # whoever holds the lease meets it too, and says so
