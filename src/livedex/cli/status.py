"""`livedex status`: how sources, views and quarantine stand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from livedex.cli import terminal
from livedex.cli.running import Json, opened, run
from livedex.cli.terminal import ago, counted, note, say, seconds

if TYPE_CHECKING:
    from livedex.status import SourceStatus, Status, ViewStatus

_INDENT = "  "


def status(context: typer.Context, as_json: Json = False) -> None:
    """Show how fresh everything is: sources, views, and what could not be processed."""

    async def command() -> None:
        async with opened(context) as index:
            found = await index.status()
            if as_json:
                terminal.emit(found)
            else:
                _show(found)

    run(context, command)


def _show(found: Status) -> None:
    if not found.views:
        note("Nothing has been captured yet. Run: livedex sync, or livedex up")
        return
    say(("Sources", "bold"))
    for source in found.sources:
        _show_source(source)
    say()
    say(("Views", "bold"))
    for view in found.views:
        _show_view(view)


def _show_source(source: SourceStatus) -> None:
    style = "green" if source.state == "streaming" and not source.error else "yellow"
    facts = f"  {source.kind} · {counted(source.documents, 'document')}"
    say(_INDENT, (source.source, "bold"), "  ", (source.state, style), facts)
    if source.position is None:
        say(_INDENT * 2, "not read to the end yet")
    else:
        committed = "" if source.position_time is None else f", as of {ago(source.position_time)}"
        say(_INDENT * 2, f"position {source.position}{committed}")
    if source.heartbeat_at is not None:
        say(_INDENT * 2, f"last heard {ago(source.heartbeat_at)}")
    if source.error:
        say(_INDENT * 2, ("error: ", "red"), source.error)


def _show_view(view: ViewStatus) -> None:
    size = f"{counted(view.documents, 'document')}, {counted(view.chunks, 'chunk')}"
    say(_INDENT, (view.view, "bold"), f"  generation {view.generation} · {size} · {view.embedding_model}")
    _show_freshness(view)
    if view.lag_p50_seconds is not None and view.lag_p99_seconds is not None:
        p50, p99 = seconds(view.lag_p50_seconds), seconds(view.lag_p99_seconds)
        say(_INDENT * 2, f"commit to searchable in the last hour: p50 {p50}, p99 {p99}")
    waiting = f"{counted(view.backlog, 'document')} waiting" if view.backlog else "nothing waits"
    search = "indexed" if view.indexed else "searching exactly until the index stands"
    say(_INDENT * 2, f"{waiting} · {search}")
    for error in view.errors:
        say(_INDENT * 2, ("error: ", "red"), error)
    if view.quarantined:
        quarantined = f"{counted(view.quarantined, 'document')} in quarantine"
        say(_INDENT * 2, (quarantined, "yellow"), ". See: livedex quarantine list")


def _show_freshness(view: ViewStatus) -> None:
    if view.lag_seconds is None:
        follow = "" if view.capturing else ". Run: livedex sync, or livedex up"
        say(_INDENT * 2, ("the first load is not complete", "yellow"), follow)
    elif view.capturing:
        late = view.lag_seconds > view.target_lag_seconds
        lag = f" · lag {seconds(view.lag_seconds)}, target {seconds(view.target_lag_seconds)}"
        say(_INDENT * 2, ("late", "red") if late else ("followed", "green"), lag)
    else:
        say(_INDENT * 2, ("not followed", "yellow"), f" · as of {seconds(view.lag_seconds)} ago. Run: livedex up")
