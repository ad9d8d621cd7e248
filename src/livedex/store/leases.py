"""Who may write for a source partition or a shard of a generation.

A lease is bound to a database connection: it may be taken over when it has expired by the store's clock, or at once
when its holder's connection is gone. Taking over raises the epoch, and every write checks the epoch in its own
transaction (`livedex.hold`), so a worker that slept past its lease cannot write when it wakes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import dict_row

from livedex.store.database import translate
from livedex.store.statements import load

SQL = load("leases")
LEASE_SECONDS = 20.0
"""Longer than idle_in_transaction_session_timeout, which ends most transactions of a worker that froze; whoever takes
its lease over ends the others."""


@dataclass(frozen=True, slots=True)
class Lease:
    resource: str
    owner: str
    epoch: int
    seconds: float = LEASE_SECONDS


async def acquire(
    connection: AsyncConnection[Any], resource: str, owner: str, seconds: float = LEASE_SECONDS
) -> Lease | None:
    """Take a free, expired or abandoned lease for this connection; None while somebody else holds it."""
    values = {"resource": resource, "owner": owner, "seconds": seconds}
    with translate():
        # Ends a frozen holder's transaction first: it would keep the lease's row locked.
        await connection.execute(SQL["terminate_expired"], values)
        try:
            async with connection.transaction(), connection.cursor(row_factory=dict_row) as cursor:
                # A holder that freezes just now, its lease not yet over, would otherwise be waited for without end.
                await cursor.execute(SQL["wait_briefly"])
                await cursor.execute(SQL["acquire"], values)
                row = await cursor.fetchone()
        except psycopg.errors.LockNotAvailable:
            return None
    return None if row is None else Lease(resource, owner, int(row["epoch"]), seconds)


async def release(connection: AsyncConnection[Any], lease: Lease) -> None:
    """Give a lease back; harmless when it is no longer ours."""
    with translate():
        await connection.execute(SQL["release"], {"resource": lease.resource, "epoch": lease.epoch})


async def renew(connection: AsyncConnection[Any], lease: Lease) -> None:
    """Keep a lease while there is nothing to write. Raises LeaseLost when it was taken over."""
    with translate():
        await connection.execute(
            SQL["renew"], {"resource": lease.resource, "epoch": lease.epoch, "seconds": lease.seconds}
        )
