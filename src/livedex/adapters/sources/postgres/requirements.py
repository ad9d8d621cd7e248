"""What must be true of a source before it can be followed. Pure: catalog values in, an error with its remedy out."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

from livedex.adapters.sources.postgres.catalog import (
    Column,
    Identity,
    Publication,
    PublishedTable,
    ServerState,
    Table,
    split_name,
)
from livedex.errors import SourceMisconfigured
from livedex.model import TableMapping

OLDEST_VERSION = 150000
FIRST_VERSION_WITH_PUBLISHED_GENERATED_COLUMNS = 180000
OPERATIONS = frozenset({"insert", "update", "delete", "truncate"})


def check_server(state: ServerState, server: str) -> None:
    """Raises SourceMisconfigured with the statement that helps."""
    check_version(state, server)
    check_primary(state, server)
    check_wal_level(state, server)
    check_replication_right(state, server)


def check_version(state: ServerState, server: str) -> None:
    if state.version < OLDEST_VERSION:
        raise SourceMisconfigured(
            f"{server} is version {state.version // 10000}; livedex follows 15 and newer. Upgrade the server."
        )


def check_primary(state: ServerState, server: str) -> None:
    if state.in_recovery:
        raise SourceMisconfigured(
            f"{server} is a standby, which cannot hold a publication of its own. Give the url of the primary."
        )


def check_wal_level(state: ServerState, server: str) -> None:
    if state.wal_level != "logical":
        raise SourceMisconfigured(
            f'{server} has wal_level "{state.wal_level}", so its log does not say which rows changed. '
            "Run: ALTER SYSTEM SET wal_level = 'logical'; and restart the server."
        )


def check_replication_right(state: ServerState, server: str) -> None:
    if not state.may_replicate:
        raise SourceMisconfigured(
            f'The role "{state.role}" of {server} may not use replication. '
            f"Run as a superuser: ALTER ROLE {quote(state.role)} REPLICATION;"
        )


def check_free_slot(state: ServerState, server: str) -> None:
    """Raises SourceMisconfigured when all replication slots are taken."""
    if state.used_replication_slots >= state.max_replication_slots:
        raise SourceMisconfigured(
            f"All {state.max_replication_slots} replication slots of {server} are in use. Run: "
            f"ALTER SYSTEM SET max_replication_slots = {state.max_replication_slots + 5}; and restart the server, "
            "or drop one that nobody needs; they are listed in pg_replication_slots."
        )


def check_tables_exist(wanted: Iterable[str], found: Mapping[str, Table], existing: Sequence[str]) -> None:
    """Raises SourceMisconfigured naming the first missing table and the nearest existing ones."""
    for name in wanted:
        if name not in found:
            raise SourceMisconfigured(
                f'Table "{name}" does not exist. {_nearest(name, existing, "tables")}'
                "Correct its name in livedex.yaml; a table outside schema public is written schema.table."
            )


def check_table(
    table: Table, mapping: TableMapping, columns: Sequence[str], *, source: str, state: ServerState
) -> None:
    """Raises SourceMisconfigured when the table's mapped columns or its replica identity will not do."""
    for check in table_checks(table, mapping, columns, source=source, state=state):
        check()


def table_checks(
    table: Table, mapping: TableMapping, columns: Sequence[str], *, source: str, state: ServerState
) -> list[Callable[[], None]]:
    """What `check_table` does, step by step, each of which raises on its own."""
    return [
        *(partial(_check_column, table, name, state) for name in columns),
        *(partial(_check_identity, table, identity, mapping.key, source) for identity in table.identities),
        *(partial(_check_not_null, table, name) for name in mapping.key if name in table.columns),
    ]


def check_publication(
    publication: Publication, name: str, tables: Mapping[str, Table], columns: Mapping[str, Sequence[str]]
) -> None:
    """Raises SourceMisconfigured when a given publication would leave something out."""
    if missing := OPERATIONS - publication.operations:
        raise SourceMisconfigured(
            f'Publication "{name}" does not publish {", ".join(sorted(missing))}. Run: '
            f"ALTER PUBLICATION {quote(name)} SET (publish = 'insert, update, delete, truncate');"
        )
    for table in tables.values():
        published = publication.tables.get((table.schema, table.relation))
        # Checked before the coverage: without it a partitioned table is listed by its leaves.
        if table.partitioned and not publication.via_root:
            raise SourceMisconfigured(
                f'Publication "{name}" publishes the partitions of table "{table.name}" under their own names. Run: '
                f"ALTER PUBLICATION {quote(name)} SET (publish_via_partition_root = true);"
            )
        if published is None:
            raise SourceMisconfigured(
                f'Publication "{name}" does not cover table "{table.name}". Run: '
                f"ALTER PUBLICATION {quote(name)} ADD TABLE {quote_name(table.schema, table.relation)};"
            )
        _check_published_columns(table, published, columns[table.name], name)


def uncovered(publication: Publication | None, names: Iterable[str]) -> list[str]:
    """Tables whose changes the publication does not send."""
    return [name for name in names if publication is None or split_name(name) not in publication.tables]


def quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def quote_name(schema: str, relation: str) -> str:
    return f"{quote(schema)}.{quote(relation)}"


def _check_column(table: Table, name: str, state: ServerState) -> None:
    column: Column | None = table.columns.get(name)
    if column is None:
        raise SourceMisconfigured(
            f'Table "{table.name}" has no column "{name}". {_nearest(name, list(table.columns), "columns")}'
            "Correct its name in livedex.yaml."
        )
    if not column.readable:
        raise SourceMisconfigured(
            f'The role "{state.role}" may not read column "{name}" of table "{table.name}". Run: '
            f"GRANT SELECT ON {quote_name(table.schema, table.relation)} TO {quote(state.role)};"
        )
    published = column.generated == "s" and state.version >= FIRST_VERSION_WITH_PUBLISHED_GENERATED_COLUMNS
    if column.generated and not published:
        raise SourceMisconfigured(
            f'Column "{name}" of table "{table.name}" is generated, and this version of PostgreSQL does not send it '
            "with changes. Map the columns that it is made from instead."
        )


def _check_not_null(table: Table, name: str) -> None:
    if not table.columns[name].not_null:
        raise SourceMisconfigured(
            f'Column "{name}" of table "{table.name}" is a key in livedex.yaml and may be NULL. Run: '
            f"ALTER TABLE {quote_name(table.schema, table.relation)} ALTER COLUMN {quote(name)} SET NOT NULL;"
        )


def _check_identity(table: Table, identity: Identity, key: Sequence[str], source: str) -> None:
    if identity.kind == "d" and not identity.has_primary_key:
        raise SourceMisconfigured(
            f'Table "{table.name}" has no primary key, so its deletes cannot be followed. Add one, or set REPLICA '
            f"IDENTITY FULL and name key columns in livedex.yaml under sources.{source}.tables.{table.name}.key."
        )
    relation = ".".join(quote(part) for part in identity.relation.split(".", 1))
    if identity.kind == "n":
        raise SourceMisconfigured(
            f'Table "{table.name}" has REPLICA IDENTITY NOTHING, so its deletes cannot be followed. '
            f"Run: ALTER TABLE {relation} REPLICA IDENTITY {'DEFAULT' if identity.has_primary_key else 'FULL'};"
        )
    if outside := [name for name in key if not identity.covers(name)]:
        columns = ", ".join(sorted(identity.columns))
        raise SourceMisconfigured(
            f'Key column "{outside[0]}" of table "{table.name}" is not in its replica identity ({columns}), so its '
            f"deletes cannot be followed. Use {columns} as sources.{source}.tables.{table.name}.key in livedex.yaml, "
            f"or run: ALTER TABLE {relation} REPLICA IDENTITY FULL;"
        )


def _check_published_columns(table: Table, published: PublishedTable, columns: Sequence[str], name: str) -> None:
    if published.columns is None:
        return
    for column in columns:
        if column not in published.columns:
            raise SourceMisconfigured(
                f'Publication "{name}" leaves out column "{column}" of table "{table.name}". '
                "Publish the table without a list of columns, or with this one in it."
            )


def _nearest(name: str, existing: Sequence[str], kind: str) -> str:
    near = difflib.get_close_matches(name, existing, n=3, cutoff=0.5)
    if near:
        return f"Did you mean {' or '.join(near)}? "
    listed = ", ".join(existing[:10]) + (", …" if len(existing) > 10 else "")
    return f"There are these {kind}: {listed}. " if existing else f"There are no {kind}. "
