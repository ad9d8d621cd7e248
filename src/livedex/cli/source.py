"""`livedex source` and `livedex dsn`: the databases on both sides."""

from __future__ import annotations

import getpass
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from livedex.cli import terminal
from livedex.cli.running import INTERRUPTED, Json, opened, run
from livedex.cli.terminal import ago, counted, note, say
from livedex.errors import IllegalMove

if TYPE_CHECKING:
    from livedex.store.producers import Hold, SchemaChange

Name = Annotated[str, typer.Argument(metavar="NAME", help="The source, by its name in livedex.yaml.")]
_KINDS = {"deletes": "deleted", "shrinks": "emptied by more than half"}

app = typer.Typer(help="Where documents come from.", no_args_is_help=True)


@app.command()
def resync(
    context: typer.Context,
    name: Name,
    as_json: Json = False,
) -> None:
    """Read a source again from the start, at the next sync or start of up.

    What is unchanged is not embedded again.
    """

    async def command() -> None:
        async with opened(context) as index:
            await index.resync(name)
        if as_json:
            terminal.emit({"source": name})
        else:
            say(f"{name} will be read again from the start. Run: livedex sync, or start livedex up again.")

    run(context, command)


@app.command()
def show(context: typer.Context, name: Name, as_json: Json = False) -> None:
    """Show what the brake holds or held a source for, and who let it pass."""

    async def command() -> None:
        async with opened(context) as index:
            holds = await index.producers.holds(name)
        if as_json:
            terminal.emit({"source": name, "holds": holds})
            return
        for hold in holds:
            _show_hold(hold)
        if not holds:
            note(f"{name} has never been held.")

    run(context, command)


@app.command()
def schema(context: typer.Context, name: Name, as_json: Json = False) -> None:
    """List columns of a source's tables that were added, dropped or given another type, the newest first."""

    async def command() -> None:
        async with opened(context) as index:
            changes = await index.producers.schema_changes(name)
        if as_json:
            terminal.emit({"source": name, "schema_changes": changes})
        else:
            _show_schema(name, changes)

    run(context, command)


@app.command()
def resume(
    context: typer.Context,
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", metavar="", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Let pass what a source is held for.

    More of the same passes too, until the brake's window has gone by without any. A running up goes on by itself.
    """

    if as_json and not yes:
        raise typer.BadParameter("with --json nothing is asked, so add --yes", param_hint="--json")

    async def command() -> int:
        async with opened(context) as index:
            held = [hold for hold in await index.producers.holds(name) if hold.is_open]
            if not held:
                raise IllegalMove(f"Source {name} is not held, so there is nothing to answer. See: livedex status")
            if not as_json:
                _show_hold(held[0])
            if not yes and not _agreed():
                note(f"Nothing was let pass: {name} stays held. To let it pass without being asked, add --yes.")
                return INTERRUPTED
            await index.producers.resume(name, getpass.getuser())
            resumed = (await index.producers.holds(name))[0]
        if as_json:
            terminal.emit({"source": name, "resumed": resumed})
        else:
            say(f"{name} goes on with livedex sync, or in a running livedex up.")
        return 0

    run(context, command)


@app.command()
def retry(context: typer.Context, name: Name, as_json: Json = False) -> None:
    """Look at a held source again, after it was mended. Nothing is let pass: what is too much is held again."""

    async def command() -> None:
        async with opened(context) as index:
            await index.producers.retry(name)
        if as_json:
            terminal.emit({"source": name})
        else:
            say(f"{name} is looked at again by livedex sync, or by a running livedex up.")

    run(context, command)


def _agreed() -> bool:
    try:
        return typer.confirm("Let this pass?", err=True)
    except typer.Abort:  # nobody is there to answer
        note()
        return False


def _show_hold(hold: Hold) -> None:
    state = ("held", "yellow") if hold.is_open else ("passed", "green") if hold.approved_at else ("over", "dim")
    say(
        (hold.source, "bold"), "  ", state, f"  since {ago(hold.held_at)}" if hold.is_open else f"  {ago(hold.held_at)}"
    )
    counts = {"deletes": hold.deletes, "shrinks": hold.shrinks}
    lost = " and ".join(f"{counts[kind]:,} {_KINDS[kind]}" for kind in hold.kinds)
    say("  ", f"of {counted(hold.documents, 'document')}: {lost}")
    if hold.examples:
        say("  ", f"for example {', '.join(hold.examples)}")
    if hold.approved_at is not None:
        say("  ", f"let pass by {hold.approved_by} {ago(hold.approved_at)}")
    if hold.is_open:
        note(f"To let it pass: livedex source resume {hold.source}")
        note(f"When the source has been mended: livedex source retry {hold.source}")


def _show_schema(name: str, changes: Sequence[SchemaChange]) -> None:
    for change in changes:
        types = " → ".join(type_ for type_ in (change.was, change.became) if type_ is not None)
        place = f"{change.table}.{change.column}"
        waits = ("  waits for somebody", "yellow") if change.resolved_at is None else ""
        mapped = "" if change.mapped else ", not mapped"
        say((place, "bold"), f"  {change.kind} ({types}){mapped}, {ago(change.seen_at)}", waits)
    if not changes:
        note(f"No column of {name} has changed since it was first read.")


def dsn(context: typer.Context, as_json: Json = False) -> None:
    """Print the connection string of the index, password included, for any PostgreSQL client.

    livedex's own server runs while some livedex process does, such as `livedex up`.
    """

    async def command() -> None:
        async with opened(context) as index:
            if as_json:
                terminal.emit({"dsn": index.dsn})
            else:
                say(index.dsn)
            if index.settings.database_url is None:
                note("This server runs only while a livedex process does; keep livedex up running to connect.")

    run(context, command)
