"""`livedex escalations`: questions that a contract left to a person."""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING, Annotated

import typer

from livedex.cli import terminal
from livedex.cli.running import Json, opened, run
from livedex.cli.search import snippet
from livedex.cli.terminal import ago, counted, note, one_line, say
from livedex.cli.verdict import show_dropped

if TYPE_CHECKING:
    from livedex.store.escalations import Escalation

app = typer.Typer(help="Questions that a contract left to a person.", no_args_is_help=True)

Number = Annotated[int, typer.Argument(metavar="N", help="As `livedex escalations list` numbers it.")]
By = Annotated[str | None, typer.Option("--by", metavar="NAME", help="Who; else the user that you are logged in as.")]


@app.command("list")
def list_escalations(
    context: typer.Context,
    everything: Annotated[bool, typer.Option("--all", metavar="", help="Those that are resolved, too.")] = False,
    as_json: Json = False,
) -> None:
    """List the questions that wait for a person, oldest first."""

    async def command() -> None:
        from livedex.rules.escalations import State

        async with opened(context) as index:
            found = await index.escalations.list(tuple(State) if everything else (State.OPEN, State.TAKEN))
        if as_json:
            terminal.emit({"escalations": found})
            return
        for each in found:
            _show_line(each, snippet(_question(each)))
        if not found:
            note("No question waits for a person.")

    run(context, command)


@app.command()
def show(context: typer.Context, number: Number, as_json: Json = False) -> None:
    """Show one question: which clauses kept it from being answered, and what was nearest."""

    async def command() -> None:
        async with opened(context) as index:
            found = await index.escalations.one(number)
        _emit(found, as_json)

    run(context, command)


@app.command()
def take(context: typer.Context, number: Number, by: By = None, as_json: Json = False) -> None:
    """Say that you look into a question. Of two people who take it at once one is told that it is taken."""

    async def command() -> None:
        async with opened(context) as index:
            found = await index.escalations.take(number, by or getpass.getuser())
        _emit(found, as_json)

    run(context, command)


@app.command()
def resolve(
    context: typer.Context,
    number: Number,
    resolution: Annotated[str, typer.Option("--resolution", "-m", metavar="TEXT", help="What came of it.")],
    by: By = None,
    as_json: Json = False,
) -> None:
    """Close a question with what came of it. Asked again after that, it opens a new one."""

    async def command() -> None:
        async with opened(context) as index:
            found = await index.escalations.resolve(number, by or getpass.getuser(), resolution)
        _emit(found, as_json)

    run(context, command)


def _emit(found: Escalation, as_json: bool) -> None:
    if as_json:
        terminal.emit(found)
    else:
        _show(found)


def _question(found: Escalation) -> str:
    return "(the question is not kept)" if found.question is None else one_line(found.question)


def _show_line(found: Escalation, question: str) -> None:
    by = "" if found.taken_by is None else f" by {one_line(found.taken_by)}"
    say((f"{found.escalation:4}  ", "bold"), (question, "bold"), f"  {found.view} · {found.state}{by} · "
        f"asked {counted(found.times, 'time')}, last {ago(found.last_at)}")  # fmt: skip


def _show(found: Escalation) -> None:
    _show_line(found, _question(found))
    for violation in found.violations:
        say("      ", f"{violation.clause}: {violation.reason}")
    show_dropped(found.nearest)
    if found.resolution is not None:
        say("      ", f"resolved by {one_line(found.resolved_by or '')}: {one_line(found.resolution)}")
    note((f"contract {found.contract}, retrieval {found.retrieval_id}", "dim"))
