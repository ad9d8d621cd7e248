"""Looking back: what was retrieved, what would be retrieved now, and how a document came to be as it is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from livedex.clock import Clock
from livedex.errors import NotFound
from livedex.retrieve import Retrieves
from livedex.retrieve.recorded import Recorded, Recorder
from livedex.retrieve.replayed import Replay, replay
from livedex.store.answers import Records, Retrievals
from livedex.store.catalog import Catalog
from livedex.store.database import Database
from livedex.store.history import History, Lineage

MOST_LISTED = 10_000


class Past:
    """An index's memory. `keep_seconds` is how far back it reaches for retrievals."""

    def __init__(
        self,
        database: Database,
        catalog: Catalog,
        hash_key: bytes,
        clock: Clock,
        *,
        enabled: bool,
        text: bool,
        keep_seconds: float,
    ) -> None:
        self._catalog = catalog
        self._records = Records(database)
        self._history = History(database)
        self._hash_key = hash_key
        self._keep_seconds = keep_seconds
        self.recorder = Recorder(self._records, hash_key, clock, enabled=enabled, text=text)

    async def recorded(self, view: str, within: Retrieves) -> Retrieves:
        """The same, with everything that it answers written down."""
        return Recorded(within, view, await self._catalog.sources(), self.recorder)

    async def close(self) -> None:
        await self.recorder.close()

    async def lineage(self, source: str, document_id: str) -> Lineage:
        """The versions of a document. Raises NotFound."""
        known = {row.name: row for row in await self._catalog.sources()}
        if source not in known:
            raise NotFound(f"There is no source {source} in this index. Known: {', '.join(sorted(known)) or 'none'}.")
        return await self._history.lineage(known[source], document_id, await self._catalog.generations())

    async def retrievals(self, view: str | None, last: int) -> Retrievals:
        """The last retrievals of a view, or of all, newest first, those of this process included."""
        await self.recorder.flush()
        return await self._records.recent(view, min(last, MOST_LISTED), self._keep_seconds)

    async def replay(self, retrieval_id: str, retriever: Callable[[str], Awaitable[Retrieves]]) -> Replay:
        """What a retrieval saw, and what it would see now. Raises NotFound."""
        await self.recorder.flush()
        seen = await self._records.one(retrieval_id, self._keep_seconds)
        return await replay(seen, self._records, retriever, self._catalog.active_generation, self._hash_key)
