"""`livedex token`: a name for everything that a source has committed by now."""

from __future__ import annotations

from typing import Annotated

import typer

from livedex.cli import terminal
from livedex.cli.running import Json, opened, run
from livedex.cli.terminal import say


def token(
    context: typer.Context,
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="The source, by its name in livedex.yaml.")],
    as_json: Json = False,
) -> None:
    """Print a token for everything that is committed in a source by now.

    A search with `--at-least TOKEN` covers all of it, or says that it cannot.
    """

    async def command() -> None:
        async with opened(context) as index:
            made = await index.token(source)
        if as_json:
            terminal.emit({"token": made})
        else:
            say(made)

    run(context, command)
