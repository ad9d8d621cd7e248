"""When a source loses so much at once that a person has to agree. Pure: times are passed in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

DELETES = "deletes"
SHRINKS = "shrinks"


@dataclass(frozen=True, slots=True)
class Limits:
    """Shares are of the documents that the source had at the start of the window, 0 to 1. Fewer than `least` losses
    are never too many."""

    deletes: float
    shrinks: float
    least: int
    window_seconds: float


@dataclass(frozen=True, slots=True)
class Losses:
    """Documents that went, and documents that came to less than half of their size, at a time in seconds."""

    at: float
    deletes: int = 0
    shrinks: int = 0


@dataclass(frozen=True, slots=True)
class Question:
    """What a source is held for: what would be lost within the window, out of how many documents. `kinds` went beyond
    their share; `examples` are some documents."""

    kinds: tuple[str, ...]
    deletes: int
    shrinks: int
    documents: int
    examples: tuple[int, ...] = ()


def has_shrunk(before_bytes: int, after_bytes: int) -> bool:
    """Whether a document lost more than half of its content."""
    return 2 * after_bytes < before_bytes


def recent(losses: Iterable[Losses], now: float, window_seconds: float) -> list[Losses]:
    return [each for each in losses if now - each.at < window_seconds]


def total(losses: Sequence[Losses], now: float) -> Losses:
    return Losses(now, sum(each.deletes for each in losses), sum(each.shrinks for each in losses))


def may_exceed(limits: Limits, losses: Losses) -> bool:
    """Whether it is worth counting the documents."""
    return max(losses.deletes, losses.shrinks) >= limits.least


def exceeded(limits: Limits, losses: Losses, documents: int) -> tuple[str, ...]:
    """Which kinds of losses are too many for a source of so many documents."""
    found = []
    if losses.deletes >= limits.least and losses.deletes > limits.deletes * documents:
        found.append(DELETES)
    if losses.shrinks >= limits.least and losses.shrinks > limits.shrinks * documents:
        found.append(SHRINKS)
    return tuple(found)


def explained(question: Question, limits: Limits, source: str) -> str:
    """What happened, and what to do about it."""
    parts = []
    if DELETES in question.kinds:
        parts.append(f"{question.deletes:,} of its {question.documents:,} documents would be gone")
    if SHRINKS in question.kinds:
        parts.append(
            f"{question.shrinks:,} of its {question.documents:,} documents would lose more than half of what they say"
        )
    allowed = ", ".join(f"{kind}: {getattr(limits, kind):.0%}" for kind in question.kinds)
    return (
        f"Source {source} is held: {' and '.join(parts)} within {limits.window_seconds:g} s, more than its brake "
        f"allows ({allowed}). What would do so was not taken over, and the source keeps its changes. If it is meant, "
        f"run: livedex source resume {source}. If not, mend the source and run: livedex source retry {source}"
    )
