"""livedex's own processes in a run, each started again when it ends, as a process manager would."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

RESTART_SECONDS = 0.3
PATIENCE_SECONDS = 60.0
FORESEEN = frozenset({"StoreUnavailable", "StoreFull"})
"""Errors with which a process may end when its store is away."""
LINE_BYTES = 2**24


class Child:
    """One process that is kept running: `up` or `search`."""

    def __init__(
        self,
        name: str,
        verb: str,
        environ: Mapping[str, str],
        folder: Path,
        complain: Callable[[str], None],
    ) -> None:
        self.name = name
        self.starts = 0
        self.ends: Counter[str] = Counter()
        self._verb = verb
        self._environ = {**os.environ, **environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        self._folder = folder
        self._complain = complain
        self._wanted = False
        self._struck = False
        self._frozen = 0
        self._process: asyncio.subprocess.Process | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._journal = folder / f"{name}-none"

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def is_at_work(self) -> bool:
        """Whether it is through with its start."""
        return self.is_running and self._journal.exists() and " started " in self._journal.read_text(errors="replace")

    def start(self) -> None:
        self._wanted = True
        self._keeping = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        """Ask it to end, as a process manager does, and wait. Complains unless it ends in order and in time."""
        self._wanted = False
        if self._verb == "search":
            self.signal(signal.SIGKILL)
        else:
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGTERM)
        assert self._keeping is not None
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self._keeping
        except TimeoutError:
            self._complain(f"{self.name} did not end within {PATIENCE_SECONDS:.0f} s of SIGTERM")
            self.signal(signal.SIGKILL)

    def signal(self, number: int) -> None:
        if self._process is not None and self._process.returncode is None:
            self._struck = self._struck or number in (signal.SIGKILL, signal.SIGTERM)
            with suppress(ProcessLookupError):
                # Not by its own method, which may reap a process that has just ended, so that its exit code is lost.
                os.kill(self._process.pid, number)

    def tell(self, line: str) -> None:
        """To its standard input. `kill POINT` ends it."""
        if self._process is not None and self._process.stdin is not None and self.is_running:
            self._struck = self._struck or line.startswith("kill ")
            self._process.stdin.write(f"{line}\n".encode())

    async def freeze(self, seconds: float) -> None:
        """Stop it for so long. Frozen twice at once it stays so until both are over."""
        process = self._process
        self._frozen += 1
        self.signal(signal.SIGSTOP)
        await asyncio.sleep(seconds)
        self._frozen -= 1
        if process is self._process and not self._frozen:
            self.signal(signal.SIGCONT)

    async def _keep(self) -> None:
        while self._wanted:
            self.starts += 1
            self._journal = self._folder / f"{self.name}-{self.starts}"
            errors = self._folder / f"{self.name}-{self.starts}.stderr"
            self._struck = False
            with errors.open("wb") as written:
                self._process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "tests.chaos.child", self._verb, str(self._journal)),
                    env=self._environ,
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE if self._verb == "search" else written,
                    stderr=written,
                    limit=LINE_BYTES,
                )
            await self._attend(self._process)
            code = await self._process.wait()
            self._note_end(code, errors)
            if self._wanted:
                await asyncio.sleep(RESTART_SECONDS)

    async def _attend(self, process: asyncio.subprocess.Process) -> None:
        """What to do while it runs."""

    def _note_end(self, code: int, errors: Path) -> None:
        said = errors.read_text(errors="replace").strip()
        reason = self._last_word() if code > 0 else f"exit {code}"
        self.ends[reason if code >= 0 else f"signal {-code}"] += 1
        if code >= 0 and reason not in FORESEEN and not (self._struck and code == 0):
            self._complain(f"{self.name}-{self.starts} ended with {code} ({reason}): {said[-1500:]}")
        elif code < 0 and not self._struck:
            self._complain(f"{self.name}-{self.starts} ended by signal {-code}, which nobody sent: {said[-1500:]}")
        elif "Traceback" in said:
            self._complain(f"{self.name}-{self.starts} had said: {said[-1500:]}")
        if not said:
            errors.unlink()

    def _last_word(self) -> str:
        lines = self._journal.read_text(errors="replace").splitlines() if self._journal.exists() else []
        words = lines[-1].split(" ") if lines else []
        return words[3] if len(words) > 3 and words[1] == "ended" else "an unexpected error"


class Searcher(Child):
    """Searches in a process of its own."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._numbers = count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any] | None]] = {}

    async def ask(self, question: Mapping[str, Any]) -> dict[str, Any] | None:
        """The answer, or None when the process ended before it had one. Complains when there is none for long."""
        if not self.is_running:
            return None
        number = next(self._numbers)
        waiting: asyncio.Future[dict[str, Any] | None] = asyncio.get_running_loop().create_future()
        self._waiting[number] = waiting
        self.tell(json.dumps({"id": number, **question}))
        started = time.monotonic()
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                return await waiting
        except TimeoutError:
            self._complain(f"a search had no answer for {time.monotonic() - started:.0f} s: {question}")
            return None
        finally:
            self._waiting.pop(number, None)

    async def _attend(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while line := await process.stdout.readline():
            reply = json.loads(line) if line.endswith(b"\n") else {}
            waiting = self._waiting.get(reply.get("id", 0))
            if waiting is not None and not waiting.done():
                waiting.set_result(reply)
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_result(None)
