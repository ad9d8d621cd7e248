"""What `livedex status` says of a view's limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from livedex.cli.terminal import counted, say, seconds

if TYPE_CHECKING:
    from livedex.store.cost import ViewCost

_INDENT = "    "


def show_cost(cost: ViewCost) -> None:
    """A line for each limit that the view has, or that documents still wait for."""
    if cost.debounce_seconds is not None or cost.debounced:
        quiet = "" if cost.debounce_seconds is None else f" {seconds(cost.debounce_seconds)}"
        say(_INDENT, f"debounce{quiet}: {counted(cost.debounced, 'document')} not quiet yet")
    if cost.tokens_per_day is not None or cost.paused or cost.lexical_only:
        _show_budget(cost)
    if cost.ttl_seconds is not None or cost.expired:
        say(_INDENT, f"ttl: {counted(cost.expired, 'document')} too old to be shown")


def _show_budget(cost: ViewCost) -> None:
    of_day = "" if cost.tokens_per_day is None else f" of {cost.tokens_per_day:,}"
    spent = cost.tokens_per_day is not None and cost.tokens_today >= cost.tokens_per_day
    say(_INDENT, "budget: ", (f"{cost.tokens_today:,}{of_day} tokens today", "yellow" if spent else "green"))
    until = f", until {cost.goes_on_at:%H:%M} UTC" if spent else ""
    if cost.paused:
        say(_INDENT, (f"{counted(cost.paused, 'document')} waiting to be embedded", "yellow"), until)
    if cost.lexical_only:
        say(_INDENT, (f"{counted(cost.lexical_only, 'document')} found by words alone", "yellow"), until)
