"""When the new text of a document that is being edited is embedded: once nobody has edited it for a while, and at the
latest after a longer one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class Debounce:
    """A document has to be `quiet` for so long; one that never is waits `at_most`."""

    quiet: timedelta
    at_most: timedelta


@dataclass(frozen=True, slots=True)
class Waiting:
    """A version that waits already: since when some version of its document has, and until when this one does."""

    since: datetime
    due: datetime
    content_hash: bytes


def due(wanted: Debounce, edited_at: datetime, content_hash: bytes, waiting: Waiting | None) -> datetime:
    """When a text that was edited at `edited_at` may be embedded. A change that leaves the text as it is, of metadata
    for one, postpones nothing."""
    if waiting is None:
        return edited_at + min(wanted.quiet, wanted.at_most)
    if waiting.content_hash == content_hash:
        return waiting.due
    return min(edited_at + wanted.quiet, waiting.since + wanted.at_most)
