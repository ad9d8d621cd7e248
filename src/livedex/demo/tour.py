"""The tour: a first load, then edits by the application, each followed until a search shows it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from livedex.demo.application import Application
from livedex.demo.edits import EDITS, Edit
from livedex.demo.following import Following, Loading, Surroundings
from livedex.model import Retrieval

SEEN = 50
"""How many chunks a look takes in: so many that no change hides below the others."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an edit. `searchable_ms` runs from the return of the commit to the end of the first search that
    shows it."""

    edit: Edit
    searchable_ms: float
    texts_embedded: int
    before: Retrieval
    after: Retrieval


class Tour:
    """An application, and an index that follows its database."""

    def __init__(self, surroundings: Surroundings, application: Application, following: Following) -> None:
        self.surroundings = surroundings
        self.following = following
        self._application = application

    async def loading(self) -> AsyncIterator[Loading]:
        """How far the first load is, until everything that the application holds is searchable."""
        documents, characters = await self._application.size()
        async for state in self.following.loading(documents, characters):
            yield state

    async def outcomes(self) -> AsyncIterator[Outcome]:
        """Make one edit after the other; of each, how long it took and what it cost."""
        for edit in EDITS:
            yield await self._follow(edit)

    async def _follow(self, edit: Edit) -> Outcome:
        following = self.following
        before = await self._search(edit)
        embedded = (await following.status()).totals["texts_embedded"]
        committing = await self._application.commit(edit.statement)
        committed = following.clock.monotonic()

        async def shown() -> Retrieval | None:
            retrieval = await self._search(edit)
            return retrieval if edit.shows(retrieval, committing) else None

        after = await following.until(shown, f"The {edit.kind}")
        milliseconds = (following.clock.monotonic() - committed) * 1000
        # A delete is gone from searches before its chunks are; what it cost is known when nothing waits any more.
        view = await following.until(following.settled, f"The {edit.kind}")
        return Outcome(edit, milliseconds, view.totals["texts_embedded"] - embedded, before, after)

    async def _search(self, edit: Edit) -> Retrieval:
        following = self.following
        return await following.index.search(following.view, edit.question, top_k=SEEN, filters=edit.filters)
