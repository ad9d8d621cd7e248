"""Ending workers."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from livedex.flow.keep_up import end


async def test_a_worker_that_misses_a_cancellation_is_ended_all_the_same() -> None:
    async def misses_one() -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await asyncio.Event().wait()

    worker = asyncio.create_task(misses_one())
    await asyncio.sleep(0)
    async with asyncio.timeout(30):
        await end([worker], patience_seconds=0.01)
    assert worker.cancelled()


async def test_the_failure_of_a_worker_does_not_keep_others_from_ending() -> None:
    async def fails() -> None:
        raise ValueError

    workers = [asyncio.create_task(fails()), asyncio.create_task(_rests())]
    await asyncio.sleep(0)
    await end(workers)
    assert [worker.done() for worker in workers] == [True, True]


async def _rests() -> None:
    await asyncio.Event().wait()
