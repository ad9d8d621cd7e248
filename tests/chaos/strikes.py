"""What each kind of fault does."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

import psycopg
from tests.chaos.processes import Child
from tests.chaos.schedule import Planned
from tests.chaos.servers import SIGNALS, Server

import livedex

if TYPE_CHECKING:
    from tests.chaos.run import Run

START_SECONDS = 20.0
LOOK_SECONDS = 0.25
WALSENDERS = "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active_pid IS NOT NULL"
_Chosen = TypeVar("_Chosen")
OTHERS = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND application_name <> 'chaos'"


class Strikes:
    """Knows whom it can hit."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._full = asyncio.Lock()
        self._late = asyncio.Lock()

    @property
    def impossible(self) -> dict[str, str]:
        """Kinds that cannot be done on this machine, and why."""
        kinds = {}
        if not self._run.disk.is_mounted:
            kinds["store's disk is full"] = "a file system cannot be mounted (that needs root)"
        if self._run.clock.binaries is None:
            kinds["source's clock is wrong"] = "there is no C compiler to make a library that shifts the time"
        return kinds

    async def strike(self, planned: Planned) -> str:
        """Do it, and wait until it is over; says to whom it was done."""
        kind = planned.kind
        if kind in self.impossible:
            return "skipped"
        if "worker" in kind or "searcher" in kind:
            return await self._process(planned)
        if kind.startswith("cut"):
            return await self._cut(planned)
        if kind.startswith("embedder"):
            how = kind.removeprefix("embedder ")
            self._run.endpoint.falls_ill(how)
            await asyncio.sleep(planned.seconds)
            self._run.endpoint.is_well_again(how)
            return "endpoint"
        if kind == "store's disk is full":
            return await self._fill(planned)
        if kind == "source's clock is wrong":
            return await self._put_out_of_time(planned)
        if kind == "resync":
            return await self._resync()
        server: Server = getattr(self._run, kind.split()[0])
        await server.strike(kind.partition(" ")[2])
        assert kind.partition(" ")[2] in SIGNALS
        return server.name

    async def _process(self, planned: Planned) -> str:
        if planned.kind == "kill searcher":
            self._run.searcher.signal(signal.SIGKILL)
            return "searcher"
        child = await self._worker(planned.chance)
        if planned.kind == "kill worker":
            child.signal(signal.SIGKILL)
        elif planned.kind == "end worker":
            child.signal(signal.SIGTERM)
        elif planned.kind == "freeze worker":
            await child.freeze(planned.seconds)
        elif planned.kind == "kill worker at a point":
            child.tell(f"kill {planned.point}")
        else:
            await _freeze_at_a_point(child, planned)
        return f"{child.name}-{child.starts} {planned.point}".strip()

    async def _worker(self, chance: float) -> Child:
        """One that is at work, so that there is something to interrupt; on a slow machine that takes a while."""
        for _ in range(int(START_SECONDS / LOOK_SECONDS)):
            if at_work := [child for child in self._run.workers if child.is_at_work]:
                return _chosen(at_work, chance)
            await asyncio.sleep(LOOK_SECONDS)
        return _chosen(self._run.workers, chance)

    async def _cut(self, planned: Planned) -> str:
        server = self._run.store if "store" in planned.kind else self._run.source
        try:
            if "walsender" in planned.kind:
                return f"{len(await server.ask(WALSENDERS))} on {server.name}"
            pids = sorted(pid for (pid,) in await server.ask(OTHERS))
            hit: Sequence[int] = pids if "all" in planned.kind else [_chosen(pids, planned.chance)] if pids else []
            await server.ask("SELECT pg_terminate_backend(pid) FROM unnest(%s::int[]) AS pid", list(hit))
        except psycopg.OperationalError:
            return f"none, {server.name} is away"
        return f"{len(hit)} on {server.name}"

    async def _fill(self, planned: Planned) -> str:
        async with self._full:
            self._run.disk.fill()
            await asyncio.sleep(planned.seconds)
            self._run.disk.free()
        return "store"

    async def _put_out_of_time(self, planned: Planned) -> str:
        async with self._late:
            self._run.clock.set(planned.amount)
            await asyncio.sleep(planned.seconds)
            self._run.clock.set(0.0)
        return "source"

    async def _resync(self) -> str:
        try:
            async with livedex.open(self._run.config, environ=self._run.environ) as index:
                await index.resync("kb")
        except livedex.LivedexError:
            return "none, store is away"
        return "kb"


async def _freeze_at_a_point(child: Child, planned: Planned) -> None:
    """Wherever it is by then it goes on later."""
    child.tell(f"stop {planned.point}")
    await asyncio.sleep(planned.seconds + 1)
    child.signal(signal.SIGCONT)


def _chosen(among: Sequence[_Chosen], chance: float) -> _Chosen:
    return among[int(chance * len(among))]
