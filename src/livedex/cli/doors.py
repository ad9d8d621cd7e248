"""The doors of an open index, for the commands that keep it open."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from livedex.errors import ConfigError, MissingExtra

if TYPE_CHECKING:
    from livedex.app import Index
    from livedex.cli.up import Events


@asynccontextmanager
async def doors_beside(index: Index, events: Events) -> AsyncIterator[None]:
    """The doors that `livedex up` opens beside its work: those that the configuration asks for, or may be had anyway.

    What was asked for and cannot be had is an error, except for a missing extra, which is said. What nobody asked for
    is left out: with a word where the port is taken, as by another `livedex up`, and without one where the extra is
    missing.
    """
    from livedex.config import Serve

    wanted = index.settings.serve
    async with AsyncExitStack() as stack:
        if wanted is None or wanted.enabled:
            try:
                from livedex.serve.listen import open_doors

                address = await stack.enter_async_context(open_doors(index, wanted or Serve(), version=own_version()))
            except MissingExtra as error:
                if wanted is not None:
                    events.not_serving(error)
            except ConfigError as error:
                if wanted is not None:
                    raise
                events.not_serving(error)
            else:
                events.serving(address.http, address.mcp)
        yield


def own_version() -> str:
    try:
        return version("livedex")
    except PackageNotFoundError:
        return ""  # run from source
