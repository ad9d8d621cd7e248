"""A whole run: a load, searches, faults; every so often quiet, and a comparison with the source from scratch."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psycopg
from tests.chaos import settled
from tests.chaos.asking import Asking
from tests.chaos.endpoint import DIMENSIONS, Endpoint
from tests.chaos.folder import Editor
from tests.chaos.history import History
from tests.chaos.load import TABLES, Gate, Writer
from tests.chaos.processes import Child, Searcher
from tests.chaos.schedule import Planned
from tests.chaos.servers import Clock, Disk, Server
from tests.chaos.strikes import Strikes

import livedex
from livedex import config
from livedex.errors import LivedexError
from livedex.rules.audit import Report as AuditReport

WRITERS = 3
WORKERS = 3
DISK_MEGABYTES = 1200
SETTLE_SECONDS = 120.0
LOOK_SECONDS = 0.25
QUIET_SEARCHES = 30
MOST_WRONGS = 20
AUDITS = """
SELECT jsonb_path_query_array(report, '$[*] ? (@.findings.size() > 0)') FROM livedex.audits WHERE report IS NOT NULL
"""
CONFIG = """
sources:
  kb:
    kind: postgres
    url: ${KB_DATABASE_URL}
    heartbeat: 300ms
    tables:
      documents: {key: doc_id, title: title, content: content, version: revision, metadata: [category], tenant: tenant}
    OPTIONS
  notes: {kind: files, path: FOLDER, heartbeat: 300ms, OPTIONS}
embedders:
  endpoint: {kind: api, base_url: URL, model: hashing, dimensions: DIMENSIONS, batch_size: 32, timeout: 2s}
views:
  handbook: {from: [kb], embedder: endpoint, shards: 2, chunker: CHUNKER}
  notebook: {from: [notes], embedder: endpoint, shards: 1, chunker: CHUNKER}
upkeep: {every: 5s}
audit: {every: 30s, repair: true}
"""


@dataclass(slots=True)
class Report:
    """What a run came to. `wrongs` is empty when every promise was kept."""

    wrongs: list[str] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    recovery: dict[str, list[float]] = field(default_factory=dict)
    answers: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    rounds: int = 0
    chunks_compared: int = 0
    settling: list[float] = field(default_factory=list)
    embedded: int = 0
    embedded_again: int = 0
    committed: Counter[str] = field(default_factory=Counter)
    in_doubt: int = 0
    rolled_back: int = 0
    file_changes: int = 0
    starts: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    set_aside: int = 0
    audits: int = 0
    too_fresh_seconds: float = 0.0
    outages: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0


class Run:
    """Everything that a run consists of."""

    def __init__(self, folder: Path, schedule: Sequence[Planned], seed: int, per_round: int) -> None:
        self.report = Report()
        self.kb, self.notes = History(), History()
        self._folder = folder
        self._schedule = schedule
        self._seed = seed
        self._per_round = per_round
        self._gate = Gate()
        self._log = (folder / "faults.jsonl").open("a")
        self._started = time.monotonic()
        self.note(kind="started", monotonic=self._started)

    def complain(self, wrong: str) -> None:
        self.report.wrongs.append(wrong)
        self.note(kind="WRONG", said=wrong)

    def note(self, **fields: object) -> None:
        self._log.write(json.dumps({"at": round(time.monotonic() - self._started, 3), **fields}, default=str) + "\n")
        self._log.flush()

    async def play(self) -> Report:
        """All rounds, or as many as come before too much is wrong."""
        async with self._world():
            await self._first_load()
            for start in range(0, len(self._schedule), self._per_round):
                await self._round(self._schedule[start : start + self._per_round])
                if len(self.report.wrongs) >= MOST_WRONGS:
                    break
            await self._finish()
        self._sum_up()
        return self.report

    @asynccontextmanager
    async def _world(self) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            self.disk = Disk(self._folder / "store", DISK_MEGABYTES)
            stack.callback(self.disk.remove)
            self.clock = Clock(self._folder / "clock")
            self.source = Server("source", self._folder / "source", {"wal_sender_timeout": "3s"}, self.clock.binaries)
            limits = {"max_wal_size": "96MB", "min_wal_size": "32MB"}
            self.store = Server("store", self.disk.directory / "server", limits)
            for server in (self.source, self.store):
                await server.start()
                stack.push_async_callback(server.close)
            self.endpoint = stack.enter_context(Endpoint())
            self._configure()
            self._make_processes()
            watching = [asyncio.create_task(server.watch()) for server in (self.source, self.store)]
            try:
                yield
            finally:
                for task in watching:
                    task.cancel()
                await asyncio.gather(*watching, return_exceptions=True)

    def _configure(self) -> None:
        (self._folder / "notes").mkdir()
        # So much is deleted here that a person would be asked whether it is meant.
        brake = "brake: off" if "brake" in config.PostgresSource.model_fields else ""
        chunker = "{kind: markdown, max_tokens: 40, min_tokens: 10}"
        text = CONFIG
        for name, value in (
            ("FOLDER", str(self._folder / "notes")),
            ("base_url: URL", f"base_url: {self.endpoint.base_url}"),
            ("DIMENSIONS", str(DIMENSIONS)),
            ("CHUNKER", chunker),
            (", OPTIONS}", f", {brake}}}" if brake else "}"),
            ("OPTIONS", brake),
        ):
            text = text.replace(name, value)
        self.config = self._folder / "livedex.yaml"
        self.config.write_text(text)

    @property
    def environ(self) -> dict[str, str]:
        return {
            "KB_DATABASE_URL": self.source.dsn,
            "LIVEDEX_DATABASE_URL": self.store.dsn,
            "LIVEDEX_CONFIG": str(self.config),
            "HOME": str(self._folder),
        }

    def _make_processes(self) -> None:
        made = (self.environ, self._folder, self.complain)
        self.workers = [Child(f"worker{number}", "up", *made) for number in range(WORKERS)]
        self.searcher = Searcher("searcher", "search", *made)
        self.asking = Asking(
            self.searcher, self.kb, self.notes, self.store, self.clock, self.report, self.complain, self._seed
        )
        self.strikes = Strikes(self)

    async def _first_load(self) -> None:
        with psycopg.connect(self.source.dsn, autocommit=True) as connection:
            connection.execute(TABLES)
        self._writers = [Writer(n, self.source, self.kb, self._gate, self._seed) for n in range(WRITERS)]
        self._editor = Editor(self._folder / "notes", self.notes, self._gate, self._seed)
        self._load = [asyncio.create_task(each.run()) for each in self._writers]
        self._load.append(asyncio.create_task(self._editor.run()))
        await asyncio.sleep(2)
        for child in self.workers:
            child.start()
        await self.asking.until_built(self.environ)
        self.searcher.start()

    async def _round(self, faults: Sequence[Planned]) -> None:
        asking = [asyncio.create_task(self.asking.run(number)) for number in range(2)]
        waiting: list[asyncio.Task[None]] = []
        for planned in faults:
            await asyncio.sleep(planned.after_seconds)
            self.report.faults[planned.kind] += 1
            waiting.append(asyncio.create_task(self._one(planned)))
            self._check_tasks([*waiting, *asking, *self._load])
            if len(self.report.wrongs) >= MOST_WRONGS:
                break
        await asyncio.gather(*waiting)
        await self._gate.close()
        self._check_tasks([*asking, *self._load])
        await self._settle()
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        await self._check_quiet()
        self.report.rounds += 1
        await self._gate.open()

    async def _one(self, planned: Planned) -> None:
        began = time.monotonic()
        target = await self.strikes.strike(planned)
        self.note(**asdict(planned), target=target, lasted=round(time.monotonic() - began, 3))
        self.asking.expect_recovery(planned.kind)

    @staticmethod
    def _check_tasks(tasks: Sequence[asyncio.Task[None]]) -> None:
        for task in tasks:
            if task.done() and not task.cancelled():
                task.result()

    async def _settle(self) -> None:
        """Until livedex holds what the sources say; a person sends again what was set aside through no fault of its
        own."""
        began = time.monotonic()
        said = "nothing was compared"
        while time.monotonic() - began < SETTLE_SECONDS:
            try:
                await self._send_again()
                self.report.chunks_compared += await self._compare()
            except (AssertionError, psycopg.OperationalError, LivedexError) as error:
                said = f"{type(error).__name__}: {error}"
                await asyncio.sleep(LOOK_SECONDS)
            else:
                self.report.settling.append(time.monotonic() - began)
                self.note(kind="settled", seconds=round(time.monotonic() - began, 2))
                return
        self.complain(f"round {self.report.rounds} did not settle within {SETTLE_SECONDS:.0f} s: {said[:2000]}")

    async def _send_again(self) -> None:
        waiting = await self.store.ask("SELECT count(*), min(reason) FROM livedex.quarantine")
        if waiting[0][0]:
            self.note(kind="set aside", documents=waiting[0][0], reason=waiting[0][1])
            async with livedex.open(self.config, environ=self.environ) as index:
                self.report.set_aside += await index.retry()
            await asyncio.sleep(1)

    async def _compare(self) -> int:
        """Against the sources, and those against what their writers know."""
        rows = settled.source_rows(self.source.dsn)
        assert {key: row.content for key, row in rows.items()} == {
            key: revision.content for key, revision in self.kb.live.items()
        }, "the source's table is not what its writers know"
        files = settled.folder_rows(self._folder / "notes")
        store = settled.Store(self.store.dsn)
        try:
            compared = await settled.check(store, "handbook", "kb", rows)
            compared += await settled.check(store, "notebook", "notes", files)
            settled.check_nothing_twice(store)
        finally:
            store.close()
        return compared

    async def _check_quiet(self) -> None:
        """Now every search is answered; and processes that are asked to end do, and leave nothing behind."""
        dice = random.Random(self._seed + self.report.rounds)
        for _ in range(QUIET_SEARCHES):
            await self.asking.once(dice, is_quiet=True)
        await self._audit()
        if self.report.rounds % 5 == 4:
            await self._restart_all()

    async def _audit(self) -> None:
        """livedex's own audit finds what the comparison found: nothing. So did those that ran while things failed."""
        async with livedex.open(self.config, environ=self.environ) as index:
            report = await self._when_it_is_our_turn(index)
        for part in report.parts:
            if part.findings or part.skipped:
                self.complain(f"an audit of {part.subject} {part.name} found {part.findings}, skipped: {part.skipped}")
        done = await self.store.ask(AUDITS)
        self.report.audits = len(done)
        self.report.wrongs += [f"a background audit found {found}" for (found,) in done if found]

    @staticmethod
    async def _when_it_is_our_turn(index: livedex.Index) -> AuditReport:
        """Only one process audits at a time, and a worker does so every now and then."""
        began = time.monotonic()
        while True:
            try:
                return await index.audit()
            except LivedexError:
                if time.monotonic() - began > SETTLE_SECONDS:
                    raise
                await asyncio.sleep(LOOK_SECONDS)

    async def _restart_all(self) -> None:
        await self._end_all()
        for child in (*self.workers, self.searcher):
            child.start()
        await self.asking.until_searched()

    async def _end_all(self) -> None:
        await asyncio.gather(*(child.stop() for child in (*self.workers, self.searcher)))
        await asyncio.sleep(0.5)  # a server notices a moment later that a connection is gone
        store = settled.Store(self.store.dsn)
        try:
            settled.check_leases_are_free(store)
            settled.check_slots(self.source.dsn)
        except AssertionError as error:
            self.complain(str(error))
        finally:
            store.close()

    async def _finish(self) -> None:
        await self._end_all()
        for task in self._load:
            task.cancel()
        await asyncio.gather(*self._load, return_exceptions=True)
        servers = (self.source, self.store)
        self.report.outages = {server.name: len(server.outages) for server in servers}
        self.report.outages["by itself"] = sum(server.ended_by_itself for server in servers)

    def _sum_up(self) -> None:
        report = self.report
        report.seconds = time.monotonic() - self._started
        for writer in self._writers:
            report.committed += writer.committed
            report.in_doubt += writer.in_doubt
            report.rolled_back += writer.rolled_back
        report.file_changes = self._editor.changes
        for child in (*self.workers, self.searcher):
            report.starts += child.starts
            report.ends += child.ends
        journals = [path for path in self._folder.glob("worker*-*") if path.suffix != ".stderr"]
        for journal in journals:
            for line in journal.read_text(errors="replace").splitlines():
                words = line.split(" ")
                if words[1] == "failed":
                    report.failures[words[3]] += 1
        outages = [start for start, _ in self.store.outages]
        report.embedded, report.embedded_again, too_often = settled.embedded_again(journals, outages)
        if too_often:
            some = list(too_often.items())[:3]
            self.complain(f"{len(too_often)} texts were embedded more often than is excused, such as {some}")
        if left := [*self.source.processes(), *self.store.processes()]:
            self.complain(f"processes of the servers are left: {left}")
