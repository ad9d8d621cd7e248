"""Setting a demonstration up: servers, a livedex.yaml, and capture running."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from psycopg import AsyncConnection

from livedex import config
from livedex.adapters.embedders.weights import Progress
from livedex.app import open_index
from livedex.assembly import Report
from livedex.clock import SystemClock
from livedex.demo import embedder, place
from livedex.demo.application import Application
from livedex.demo.edits import VIEW
from livedex.demo.embedder import Chosen, Step
from livedex.demo.following import Following, Loading, Surroundings
from livedex.demo.meter import MeteredEmbedder
from livedex.demo.tour import Tour
from livedex.errors import ConfigError
from livedex.store.embedded import EmbeddedServer

_WANTED = ("HOME", "LIVEDEX_CACHE", "XDG_CACHE_HOME")
"""What the demonstration takes from the environment. Not LIVEDEX_DATABASE_URL: it must touch no index but its own."""


@dataclass(frozen=True, slots=True)
class Onlooker:
    """Whom to tell while one has to wait: `step` of what begins, `download` of a model on its way, `failure` of what a
    worker met and tries again."""

    step: Step
    download: Progress
    failure: Report


@dataclass(frozen=True, slots=True)
class FilesStage:
    """A folder of the user's, and an index that follows it."""

    surroundings: Surroundings
    following: Following

    async def loading(self) -> AsyncIterator[Loading]:
        """How far the first load is, until everything in the folder is searchable."""
        async for state in self.following.loading():
            yield state


@asynccontextmanager
async def handbook_staged(parent: Path, environ: Mapping[str, str], onlooker: Onlooker) -> AsyncIterator[Tour]:
    """A tour ready to begin, in the folder `livedex-demo` of `parent`, which is made afresh."""
    async with AsyncExitStack() as stack:
        folder, chosen = await _prepared(parent, environ, onlooker, stack)
        onlooker.step("Starting a PostgreSQL for the application")
        server = await EmbeddedServer.start(folder / place.APPLICATION)
        stack.push_async_callback(server.stop)
        connection = await stack.enter_async_context(await AsyncConnection.connect(server.dsn, autocommit=True))
        application = Application(connection)
        await application.set_up()
        file = place.configure_application(folder, server.public_dsn, chosen.kind)
        following = await stack.enter_async_context(_followed(file, VIEW, chosen, environ, onlooker))
        removal = place.removal(folder)
        yield Tour(Surroundings(folder, removal, chosen.kind, chosen.why, server.public_dsn), application, following)


@asynccontextmanager
async def files_staged(
    parent: Path, documents: Path, environ: Mapping[str, str], onlooker: Onlooker
) -> AsyncIterator[FilesStage]:
    """An index that follows the folder `documents`, which is only read; its own things stand as the handbook's do.

    Raises ConfigError when there is no such folder.
    """
    documents = await asyncio.to_thread(_existing, documents)
    async with AsyncExitStack() as stack:
        folder, chosen = await _prepared(parent, environ, onlooker, stack)
        file = place.configure_files(folder, documents, chosen.kind)
        following = await stack.enter_async_context(_followed(file, place.FILES_VIEW, chosen, environ, onlooker))
        removal = place.removal(folder)
        yield FilesStage(Surroundings(folder, removal, chosen.kind, chosen.why, documents=documents), following)


async def _prepared(
    parent: Path, environ: Mapping[str, str], onlooker: Onlooker, stack: AsyncExitStack
) -> tuple[Path, Chosen]:
    """An empty folder of our own, and an embedder that is closed with the stack."""
    folder = parent / place.FOLDER
    if place.made_before(folder):
        onlooker.step("Removing what an earlier run left")
        await place.clear(folder)
    chosen = await embedder.choose(config.cache_directory(_ours(environ)), onlooker.step, onlooker.download)
    stack.push_async_callback(chosen.embedder.close)
    place.make(folder)
    return folder, chosen


@asynccontextmanager
async def _followed(
    file: Path, view: str, chosen: Chosen, environ: Mapping[str, str], onlooker: Onlooker
) -> AsyncIterator[Following]:
    """The index of a configuration, following its source until the end of the block."""
    onlooker.step("Starting a PostgreSQL for the index")
    meter = MeteredEmbedder(chosen.embedder)
    async with open_index(file, environ=_ours(environ), embedders={chosen.kind: meter}) as index:
        stop = asyncio.Event()
        task = asyncio.create_task(index.up(stop, onlooker.failure))
        try:
            yield Following(index, view, task, meter, SystemClock())
        except BaseException:
            task.cancel()  # without finishing what was captured: who interrupts does not want to wait for it
            raise
        finally:
            stop.set()
            await asyncio.gather(task, return_exceptions=True)


def _existing(documents: Path) -> Path:
    documents = documents.resolve()
    if not documents.is_dir():
        raise ConfigError(f"There is no folder {documents}. Name one that holds Markdown, HTML or text files.")
    return documents


def _ours(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: environ[name] for name in _WANTED if name in environ}
