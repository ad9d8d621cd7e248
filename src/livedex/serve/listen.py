"""A port that answers over an index: both doors, opened and closed in order. Importing it needs the extra `serve`."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass

from livedex.config import Serve
from livedex.errors import ConfigError, MissingExtra
from livedex.serve.http import create_app
from livedex.serve.wire import ServedIndex

try:
    import uvicorn
    from fastapi import FastAPI
    from starlette.routing import Route
except ModuleNotFoundError as error:
    raise MissingExtra("Serving over HTTP", "serve") from error

FINISH_SECONDS = 12
"""How long what is being answered has when the doors close; more than an answer may take."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where the doors are, as URLs. `mcp` is None without the extra `mcp`."""

    http: str
    mcp: str | None


@asynccontextmanager
async def open_doors(index: ServedIndex, wanted: Serve, *, version: str = "") -> AsyncIterator[Address]:
    """Answer over HTTP, and MCP where its extra is installed, until the end of the block; then what was begun is
    finished. The index stays open.

    Raises ConfigError when the port cannot be had.
    """
    app = create_app(index, version=version, host=wanted.host)
    path, answering = _add_mcp(app, index, wanted, version)
    with _listener(wanted) as listener:
        server = _Server(_uvicorn(app))
        serving = asyncio.create_task(_serve(server, listener, answering))
        try:
            url = _url(wanted, listener)
            yield Address(url, None if path is None else url + path)
        finally:
            server.should_exit = True
            await serving


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the command that opened the doors: it has more to finish than these."""
        yield


def _uvicorn(app: FastAPI) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,  # the program's logging is its own
        access_log=False,  # a line for each request would say who searches
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=FINISH_SECONDS,
    )


async def _serve(server: uvicorn.Server, listener: socket.socket, answering: AbstractAsyncContextManager[None]) -> None:
    async with answering:  # entered and left by one task, as what is in it demands
        await server.serve(sockets=[listener])


def _add_mcp(
    app: FastAPI, index: ServedIndex, wanted: Serve, version: str
) -> tuple[str | None, AbstractAsyncContextManager[None]]:
    """The path of the MCP door, and what has to be entered while it answers. Where the extra is missing there is none,
    for it is an addition to the other door."""
    try:
        from livedex.serve import mcp  # noqa: PLC0415  # an extra
    except MissingExtra:
        return None, nullcontext()
    behalf = mcp.OnBehalfOf(wanted.mcp.tenant, wanted.mcp.principals)
    answer, answering = mcp.McpDoor(index, behalf, version).over_http()
    # A GET would open a stream for what a server says unasked. There is none, and it would hold up the end.
    app.router.routes.append(Route(mcp.PATH, answer, methods=["POST"]))
    return mcp.PATH, answering


@contextmanager
def _listener(wanted: Serve) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in wanted.host else socket.AF_INET
    try:
        listener = socket.create_server((wanted.host, wanted.port), family=family)
    except OSError as error:
        raise ConfigError(_why_not(error, wanted), key="serve.port") from error
    with listener:
        yield listener


def _why_not(error: OSError, wanted: Serve) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {wanted.port} on {wanted.host} is in use. End what listens there, or choose another port; 0 takes "
            "any that is free."
        )
    return f"port {wanted.port} on {wanted.host} cannot be listened on: {error.strerror}. Choose another."


def _url(wanted: Serve, listener: socket.socket) -> str:
    host = f"[{wanted.host}]" if ":" in wanted.host else wanted.host
    return f"http://{host}:{listener.getsockname()[1]}"
