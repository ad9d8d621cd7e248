"""Looking at a store without touching it: sessions on which the server itself refuses every change."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import psycopg
from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import class_row

from livedex.store.database import translate
from livedex.store.statements import load


@dataclass(frozen=True, slots=True)
class Readiness:
    """What a server says about itself and about us. `clock` is its time."""

    role: str
    database: str
    version: str
    clock: datetime
    standby: bool
    has_schema: bool
    may_create: bool
    may_create_vector: bool


def read_only(dsn: str) -> str:
    """The same connection string, for sessions that can change nothing. One that cannot be read comes back as it is:
    whoever connects with it says so."""
    try:
        given = conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        return dsn
    options = f"{given.get('options') or ''} -c default_transaction_read_only=on".strip()
    return make_conninfo(dsn, options=options, connect_timeout=given.get("connect_timeout") or "10")


async def look(dsn: str) -> Readiness:
    """Raises StoreUnavailable."""
    with translate():
        async with (
            await AsyncConnection.connect(
                read_only(dsn), autocommit=True, application_name="livedex doctor"
            ) as session,
            session.cursor(row_factory=class_row(Readiness)) as cursor,
        ):
            await cursor.execute(load("readiness")["look"])
            (found,) = await cursor.fetchall()
    return found
