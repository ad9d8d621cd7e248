"""Starting processes of livedex that are meant to be killed or frozen, and reading what they did."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.world import World

CHILD = Path(__file__).with_name("child.py")
PATIENCE_SECONDS = 60.0


class Process:
    """A child process with its journal, which is a new one for each."""

    def __init__(self, world: World, verb: str, *options: str) -> None:
        folder = world.config.parent
        self._journal = folder / f"journal-{len(list(folder.glob('journal-*')))}"
        self._journal.touch()
        environ = os.environ | world.environ | {"LIVEDEX_CONFIG": str(world.config)}
        environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        self._process = subprocess.Popen([sys.executable, str(CHILD), verb, str(self._journal), *options], env=environ)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def journal(self) -> list[str]:
        return self._journal.read_text().splitlines()

    def ends_with(self) -> int:
        """Its exit code once it has ended; minus the signal's number where one ended it."""
        return self._process.wait(PATIENCE_SECONDS)

    def wait_until_stopped(self) -> None:
        """Until a SIGSTOP has reached it."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self.is_stopped():
            assert self._process.poll() is None, "the process ended before it came to where it should stop"
            assert time.monotonic() < deadline, "the process never came to where it should stop"
            time.sleep(0.01)

    def is_stopped(self) -> bool:
        state = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state == "T"

    def wait_until_written(self, lines: int) -> None:
        """Until its journal has so many lines, or it has ended."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while len(self.journal) < lines and self._process.poll() is None:
            assert time.monotonic() < deadline, f"the journal never came to {lines} lines"
            time.sleep(0.002)

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(PATIENCE_SECONDS)


@contextmanager
def process(world: World, verb: str, *options: str) -> Iterator[Process]:
    """A process that is gone when the block ends."""
    started = Process(world, verb, *options)
    try:
        yield started
    finally:
        started.kill()
