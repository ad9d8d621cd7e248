"""An index that follows its source in the background, looked at while it does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from livedex.app import Index
from livedex.clock import Clock
from livedex.demo.meter import MeteredEmbedder
from livedex.errors import LivedexError
from livedex.status import ViewStatus

PATIENCE_SECONDS = 60.0
"""How long nothing at all may happen before it is an error."""
LOOK_SECONDS = 0.001
LOADING_LOOK_SECONDS = 0.1

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where a demonstration takes place. `removal` is the command that removes everything afterwards;
    `application_url` is open to any PostgreSQL client on this machine while it runs, None without an application."""

    folder: Path
    removal: str
    embedder: str
    why: str
    application_url: str | None = None
    documents: Path | None = None


@dataclass(frozen=True, slots=True)
class Loading:
    """How far the first load has come: documents read and known so far, texts embedded, seconds since it began.
    `share` is the part of the text that is done, between 0 and 1, where its size is known."""

    documents: int
    of_documents: int
    texts_embedded: int
    seconds: float
    share: float | None

    @property
    def texts_per_second(self) -> float:
        return self.texts_embedded / self.seconds if self.seconds > 0 else 0.0


@dataclass(frozen=True, slots=True)
class FirstLoad:
    """What it took until everything was searchable."""

    documents: int
    chunks: int
    texts_embedded: int
    seconds: float


class Following:
    """An open index with its one view, kept up to date by `task`; `meter` counts what is embedded for it."""

    def __init__(self, index: Index, view: str, task: asyncio.Task[None], meter: MeteredEmbedder, clock: Clock) -> None:
        self.index = index
        self.view = view
        self.clock = clock
        self._task = task
        self._meter = meter

    async def loading(self, documents: int | None = None, characters: int | None = None) -> AsyncIterator[Loading]:
        """How far the first load is, about ten times a second, until everything is searchable.

        `documents` and `characters` are what the source holds, where that is known. Raises what ended the capture,
        and LivedexError when nothing moves any more.
        """
        started = moved = self.clock.monotonic()
        before: Loading | None = None
        while True:
            self.check()
            now = self.clock.monotonic()
            state, done = await self._loaded(documents, characters, now - started)
            yield state
            if done:
                return
            if before is None or (state.documents, state.texts_embedded) != (before.documents, before.texts_embedded):
                before, moved = state, now
            elif now - moved > PATIENCE_SECONDS:
                raise _too_late("The first load")
            await self.clock.sleep(LOADING_LOOK_SECONDS)

    async def first_load(self, last: Loading) -> FirstLoad:
        """What the load came to that ended with `last`."""
        status = await self.status()
        return FirstLoad(status.documents, status.chunks, status.totals["texts_embedded"], last.seconds)

    async def status(self) -> ViewStatus:
        (view,) = (await self.index.status()).views
        return view

    async def settled(self) -> ViewStatus | None:
        """The view, unless documents wait for it."""
        view = await self.status()
        return None if view.backlog else view

    async def until(self, look: Callable[[], Awaitable[T | None]], what: str) -> T:
        """Look until there is something. Raises what ended the capture, and LivedexError when it takes too long."""
        deadline = self.clock.monotonic() + PATIENCE_SECONDS
        while (found := await look()) is None:
            self.check()
            if self.clock.monotonic() > deadline:
                raise _too_late(what)
            await self.clock.sleep(LOOK_SECONDS)
        return found

    def check(self) -> None:
        """Raise what ended the capture, if it has ended."""
        if self._task.done():
            self._task.result()

    async def _loaded(self, documents: int | None, characters: int | None, seconds: float) -> tuple[Loading, bool]:
        views = [view for view in await self.index.progress() if view.view == self.view]
        known = max([documents or 0, *(view.documents for view in views)])
        read = sum(view.documents - view.waiting for view in views)
        done = bool(views) and all(view.loaded and not view.waiting for view in views)
        done = done and (documents is None or read == documents)
        share = min(1.0, self._meter.characters / characters) if characters else None
        return Loading(read, known, self._meter.texts, seconds, 1.0 if done else share), done


def _too_late(what: str) -> LivedexError:
    return LivedexError(f"{what} was not searchable after {PATIENCE_SECONDS:.0f} s. See: livedex status")
