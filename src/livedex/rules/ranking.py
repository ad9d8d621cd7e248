"""How the scores of both legs become one order. Pure; `store/queries/search.sql` says the same in SQL.

Both legs propose chunks, and each chunk then has both scores, also the one of the leg that did not propose it. On the
training queries of SciFact that was better than to let it have none (docs/performance.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, pstdev

RRF_K = 60


def by_deviations(dense: Sequence[float], lexical: Sequence[float]) -> list[float]:
    """How many standard deviations each score is from the mean of all candidates, summed over the legs. A leg in which
    all are equal has no say."""
    return [a + b for a, b in zip(_deviations(dense), _deviations(lexical), strict=True)]


def by_ranks(dense: Sequence[float], lexical: Sequence[float]) -> list[float]:
    """Reciprocal rank fusion: 1 / (60 + rank), summed over the legs; equal scores share the better rank.
    https://dl.acm.org/doi/10.1145/1571941.1572114"""
    ranks = zip(_ranks(dense), _ranks(lexical), strict=True)
    return [1 / (RRF_K + first) + 1 / (RRF_K + second) for first, second in ranks]


def _deviations(scores: Sequence[float]) -> list[float]:
    mean, spread = fmean(scores), pstdev(scores)
    return [0.0 if spread == 0 else (score - mean) / spread for score in scores]


def _ranks(scores: Sequence[float]) -> list[int]:
    ordered = sorted(scores, reverse=True)
    first = {score: rank for rank, score in reversed(list(enumerate(ordered, start=1)))}
    return [first[score] for score in scores]
