"""Ends or stops a process, or ends a run within one, at a named point."""

from __future__ import annotations

import os
import signal


class Crash(BaseException):
    """Stands for the end of the process: nothing that handles errors handles this."""


class _At:
    """Does something when a point is reached for the nth time. Passes as `livedex.faults.Faults`."""

    def __init__(self, name: str, nth: int = 1) -> None:
        self._name = name
        self._left = nth

    @property
    def happened(self) -> bool:
        return self._left <= 0

    async def reach(self, name: str) -> None:
        if name == self._name:
            self._left -= 1
            if self._left == 0:
                self._strike()

    def _strike(self) -> None:
        raise Crash(f"at {self._name}")


class CrashAt(_At):
    """Raises Crash when a point is reached for the nth time."""


class KillAt(_At):
    """Kills this process with SIGKILL when a point is reached for the nth time."""

    def _strike(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class StopAt(_At):
    """Stops this process with SIGSTOP when a point is reached for the nth time, and goes on when somebody sends
    SIGCONT."""

    def _strike(self) -> None:
        os.kill(os.getpid(), signal.SIGSTOP)


class Recorder:
    """Goes on everywhere and remembers where it came by."""

    def __init__(self) -> None:
        self.reached: list[str] = []

    async def reach(self, name: str) -> None:
        self.reached.append(name)
