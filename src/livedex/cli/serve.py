"""`livedex serve`: the doors alone."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from livedex.cli.doors import own_version
from livedex.cli.running import Json, opened, run
from livedex.cli.up import Events, stop_on_signals


def serve(
    context: typer.Context,
    port: Annotated[
        int | None,
        typer.Option(metavar="PORT", min=0, max=65535, help="Instead of the configured one; 0 for any that is free.",
                     show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Answer searches over HTTP, and MCP, until stopped.

    Over an index that another process keeps up to date; `livedex up` does both. Needs the extra `serve`, for MCP also
    `mcp`. Listens on this machine only.
    """

    async def command() -> None:
        from livedex.config import Serve
        from livedex.serve.listen import open_doors

        stop = asyncio.Event()
        events = Events(as_json)
        stop_on_signals(stop, events, "finishing what is being answered; a second signal ends at once")
        async with opened(context) as index:
            wanted = index.settings.serve or Serve()
            if port is not None:
                wanted = wanted.model_copy(update={"port": port})
            async with open_doors(index, wanted, version=own_version()) as address:
                events.serving(address.http, address.mcp)
                await stop.wait()
        events.tell("stopped", "stopped")

    run(context, command)
