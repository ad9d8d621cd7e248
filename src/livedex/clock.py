"""Time as it is passed in."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from typing import Protocol


class Clock(Protocol):
    def monotonic(self) -> float:
        """Seconds from an arbitrary start; never goes back."""
        ...

    async def sleep(self, seconds: float) -> None: ...

    def jitter(self) -> float:
        """A number between 0 and 1."""
        ...


class SystemClock:
    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def jitter(self) -> float:
        return random.random()  # noqa: S311  # spreads retries; nothing secret depends on it


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waits that double from `first` up to `most` seconds, each shortened by up to half at random, for at most
    `attempts` tries."""

    first: float = 0.2
    most: float = 30.0
    attempts: int = 6

    def seconds(self, failures: int, jitter: float) -> float:
        """How long to wait after this many failures in a row."""
        whole = min(self.most, self.first * 2.0 ** min(failures - 1, 30))
        return whole * (1 - jitter / 2)
