"""Views: whether what is built is what the configuration asks for, and how it keeps up."""

from __future__ import annotations

from collections.abc import Sequence

from livedex.app import Index
from livedex.doctor.report import Check, State, failed, not_checked, ok, warning
from livedex.errors import EmbedderError, LivedexError, MissingExtra
from livedex.model import SourceState
from livedex.rules.freshness import trouble
from livedex.status import SourceStatus, Status, ViewStatus

LIST = "livedex quarantine list"
RESYNC = "livedex source resync"
"""Stands in the errors that last until somebody runs it, whatever the source says by now."""


async def check_view(index: Index, view: str, status: Status) -> list[Check]:
    found = next((built for built in status.views if built.view == view), None)
    if found is None:
        return [ok("built", "not yet. Run: livedex sync")]
    return [await _check_recipe(index, view), _check_freshness(found), _check_quarantine(found), *_check_index(found)]


def check_followed(source: str, status: Status, found: Sequence[Check]) -> list[Check]:
    """How capture of a source stands, as it was last written down; `found` is what was looked at just now."""
    parts = [part for part in status.sources if part.source == source]
    return [_check_part(part, found) for part in parts] or [ok("capture", "has not begun. Run: livedex sync")]


def _check_part(part: SourceStatus, found: Sequence[Check]) -> Check:
    if part.state == "held":
        return failed("capture", part.error or "it is held", f"livedex source show {part.source}")
    if not part.error:
        return ok("capture", f"{part.state}, {part.documents:,} documents")
    if any(check.message == part.error for check in found):
        return not_checked("capture", "it ended at what failed above")
    if part.state == "paused" and (RESYNC in part.error or any(check.state is State.FAILED for check in found)):
        return failed("capture", part.error)
    # Nothing that was looked at just now is wrong any more, and the next try will tell.
    return warning("capture", f"{part.state}; the last try failed: {part.error}", "livedex sync")


async def _check_recipe(index: Index, view: str) -> Check:
    try:
        await index.check_recipe(view)
    except (EmbedderError, MissingExtra):
        return not_checked("recipe", "its embedder is not ready")
    except LivedexError as error:
        return failed("recipe", error)
    return ok("recipe", "built as livedex.yaml asks")


def _check_freshness(view: ViewStatus) -> Check:
    if view.errors:
        return failed("freshness", f"makes no progress: {'; '.join(view.errors)}")
    if view.lag_seconds is None:
        return warning("freshness", "its first load is not complete", "livedex sync")
    if (amiss := trouble(view.watermark)) is not None:
        return warning("freshness", f"{amiss}; it is {view.lag_seconds:,.0f} s old", "livedex status")
    if not view.capturing:
        return warning("freshness", f"nothing follows the sources; it is {view.lag_seconds:,.0f} s old", "livedex up")
    late = view.lag_p99_seconds
    if late is not None and late > view.target_lag_seconds:
        return warning("freshness", f"commit to searchable took up to {late:,.1f} s in the last hour (p99); "
                                    f"target_lag is {view.target_lag_seconds:g} s")  # fmt: skip
    if any(mark.state is SourceState.BEHIND for mark in view.watermark):
        return warning("freshness", f"it is {view.lag_seconds:,.1f} s behind, {view.backlog:,} documents wait")
    return ok("freshness", f"{view.lag_seconds:,.1f} s behind; target_lag is {view.target_lag_seconds:g} s")


def _check_quarantine(view: ViewStatus) -> Check:
    if view.quarantined:
        return warning("quarantine", f"{view.quarantined:,} documents could not be processed", LIST)
    return ok("quarantine", "empty")


def _check_index(view: ViewStatus) -> list[Check]:
    if view.indexed:
        return [ok("index", f"{view.documents:,} documents, {view.chunks:,} chunks")]
    if view.lag_seconds is None:
        return []  # built when everything is loaded
    return [warning("index", "its vector index is not built yet, so searches read all vectors", "livedex sync")]
