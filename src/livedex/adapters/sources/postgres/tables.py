"""Rows of the stream and of the snapshot → changes without a position. Knows the mapped tables, no connection.

A row becomes a `RowChange` first, because the end of its transaction, which is its position, is sent after it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

from livedex.adapters.sources.postgres.catalog import split_name
from livedex.adapters.sources.postgres.pgoutput import (
    UNCHANGED,
    Delete,
    Insert,
    Relation,
    Truncate,
    Unchanged,
    Update,
    Values,
)
from livedex.adapters.sources.postgres.values import parse_value
from livedex.errors import SchemaChanged, SourceError
from livedex.model import Change, Op, TableMapping

_NO_COLUMNS: Final[Mapping[str, Any]] = {}
_NOTHING: Final[frozenset[str]] = frozenset()


class RowChange(NamedTuple):
    """A change whose commit has not been seen yet."""

    op: Op
    table: str
    key: tuple[str, ...]
    columns: Mapping[str, Any] = _NO_COLUMNS
    old_key: tuple[str, ...] | None = None
    unchanged: frozenset[str] = _NOTHING

    def at(self, position: str, time: datetime) -> Change:
        return Change(*self, position=position, time=time)


@dataclass(frozen=True, slots=True)
class MappedTable:
    """A table as livedex.yaml names it. `oid` is None while the source has no table of that name."""

    name: str
    key: tuple[str, ...]
    columns: tuple[str, ...]
    oid: int | None


class Layout:
    """Where the mapped columns of one table stand in its rows, and of which type they are."""

    def __init__(
        self, table: MappedTable, columns: Sequence[tuple[str, int]], domains: Mapping[int, int], source: str
    ) -> None:
        places = {name: index for index, (name, _) in enumerate(columns)}
        self.table = table
        self.types = {name: type_oid for name, type_oid in columns if name in table.columns}
        self._source = source
        self.underlying = {name: _underlying(type_oid, domains) for name, type_oid in self.types.items()}
        self._columns = tuple((name, places[name], self.underlying[name]) for name in table.columns)
        self._key = tuple((name, places[name]) for name in table.key)

    def read(self, row: Sequence[str | None]) -> Change:
        """A row of the snapshot."""
        key = tuple(self._key_text(name, row[place]) for name, place in self._key)
        columns = {name: parse_value(type_oid, row[place]) for name, place, type_oid in self._columns}
        return Change(Op.READ, self.table.name, key, columns)

    def insert(self, message: Insert) -> RowChange:
        columns, _ = self._read_columns(message.new, None)
        return RowChange(Op.CREATE, self.table.name, self._read_key(message.new, None), columns)

    def update(self, message: Update) -> RowChange:
        """An old row with all columns also tells what was left out as unchanged."""
        columns, unchanged = self._read_columns(message.new, message.old if message.old_kind == "O" else None)
        key = self._read_key(message.new, message.old)
        old_key = None if message.old is None else self._read_key(message.old, None)
        return RowChange(
            Op.UPDATE, self.table.name, key, columns, None if old_key == key else old_key, frozenset(unchanged)
        )

    def delete(self, message: Delete) -> RowChange:
        return RowChange(Op.DELETE, self.table.name, self._read_key(message.old, None))

    def truncate(self) -> RowChange:
        return RowChange(Op.TRUNCATE, self.table.name, ())

    def _read_columns(self, row: Values, old: Values | None) -> tuple[dict[str, Any], list[str]]:
        columns: dict[str, Any] = {}
        unchanged: list[str] = []
        for name, place, type_oid in self._columns:
            value = row[place]
            if value is UNCHANGED and old is not None:
                value = old[place]
            if isinstance(value, Unchanged):
                unchanged.append(name)
            else:
                columns[name] = parse_value(type_oid, None if value is None else value.decode())
        return columns, unchanged

    def _read_key(self, row: Values, old: Values | None) -> tuple[str, ...]:
        texts = []
        for name, place in self._key:
            value = row[place]
            if isinstance(value, Unchanged):
                # A long key value is left out of the new row; the old row, which holds the identity, has it.
                value = None if old is None else old[place]
            if isinstance(value, Unchanged):
                raise SourceError(f'PostgreSQL left out key column "{name}" of table "{self.table.name}".')
            texts.append(self._key_text(name, None if value is None else value.decode()))
        return tuple(texts)

    def _key_text(self, name: str, text: str | None) -> str:
        if text is None:
            raise SchemaChanged(
                f'Key column "{name}" of table "{self.table.name}" is NULL in a row, which cannot be told from others. '
                f"Declare it NOT NULL, then run: livedex source resync {self._source}"
            )
        return text


class Tables:
    """The mapped tables of a source and their layouts as the stream announces them."""

    def __init__(
        self,
        tables: Sequence[MappedTable],
        types: Mapping[str, Mapping[str, int]],
        domains: Mapping[int, int],
        source: str,
    ) -> None:
        """`types` per table: column → type as of the snapshot; tables that are not in it are taken as they come."""
        self._by_name = {split_name(table.name): table for table in tables}
        self._by_oid = {table.oid: table for table in tables if table.oid is not None}
        self._types = {name: dict(columns) for name, columns in types.items()}
        self._domains = domains
        self._source = source
        self._layouts: dict[int, Layout] = {}

    def announce(self, relation: Relation) -> None:
        """Raises SchemaChanged when a mapped column is gone, has another type or no longer identifies rows."""
        table = self._by_name.get((relation.schema, relation.name))
        if table is None:
            self._layouts.pop(relation.oid, None)
            if renamed := self._by_oid.get(relation.oid):
                raise SchemaChanged(
                    f'Table "{renamed.name}" was renamed to "{relation.schema}.{relation.name}". Rename it back, or '
                    f"change its name in livedex.yaml and run: livedex source resync {self._source}"
                )
            return  # a publication that was given may hold more than what is mapped
        self._check(table, relation)
        columns = [(column.name, column.type_oid) for column in relation.columns]
        layout = Layout(table, columns, self._domains, self._source)
        self._types[table.name] = layout.types
        self._layouts[relation.oid] = layout

    def rows(self, message: Insert | Update | Delete | Truncate) -> list[RowChange]:
        """What a message says about mapped tables; empty for other tables."""
        if isinstance(message, Truncate):
            return [layout.truncate() for oid in message.relations if (layout := self._layouts.get(oid))]
        layout = self._layouts.get(message.relation)
        if layout is None:
            return []
        if isinstance(message, Insert):
            return [layout.insert(message)]
        return [layout.update(message) if isinstance(message, Update) else layout.delete(message)]

    def _check(self, table: MappedTable, relation: Relation) -> None:
        columns = {column.name: column for column in relation.columns}
        known = self._types.get(table.name, {})
        for name in table.columns:
            column = columns.get(name)
            if column is None:
                raise SchemaChanged(
                    f'Column "{name}" of table "{table.name}" is gone: it was dropped or renamed. The source is paused '
                    "and keeps its changes. Bring the column back or change livedex.yaml, then run: "
                    f"livedex source resync {self._source}"
                )
            if known.get(name, column.type_oid) != column.type_oid:
                raise SchemaChanged(
                    f'Column "{name}" of table "{table.name}" has another type than when the table was read. The '
                    "source is paused and keeps its changes. Bring the type back, or read the table again: "
                    f"livedex source resync {self._source}"
                )
            if name in table.key and not column.in_identity:
                raise SchemaChanged(
                    f'Key column "{name}" of table "{table.name}" is no longer in its replica identity, so its deletes '
                    "cannot be followed. Restore the primary key or REPLICA IDENTITY, then run: "
                    f"livedex source resync {self._source}"
                )


def mapped_tables(
    mappings: Mapping[str, TableMapping], columns: Mapping[str, Sequence[str]], oids: Mapping[str, int]
) -> list[MappedTable]:
    return [MappedTable(name, mapping.key, tuple(columns[name]), oids.get(name)) for name, mapping in mappings.items()]


def _underlying(type_oid: int, domains: Mapping[int, int]) -> int:
    while type_oid in domains:
        type_oid = domains[type_oid]
    return type_oid
