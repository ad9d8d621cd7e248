"""Running a command to its end: the index opened and closed, errors as one message with their exit code."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from livedex.cli import terminal
from livedex.errors import LivedexError

if TYPE_CHECKING:
    from livedex.app import Index

UNEXPECTED = 1
INTERRUPTED = 130

Json = Annotated[bool, typer.Option("--json", metavar="", help="Print JSON.")]
Tenant = Annotated[str | None, typer.Option(metavar="TENANT", help="On behalf of this tenant.", show_default=False)]
Principals = Annotated[
    list[str] | None, typer.Option("--principal", metavar="NAME", help="On behalf of this user or group; repeatable.")
]


@dataclass(frozen=True, slots=True)
class Options:
    """What stands before the command."""

    config: Path | None
    debug: bool


@asynccontextmanager
async def opened(context: typer.Context) -> AsyncIterator[Index]:
    """The index of the configuration that the user named."""
    from livedex.app import open_index

    options: Options = context.obj
    async with open_index(options.config) as index:
        yield index


def run(context: typer.Context, command: Callable[[], Coroutine[Any, Any, int | None]]) -> None:
    """Run a command and end the program with its exit code: what the command returns, else what its error says."""
    options: Options = context.obj
    code = 0
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # until here it ended the program: `__main__`
    try:
        code = _run(command) or 0
    except BrokenPipeError:
        terminal.discard_stdout()  # who reads the output has seen enough, as `head` does
    except LivedexError as error:
        if options.debug:
            raise
        terminal.note(("Error: ", "bold red"), str(error))
        code = error.exit_code
    except (KeyboardInterrupt, typer.Abort):  # Abort: Ctrl-C, or nobody there, where something was asked
        code = INTERRUPTED
    except Exception as error:  # the last place where an error can become a message
        if options.debug:
            raise
        terminal.note(("Error: ", "bold red"), _unexpected(error))
        code = UNEXPECTED
    raise typer.Exit(code)


def _run(command: Callable[[], Coroutine[Any, Any, int | None]]) -> int | None:
    async def interruptible() -> int | None:
        task = asyncio.current_task()
        assert task is not None
        # SIGINT is asyncio's; a process manager's SIGTERM must leave no server running either.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await command()

    try:
        code = asyncio.run(interruptible())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    sys.stdout.flush()
    return code


def _unexpected(error: Exception) -> str:
    from livedex.store.database import masked

    said = terminal.one_line(masked(str(error))) or "no message"
    return f"{type(error).__name__}: {said}. livedex did not expect this; livedex --debug ... shows where it happened."
