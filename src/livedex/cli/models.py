"""`livedex models`: the files of the local embedding model."""

from __future__ import annotations

import os
from typing import Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn

from livedex.cli import terminal
from livedex.cli.running import Json, run
from livedex.cli.terminal import note, say

DEFAULT_MODEL = "all-MiniLM-L6-v2"

app = typer.Typer(help="The embedding models that run on this machine.", no_args_is_help=True)


@app.command()
def fetch(
    context: typer.Context,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="The model, by name.")] = DEFAULT_MODEL,
    as_json: Json = False,
) -> None:
    """Download a model's files and check them. Does nothing when they are there and whole."""

    async def command() -> None:
        from livedex import config
        from livedex.adapters.embedders import weights

        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
        with Progress(*columns, console=terminal.err, transient=True) as bars:
            place = await weights.fetch(model, config.cache_directory(os.environ), progress=_Bars(bars).advance)
        if as_json:
            terminal.emit({"model": model, "path": str(place)})
        else:
            say(f"{model} is in {place}")

    run(context, command)


@app.command("list")
def list_models(context: typer.Context, as_json: Json = False) -> None:
    """List the models whose files are on this machine, and whether they are whole."""

    async def command() -> None:
        from livedex import config
        from livedex.adapters.embedders import weights

        cache = config.cache_directory(os.environ)
        found = weights.installed(cache)
        if as_json:
            terminal.emit({"models": [{"name": m.name, "revision": m.revision, "path": str(m.path), "bytes": m.bytes,
                                       "intact": m.intact, "precisions": m.precisions} for m in found]})  # fmt: skip
            return
        for model in found:
            state = ("whole", "green") if model.intact else ("damaged; run: livedex models fetch", "red")
            say((model.name, "bold"), f"  {model.bytes / 1e6:.0f} MB  ", state, f"  {model.path}")
        if not found:
            note(f"No model is in {cache}. Run: livedex models fetch")

    run(context, command)


class _Bars:
    """A bar for each stage that a fetch goes through."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def advance(self, stage: str, done: int, total: int | None) -> None:
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(stage, total=total)
        self._bars.update(self._tasks[stage], completed=done, total=total)
