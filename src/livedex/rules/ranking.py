"""How the scores of both legs become one order. Pure; `store/queries/search.sql` says the same in SQL.

Both legs propose chunks, and each chunk then has both scores, also the one of the leg that did not propose it. On the
training queries of SciFact that was better than to let it have none (docs/performance.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, pstdev

RRF_K = 60


def by_deviations(dense: Sequence[float | None], lexical: Sequence[float]) -> list[float]:
    """How many standard deviations each score is from the mean of all candidates, summed over the legs. A leg in which
    all are equal has no say, nor has the dense one of a chunk without a vector."""
    return [a + b for a, b in zip(_deviations(dense), _deviations(lexical), strict=True)]


def by_ranks(dense: Sequence[float | None], lexical: Sequence[float]) -> list[float]:
    """Reciprocal rank fusion: 1 / (60 + rank), summed over the legs; equal scores share the better rank, and a chunk
    without a vector has none in the dense leg. https://dl.acm.org/doi/10.1145/1571941.1572114"""
    return [first + second for first, second in zip(_reciprocals(dense), _reciprocals(lexical), strict=True)]


def _deviations(scores: Sequence[float | None]) -> list[float]:
    known = [score for score in scores if score is not None]
    if not known or (spread := pstdev(known)) == 0:
        return [0.0] * len(scores)
    mean = fmean(known)
    return [0.0 if score is None else (score - mean) / spread for score in scores]


def _reciprocals(scores: Sequence[float | None]) -> list[float]:
    ordered = sorted((score for score in scores if score is not None), reverse=True)
    first = {score: rank for rank, score in reversed(list(enumerate(ordered, start=1)))}
    return [0.0 if score is None else 1 / (RRF_K + first[score]) for score in scores]
