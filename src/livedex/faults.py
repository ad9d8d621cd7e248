"""Where a test may stop a process. Passed in wherever a crash between two steps must lose nothing."""

from __future__ import annotations

from typing import Protocol


class Faults(Protocol):
    """Named points where tests stop a process; the default does nothing."""

    async def reach(self, name: str) -> None:
        """Called when the code comes by the point `name`."""
        ...


class NoFaults:
    """Goes on at every point."""

    async def reach(self, name: str) -> None:
        return None
