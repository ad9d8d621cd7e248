"""A configuration drafted from a database or a folder, and checked before anybody sees it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from livedex import config
from livedex.adapters.embedders.local import PACKAGES as LOCAL_PACKAGES
from livedex.adapters.sources.postgres import catalog, inspect, requirements
from livedex.adapters.sources.postgres.connection import Server, Session
from livedex.errors import ConfigError, NotFound, SourceMisconfigured
from livedex.setup import place, write
from livedex.setup.place import Database
from livedex.setup.propose import LeftOut, Proposal, propose, propose_chosen, worth_reading

STATEMENT_SECONDS = 5.0
MOST_SAMPLED = 200
"""Tables, the largest first: looking into more would take longer than naming the right ones with --tables."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a database turned out to hold. `unready` says what keeps it from being followed, if anything does."""

    proposals: tuple[Proposal, ...]
    left_out: tuple[LeftOut, ...]
    unready: tuple[str, ...]
    relations: frozenset[str]


@dataclass(frozen=True, slots=True)
class Draft:
    """`text` is the file. `exports` are variables that it refers to and that are not set, with masked values;
    `guessed` says that nothing was found and the text is a template to fill in."""

    text: str
    sources: tuple[str, ...]
    view: str
    embedder: str
    found: Found
    exports: Mapping[str, str]
    environ: Mapping[str, str]
    guessed: bool = False


async def draft(
    given: str | None,
    directory: Path,
    environ: Mapping[str, str],
    *,
    tables: Sequence[str] = (),
    embedder: str | None = None,
) -> Draft:
    """What `livedex init` writes. Reads only.

    `given` is a PostgreSQL URL or a folder; without it the environment and `directory` are searched. `tables` are
    taken whatever they look like. Raises ConfigError, NotFound when no table will do, SourceError.
    """
    database, folder = place.find(given, directory, environ)
    if database is None and tables:
        raise ConfigError("--tables needs a database. Give its URL, or set DATABASE_URL.")
    found = Found((), (), (), frozenset())
    lines: list[str] = []
    if database is not None:
        found = await look_into(database, tables)
        lines += write.database(database, found.proposals, found.left_out)
    if folder is not None:
        files = place.count_documents(folder.path)
        lines += [*([""] if lines else []), *write.folder(folder, files, active=database is None)]
    name = database.name if database else folder.name if folder else "app"
    guessed = not lines
    if guessed:
        lines = write.TEMPLATE_DATABASE.splitlines()
    chosen, why = _embedder(embedder)
    view = f"{name}_view" if name in found.relations else name
    text = write.whole(lines, view, [name], chosen, why, _view_remarks(found))
    exports = {"APP_DATABASE_URL": "postgresql://..."} if guessed else dict(database.exports) if database else {}
    known = {"APP_DATABASE_URL": "postgresql://localhost/app"} if guessed else database.environ if database else {}
    return Draft(text, (name,), view, chosen, found, exports, known, guessed)


async def look_into(database: Database, tables: Sequence[str]) -> Found:
    """Which tables of a database are documents. Raises NotFound when none is, SourceError."""
    session = Session(Server(database.url, "livedex init"))
    try:
        await inspect.read_only(session, statement_seconds=STATEMENT_SECONDS)
        everything = await inspect.tables(session)
        relations = frozenset(table.relation for table in everything if table.schema == catalog.DEFAULT_SCHEMA)
        if tables:
            wanted = [table for table in everything if _is_named(table, tables)]
            proposals = propose_chosen([await _sampled(session, t) if t in wanted else t for t in everything], tables)
            left_out: list[LeftOut] = []
        else:
            kept, left_out = worth_reading(everything)
            proposals, others = propose([await _sampled(session, table) for table in kept[:MOST_SAMPLED]])
            left_out = [
                *others,
                *(LeftOut(t.name, "not looked into: too many tables") for t in kept[MOST_SAMPLED:]),
                *left_out,
            ]
        if not proposals:
            raise NotFound(_nothing(session, left_out))
        if all(proposal.doubt for proposal in proposals):
            # A file needs a table; the doubt stays beside it, as a remark.
            proposals = [replace(each, doubt=None, remarks=(*each.remarks, each.doubt or "")) for each in proposals]
        return Found(tuple(proposals), tuple(left_out), await _unready(session), relations)
    finally:
        await session.close()


def check(text: str, file: Path, environ: Mapping[str, str]) -> None:
    """Raises ConfigError when livedex could not load what it is about to write as `file`."""
    with tempfile.TemporaryDirectory() as directory:
        trial = Path(directory) / file.name
        trial.write_text(text, encoding="utf-8")
        config.load(trial, environ)


def refuse_existing(file: Path) -> None:
    """Raises ConfigError before any work is done for nothing; `save` looks again."""
    if file.exists():
        raise _exists(file)


def save(text: str, file: Path, *, overwrite: bool) -> None:
    """Write the file whole or not at all. Raises ConfigError when it is there already, or cannot be written."""
    try:
        if not overwrite:
            with file.open("x", encoding="utf-8") as fresh:  # nobody else's file is lost, however close the race
                fresh.write(text)
            return
        descriptor, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as fresh:
                fresh.write(text)
            Path(name).chmod(file.stat().st_mode & 0o777 if file.exists() else 0o644)
            Path(name).replace(file)
        except BaseException:
            with suppress(FileNotFoundError):
                Path(name).unlink()
            raise
    except FileExistsError:
        raise _exists(file) from None
    except OSError as error:
        raise ConfigError(f"cannot be written: {error.strerror}", file=file) from error


def _exists(file: Path) -> ConfigError:
    return ConfigError("is there already. Use --force to replace it, or --print to look first", file=file)


async def _sampled(session: Session, table: inspect.TableProfile) -> inspect.TableProfile:
    try:
        return await inspect.sample(session, table)
    except SourceMisconfigured:
        return table  # a policy hides its rows: what its columns are called has to do, and doctor names the right


async def _unready(session: Session) -> tuple[str, ...]:
    state = await catalog.server_state(session)
    try:
        requirements.check_server(state, str(session.server))
        requirements.check_free_slot(state, str(session.server))
    except SourceMisconfigured as error:
        return (str(error),)
    return ()


def _is_named(table: inspect.TableProfile, names: Sequence[str]) -> bool:
    return table.name in names or f"{table.schema}.{table.relation}" in names


def _nothing(session: Session, left_out: Sequence[LeftOut]) -> str:
    listed = "".join(f"\n  {table.table}: {table.reason}" for table in left_out[:20])
    more = f"\n  ... and {len(left_out) - 20} more" if len(left_out) > 20 else ""
    if not left_out:
        return f"{session.server} has no tables that this role can see. Is it the right database?"
    return f"No table of {session.server} looks like documents. Name some with --tables a,b.{listed}{more}"


def _embedder(wanted: str | None) -> tuple[str, str]:
    if wanted is not None:
        return wanted, "as asked for"
    if all(find_spec(package) for package in LOCAL_PACKAGES):
        return "local", "a model on this machine: finds meanings"
    return "hashing", "no model: finds words, not meanings, since the packages of 'livedex[local]' are not installed"


def _view_remarks(found: Found) -> list[str]:
    html = [p.table.name for p in found.proposals if any("HTML" in remark for remark in p.remarks)]
    if not html:
        return []
    return [f"{', '.join(html)}: the content is HTML; `chunker: html` on the view reads it as such."]
