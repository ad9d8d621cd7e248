"""`livedex quarantine`: documents that could not be processed."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from livedex.cli import terminal
from livedex.cli.running import Json, opened, run
from livedex.cli.terminal import ago, counted, note, say
from livedex.errors import NotFound

app = typer.Typer(help="Documents that could not be processed, and why.", no_args_is_help=True)


@app.command("list")
def list_quarantine(context: typer.Context, as_json: Json = False) -> None:
    """List what is in quarantine, with the reasons."""

    async def command() -> None:
        async with opened(context) as index:
            rows = await index.quarantined()
        if as_json:
            terminal.emit({"quarantined": rows})
            return
        for row in rows:
            say((f"{row['quarantine_id']:4}  ", "bold"), (row["document_id"], "bold"), f"  {_where(row)}")
            say("      ", row["reason"])
        if not rows:
            note("Nothing is in quarantine.")

    run(context, command)


@app.command()
def show(
    context: typer.Context,
    number: Annotated[int, typer.Argument(metavar="N", help="As `livedex quarantine list` numbers it.")],
    as_json: Json = False,
) -> None:
    """Show one document in quarantine, and what to do about it."""

    async def command() -> None:
        async with opened(context) as index:
            rows = [row for row in await index.quarantined() if row["quarantine_id"] == number]
        if not rows:
            raise NotFound(f"Nothing in quarantine has the number {number}. See: livedex quarantine list")
        if as_json:
            terminal.emit(rows[0])
        else:
            _show(rows[0])

    run(context, command)


@app.command()
def retry(
    context: typer.Context,
    numbers: Annotated[list[int] | None, typer.Argument(metavar="N", help="Which ones.", show_default=False)] = None,
    everything: Annotated[bool, typer.Option("--all", metavar="", help="All of them.")] = False,
    as_json: Json = False,
) -> None:
    """Process documents in quarantine again, at the next sync or in a running up."""
    if bool(numbers) == everything:
        raise typer.BadParameter("name some numbers, or --all")

    async def command() -> None:
        async with opened(context) as index:
            sent = await index.retry(None if everything else numbers)
        if as_json:
            terminal.emit({"retried": sent})
        else:
            say(f"{counted(sent, 'document')} will be processed again by livedex sync, or livedex up.")

    run(context, command)


def _where(row: dict[str, Any]) -> str:
    steps = {"map": "reading it", "expect": "not as expected", "chunk": "cutting its text", "embed": "embedding"}
    step = steps[row["stage"]]
    return f"{row['source']} · {step}" + ("" if row["view"] is None else f" for {row['view']}")


def _show(row: dict[str, Any]) -> None:
    say((row["document_id"], "bold"), f"  {_where(row)}")
    say("  ", row["reason"])
    tries = f"{counted(row['attempts'], 'attempt')}, first {ago(row['first_at'])}, last {ago(row['last_at'])}"
    say("  ", f"{tries}; version {row['version'] or 'unknown'}")
    if row["stage"] in ("map", "expect"):
        note("Mend it in its source: with its next change it leaves quarantine by itself.")
    if row["stage"] == "expect":
        again = f"livedex quarantine retry {row['quarantine_id']}"
        note(f"Or change what is expected in livedex.yaml; the next start judges anew. To do so at once: {again}")
    elif row["stage"] != "map":
        note(f"When the cause is mended, run: livedex quarantine retry {row['quarantine_id']}")
