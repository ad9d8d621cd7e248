"""A PostgreSQL source: everything it takes to follow it, each requirement apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from livedex import config
from livedex.adapters.sources.postgres import catalog, publication, requirements, slots, vitals
from livedex.adapters.sources.postgres.catalog import ServerState, Table
from livedex.adapters.sources.postgres.connection import Server, Session
from livedex.adapters.sources.postgres.inspect import read_only
from livedex.adapters.sources.postgres.vitals import Vitals
from livedex.doctor.clocks import check_clock
from livedex.doctor.report import Check, failed, guarded, not_checked, ok, raised, warning
from livedex.errors import LivedexError, SourceMisconfigured
from livedex.rules.mapping import mapped_columns

STATEMENT_SECONDS = 5.0
MUCH_KEPT_BYTES = 1 << 30
"""Log that a slot without a limit may keep before it is worth a warning."""


@dataclass(frozen=True, slots=True)
class _Source:
    name: str
    wanted: config.PostgresSource
    session: Session
    state: ServerState
    vitals: Vitals
    columns: Mapping[str, Sequence[str]]

    @property
    def server(self) -> str:
        return str(self.session.server)


async def check_postgres(name: str, wanted: config.PostgresSource, store_id: str | None) -> list[Check]:
    """`store_id` tells which slot and publication are ours; None when the store could not say."""
    session = Session(Server(wanted.url.get_secret_value(), f"livedex doctor {name}"))
    try:
        asked_at = datetime.now(UTC)
        try:
            await read_only(session, statement_seconds=STATEMENT_SECONDS)
            about = await vitals.vitals(session)
        except LivedexError as error:
            return [failed("connection", error)]
        found = [
            ok("connection", f"{session.server}, version {about.version}, as {about.role}"),
            check_clock(about.clock, asked_at, datetime.now(UTC), "the source"),
        ]
        columns = {table: mapped_columns(mapping) for table, mapping in wanted.tables.items()}
        source = _Source(name, wanted, session, await catalog.server_state(session), about, columns)
        found += await _check_server(source)
        found += await guarded("tables", 4 * STATEMENT_SECONDS, lambda: _check_tables(source))
        found += await guarded("publication", STATEMENT_SECONDS, lambda: _check_publication(source, store_id))
        found += await guarded("slot", STATEMENT_SECONDS, lambda: _check_slot(source, store_id))
        return found
    finally:
        await session.close()


async def _check_server(source: _Source) -> list[Check]:
    state, about, server = source.state, source.vitals, source.server
    used, most = about.used_wal_senders, about.max_wal_senders
    senders = ok("wal senders", f"{used} of {most} in use")
    if used >= most:
        remedy = f"ALTER SYSTEM SET max_wal_senders = {most + 5};"
        senders = failed("wal senders", f"all {most} of {server} are in use. Run: {remedy} and restart the server")
    return [
        raised("version", "15 or newer", partial(requirements.check_version, state, server)),
        raised("primary", "takes writes", partial(requirements.check_primary, state, server)),
        raised("wal_level", "logical", partial(requirements.check_wal_level, state, server)),
        raised(
            "replication right", f"{state.role} has it", partial(requirements.check_replication_right, state, server)
        ),
        senders,
    ]


async def _check_tables(source: _Source) -> list[Check]:
    tables = await catalog.tables(source.session, source.wanted.tables)
    existing = await catalog.table_names(source.session)
    found = []
    for name, mapping in source.wanted.tables.items():
        title = f"table {name}"
        if name not in tables:
            exists = partial(requirements.check_tables_exist, [name], tables, existing)
            found.append(raised(title, "exists", exists))
            continue
        checks = requirements.table_checks(
            tables[name], mapping, source.columns[name], source=source.name, state=source.state
        )
        problems = [*_problems(title, checks), *await _reading(source, title, tables[name])]
        hexadecimal = vitals.as_hexadecimal(tables[name], source.columns[name])
        if hexadecimal:
            problems.append(
                warning(
                    title, f"column {', '.join(hexadecimal)} holds bytes, which would be indexed as hexadecimal digits"
                )
            )
        found += problems or [
            ok(title, f"{len(source.columns[name])} mapped columns, readable, deletes can be followed")
        ]
    return found


def _problems(title: str, checks: Sequence[Callable[[], None]]) -> list[Check]:
    found = []
    for check in checks:
        try:
            check()
        except SourceMisconfigured as error:
            found.append(failed(title, error))
    return list({problem.message: problem for problem in found}.values())  # each leaf of a partitioned table says it


async def _reading(source: _Source, title: str, table: Table) -> list[Check]:
    present = [name for name in source.columns[table.name] if name in table.columns]
    if not all(table.columns[name].readable for name in present):
        return []  # said already, column by column
    try:
        await vitals.check_reading(source.session, table, present, source.state.role)
    except LivedexError as error:
        return [failed(title, error)]
    return []


async def _check_publication(source: _Source, store_id: str | None) -> list[Check]:
    tables = await catalog.tables(source.session, source.wanted.tables)
    if given := source.wanted.publication:
        try:
            await publication.check_given(source.session, given, tables, source.columns)
        except LivedexError as error:
            return [failed("publication", error)]
        return [ok("publication", f"{given} covers every mapped table and column")]
    if not tables:
        return [not_checked("publication", "there are no tables to publish")]
    name = slots.default_name(store_id, source.name) if store_id else f"livedex_{source.name}"
    existing = await catalog.publication(source.session, name) if store_id else None
    needed = publication.statements(existing, name, tables, source.state.version)
    if not needed:
        return [ok("publication", f"{name} covers every mapped table")]
    others = await vitals.not_owned(source.session, tables.values())
    if not others and (existing is not None or source.vitals.may_create):
        return [ok("publication", "the next livedex sync makes or changes it; the role may")]
    why = f"does not own {', '.join(others)}" if others else "may not create in the database"
    statements = " ".join(f"{statement.as_string(None)};" for statement in needed)
    return [
        failed(
            "publication",
            f"the role {source.state.role} {why}, so livedex cannot make a publication. Run as the owner of the tables "
            f"what follows, and set `publication: {name}` for the source in livedex.yaml",
            statements,
        )
    ]


async def _check_slot(source: _Source, store_id: str | None) -> list[Check]:
    given = source.wanted.slot
    if given is None and store_id is None:
        return [_check_free(source), not_checked("slot", "the index does not exist yet, or cannot be read")]
    name = given or slots.default_name(store_id or "", source.name)
    slot = await catalog.slot(source.session, name)
    if slot is None:
        if given is not None:
            return [failed("slot", f'"{given}" does not exist. Run: SELECT pg_create_logical_replication_slot('
                                   f"'{given}', 'pgoutput'); or leave `slot` out of livedex.yaml")]  # fmt: skip
        return [_check_free(source), ok("slot", f"{name} is made by the next livedex sync")]
    if reason := slots.invalidation(slot):
        return [failed("slot", f"{name} is lost ({reason}): the source removed changes before livedex read them. "
                               f"Run: livedex source resync {source.name}")]  # fmt: skip
    state = "followed" if slot["active"] else "nobody reads from it now"
    if source.state.in_recovery:
        return [ok("slot", f"{name}: {state}")]
    return [_check_kept(source, f"{name}: {state}", await vitals.kept_bytes(source.session, name))]


def _check_free(source: _Source) -> Check:
    state = source.state
    fine = f"{state.used_replication_slots} of {state.max_replication_slots} in use"
    return raised("free slot", fine, partial(requirements.check_free_slot, state, source.server))


def _check_kept(source: _Source, says: str, kept: int) -> Check:
    limit = source.vitals.wal_limit_bytes
    says += f"; {_size(kept)} of log kept for it, " + (
        "without a limit" if limit is None else f"of {_size(limit)} at most"
    )
    if limit is None and kept > MUCH_KEPT_BYTES:
        return warning(
            "slot", f"{says}: keep livedex up running, or the source's disk fills. A limit protects it",
            "ALTER SYSTEM SET max_slot_wal_keep_size = '50GB'; SELECT pg_reload_conf();",
        )  # fmt: skip
    if limit is not None and 2 * kept > limit:
        return warning("slot", f"{says}: beyond that the slot is lost. Run: livedex up")
    return ok("slot", says)


def _size(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{max(count, 0) / 1e6:,.0f} MB"
