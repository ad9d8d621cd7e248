"""What a database holds, so that somebody can propose what of it to follow. Reads only, and leaves every text where it
is: a sample comes back as counts and averages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, LiteralString

from psycopg import errors, sql

from livedex.adapters.sources.postgres.catalog import DEFAULT_SCHEMA
from livedex.adapters.sources.postgres.connection import Session
from livedex.errors import SourceMisconfigured

SAMPLE_ROWS: Final = 300
SAMPLED_CHARACTERS: Final = 2_000
_SAMPLE_WHOLE_BELOW: Final = 20_000
"""Rows up to which a sample is simply the first ones; beyond it comes from pages all over the table."""
_SAMPLE_FROM_ROWS: Final = 5_000

_AGGREGATES: LiteralString = """
    count(*) FILTER (WHERE {text} ~ '\\S'),
    avg({length}) FILTER (WHERE {text} ~ '\\S'),
    avg(array_length(regexp_split_to_array(btrim({text}), '\\s+'), 1) * {length}::float / greatest(length({text}), 1))
        FILTER (WHERE {text} ~ '\\S'),
    avg(octet_length({text})::float / greatest(length({text}), 1)),
    count(DISTINCT {text}),
    avg(({text} ~* '<(p|div|br|ul|ol|table|h[1-6])[ />]')::int)"""
"""A `ColumnSample` but for its first field. Words are counted in what was read and carried over to the whole."""


@dataclass(frozen=True, slots=True)
class ColumnSample:
    """What some rows of a column hold: how many rows were read and hold more than blanks, and of these the average
    length in characters and words, the average bytes of a character, how many differ, and the share of HTML."""

    rows: int
    filled: int
    characters: float
    words: float
    bytes_per_character: float
    distinct: int
    html: float


@dataclass(frozen=True, slots=True)
class ColumnProfile:
    """`category` is pg_type.typcategory (S text, E enum, B boolean, D date or time, N number, A array, U other),
    `references` the table that a foreign key of this column alone leads to."""

    name: str
    type: str
    category: str
    not_null: bool
    generated: bool
    readable: bool
    references: str | None
    sample: ColumnSample | None = None


@dataclass(frozen=True, slots=True)
class TableProfile:
    """`kind` is pg_class.relkind; partitions are not listed, the table they belong to is. `rows` is an estimate, None
    where the server has none. `key` holds the primary key's columns in order. `logged`: its changes reach the log."""

    schema: str
    relation: str
    kind: str
    rows: int | None
    bytes: int
    key: tuple[str, ...]
    logged: bool
    identity: str
    columns: tuple[ColumnProfile, ...]

    @property
    def name(self) -> str:
        """As a configuration names it."""
        plain = self.schema == DEFAULT_SCHEMA and "." not in self.relation
        return self.relation if plain else f"{self.schema}.{self.relation}"

    def column(self, name: str) -> ColumnProfile:
        return next(column for column in self.columns if column.name == name)

    def with_samples(self, samples: Mapping[str, ColumnSample]) -> TableProfile:
        return replace(self, columns=tuple(replace(column, sample=samples.get(column.name)) for column in self.columns))


async def read_only(session: Session, *, statement_seconds: float) -> None:
    """From now on the server refuses every change on this session, and ends what takes longer."""
    await session.fetch(
        "SELECT set_config('default_transaction_read_only', 'on', false), set_config('statement_timeout', %s, false),"
        " set_config('lock_timeout', %s, false)",
        [f"{int(statement_seconds * 1000)}ms"] * 2,
    )


async def tables(session: Session) -> list[TableProfile]:
    """Everything with rows that is not the system's, an extension's or livedex's own; the largest first."""
    rows = await session.fetch(
        """
        SELECT c.oid::int8, n.nspname::text, c.relname::text, c.relkind::text, c.relpersistence = 'p',
               c.relreplident::text,
               (SELECT CASE WHEN bool_and(l.reltuples < 0) THEN NULL
                       ELSE sum(greatest(l.reltuples, 0))::int8 END FROM pg_class l WHERE l.oid = ANY(leaves.oids)),
               (SELECT coalesce(sum(pg_table_size(l)), 0)::int8 FROM unnest(leaves.oids) l),
               ARRAY(SELECT a.attname::text FROM pg_index i CROSS JOIN unnest(i.indkey::int2[]) WITH ORDINALITY k(n, at)
                     JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.n
                     WHERE i.indrelid = c.oid AND i.indisprimary AND k.at <= i.indnkeyatts ORDER BY k.at)
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        CROSS JOIN LATERAL (SELECT CASE WHEN c.relkind <> 'p' THEN ARRAY[c.oid]
            ELSE ARRAY(SELECT relid::oid FROM pg_partition_tree(c.oid) WHERE isleaf) END AS oids) leaves
        WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition
          AND n.nspname !~ '^(pg_|information_schema$|livedex(_g[0-9]+)?$)'
          AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                          AND d.deptype = 'e')
        ORDER BY 8 DESC, 2, 3
        """
    )
    columns = await _columns(session, [row[0] for row in rows])
    return [
        TableProfile(schema, relation, kind, estimate, size, tuple(key), logged, identity, columns.get(oid, ()))
        for oid, schema, relation, kind, logged, identity, estimate, size, key in rows
    ]


async def _columns(session: Session, oids: Sequence[int]) -> dict[int, tuple[ColumnProfile, ...]]:
    rows = await session.fetch(
        """
        SELECT a.attrelid::int8, a.attname::text, format_type(a.atttypid, NULL), t.typcategory::text, a.attnotnull,
               a.attgenerated <> '', has_schema_privilege(c.relnamespace, 'USAGE')
                   AND has_column_privilege(a.attrelid, a.attnum, 'SELECT'),
               (SELECT min(r.relname)::text FROM pg_constraint f JOIN pg_class r ON r.oid = f.confrelid
                WHERE f.conrelid = a.attrelid AND f.contype = 'f' AND f.conkey = ARRAY[a.attnum])
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_type t ON t.oid = a.atttypid
        WHERE a.attrelid = ANY(%s::oid[]) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attrelid, a.attnum
        """,
        [oids],
    )
    found: dict[int, tuple[ColumnProfile, ...]] = {}
    for oid, *column in rows:
        found[oid] = (*found.get(oid, ()), ColumnProfile(*column))
    return found


async def sample(session: Session, table: TableProfile) -> TableProfile:
    """The table with samples of its texts and foreign keys, or without any where the server took too long over it.

    Raises SourceMisconfigured when the rows may not be read, SourceUnavailable.
    """
    names = [c.name for c in table.columns if c.readable and (c.category == "S" or c.references is not None)]
    if not names:
        return table
    connection = await session.connection()
    found: Sequence[float | None] = ()
    for source in _row_sources(table):
        try:
            cursor = await connection.execute(_sample_statement(names, source))
        except (errors.QueryCanceled, errors.LockNotAvailable):
            return table
        except errors.InsufficientPrivilege as error:
            raise SourceMisconfigured(f'Table "{table.name}" may not be read: {error.diag.message_primary}.') from error
        found = (await cursor.fetchone()) or ()
        if found and found[0]:
            break
    rows, *values = (int(value or 0) if at == 0 else float(value or 0) for at, value in enumerate(found))
    groups = [values[start : start + 6] for start in range(0, len(values), 6)]
    return table.with_samples(
        {
            name: ColumnSample(int(rows), int(filled), characters, words, weight, int(distinct), html)
            for name, (filled, characters, words, weight, distinct, html) in zip(names, groups, strict=True)
        }
    )


def _row_sources(table: TableProfile) -> list[sql.Composed]:
    """Where to take sample rows from, until one yields some."""
    relation = sql.Identifier(table.schema, table.relation)
    first = sql.SQL("{} LIMIT {}").format(relation, sql.Literal(SAMPLE_ROWS))
    if table.kind not in "rp" or table.rows is None or table.rows < _SAMPLE_WHOLE_BELOW:
        return [first]
    percent = sql.Literal(round(100 * _SAMPLE_FROM_ROWS / table.rows, 4))
    spread = sql.SQL("{} TABLESAMPLE SYSTEM ({}) LIMIT {}").format(relation, percent, sql.Literal(SAMPLE_ROWS))
    return [spread, first]


def _sample_statement(names: Sequence[str], rows: sql.Composed) -> sql.Composed:
    aggregates, texts = [], []
    for number, name in enumerate(names):
        columns = {"text": sql.Identifier(f"c{number}"), "length": sql.Identifier(f"n{number}")}
        text = sql.SQL("left({0}::text, {1}) AS {text}, length({0}::text) AS {length}")
        texts.append(text.format(sql.Identifier(name), sql.Literal(SAMPLED_CHARACTERS), **columns))
        aggregates.append(sql.SQL(_AGGREGATES).format(**columns))
    return sql.SQL("SELECT count(*), {} FROM (SELECT {} FROM {}) sample").format(
        sql.SQL(", ").join(aggregates), sql.SQL(", ").join(texts), rows
    )
