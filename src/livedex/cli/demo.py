"""`livedex demo`: the whole of it in an empty folder."""

from __future__ import annotations

from typing import Annotated

import typer

from livedex.cli.running import Json, run


def demo(
    context: typer.Context,
    leave: Annotated[bool, typer.Option("--exit", help="End after the tour instead of waiting for searches.")] = False,
    as_json: Json = False,
) -> None:
    """Take a tour: a handbook in a database, edited in plain SQL, searchable a moment later.

    Needs nothing and touches nothing outside ./livedex-demo. `--json` prints the tour as one document, and ends.
    """

    async def command() -> None:
        from livedex.demo import show

        await show.demo(interactive=not (leave or as_json), as_json=as_json)

    run(context, command)
