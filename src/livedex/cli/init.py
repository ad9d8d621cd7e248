"""`livedex init`: a first livedex.yaml from what is there."""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from livedex.cli import terminal
from livedex.cli.running import Json, Options, run
from livedex.cli.terminal import note, say
from livedex.errors import ConfigError

if TYPE_CHECKING:
    from livedex.setup.draft import Draft
    from livedex.setup.propose import Proposal

EMBEDDERS = ("local", "hashing")


def init(
    context: typer.Context,
    where: Annotated[
        str | None,
        typer.Argument(
            metavar="WHERE", help="A PostgreSQL URL or a folder; else $DATABASE_URL, $PG..., or ./docs and the like."
        ),
    ] = None,
    tables: Annotated[
        str | None, typer.Option(metavar="A,B", help="Follow these tables instead of those that look like documents.")
    ] = None,
    embedder: Annotated[
        str | None, typer.Option(metavar="NAME", help="local or hashing; else local where it is installed.")
    ] = None,
    to_stdout: Annotated[bool, typer.Option("--print", metavar="", help="Print it instead of writing it.")] = False,
    force: Annotated[bool, typer.Option("--force", metavar="", help="Replace a file that is there.")] = False,
    as_json: Json = False,
) -> None:
    """Write a livedex.yaml from what a database or a folder holds.

    Asks nothing: it looks at the tables, proposes which are documents and what their columns mean, and gives the
    reason of each choice in a comment. The database is only read, and the file holds no secret.
    """

    async def command() -> None:
        from livedex.setup import draft as drafts

        if embedder not in (None, *EMBEDDERS):
            raise ConfigError(f'--embedder is {" or ".join(EMBEDDERS)}, not "{embedder}".')
        options: Options = context.obj
        file = (options.config or Path(os.environ.get("LIVEDEX_CONFIG") or "livedex.yaml")).absolute()
        if not (to_stdout or force):
            drafts.refuse_existing(file)
        names = [name.strip() for name in (tables or "").split(",") if name.strip()]
        made = await drafts.draft(where, file.parent, os.environ, tables=names, embedder=embedder)
        drafts.check(made.text, file, {**os.environ, **made.environ})
        if not to_stdout:
            drafts.save(made.text, file, overwrite=force)
        if as_json:
            terminal.emit(_as_json(made, None if to_stdout else file))
        elif to_stdout:
            typer.echo(made.text, nl=False)
        else:
            _show(made, file)

    run(context, command)


def _as_json(made: Draft, file: Path | None) -> dict[str, Any]:
    return {
        "file": None if file is None else str(file),
        "configuration": made.text,
        "sources": list(made.sources),
        "view": made.view,
        "embedder": made.embedder,
        "tables": [_table(proposal) for proposal in made.found.proposals],
        "left_out": [asdict(table) for table in made.found.left_out],
        "exports": dict(made.exports),
        "unready": list(made.found.unready),
    }


def _table(proposal: Proposal) -> dict[str, Any]:
    chosen = {name: getattr(proposal, name) for name in ("content", "title", "updated_at", "tenant", "acl", "version")}
    return {
        "table": proposal.table.name,
        "rows": proposal.table.rows,
        "key": list(proposal.table.key),
        **{name: None if choice is None else asdict(choice) for name, choice in chosen.items()},
        "tenant_certain": proposal.tenant_certain,
        "metadata": [asdict(choice) for choice in proposal.metadata],
        "remarks": list(proposal.remarks),
        "doubt": proposal.doubt,
    }


def _show(made: Draft, file: Path) -> None:
    say("Wrote ", (str(file), "bold"))
    for proposal in made.found.proposals:
        state = "" if proposal.doubt is None else f"  (commented out: {proposal.doubt})"
        columns = " and ".join(re.findall(r"\{([^{}]+)\}", proposal.content.value)) or proposal.content.value
        say("  ", (proposal.table.name, "bold"), f"  text from {columns}", state)
    if made.found.left_out:
        say(f"  {terminal.counted(len(made.found.left_out), 'table')} left out; the file says why")
    if made.guessed:
        note(("Nothing was found to follow, so it is a template: fill in the names.", "yellow"))
    for problem in made.found.unready:
        note(("Not ready to be followed: ", "yellow"), problem, " livedex doctor says what else is missing.")
    say()
    say("Next:")
    for variable, value in made.exports.items():
        password = "   # with the password" if "***" in value else ""
        say(f"  export {variable}={shlex.quote(value)}{password}")
    for command in _next(made):
        say(f"  {command}")


def _next(made: Draft) -> list[str]:
    fetch = ["livedex models fetch   # the model, once"] if made.embedder == "local" else []
    return [*fetch, "livedex doctor         # is everything as it must be?", "livedex sync           # load it",
            f'livedex search {made.view} "..."']  # fmt: skip
