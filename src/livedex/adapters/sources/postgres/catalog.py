"""What the source's catalogs say, as frozen values. The SQL that livedex runs against a source's catalogs stands
here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from psycopg import errors

from livedex.adapters.sources.postgres.connection import Session
from livedex.adapters.sources.postgres.lsn import Position, end_of_written, parse_lsn

DEFAULT_SCHEMA: Final = "public"


@dataclass(frozen=True, slots=True)
class Column:
    """`generated` is pg_attribute.attgenerated: empty for an ordinary column."""

    type_oid: int
    not_null: bool
    generated: str
    readable: bool


@dataclass(frozen=True, slots=True)
class Identity:
    """How a relation tells its rows apart in the write-ahead log. `kind` is pg_class.relreplident; `columns` are the
    primary key's or the chosen index's, empty for the kinds FULL and NOTHING."""

    relation: str
    kind: str
    columns: frozenset[str]
    has_primary_key: bool

    def covers(self, column: str) -> bool:
        return self.kind == "f" or column in self.columns


@dataclass(frozen=True, slots=True)
class Table:
    """A table as it is now. A partitioned one has an identity for each leaf, any other exactly one."""

    name: str
    schema: str
    relation: str
    oid: int
    partitioned: bool
    columns: Mapping[str, Column]
    identities: tuple[Identity, ...]

    @property
    def types(self) -> dict[str, int]:
        return {name: column.type_oid for name, column in self.columns.items()}


@dataclass(frozen=True, slots=True)
class Storage:
    """A relation with rows: a table itself or a leaf of its partitions. `blocks` is None where rows have no place that
    a range could name."""

    schema: str
    relation: str
    blocks: int | None
    readable: bool


@dataclass(frozen=True, slots=True)
class PublishedTable:
    """`columns` is None when the publication does not restrict them, `row_filter` likewise."""

    columns: frozenset[str] | None
    row_filter: str | None


@dataclass(frozen=True, slots=True)
class Publication:
    """`tables` by (schema, relation)."""

    operations: frozenset[str]
    via_root: bool
    for_all_tables: bool
    tables: Mapping[tuple[str, str], PublishedTable]


@dataclass(frozen=True, slots=True)
class ServerState:
    """What decides whether the server can be followed at all."""

    version: int
    wal_level: str
    in_recovery: bool
    role: str
    may_replicate: bool
    max_replication_slots: int
    used_replication_slots: int
    wal_sender_timeout_seconds: float


@dataclass(frozen=True, slots=True)
class WrittenPosition:
    """Everything that was committed before `time` (the server's clock) ends at or before `position`. `flushed` is how
    far it is on disk, which is as far as it can be sent."""

    position: Position
    flushed: int
    time: datetime


def split_name(table: str) -> tuple[str, str]:
    """`kb.documents` → (kb, documents); a bare name is in schema public."""
    schema, dot, relation = table.partition(".")
    return (schema, relation) if dot else (DEFAULT_SCHEMA, table)


async def server_state(session: Session) -> ServerState:
    ((version, wal_level, in_recovery, role, may, slots, used, timeout),) = await session.fetch(
        """
        SELECT current_setting('server_version_num')::int, current_setting('wal_level'), pg_is_in_recovery(),
               current_user::text,
               (SELECT rolsuper OR rolreplication FROM pg_roles WHERE rolname = current_user)
                   OR EXISTS (SELECT FROM pg_roles  -- how Amazon RDS grants it
                              WHERE rolname = 'rds_replication' AND pg_has_role(oid, 'USAGE')),
               current_setting('max_replication_slots')::int, (SELECT count(*)::int FROM pg_replication_slots),
               (SELECT setting::float / 1000 FROM pg_settings WHERE name = 'wal_sender_timeout')
        """
    )
    return ServerState(version, wal_level, in_recovery, role, may, slots, used, timeout)


async def written_position(session: Session) -> WrittenPosition:
    """How far the log is written; every commit that was visible before the call lies before it."""
    # clock_timestamp() must not be later than the position: PostgreSQL evaluates the list from left to right, and a
    # commit that falls between the two is covered by the position without being promised by the time.
    ((time, insert_lsn, flush_lsn, page, segment, timeline, system),) = await session.fetch(
        """
        SELECT clock_timestamp(), pg_current_wal_insert_lsn()::text, pg_current_wal_flush_lsn()::text,
               current_setting('wal_block_size')::int,
               (SELECT setting::bigint FROM pg_settings WHERE name = 'wal_segment_size'),
               ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int,
               (SELECT system_identifier::text FROM pg_control_system())
        """
    )
    lsn = end_of_written(parse_lsn(insert_lsn), page, segment)
    return WrittenPosition(Position(system, timeline, lsn), parse_lsn(flush_lsn), time.astimezone(UTC))


async def transaction_status(session: Session, xid: int) -> tuple[str | None, WrittenPosition]:
    """Whether a transaction is in progress, committed, aborted or not begun, None when that is forgotten; and how far
    the log was written when that was known already."""
    connection = await session.connection()
    with session.server.translated_errors("did not tell how a transaction ended"):
        try:
            cursor = await connection.execute("SELECT pg_xact_status(%s::text::xid8)", [str(xid)])
            row = await cursor.fetchone()
        except errors.InvalidParameterValue:
            row = ("not begun",)
    return None if row is None else row[0], await written_position(session)


async def log_layout(session: Session) -> tuple[int, int]:
    """Bytes of a page and of a segment of the log."""
    ((page, segment),) = await session.fetch(
        """
        SELECT current_setting('wal_block_size')::int,
               (SELECT setting::bigint FROM pg_settings WHERE name = 'wal_segment_size')
        """
    )
    return page, segment


async def request_flush(session: Session) -> None:
    """Have the log flushed up to its end. On an idle server records without a commit behind them may stay in memory,
    where no reader of the log gets to see them; a transaction with an id makes the WAL writer flush."""
    await session.fetch("SELECT pg_current_xact_id()::text")


async def tables(session: Session, names: Iterable[str]) -> dict[str, Table]:
    """The tables that exist among `names`."""
    wanted = {split_name(name): name for name in names}
    rows = await session.fetch(
        """
        SELECT c.oid::int8, n.nspname::text, c.relname::text, c.relkind::text
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p')
          AND (n.nspname::text, c.relname::text) IN (SELECT * FROM unnest(%s::text[], %s::text[]))
        """,
        [[schema for schema, _ in wanted], [relation for _, relation in wanted]],
    )
    oids = [row[0] for row in rows]
    columns = await _columns(session, oids)
    identities = await _identities(session, oids)
    return {
        wanted[schema, relation]: Table(
            wanted[schema, relation], schema, relation, oid, kind == "p", columns.get(oid, {}), identities.get(oid, ())
        )
        for oid, schema, relation, kind in rows
    }


async def column_types(session: Session, names: Iterable[str]) -> dict[str, dict[str, str]]:
    """Table → column → type, as SQL calls it without its modifiers, of the tables that exist among `names`."""
    wanted = {split_name(name): name for name in names}
    rows = await session.fetch(
        """
        SELECT n.nspname::text, c.relname::text, jsonb_object_agg(a.attname, format_type(a.atttypid, NULL))
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        WHERE c.relkind IN ('r', 'p')
          AND (n.nspname::text, c.relname::text) IN (SELECT * FROM unnest(%s::text[], %s::text[]))
        GROUP BY c.oid, n.nspname, c.relname ORDER BY c.oid
        """,
        [[schema for schema, _ in wanted], [relation for _, relation in wanted]],
    )
    return {wanted[schema, relation]: columns for schema, relation, columns in rows}


async def _columns(session: Session, oids: Sequence[int]) -> dict[int, dict[str, Column]]:
    rows = await session.fetch(
        """
        SELECT attrelid::int8, attname::text, atttypid::int8, attnotnull, attgenerated::text,
               has_column_privilege(attrelid, attnum, 'SELECT')
        FROM pg_attribute WHERE attrelid = ANY(%s::oid[]) AND attnum > 0 AND NOT attisdropped ORDER BY attnum
        """,
        [oids],
    )
    found: dict[int, dict[str, Column]] = {}
    for oid, name, *column in rows:
        found.setdefault(oid, {})[name] = Column(*column)
    return found


async def _identities(session: Session, oids: Sequence[int]) -> dict[int, tuple[Identity, ...]]:
    # What is logged for a row is decided by the leaf that holds it, not by the root of the partition tree.
    rows = await session.fetch(
        """
        SELECT t.root::int8, n.nspname || '.' || c.relname, c.relreplident::text,
               ARRAY(SELECT a.attname::text FROM pg_index i
                     JOIN pg_attribute a ON a.attrelid = c.oid
                         AND a.attnum = ANY((i.indkey::int2[])[0:i.indnkeyatts - 1])
                     WHERE i.indrelid = c.oid AND (c.relreplident = 'd' AND i.indisprimary
                                                   OR c.relreplident = 'i' AND i.indisreplident)),
               EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary)
        FROM (SELECT root, coalesce(leaf.relid, root) AS relation FROM unnest(%s::oid[]) root
              LEFT JOIN LATERAL pg_partition_tree(root) leaf ON true WHERE leaf.isleaf IS NOT false) t
        JOIN pg_class c ON c.oid = t.relation JOIN pg_namespace n ON n.oid = c.relnamespace
        ORDER BY 1, 2
        """,
        [oids],
    )
    found: dict[int, tuple[Identity, ...]] = {}
    for root, relation, kind, columns, has_primary_key in rows:
        found[root] = (*found.get(root, ()), Identity(relation, kind, frozenset(columns), has_primary_key))
    return found


async def storage(session: Session, table: Table) -> list[Storage]:
    """The relations that hold the table's rows."""
    rows = await session.fetch(
        """
        SELECT n.nspname::text, c.relname::text,
               CASE am.amname WHEN 'heap' THEN pg_relation_size(c.oid) / current_setting('block_size')::int END,
               has_table_privilege(c.oid, 'SELECT')
        FROM (SELECT coalesce(leaf.relid, root) AS relation FROM CAST(%s::int8 AS oid) root
              LEFT JOIN LATERAL pg_partition_tree(root) leaf ON true WHERE leaf.isleaf IS NOT false) t
        JOIN pg_class c ON c.oid = t.relation JOIN pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN pg_am am ON am.oid = c.relam
        ORDER BY 1, 2
        """,
        [table.oid],
    )
    return [Storage(*row) for row in rows]


async def table_names(session: Session) -> list[str]:
    """Every table that could be meant, as a configuration would name it."""
    rows = await session.fetch(
        """
        SELECT n.nspname::text, c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ORDER BY 1, 2
        """
    )
    return [relation if schema == DEFAULT_SCHEMA else f"{schema}.{relation}" for schema, relation in rows]


async def domains(session: Session) -> dict[int, int]:
    """Domain → the type that it is over."""
    rows = await session.fetch("SELECT oid::int8, typbasetype::int8 FROM pg_type WHERE typtype = 'd'")
    return dict(rows)


async def publication(session: Session, name: str) -> Publication | None:
    rows = await session.fetch(
        """
        SELECT pubinsert, pubupdate, pubdelete, pubtruncate, pubviaroot, puballtables
        FROM pg_publication WHERE pubname = %s
        """,
        [name],
    )
    if not rows:
        return None
    *flags, via_root, for_all_tables = rows[0]
    operations = zip(("insert", "update", "delete", "truncate"), flags, strict=True)
    published = await session.fetch(
        """
        SELECT schemaname::text, tablename::text, attnames::text[], rowfilter
        FROM pg_publication_tables WHERE pubname = %s
        """,
        [name],
    )
    return Publication(
        frozenset(operation for operation, on in operations if on),
        via_root,
        for_all_tables,
        {
            (schema, relation): PublishedTable(None if columns is None else frozenset(columns), row_filter)
            for schema, relation, columns, row_filter in published
        },
    )


async def slot(session: Session, name: str) -> dict[str, Any] | None:
    """The slot's row in pg_replication_slots, whatever columns this version of the server has."""
    rows = await session.fetch("SELECT to_jsonb(s) FROM pg_replication_slots s WHERE slot_name = %s", [name])
    return rows[0][0] if rows else None
