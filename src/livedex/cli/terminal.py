"""What the command line prints: results on stdout, everything else on stderr.

Text of documents, paths and messages is never read as markup, never broken by wrapping where it may be copied, and
never reaches the terminal with control characters in it.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.text import Text

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""All but tab and newline; with those that reverse the direction of a line."""


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave it to `running`, which ends the command in order."""
        raise BrokenPipeError


out = _Console(highlight=False, markup=False, emoji=False)
err = _Console(highlight=False, markup=False, emoji=False, stderr=True)


def plain(text: str) -> str:
    """A text as it can be shown: it cannot move the cursor, colour what follows or write a title."""
    return _CONTROL.sub("�", text)


def one_line(text: str) -> str:
    return " ".join(plain(text).split())


def say(*parts: str | tuple[str, str] | Text) -> None:
    """A line of the result, from texts, (text, style) pairs and finished pieces."""
    out.print(_assembled(parts), soft_wrap=True)


def note(*parts: str | tuple[str, str] | Text) -> None:
    """A line about the result."""
    err.print(_assembled(parts), soft_wrap=True)


def emit(value: Any, *, compact: bool = False) -> None:
    """A JSON document on stdout. Dataclasses become objects, times ISO 8601."""
    unicode = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    text = json.dumps(value, default=_json, ensure_ascii=not unicode, indent=None if compact else 2)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def discard_stdout() -> None:
    """After the reader of a pipe has gone: what is still buffered goes nowhere, without a word."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def seconds(value: float) -> str:
    """A duration as people say it: `12 ms`, `3.4 s`, `5 min`, `2 h`, `3 days`."""
    for limit, unit, size in ((1.0, "ms", 0.001), (120.0, "s", 1.0), (7200.0, "min", 60.0), (172_800.0, "h", 3600.0)):
        if value < limit:
            amount = value / size
            return f"{amount:.1f} {unit}" if unit == "s" and amount < 10 else f"{amount:.0f} {unit}"
    return f"{value / 86_400:.0f} days"


def ago(time: datetime) -> str:
    return f"{seconds(max(0.0, (datetime.now(time.tzinfo) - time).total_seconds()))} ago"


def counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _assembled(parts: tuple[str | tuple[str, str] | Text, ...]) -> Text:
    line = Text()
    for part in parts:
        match part:
            case Text():
                line.append_text(part)
            case str():
                line.append(plain(part))
            case (text, style):
                line.append(plain(text), style)
    return line


def _json(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} has no JSON form.")
