"""`livedex doctor`: what is missing, and the exact statement or command that helps."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import typer

from livedex.cli import terminal
from livedex.cli.running import Json, Options, run
from livedex.cli.terminal import say

if TYPE_CHECKING:
    from livedex.doctor import Check, Report

FAILED = 1

_MARKS = {"ok": ("✓", "+", "green"), "warning": ("!", "!", "yellow"), "failed": ("✗", "x", "red"),
          "not checked": ("·", "-", "dim")}  # fmt: skip


def doctor(context: typer.Context, as_json: Json = False) -> None:
    """Check everything livedex needs, and say what is missing and how to mend it.

    Looks at this machine, the configuration, the store, sources, embedders and views; changes nothing. Ends with 0 if
    nothing failed (warnings may stand), else with 1.
    """

    async def command() -> int:
        from livedex.doctor import State, examine

        options: Options = context.obj
        report = await examine(options.config, os.environ)
        failures = report.count(State.FAILED)
        if as_json:
            terminal.emit({"ok": not failures, "groups": report.groups})
        else:
            _show(report)
        return FAILED if failures else 0

    run(context, command)


def _show(report: Report) -> None:
    from livedex.doctor import State

    plain = not _can_show("✓✗·")
    for group in report.groups:
        say((group.title, "bold"))
        for check in group.checks:
            _show_check(check, plain=plain)
    words = {State.FAILED: "failed", State.WARNING: "to look at", State.NOT_CHECKED: "not checked"}
    parts = [f"{count} {word}" for state, word in words.items() if (count := report.count(state))]
    say()
    say(", ".join(parts) or "Everything is as it should be.")


def _show_check(check: Check, *, plain: bool) -> None:
    fancy, ascii_mark, style = _MARKS[check.state]
    say("  ", (ascii_mark if plain else fancy, style), f" {check.name}: ", terminal.one_line(check.message))
    if check.remedy:
        say("        ", (terminal.one_line(check.remedy), "bold"))


def _can_show(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
