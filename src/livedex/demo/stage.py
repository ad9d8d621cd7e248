"""Setting the tour up: two servers, a table, a livedex.yaml, and capture running."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from psycopg import AsyncConnection

from livedex import config
from livedex.adapters.embedders.weights import Progress
from livedex.app import Report, open_index
from livedex.clock import SystemClock
from livedex.demo import embedder, place
from livedex.demo.application import Application
from livedex.demo.tour import Surroundings, Tour
from livedex.store.embedded import EmbeddedServer

_WANTED = ("HOME", "LIVEDEX_CACHE", "XDG_CACHE_HOME")
"""What the demonstration takes from the environment. Not LIVEDEX_DATABASE_URL: it must touch no index but its own."""


@asynccontextmanager
async def staged(
    parent: Path, environ: Mapping[str, str], *, progress: Progress, report: Report
) -> AsyncIterator[Tour]:
    """A tour ready to begin, in the folder `livedex-demo` of `parent`, which is made afresh.

    `progress` is told of a model's download, `report` of failures while following.
    """
    environ = {name: environ[name] for name in _WANTED if name in environ}
    kind, why = await embedder.choose(config.cache_directory(environ), progress)
    folder = parent / place.FOLDER
    await place.clear(folder)
    folder.mkdir(mode=0o755)
    server = await EmbeddedServer.start(folder / place.APPLICATION)
    try:
        async with await AsyncConnection.connect(server.dsn, autocommit=True) as connection:
            application = Application(connection)
            await application.set_up()
            file = place.configure(folder, server.public_dsn, kind)
            async with open_index(file, environ=environ) as index:
                stop = asyncio.Event()
                following = asyncio.create_task(index.up(stop, report))
                surroundings = Surroundings(folder, place.removal(folder), server.public_dsn, kind, why)
                try:
                    yield Tour(surroundings, application, index, following, SystemClock())
                finally:
                    stop.set()
                    await asyncio.gather(following, return_exceptions=True)
    finally:
        await server.stop()
