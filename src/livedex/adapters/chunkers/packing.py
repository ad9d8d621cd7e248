"""Which pieces of a text share a chunk.

Filling chunks from the front moves every later cut when a paragraph is added, and each moved cut is two texts to embed
again. Here a run of pieces that is too long is cut in two at its best boundary, and each half again until it fits.
Which boundary is best depends on what kind it is and then on a checksum of the text after it, not on where it stands,
so an edit changes the chunk around it and, seldom, a neighbour: the cuts above it in this tree stay where they were.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate
from zlib import crc32

_FINGERPRINT_LENGTH = 32
_DEEPEST = 40
"""Random checksums give trees about 2 log n deep. A text made to grow a deeper one is cut in the middle from here on,
which keeps the work within n log n."""


def boundary_key(rank: int, text: str, position: int) -> int:
    """What makes a boundary at `position` better (lower) than another: first its rank, then chance, seeded by the text
    that follows. Its first words only: an edit further on in the piece must not move the cut before it."""
    return rank << 32 | crc32(text[position : position + _FINGERPRINT_LENGTH].encode("utf-8", "surrogatepass"))


def pack(weights: Sequence[int], keys: Sequence[int], limit: int, floor: int) -> list[int]:
    """Group neighbouring pieces into runs that weigh at most `limit`; returns the index of each run's first piece.

    `keys[i]` is the boundary key before piece i. A piece that alone weighs more than `limit` is a run by itself. No
    run is made lighter than `floor` where another cut is possible.
    """
    totals = [0, *accumulate(weights)]
    firsts: list[int] = []
    pending = [(0, len(weights), 0)] if weights else []
    while pending:
        first, end, depth = pending.pop()
        if end - first == 1 or totals[end] - totals[first] <= limit:
            firsts.append(first)
            continue
        low, high = _choice(totals, first, end, limit, floor)
        middle = bisect_left(totals, (totals[first] + totals[end]) // 2, low, high)
        cut = middle if depth >= _DEEPEST else _best_cut(keys, low, high, middle)
        pending += ((cut, end, depth + 1), (first, cut, depth + 1))
    return firsts


def _choice(totals: Sequence[int], first: int, end: int, limit: int, floor: int) -> tuple[int, int]:
    """The first and last piece of (first, end) that may be cut before. Two runs where two suffice; else neither side
    lighter than half the limit, or at least than the floor, if the pieces allow it."""
    excess = totals[end] - totals[first] - limit
    for least in (excess if excess <= limit else limit // 2, floor):
        low = bisect_left(totals, totals[first] + least, first + 1, end)
        high = bisect_right(totals, totals[end] - least, first + 1, end) - 1
        if low <= high:
            return low, high
    return first + 1, end - 1


def _best_cut(keys: Sequence[int], low: int, high: int, middle: int) -> int:
    candidates = keys[low : high + 1]
    best = min(candidates)
    if candidates.count(best) == 1:
        return low + candidates.index(best)
    # Equal texts give chance nothing to go by: the most even cut keeps the tree shallow.
    return min((i for i, key in enumerate(candidates, low) if key == best), key=lambda i: abs(i - middle))
