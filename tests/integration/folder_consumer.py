"""A consumer of a folder, for the tests beside it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from livedex.adapters.sources.files import FilesSource
from livedex.model import Change, Op
from livedex.ports import Changes, SnapshotFinished, SnapshotRows, SourceEvent

PATIENCE_SECONDS = 30.0


class Following:
    """A consumer of one source: what the folder holds by its events, and every change in order."""

    def __init__(self, source: FilesSource, resume: str | None = None) -> None:
        self.source = source
        self.texts: dict[str, str | None] = {}
        self.changes: list[Change] = []
        self.position: str | None = resume
        self._seen: set[str] = set()
        self._events: AsyncGenerator[SourceEvent] = source.open("main", resume)

    async def step(self) -> SourceEvent:
        async with asyncio.timeout(PATIENCE_SECONDS):
            event = await anext(self._events)
        match event:
            case SnapshotRows(changes):
                self._seen |= {change.key[0] for change in changes}
                self._apply(changes)
            case Changes(changes):
                self.changes += changes
                self._apply(changes)
            case SnapshotFinished():
                self.texts = {path: text for path, text in self.texts.items() if path in self._seen}
        self.position = getattr(event, "position", self.position)
        return event

    async def snapshot(self) -> None:
        while not isinstance(await self.step(), SnapshotFinished):
            pass

    async def catch_up(self) -> None:
        """Everything that was done by now."""
        head = await self.source.head("main")
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not self.source.reached(self.position, head):
                await self.step()

    async def until(self, wanted: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not wanted():
                await self.step()

    async def close(self) -> None:
        await self._events.aclose()

    def said(self) -> list[tuple[Op, str, str | None]]:
        return [(c.op, c.key[0], c.old_key[0] if c.old_key else None) for c in self.changes]

    def _apply(self, changes: Any) -> None:
        for change in changes:
            if change.old_key is not None:
                self.texts.pop(change.old_key[0], None)
            if change.op is Op.DELETE:
                self.texts.pop(change.key[0], None)
            elif not change.unchanged:
                self.texts[change.key[0]] = change.columns.get("content")


def source_of(folder: Path, **options: Any) -> FilesSource:
    return FilesSource(
        folder, **{"name": "docs", "include": ["**/*.md", "**/*.txt"], "heartbeat_seconds": 0.05, **options}
    )  # fmt: skip


@asynccontextmanager
async def following(folder: Path, resume: str | None = None, **options: Any) -> AsyncIterator[Following]:
    """A consumer that has the snapshot."""
    consumer = Following(source_of(folder, **options), resume)
    try:
        await consumer.snapshot()
        yield consumer
    finally:
        await consumer.close()
