"""`livedex maintain`: vacuum, rebuild indexes, let go of what is kept for a time."""

from __future__ import annotations

from typing import Annotated

import typer

from livedex.cli import terminal
from livedex.cli.running import Json, opened, run
from livedex.cli.terminal import counted, note, say


def maintain(
    context: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", metavar="", help="Only say what there is to do.")] = False,
    as_json: Json = False,
) -> None:
    """Keep the store small and its indexes good: what a running up does every few minutes.

    Searches and edits go on meanwhile.
    """

    async def command() -> None:
        async with opened(context) as index:
            done = await index.maintain(dry_run=dry_run)
        if as_json:
            terminal.emit(done)
            return
        if done.elsewhere:
            note("Another livedex process is looking after this store right now.")
            return
        for action in done.actions:
            say((action.kind.value, "bold"), f"  {action.target}: {action.reason}")
        for name in done.partitions_dropped:
            say(("drop history", "bold"), f"  {name}: older than is kept")
        if done.tombstones_dropped:
            say(
                ("drop tombstones", "bold"),
                f"  {counted(done.tombstones_dropped, 'document')} that every view has read",
            )
        if not done.actions and not done.partitions_dropped and not done.tombstones_dropped:
            note("There is nothing to do.")

    run(context, command)
