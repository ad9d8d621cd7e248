"""How a source's server is doing for us, beyond what following it needs to know. Reads only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

import psycopg
from psycopg import errors, sql

from livedex.adapters.sources.postgres.catalog import Table
from livedex.adapters.sources.postgres.connection import Session
from livedex.adapters.sources.postgres.requirements import quote, quote_name
from livedex.errors import SourceMisconfigured, SourceUnavailable

_BYTEA = 17


@dataclass(frozen=True, slots=True)
class Vitals:
    """`wal_limit_bytes` is how much log a slot may keep, None without a limit."""

    version: str
    clock: datetime
    role: str
    max_wal_senders: int
    used_wal_senders: int
    wal_limit_bytes: int | None
    may_create: bool


async def vitals(session: Session) -> Vitals:
    """Raises SourceUnavailable."""
    ((version, clock, role, senders, used, limit, may_create),) = await session.fetch(
        """
        SELECT current_setting('server_version'), clock_timestamp(), current_user::text,
               current_setting('max_wal_senders')::int, (SELECT count(*)::int FROM pg_stat_replication),
               (SELECT setting::int8 * 1024 * 1024 FROM pg_settings
                WHERE name = 'max_slot_wal_keep_size' AND setting::int8 >= 0),
               has_database_privilege(current_database(), 'CREATE')
        """
    )
    return Vitals(version, clock, role, senders, used, limit, may_create)


async def kept_bytes(session: Session, slot: str) -> int:
    """How much of its log the server, a primary, keeps for a slot."""
    rows = await session.fetch(
        "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::int8 FROM pg_replication_slots"
        " WHERE slot_name = %s",
        [slot],
    )
    return int(rows[0][0] or 0) if rows else 0


async def not_owned(session: Session, tables: Iterable[Table]) -> list[str]:
    """The tables that the role does not own, alone or through a role it belongs to."""
    by_oid: Mapping[int, str] = {table.oid: table.name for table in tables}
    rows = await session.fetch(
        "SELECT oid::int8 FROM pg_class WHERE oid = ANY(%s::oid[]) AND NOT pg_has_role(relowner, 'USAGE')",
        [list(by_oid)],
    )
    return sorted(by_oid[oid] for (oid,) in rows)


async def check_reading(session: Session, table: Table, columns: Iterable[str], role: str) -> None:
    """Plans a read of the mapped columns, which fails as the snapshot would: for want of a right, or for a policy.

    Raises SourceMisconfigured with the statement that helps, SourceUnavailable.
    """
    names = sql.SQL(", ").join(sql.Identifier(name) for name in columns)
    statement = sql.SQL("SELECT {} FROM {} LIMIT 0").format(names, sql.Identifier(table.schema, table.relation))
    try:
        await session.execute(statement)
    except errors.InsufficientPrivilege as error:
        said = error.diag.message_primary or ""
        if "row-level security" in said:
            raise SourceMisconfigured(
                f'Row level security hides rows of table "{table.name}" from the role "{role}", but would not hide '
                f"their changes. Run as a superuser: ALTER ROLE {quote(role)} BYPASSRLS;"
            ) from error
        schema = f"GRANT USAGE ON SCHEMA {quote(table.schema)} TO {quote(role)};"
        grant = f"GRANT SELECT ON {quote_name(table.schema, table.relation)} TO {quote(role)};"
        raise SourceMisconfigured(
            f'The role "{role}" may not read table "{table.name}" ({said}). Run as its owner: '
            f"{schema if 'for schema' in said else grant}"
        ) from error
    except psycopg.Error as error:
        raise SourceUnavailable(
            f'{session.server} cannot read table "{table.name}": {error.diag.message_primary}.'
        ) from error


def as_hexadecimal(table: Table, columns: Iterable[str]) -> list[str]:
    """Mapped columns of bytes, which would be indexed as hexadecimal digits."""
    return [name for name in columns if name in table.columns and table.columns[name].type_oid == _BYTEA]
