"""`livedex demo`: the whole of it in an empty folder."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.padding import Padding
from rich.text import Text

from livedex.cli import search, terminal
from livedex.cli.running import Json, run
from livedex.cli.terminal import counted, note, say, seconds
from livedex.errors import LivedexError

if TYPE_CHECKING:
    from livedex.demo.tour import FirstLoad, Outcome, Surroundings, Tour
    from livedex.model import Hit

TOP_K = 3


def demo(
    context: typer.Context,
    leave: Annotated[
        bool, typer.Option("--exit", metavar="", help="End after the tour instead of waiting for searches.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Take a tour: a database is edited in plain SQL, and searches show it a moment later.

    Needs nothing, and makes ./livedex-demo afresh; the local model, if it has to be fetched, goes to the cache. With
    `--json` the tour is one document, and the command ends.
    """

    async def command() -> None:
        from livedex.demo.stage import staged

        fetching = _Fetching()
        async with staged(Path.cwd(), os.environ, progress=fetching.advance, report=_report) as tour:
            if as_json:
                terminal.emit(await _as_json(tour))
                return
            await _show(tour)
            if not leave:
                await _prompt(tour)

    run(context, command)


class _Fetching:
    """Says once that a model is being downloaded."""

    def __init__(self) -> None:
        self._said = False

    def advance(self, stage: str, done: int, total: int | None) -> None:
        if not self._said:
            size = "" if total is None else f", {total / 1e6:.0f} MB"
            note(f"Downloading the local model{size} …")
        self._said = True


def _report(worker: str, error: LivedexError) -> None:
    note((f"{worker}: ", "red"), str(error))


async def _as_json(tour: Tour) -> dict[str, Any]:
    load = await tour.first_load()
    where = tour.surroundings
    edits = [_outcome(outcome) async for outcome in tour.outcomes()]
    return {"folder": str(where.folder), "embedder": where.embedder, "first_load": load, "edits": edits}


def _outcome(outcome: Outcome) -> dict[str, Any]:
    edit = outcome.edit
    return {
        "edit": edit.kind,
        "what": edit.what,
        "statement": edit.statement,
        "question": edit.question,
        "searchable_ms": round(outcome.searchable_ms, 1),
        "texts_embedded": outcome.texts_embedded,
        "before": edit.hit(outcome.before),
        "after": edit.hit(outcome.after),
    }


async def _show(tour: Tour) -> None:
    _show_place(tour.surroundings)
    _show_load(await tour.first_load())
    say()
    say(("The application now edits its table. It knows nothing of livedex.", "bold"))
    number = 0
    async for outcome in tour.outcomes():
        number += 1
        _show_outcome(number, outcome)


def _show_place(where: Surroundings) -> None:
    say(("livedex demo", "bold"), f" in {where.folder}")
    say("  application/   a PostgreSQL that stands for your application's database")
    say("  livedex.yaml   what to follow, and what to build from it")
    say("  .livedex/      the index")
    say("Remove it with: ", where.removal)
    say()
    _show_indented(0, where.why, "")


def _show_load(load: FirstLoad) -> None:
    say(
        f"First load: {counted(load.documents, 'document')} in {counted(load.chunks, 'chunk')}, "
        f"{counted(load.texts_embedded, 'text')} embedded, searchable after {seconds(load.seconds)}."
    )


def _show_outcome(number: int, outcome: Outcome) -> None:
    edit = outcome.edit
    cost = counted(outcome.texts_embedded, "text") if outcome.texts_embedded else "nothing"
    say()
    say((f"{number}. {edit.what}", "bold"))
    _show_indented(3, edit.statement, "dim")
    say("   ", (f"{edit.arrived} {outcome.searchable_ms:.0f} ms after the commit", "green"), f" · {cost} embedded")
    if edit.kind == "update":
        say("   ", edit.question)
        for when, hit in (("before", edit.hit(outcome.before)), ("after", edit.hit(outcome.after))):
            _show_indented(5, f"{when}: {'nothing' if hit is None else _first_sentence(hit)}", "italic")


def _show_indented(columns: int, text: str, style: str) -> None:
    terminal.out.print(Padding(Text(terminal.one_line(text), style), (0, 0, 0, columns)))


def _first_sentence(hit: Hit) -> str:
    return search.snippet(hit.text).partition(". ")[0].rstrip(".") + "."


async def _prompt(tour: Tour) -> None:
    """Answer searches until the input ends. Failures of one search leave the next one possible."""
    from livedex.demo.edits import VIEW

    say()
    say(("Your turn. ", "bold"), "Type a search; Ctrl-D or quit ends. Edit the table meanwhile, in another terminal:")
    say("  psql '", tour.surroundings.application_url, "'")
    async for line in _lines("search> "):
        text = line.strip()
        if text in ("quit", "exit"):
            return
        if not text:
            continue
        try:
            search.show(await tour.index.search(VIEW, text, top_k=TOP_K))
        except LivedexError as error:
            note(("Error: ", "bold red"), str(error))


async def _lines(prompt: str) -> AsyncIterator[str]:
    """Lines of stdin, each asked for by a prompt where there is somebody to read it.

    Read by a thread of its own that nobody has to wait for, so that Ctrl-C ends the command while it reads.
    """
    loop = asyncio.get_running_loop()
    arrived: asyncio.Queue[bytes] = asyncio.Queue()

    def read() -> None:
        while chunk := os.read(sys.stdin.fileno(), 65_536):
            loop.call_soon_threadsafe(arrived.put_nowait, chunk)
        loop.call_soon_threadsafe(arrived.put_nowait, b"")

    threading.Thread(target=read, daemon=True).start()
    rest = b""
    while True:
        if sys.stdin.isatty():
            terminal.out.print(prompt, end="")
        while b"\n" not in rest:
            chunk = await arrived.get()
            if not chunk:
                if rest:
                    yield rest.decode(errors="replace")
                elif sys.stdin.isatty():
                    say()  # what comes next stands on a line of its own
                return
            rest += chunk
        line, _, rest = rest.partition(b"\n")
        yield line.decode(errors="replace")
