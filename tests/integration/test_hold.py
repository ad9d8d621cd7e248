"""A lease is kept while the work that it stands for takes its time, and not longer."""

from __future__ import annotations

import asyncio

from livedex.flow.hold import holding
from livedex.store.database import Database
from livedex.store.leases import acquire
from livedex.store.migrate import migrate


async def test_work_that_takes_longer_than_its_lease_keeps_it_and_leaves_it_to_expire(fresh_database: str) -> None:
    database = await Database.open(fresh_database)
    await migrate(database)
    ours, theirs = await database.connect(), await database.connect()
    try:
        lease = await acquire(ours, "shard:1:0", "us", seconds=0.8)
        assert lease is not None
        async with holding(database, lease):
            for _ in range(5):
                await asyncio.sleep(0.4)
                assert await acquire(theirs, "shard:1:0", "them") is None
        await asyncio.sleep(1.0)
        assert await acquire(theirs, "shard:1:0", "them") is not None
    finally:
        await ours.close()
        await theirs.close()
        await database.close()
