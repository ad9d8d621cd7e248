"""`livedex mcp`: the MCP door on stdin and stdout."""

from __future__ import annotations

import sys

import typer

from livedex.cli import terminal
from livedex.cli.doors import own_version
from livedex.cli.running import Principals, Tenant, opened, run


def mcp(
    context: typer.Context,
    tenant: Tenant = None,
    principals: Principals = None,
) -> None:
    """Answer a model's searches over MCP on stdin and stdout.

    For programs that start their tools themselves, such as editors and assistants. Whose documents the model finds is
    said here, or under `serve.mcp` in the configuration; the model cannot choose. Needs the extra `mcp`.
    """

    async def command() -> None:
        from livedex.config import Serve
        from livedex.serve.mcp import McpDoor, OnBehalfOf

        if sys.stdin.isatty():
            terminal.note("Speaking MCP on stdin and stdout. A client should start this; Ctrl-C ends it.")
        async with opened(context) as index:
            configured = (index.settings.serve or Serve()).mcp
            behalf = OnBehalfOf(
                configured.tenant if tenant is None else tenant,
                configured.principals if principals is None else tuple(principals),
            )
            await McpDoor(index, behalf, own_version()).over_stdio()

    run(context, command)
