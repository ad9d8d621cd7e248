"""As fresh as was asked for: around a search, judged by what that search itself read."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from livedex.clock import Clock
from livedex.errors import NotFresh, QueryError, SourceUnavailable, TokenRefused
from livedex.model import Freshness, Query, Retrieval, Watermark, WhenStale
from livedex.ports import Source, Vectors
from livedex.retrieve import Retrieves
from livedex.rules.freshness import asks_for_freshness, not_reached, too_stale
from livedex.store.database import Database
from livedex.store.freshness import watermarks

FIRST_LOOK_SECONDS = 0.003
MOST_LOOK_SECONDS = 0.05
"""How long a query that waits sleeps between two looks at the watermarks: ever longer, up to this."""
ANSWER_SECONDS = 2.0
"""How long sources may take to say where tokens stand, all those of a query together."""
MOST_WAIT_SECONDS = 3600.0
MOST_TOKENS = 100


class Fresh:
    """Holds another `Retrieves` to what a query asks of freshness; a query that asks for nothing passes untouched.

    The search comes first and is judged by the watermarks of its own snapshot, so that nothing is called fresh that
    the hits do not show. Whoever waits looks at watermarks only, then searches again and is judged again.
    """

    def __init__(
        self, inner: Retrieves, database: Database, source: Callable[[str], Source | None], clock: Clock
    ) -> None:
        """`source` gives the adapter of a source by its name; it is asked about tokens."""
        self._inner = inner
        self._database = database
        self._source = source
        self._clock = clock

    @property
    def model(self) -> str:
        return self._inner.model

    async def embed(self, text: str) -> Vectors:
        return await self._inner.embed(text)

    async def retrieve(self, query: Query) -> Retrieval:
        """See `Retrieves.retrieve`. Raises NotFresh, TokenRefused, and QueryError for bounds that make no sense."""
        _check(query)
        if not asks_for_freshness(query):
            return await self._inner.retrieve(query)
        started = self._clock.monotonic()
        found = await self._inner.retrieve(query)
        unmet = await self._unmet(query, found.watermark)
        waited = 0.0
        if unmet and query.when_stale is WhenStale.WAIT:
            deadline = started + query.wait_seconds
            while unmet and await self._until_met(query, found.generation, deadline):
                found = await self._inner.retrieve(query)
                unmet = await self._unmet(query, found.watermark)
            waited = self._clock.monotonic() - started
        if unmet and query.when_stale is not WhenStale.SERVE:
            after = f", after {waited:.3g} s of waiting" if query.when_stale is WhenStale.WAIT else ""
            raise NotFresh(f"View {found.view} is not as fresh as was asked for{after}. {' '.join(unmet)}")
        return replace(found, freshness=Freshness(not unmet, round(waited, 6), tuple(unmet)))

    async def _until_met(self, query: Query, generation: int, deadline: float) -> bool:
        """Look until a search would find what is asked for, or another generation answers; False when time is up."""
        pause = FIRST_LOOK_SECONDS
        while (left := deadline - self._clock.monotonic()) > 0:
            await self._clock.sleep(min(pause, left))
            pause = min(MOST_LOOK_SECONDS, 1.5 * pause)
            marks = await watermarks(self._database, generation)
            if marks is None or not await self._unmet(query, marks):
                return True
        return False

    async def _unmet(self, query: Query, marks: Sequence[Watermark]) -> list[str]:
        """Why these watermarks do not do, a sentence each; empty when they do."""
        most = query.max_staleness_seconds
        unmet = [] if most is None else too_stale(marks, most)
        until = asyncio.get_running_loop().time() + ANSWER_SECONDS
        for token in query.at_least:
            reason = await self._missing(token, marks, until)
            if reason is not None:
                unmet.append(reason)
        return unmet

    async def _missing(self, token: str, marks: Sequence[Watermark], until: float) -> str | None:
        name, _, named = token.partition(":")
        mark = next((mark for mark in marks if mark.source == name), None)
        source = None if mark is None else self._source(name)
        if mark is None or source is None:
            raise TokenRefused(
                f"Token {token} is of no source that this view reads. It begins with the source's name: "
                f"{', '.join(f'{mark.source}:...' for mark in marks)}"
            )
        try:
            async with asyncio.timeout_at(until):
                position = await source.locate(named, mark.position)
        except (SourceUnavailable, TimeoutError):
            return f"Source {name} cannot be asked about {token} right now."
        if position is not None and source.reached(mark.position, position):
            return None
        return not_reached(mark, token, is_open=position is None)


def _check(query: Query) -> None:
    most, wait = query.max_staleness_seconds, query.wait_seconds
    if most is not None and not (math.isfinite(most) and most >= 0):
        raise QueryError(f"max_staleness_seconds is {most}; it must be 0 or more.")
    if not 0 <= wait <= MOST_WAIT_SECONDS:
        raise QueryError(f"wait_seconds is {wait}; it must be between 0 and {MOST_WAIT_SECONDS:g}.")
    if len(query.at_least) > MOST_TOKENS:
        raise QueryError(
            f"at_least has {len(query.at_least)} tokens, {MOST_TOKENS} are the most. One that is made after the last "
            "write covers those before it."
        )
