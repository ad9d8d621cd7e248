"""A process of livedex beside a test, and waiting for what it does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import livedex

PATIENCE_SECONDS = 30.0
LOOK_SECONDS = 0.05


@asynccontextmanager
async def up(index: livedex.Index) -> AsyncIterator[None]:
    """The index is kept up to date while the block runs."""
    stop = asyncio.Event()
    running = asyncio.create_task(index.up(stop))
    try:
        yield
    finally:
        stop.set()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await running


async def until(is_so: Callable[[], bool]) -> None:
    for _ in range(round(PATIENCE_SECONDS / LOOK_SECONDS)):
        if await asyncio.to_thread(is_so):  # the index on this loop may hold what the question waits for
            return
        await asyncio.sleep(LOOK_SECONDS)
    raise AssertionError("it never came about")
