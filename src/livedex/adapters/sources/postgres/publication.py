"""The publication: which tables' changes the server sends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import LiteralString

import psycopg
from psycopg import errors, sql

from livedex.adapters.sources.postgres import catalog
from livedex.adapters.sources.postgres.catalog import Publication, Table
from livedex.adapters.sources.postgres.connection import Session
from livedex.adapters.sources.postgres.requirements import (
    FIRST_VERSION_WITH_PUBLISHED_GENERATED_COLUMNS,
    OPERATIONS,
    check_publication,
)
from livedex.errors import SourceMisconfigured, SourceUnavailable

_OPTIONS: LiteralString = "publish = 'insert, update, delete, truncate', publish_via_partition_root = true"
_OPTIONS_WITH_GENERATED: LiteralString = _OPTIONS + ", publish_generated_columns = stored"


async def ensure(session: Session, name: str, tables: Mapping[str, Table], version: int) -> None:
    """Make our publication, or alter it, to cover exactly `tables`.

    To be called before a slot is made: changes decoded from before the publication existed cannot be sent. Raises
    SourceMisconfigured with the statement to run when a right is missing.
    """
    for statement in statements(await catalog.publication(session, name), name, tables, version):
        await _run(session, name, statement)


def statements(
    existing: Publication | None, name: str, tables: Mapping[str, Table], version: int
) -> list[sql.Composed]:
    """What it takes to make our publication cover exactly `tables`; none when it does."""
    wanted = {(table.schema, table.relation) for table in tables.values()}
    # ONLY: tables that inherit from ours are no part of it, and the snapshot leaves them out too.
    only = sql.SQL("ONLY {}")
    targets = sql.SQL(", ").join(only.format(sql.Identifier(t.schema, t.relation)) for t in tables.values())
    generated = version >= FIRST_VERSION_WITH_PUBLISHED_GENERATED_COLUMNS
    options = sql.SQL(_OPTIONS_WITH_GENERATED if generated else _OPTIONS)
    publication = sql.Identifier(name)
    if existing is None:
        return [sql.SQL("CREATE PUBLICATION {} FOR TABLE {} WITH ({})").format(publication, targets, options)]
    needed = []
    if existing.tables.keys() != wanted:
        needed.append(sql.SQL("ALTER PUBLICATION {} SET TABLE {}").format(publication, targets))
    if existing.operations != OPERATIONS or not existing.via_root:
        needed.append(sql.SQL("ALTER PUBLICATION {} SET ({})").format(publication, options))
    return needed


async def check_given(
    session: Session, name: str, tables: Mapping[str, Table], columns: Mapping[str, Sequence[str]]
) -> None:
    """Raises SourceMisconfigured when the publication that the user named is missing or leaves something out."""
    existing = await catalog.publication(session, name)
    if existing is None:
        targets = ", ".join(f"{table.schema}.{table.relation}" for table in tables.values())
        raise SourceMisconfigured(
            f'Publication "{name}" does not exist. Run: CREATE PUBLICATION {name} FOR TABLE {targets} '
            "WITH (publish_via_partition_root = true); or leave `publication` out of livedex.yaml."
        )
    check_publication(existing, name, tables, columns)


async def drop(session: Session, name: str) -> None:
    await _run(session, name, sql.SQL("DROP PUBLICATION IF EXISTS {}").format(sql.Identifier(name)))


async def _run(session: Session, name: str, statement: sql.Composed) -> None:
    text = statement.as_string(None)
    try:
        await session.execute(statement)
    except errors.InsufficientPrivilege as error:
        raise SourceMisconfigured(
            f"The role of this source may not change publications ({error.diag.message_primary}). Run as the owner of "
            f"the tables: {text}; and set `publication: {name}` for the source in livedex.yaml."
        ) from error
    except psycopg.OperationalError as error:
        raise SourceUnavailable(f"{session.server} went away while publication {name} was made.") from error
    except psycopg.Error as error:
        raise SourceMisconfigured(
            f"{session.server} refused a publication ({error.diag.message_primary}): {text}"
        ) from error
