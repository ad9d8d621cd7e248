"""`livedex sync`: everything up to now, once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from livedex.cli import terminal
from livedex.cli.running import Json, opened, run

if TYPE_CHECKING:
    from livedex.app import Index
    from livedex.flow.keep_up import Counts

LOOK_SECONDS = 0.3
COUNTS = ("added", "updated", "unchanged", "deleted", "quarantined", "texts_embedded")


def sync(context: typer.Context, as_json: Json = False) -> None:
    """Bring everything that is committed in the sources by now into the index, then end.

    Only what changed is embedded. Prints what that came to, in documents per view.
    """

    async def command() -> None:
        async with opened(context) as index:
            async with _progress_shown(index):
                counts = await index.sync()
            if as_json:
                views = {view: {name: getattr(count, name) for name in COUNTS} for view, count in counts.items()}
                terminal.emit({"views": views})
            else:
                _show(counts)

    run(context, command)


def _show(counts: Mapping[str, Counts]) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("view", overflow="fold")
    for name in COUNTS:
        table.add_column(name.replace("_", " "), justify="right")
    for view, count in counts.items():
        table.add_row(view, *(f"{getattr(count, name):,}" for name in COUNTS))
    terminal.out.print(table)
    if any(count.quarantined for count in counts.values()):
        terminal.note(("Some documents could not be processed. See: livedex quarantine list", "yellow"))


@asynccontextmanager
async def _progress_shown(index: Index) -> AsyncIterator[None]:
    """Bars on stderr while the block runs, where that is a terminal."""

    if not terminal.err.is_terminal:
        yield
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("documents"))
    with Progress(*columns, TimeElapsedColumn(), console=terminal.err, transient=True) as bars:
        looking = asyncio.create_task(_keep_drawing(index, bars))
        try:
            yield
        finally:
            looking.cancel()
            # A store that cannot say how far it is fails the sync itself, with the same error.
            await asyncio.gather(looking, return_exceptions=True)


async def _keep_drawing(index: Index, bars: Progress) -> None:
    tasks: dict[str, TaskID] = {}
    while True:
        for view in await index.progress():
            if view.view not in tasks:
                tasks[view.view] = bars.add_task(view.view, total=None)
            done = max(0, view.documents - view.waiting)
            bars.update(tasks[view.view], completed=done, total=view.documents or None)
        await asyncio.sleep(LOOK_SECONDS)
