"""What a view may embed in a day, and what happens when it has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

CHARACTERS_A_TOKEN = 4
"""An estimate that holds for any embedder; most models count between three and five."""


class WhenSpent(StrEnum):
    """PAUSE: new texts wait, the old ones are served. LEXICAL_ONLY: new texts are found by words until there is budget
    for their vectors."""

    PAUSE = "pause"
    LEXICAL_ONLY = "lexical_only"


@dataclass(frozen=True, slots=True)
class Budget:
    """Tokens a day, from midnight UTC to midnight UTC."""

    tokens_per_day: int
    when_spent: WhenSpent = WhenSpent.PAUSE


def tokens(text: str) -> int:
    """About how many tokens a text has; at least one."""
    return max(1, -(-len(text) // CHARACTERS_A_TOKEN))


def affordable(texts: Mapping[bytes, str], left: int | None) -> set[bytes]:
    """The first of some texts, as long as anything is left; None is no bound. The last may take more than there was, or
    a text longer than the rest of every day would never be embedded."""
    if left is None:
        return set(texts)
    chosen: set[bytes] = set()
    for text_hash, text in texts.items():
        if left <= 0:
            break
        chosen.add(text_hash)
        left -= tokens(text)
    return chosen


def share(left: int, shards: int) -> int:
    """What one of several shards may take of what is left, while the others may take as much: together they spend no
    more than there is, but for the last text of each."""
    return -(-left // shards)


def goes_on_at(now: datetime) -> datetime:
    """The next midnight UTC."""
    today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return today + timedelta(days=1)
