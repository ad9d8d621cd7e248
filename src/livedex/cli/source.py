"""`livedex source` and `livedex dsn`: the databases on both sides."""

from __future__ import annotations

from typing import Annotated

import typer

from livedex.cli import terminal
from livedex.cli.running import Json, opened, run
from livedex.cli.terminal import note, say

app = typer.Typer(help="Where documents come from.", no_args_is_help=True)


@app.command()
def resync(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The source, by its name in livedex.yaml.")],
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
