"""Whoever writes to the folder: files are made, replaced, moved and removed, told to the history as it happens."""

from __future__ import annotations

import asyncio
import os
import random
import time
from pathlib import Path

from tests.chaos.history import Content, History, Transaction
from tests.chaos.load import Gate, as_it_was, rewritten, section

FILES = 40
PAUSE_SECONDS = 0.5


class Editor:
    """One thing happens to one file at a time. Marks are nanoseconds since 1970."""

    def __init__(self, folder: Path, history: History, gate: Gate, seed: int) -> None:
        self._folder = folder
        self._history = history
        self._gate = gate
        self._dice = random.Random(seed * 1000 + 999)
        self.changes = 0

    async def run(self) -> None:
        while True:
            async with self._gate.passing():
                self._change()
            self.changes += 1
            await asyncio.sleep(self._dice.uniform(0.2, 1.8) * PAUSE_SECONDS)

    def _change(self) -> None:
        dice, history = self._dice, self._history
        names = sorted(history.live)
        transaction = Transaction(history)
        number = history.next_number()
        free = f"{dice.choice(('', 'sub/'))}note-{dice.randrange(10**6)}.md"
        what = "make" if len(names) < FILES else dice.choice(("make", "edit", "edit", "edit", "move", "remove"))
        transaction.begins_to_commit(time.time_ns())
        if what == "make":
            parts = [section(dice, number, part) for part in range(dice.randint(1, 4))]
            revision = transaction.put(number, free, Content("", "\n\n".join(parts), ""))
            self._write(free, revision.content)
        elif what == "edit":
            name = dice.choice(names)
            revision = transaction.put(number, name, rewritten(dice, number, history.live[name]))
            self._write(name, revision.content)
        elif what == "move":
            name = dice.choice(names)
            transaction.move(number, name, free, as_it_was(history.live[name]))
            (self._folder / free).parent.mkdir(exist_ok=True)
            (self._folder / name).rename(self._folder / free)
        else:
            name = dice.choice(names)
            transaction.delete(name)
            (self._folder / name).unlink()
        transaction.landed(time.time_ns(), time.time())

    def _write(self, name: str, content: str) -> None:
        path = self._folder / name
        path.parent.mkdir(exist_ok=True)
        fresh = path.with_name(f".{path.name}.new")
        fresh.write_text(content)
        os.replace(fresh, path)  # noqa: PTH105  # as editors do it
