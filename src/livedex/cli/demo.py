"""`livedex demo`: the whole of it in an empty folder."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from livedex.cli import demo_screen, search, terminal
from livedex.cli.demo_screen import Waiting
from livedex.cli.running import Json, run
from livedex.cli.terminal import note, say
from livedex.errors import ConfigError, LivedexError, MissingExtra

if TYPE_CHECKING:
    from livedex.demo.following import FirstLoad, Following, Loading, Surroundings
    from livedex.demo.stage import FilesStage, Onlooker
    from livedex.demo.tour import Outcome, Tour
    from livedex.demo.watch import Watcher
    from livedex.serve.listen import Address

TOP_K = 3
PROMPT = "search> "
CLEAR_LINE = "\r\x1b[2K"

Leave = Annotated[bool, typer.Option("--exit", metavar="", help="End after the tour instead of waiting for searches.")]
Documents = Annotated[
    Path | None,
    typer.Option(
        "--docs",
        metavar="DIR",
        help="Follow this folder of documents instead of the handbook. It is only read.",
        show_default=False,
    ),
]


def demo(context: typer.Context, documents: Documents = None, leave: Leave = False, as_json: Json = False) -> None:
    """Take a tour: a database is edited in plain SQL, and searches show it a moment later.

    Needs nothing, and makes ./livedex-demo afresh; the local model, if it has to be fetched, goes to the cache. With
    `--docs` it follows a folder of yours. With `--json` the tour is one document, and the command ends.
    """

    async def command() -> None:
        _end_in_order()
        if documents is None:
            await _handbook(leave, as_json)
        else:
            await _files(documents, leave, as_json)

    run(context, command)


def _end_in_order() -> None:
    """Let the first signal end the command, and none after it disturb the servers' stopping."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    numbers = (signal.SIGINT, signal.SIGTERM)

    def end() -> None:
        for number in numbers:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN)  # until the program is gone, which is after the loop is
        if _interactive():
            say()  # there may be a prompt on this line
        note("Stopping the servers ...")
        task.cancel()

    for number in numbers:
        loop.add_signal_handler(number, end)


async def _handbook(leave: bool, as_json: bool) -> None:
    from livedex.demo.stage import handbook_staged

    async with AsyncExitStack() as stack:
        with Waiting(terminal.err) as waiting:
            tour = await stack.enter_async_context(handbook_staged(Path.cwd(), os.environ, _onlooker(waiting)))
        load = await _loaded(tour, as_json)
        if as_json:
            outcomes = [_outcome(outcome) async for outcome in tour.outcomes()]
            terminal.emit(_described(tour.surroundings, load) | {"edits": outcomes})
            return
        await _show_edits(tour, load)
        if not leave:
            await _stay(tour.surroundings, tour.following)


async def _files(documents: Path, leave: bool, as_json: bool) -> None:
    from livedex.demo.stage import files_staged

    async with AsyncExitStack() as stack:
        with Waiting(terminal.err) as waiting:
            staging = files_staged(Path.cwd(), documents, os.environ, _onlooker(waiting))
            stage = await stack.enter_async_context(staging)
        load = await _loaded(stage, as_json)
        quarantined = (await stage.following.status()).quarantined
        if as_json:
            terminal.emit(_described(stage.surroundings, load) | {"quarantined": quarantined})
            return
        demo_screen.quarantine(quarantined)
        if not leave:
            await _stay(stage.surroundings, stage.following)


def _onlooker(waiting: Waiting) -> Onlooker:
    from livedex.demo.stage import Onlooker

    return Onlooker(waiting.step, waiting.download, demo_screen.failure)


async def _loaded(stage: Tour | FilesStage, as_json: bool) -> FirstLoad:
    """Wait for the first load; unless the result is wanted as JSON, say where it happens and what it came to."""
    if not as_json:
        demo_screen.place(stage.surroundings)
    last: Loading | None = None
    with Waiting(terminal.err) as waiting:
        async for last in stage.loading():
            waiting.loading(last)
    assert last is not None, "the last state is that of the end"
    load = await stage.following.first_load(last)
    if not as_json:
        demo_screen.loaded(load)
    return load


def _described(where: Surroundings, load: FirstLoad) -> dict[str, Any]:
    described = {"folder": str(where.folder), "embedder": where.embedder, "first_load": load}
    return described if where.documents is None else described | {"documents": str(where.documents)}


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


async def _show_edits(tour: Tour, load: FirstLoad) -> None:
    say()
    demo_screen.indented(0, Text("The application now edits its table. It knows nothing of livedex.", "bold"))
    outcomes: list[Outcome] = []
    async for outcome in tour.outcomes():
        outcomes.append(outcome)
        demo_screen.outcome(len(outcomes), outcome)
    demo_screen.summary(outcomes, load.texts_embedded)


async def _stay(where: Surroundings, following: Following) -> None:
    """Answer searches, and tell of changes, until the input ends."""
    from livedex.demo.watch import watching

    async with _doors(following) as address, watching(following) as watcher:
        demo_screen.your_turn(where, following.view, address, shadowed="LIVEDEX_DATABASE_URL" in os.environ)
        try:
            async with asyncio.TaskGroup() as tasks:
                telling = tasks.create_task(_tell_changes(watcher))
                await _answer_searches(following)
                telling.cancel()
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None  # what ended the capture ends the demo


@asynccontextmanager
async def _doors(following: Following) -> AsyncIterator[Address | None]:
    """HTTP and MCP on this machine, at the usual port or else another; None without their extras."""
    from livedex.config import Serve

    async with AsyncExitStack() as stack:
        try:
            from livedex.serve.listen import open_doors
        except MissingExtra:
            yield None
            return
        try:
            address = await stack.enter_async_context(open_doors(following.index, Serve()))
        except ConfigError:  # somebody listens there, such as another demo
            address = await stack.enter_async_context(open_doors(following.index, Serve(port=0)))
        yield address


async def _tell_changes(watcher: Watcher) -> None:
    async for found in watcher.news():
        if _interactive():
            # The line with the prompt gives way and comes again below; what was typed on it is still being typed.
            terminal.out.file.write("\n" if terminal.out.is_dumb_terminal else CLEAR_LINE)
        for line in demo_screen.news(found):
            say("  ", line)
        _ask()


async def _answer_searches(following: Following) -> None:
    """Failures of one search leave the next one possible."""
    _ask()
    async for line in _lines():
        text = line.strip()
        if text in ("quit", "exit"):
            return
        if text:
            try:
                search.show(await following.index.search(following.view, text, top_k=TOP_K))
            except LivedexError as error:
                note(("Error: ", "bold red"), str(error))
        _ask()
    if _interactive():
        say()  # what comes next stands on a line of its own


def _ask() -> None:
    """A prompt, where there is somebody to read it."""
    if _interactive():
        terminal.out.print(PROMPT, end="")


def _interactive() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


async def _lines() -> AsyncIterator[str]:
    """Lines of stdin, read by a thread of its own that nobody has to wait for, so that Ctrl-C ends the command while
    it reads."""
    loop = asyncio.get_running_loop()
    arrived: asyncio.Queue[bytes] = asyncio.Queue()

    def read() -> None:
        with suppress(RuntimeError):  # the loop was closed while we read, and nobody wants the rest
            while chunk := os.read(sys.stdin.fileno(), 65_536):
                loop.call_soon_threadsafe(arrived.put_nowait, chunk)
            loop.call_soon_threadsafe(arrived.put_nowait, b"")

    threading.Thread(target=read, daemon=True).start()
    rest = b""
    while chunk := await arrived.get():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line.decode(errors="replace")
    if rest:
        yield rest.decode(errors="replace")
