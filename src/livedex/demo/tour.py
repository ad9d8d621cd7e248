"""The tour: a first load, then edits by the application, each followed until a search shows it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from livedex.app import Index
from livedex.clock import Clock
from livedex.demo.application import Application
from livedex.demo.edits import EDITS, VIEW, Edit
from livedex.errors import LivedexError
from livedex.model import Retrieval
from livedex.status import ViewStatus

SEEN = 50
"""How many chunks a look takes in: so many that no change hides below the others."""
PATIENCE_SECONDS = 60.0
LOOK_SECONDS = 0.001

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where a tour takes place. `application_url` is open to any PostgreSQL client on this machine while it runs;
    `removal` is the command that removes everything afterwards."""

    folder: Path
    removal: str
    application_url: str
    embedder: str
    why: str


@dataclass(frozen=True, slots=True)
class FirstLoad:
    """What it took until everything was searchable."""

    documents: int
    chunks: int
    texts_embedded: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an edit. `searchable_ms` runs from the return of the commit to the first search that shows it."""

    edit: Edit
    searchable_ms: float
    texts_embedded: int
    before: Retrieval
    after: Retrieval


class Tour:
    """An application, and an index that follows its database in the task `following`."""

    def __init__(
        self,
        surroundings: Surroundings,
        application: Application,
        index: Index,
        following: asyncio.Task[None],
        clock: Clock,
    ) -> None:
        self.surroundings = surroundings
        self.index = index
        self._application = application
        self._following = following
        self._clock = clock

    async def first_load(self) -> FirstLoad:
        """Wait until everything that the application holds is searchable."""
        started = self._clock.monotonic()
        documents = await self._application.count()

        async def look() -> ViewStatus | None:
            progress = await self.index.progress()
            if not any(view.loaded and not view.waiting and view.documents == documents for view in progress):
                return None
            return await self._view()

        view = await self._until(look, "The first load")
        seconds = self._clock.monotonic() - started
        return FirstLoad(view.documents, view.chunks, view.totals["texts_embedded"], seconds)

    async def outcomes(self) -> AsyncIterator[Outcome]:
        """Make one edit after the other; of each, how long it took and what it cost."""
        for edit in EDITS:
            yield await self._follow(edit)

    async def _follow(self, edit: Edit) -> Outcome:
        before = await self._search(edit)
        embedded = (await self._view()).totals["texts_embedded"]
        committing = await self._application.commit(edit.statement)
        committed = self._clock.monotonic()

        async def shown() -> Retrieval | None:
            retrieval = await self._search(edit)
            return retrieval if edit.shows(retrieval, committing) else None

        after = await self._until(shown, f"The {edit.kind}")
        milliseconds = (self._clock.monotonic() - committed) * 1000
        # A delete is gone from searches before its chunks are; what it cost is known when nothing waits any more.
        view = await self._until(self._settled, f"The {edit.kind}")
        return Outcome(edit, milliseconds, view.totals["texts_embedded"] - embedded, before, after)

    async def _search(self, edit: Edit) -> Retrieval:
        return await self.index.search(VIEW, edit.question, top_k=SEEN, filters=edit.filters)

    async def _settled(self) -> ViewStatus | None:
        view = await self._view()
        return None if view.backlog else view

    async def _view(self) -> ViewStatus:
        (view,) = (await self.index.status()).views
        return view

    async def _until(self, look: Callable[[], Awaitable[T | None]], what: str) -> T:
        """Look until there is something. Raises what ended the capture, and LivedexError when it takes too long."""
        deadline = self._clock.monotonic() + PATIENCE_SECONDS
        while (found := await look()) is None:
            if self._following.done():
                self._following.result()
            if self._clock.monotonic() > deadline:
                raise LivedexError(f"{what} was not searchable after {PATIENCE_SECONDS:.0f} s. See: livedex status")
            await self._clock.sleep(LOOK_SECONDS)
        return found
