"""`livedex status`: how sources, views and quarantine stand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from livedex.cli import terminal
from livedex.cli.audit import show_audit
from livedex.cli.cost import show_cost
from livedex.cli.durations import duration
from livedex.cli.running import Json, opened, run
from livedex.cli.terminal import ago, counted, note, say, seconds
from livedex.model import SourceState
from livedex.rules.freshness import trouble

if TYPE_CHECKING:
    from livedex.status import SourceStatus, Status, ViewStatus

_INDENT = "  "
WINDOW_SECONDS = 3600.0
MOST_WINDOW_SECONDS = 7 * 86_400.0
"""Samples are not kept for longer."""
CLOCKS_AGREE_SECONDS = 1.0
LEAST_DEAD = 0.05
"""Vacuum leaves a smaller share for the next time."""


def _window(written: str) -> float:
    chosen = duration(written)
    if not 0 < chosen <= MOST_WINDOW_SECONDS:
        raise typer.BadParameter(f"{written} is not between nothing and 7d, for which samples are kept")
    return chosen


def status(
    context: typer.Context,
    window: Annotated[
        float, typer.Option(metavar="DURATION", parser=_window, help="Over how long figures are taken, 7d at most.")
    ] = "1h",  # type: ignore[assignment]  # typer hands a default to the parser as it would be written
    as_json: Json = False,
) -> None:
    """Show how fresh everything is: sources, views, and what could not be processed."""

    async def command() -> None:
        async with opened(context) as index:
            found = await index.status(window)
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
    show_audit(found.audit)


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
    if abs(source.clock_offset_seconds or 0.0) > CLOCKS_AGREE_SECONDS:
        _show_clock(source.clock_offset_seconds or 0.0)
    if source.error:
        said = "" if source.state == "held" else "error: "
        say(_INDENT * 2, (said, "red"), source.error)
    if source.schema_change:
        say(_INDENT * 2, (source.schema_change, "yellow"), f". See: livedex source schema {source.source}")


def _show_view(view: ViewStatus) -> None:
    size = f"{counted(view.documents, 'document')}, {counted(view.chunks, 'chunk')}"
    say(_INDENT, (view.view, "bold"), f"  generation {view.generation} · {size} · {view.embedding_model}")
    _show_freshness(view)
    _show_figures(view)
    nothing = "nothing else waits" if view.cost.debounced or view.cost.paused else "nothing waits"
    waiting = f"{counted(view.backlog, 'document')} waiting" if view.backlog else nothing
    search = "indexed" if view.indexed else "searching exactly until the index stands"
    show_cost(view.cost)
    say(_INDENT * 2, f"{waiting} · {search}")
    _show_size(view)
    for error in view.errors:
        say(_INDENT * 2, ("error: ", "red"), error)
    if view.quarantined:
        quarantined = f"{counted(view.quarantined, 'document')} in quarantine"
        say(_INDENT * 2, (quarantined, "yellow"), ". See: livedex quarantine list")


def _show_size(view: ViewStatus) -> None:
    if view.bytes_per_chunk is None:
        return
    inserts = "" if view.index_inserts_per_text is None else f", {view.index_inserts_per_text:.2f} index entries a text"
    dead = "" if view.size.dead_share < LEAST_DEAD else f", {view.size.dead_share:.0%} of vectors dead"
    kept = "" if view.size.maintained_at is None else f", looked after {ago(view.size.maintained_at)}"
    room = f"{_room(view.size.bytes)}, {view.bytes_per_chunk / 1024:.1f} KiB a chunk"
    say(_INDENT * 2, f"{room}{inserts}{dead}{kept}")


def _room(number: int) -> str:
    return f"{number / 2**20:,.0f} MiB" if number >= 2**20 else f"{number / 1024:,.0f} KiB"


def _show_clock(offset_seconds: float) -> None:
    side = "ahead of" if offset_seconds > 0 else "behind"
    effect = "lags are corrected for it" if offset_seconds > 0 else "lags look longer than they are"
    by = seconds(abs(offset_seconds))
    say(_INDENT * 2, ("its clock is wrong, or the store's: ", "yellow"), f"{by} {side} the store's; {effect}")


def _show_figures(view: ViewStatus) -> None:
    over = f"in the last {_span(view.window_seconds)}"
    if view.lag_p50_seconds is not None:
        say(_INDENT * 2, f"commit to searchable {over}: {_shares('lag', view)}")
    if view.delete_p50_seconds is not None:
        say(_INDENT * 2, f"delete to unsearchable {over}: {_shares('delete', view)}")
    shares = []
    if view.within_target is not None:
        shares.append(f"within target {view.within_target:.2%} of the time")
    if view.stale_retrieval_rate is not None:
        shares.append(f"{view.stale_retrieval_rate:.2%} of searches with a stale hit")
    if shares:
        say(_INDENT * 2, f"{over}: {', '.join(shares)}")


def _shares(what: str, view: ViewStatus) -> str:
    return ", ".join(f"p{share} {seconds(getattr(view, f'{what}_p{share}_seconds'))}" for share in (50, 95, 99))


def _span(of_seconds: float) -> str:
    return "hour" if of_seconds == WINDOW_SECONDS else seconds(of_seconds)


def _show_freshness(view: ViewStatus) -> None:
    amiss = trouble(view.watermark)
    if view.lag_seconds is None:
        follow = "" if view.capturing or amiss or view.errors else ". Run: livedex sync, or livedex up"
        say(_INDENT * 2, ("the first load is not complete", "yellow"), follow)
    elif amiss is None and view.capturing:
        late = any(mark.state is SourceState.BEHIND for mark in view.watermark)
        lag = f" · lag {seconds(view.lag_seconds)}, target {seconds(view.target_lag_seconds)}"
        say(_INDENT * 2, ("late", "red") if late else ("followed", "green"), lag)
    elif amiss is None:
        say(_INDENT * 2, ("not followed", "yellow"), f" · as of {seconds(view.lag_seconds)} ago. Run: livedex up")
    if amiss is not None:
        age = "" if view.lag_seconds is None else f" · as of {seconds(view.lag_seconds)} ago"
        say(_INDENT * 2, (amiss, "red"), f"{age}. What to do stands at the source, above")
