"""The replication slot: what the server keeps for us, and whether it still has what follows our position."""

from __future__ import annotations

import asyncio
import hashlib
import re
from typing import Any, Final

from psycopg import AsyncConnection, errors, sql
from psycopg.rows import TupleRow

from livedex.adapters.sources.postgres import catalog
from livedex.adapters.sources.postgres.connection import Server, Session
from livedex.adapters.sources.postgres.lsn import Position, format_lsn, parse_lsn
from livedex.errors import PositionLost, SourceMisconfigured, SourceUnavailable

NAME_BYTES: Final = 63
RELEASE_SECONDS: Final = 5.0
"""How long a slot may still be held by a connection of ours that was just closed or killed."""
_POLL_SECONDS: Final = 0.05


def default_name(store_id: str, source: str) -> str:
    """`livedex_<8 of the store's id>_<source>`, in the letters that a slot may have. Names that had to be altered
    or cut end in a digest, so that `kb-a` and `kb.a` do not share a slot."""
    store = re.sub(r"[^a-z0-9_]", "_", store_id.lower())[:8]
    plain = re.sub(r"[^a-z0-9_]", "_", source.lower())
    name = f"livedex_{store}_{plain}"
    if plain == source and len(name) <= NAME_BYTES:
        return name
    digest = hashlib.blake2b(source.encode(), digest_size=4).hexdigest()
    return f"{name[: NAME_BYTES - len(digest) - 1]}_{digest}"


async def wait_until_free(session: Session, name: str) -> dict[str, Any] | None:
    """The slot's state, or None when there is no such slot. Raises SourceUnavailable while another process holds it."""
    deadline = asyncio.get_running_loop().time() + RELEASE_SECONDS
    while True:
        state = await catalog.slot(session, name)
        if state is None or not state["active"]:
            return state
        if asyncio.get_running_loop().time() > deadline:
            raise SourceUnavailable(
                f'Replication slot "{name}" of {session.server} is in use by the server process with pid '
                f"{state['active_pid']}: another livedex follows this source. Stop it, or run on the source: "
                f"SELECT pg_terminate_backend({state['active_pid']});"
            )
        await asyncio.sleep(_POLL_SECONDS)


async def drop(session: Session, name: str) -> None:
    """Remove the slot if it is there. Raises SourceUnavailable while another process holds it."""
    if await wait_until_free(session, name) is None:
        return
    try:
        await session.fetch("SELECT pg_drop_replication_slot(%s)", [name])
    except SourceUnavailable as error:
        if not isinstance(error.__cause__, errors.UndefinedObject):
            raise


async def create(
    connection: AsyncConnection[TupleRow], server: Server, name: str, *, temporary: bool
) -> tuple[int, str]:
    """Make a slot on a replication connection: the LSN from which it sends, and the id of a snapshot that shows
    exactly what was committed before. The snapshot lasts until the next command on the connection.

    Waits for the transactions that are writing at the moment. A temporary slot goes with the connection.
    """
    command = sql.SQL("CREATE_REPLICATION_SLOT {} {} LOGICAL pgoutput (SNAPSHOT 'export')").format(
        sql.Identifier(name), sql.SQL("TEMPORARY" if temporary else "")
    )
    with server.translated_errors(f'could not make replication slot "{name}"'):
        cursor = await connection.execute(command)
        row = await cursor.fetchone()
    if row is None:
        raise SourceUnavailable(f'{server} made replication slot "{name}" without saying where it starts.')
    return parse_lsn(row[1]), row[2]


async def check_given(session: Session, name: str) -> None:
    """Raises SourceMisconfigured when the slot that the user named is missing or of another kind."""
    state = await wait_until_free(session, name)
    if state is None:
        raise SourceMisconfigured(
            f'Replication slot "{name}" does not exist on {session.server}. '
            f"Run: SELECT pg_create_logical_replication_slot('{name}', 'pgoutput'); "
            "or leave `slot` out of livedex.yaml."
        )
    ((database,),) = await session.fetch("SELECT current_database()::text")
    if (state["plugin"], state["database"]) != ("pgoutput", database):
        raise SourceMisconfigured(
            f'Replication slot "{name}" is for plugin {state["plugin"]} and database {state["database"]}; '
            f"this source needs pgoutput and {database}. Name another slot in livedex.yaml."
        )


async def check_resumable(session: Session, name: str, resume: Position, written: Position, source: str) -> None:
    """Raises PositionLost when the server cannot send everything after `resume`, which is on the same timeline."""
    remedy = f"Run: livedex source resync {source}"
    state = await wait_until_free(session, name)
    if state is None:
        raise PositionLost(
            f'Replication slot "{name}" is gone from {session.server}, and with it the changes after {resume}. {remedy}'
        )
    if reason := invalidation(state):
        raise PositionLost(
            f'{session.server} has invalidated replication slot "{name}" ({reason}) and removed changes '
            f"after {resume}. {remedy}"
        )
    confirmed = parse_lsn(state["confirmed_flush_lsn"])
    if confirmed > resume.lsn:
        raise PositionLost(
            f'Replication slot "{name}" stands at {format_lsn(confirmed)}, beyond our position {resume}: someone else '
            f"has read from it. {remedy}"
        )
    if written.lsn < resume.lsn:
        raise PositionLost(
            f"{session.server} has written only up to {written}, before our position {resume}: it was restored from "
            f"an older copy. {remedy}"
        )


def invalidation(state: dict[str, Any]) -> str | None:
    """Why the slot is of no use any more. PostgreSQL 17 gives a reason, 16 a flag, 15 only the state of the WAL."""
    if reason := state.get("invalidation_reason"):
        return str(reason)
    if state.get("conflicting"):
        return "it conflicted with recovery"
    return "wal_removed" if state["wal_status"] == "lost" or state["restart_lsn"] is None else None
