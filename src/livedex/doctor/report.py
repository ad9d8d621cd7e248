"""What was checked and how it stands, as values; and how one check is kept from spoiling another."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum

from livedex.errors import LivedexError
from livedex.store.database import masked

_STATEMENTS = re.compile(r": ((?:(?:ALTER|CREATE|GRANT|SELECT|DROP) (?:'[^']*'|\"[^\"]*\"|[^;'\"])*;\s?)+)")
_COMMAND = re.compile(r"\bRun: ((?:livedex|pip|export|sudo) (?:'[^']*'|[^'.,;]|[.](?=\S))*)")


class State(StrEnum):
    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    NOT_CHECKED = "not checked"


@dataclass(frozen=True, slots=True)
class Check:
    """One requirement. `remedy` is the exact statements or command to run, where there are some."""

    name: str
    state: State
    message: str
    remedy: str | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """The checks of one thing, such as a source."""

    title: str
    checks: tuple[Check, ...]


@dataclass(frozen=True, slots=True)
class Report:
    groups: tuple[Group, ...]

    def count(self, state: State) -> int:
        return sum(check.state == state for group in self.groups for check in group.checks)


def ok(name: str, message: str) -> Check:
    return Check(name, State.OK, message)


def warning(name: str, message: str, remedy: str | None = None) -> Check:
    return Check(name, State.WARNING, message, remedy or remedy_in(message))


def failed(name: str, error: LivedexError | str, remedy: str | None = None) -> Check:
    """An error's message says what to do; the statement or command in it is set apart to be copied."""
    message = masked(str(error))
    return Check(name, State.FAILED, message, remedy or remedy_in(message))


def not_checked(name: str, because: str) -> Check:
    return Check(name, State.NOT_CHECKED, f"not checked because {because}")


def remedy_in(message: str) -> str | None:
    """The SQL after a colon, or the command after `Run:`, as livedex's errors give it."""
    if statements := _STATEMENTS.search(message):
        return statements[1].strip()
    command = _COMMAND.search(message)
    return command[1].strip() if command else None


async def guarded(name: str, seconds: float, work: Callable[[], Awaitable[list[Check]]]) -> list[Check]:
    """What `work` finds; its failure, whatever it is, is one more finding."""
    try:
        async with asyncio.timeout(seconds):
            return await work()
    except TimeoutError:
        return [failed(name, f"no answer within {seconds:g} s")]
    except LivedexError as error:
        return [failed(name, error)]
    except Exception as error:  # noqa: BLE001  # reported as a finding: one broken check must not hide the others
        return [failed(name, f"{type(error).__name__}: {' '.join(str(error).split())}")]


def raised(name: str, fine: str, check: Callable[[], None]) -> Check:
    """A check that raises what is wrong."""
    try:
        check()
    except LivedexError as error:
        return failed(name, error)
    return ok(name, fine)
