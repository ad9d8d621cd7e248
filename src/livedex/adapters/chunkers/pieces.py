"""Where a text that is too long for a chunk may be cut: at sentence ends, else between words, else anywhere."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator
from itertools import chain, pairwise

from livedex.adapters.chunkers.packing import boundary_key
from livedex.adapters.chunkers.tokens import UNITS_PER_LETTER, count_units

_SENTENCE_END = re.compile(r"[.!?…]++[\"'”’)\]*_]*+\s++|[。！？]++[」』）]*+\s*+")
_WORD_END = re.compile(r"\s++")
_WEIGHTLESS = re.compile(r"[ \t\r\n]*+")
_CLAUSE_END = re.compile(r"[,;:)}\]>|&、，；]++")
_JOINERS = "\u200d\ufe0e\ufe0f"
_LONGEST_CLUSTER = 16


def sentences(text: str, start: int, end: int, limit: int) -> Iterator[int]:
    """The starts of pieces of `text[start:end]` that weigh at most `limit` units each: sentences, and what longer ones
    are cut into. The first is `start`."""
    ends = (found.end() for found in _SENTENCE_END.finditer(text, start, end))
    for first, stop in pairwise(chain((start,), (position for position in ends if position < end), (end,))):
        yield first
        yield from _cuts(text, first, stop, limit)


def _cuts(text: str, start: int, end: int, limit: int) -> Iterator[int]:
    """Cuts inside one sentence. Each looks only as far ahead as a piece can reach, and takes the boundary with the
    best key there, so after an edit the cuts soon fall into step with the old ones."""
    reach = limit // UNITS_PER_LETTER
    while end - start > reach or count_units(text[start:end]) > limit:
        window = range(start + 1, min(end, start + reach) + 1)
        furthest = start + bisect_right(window, limit, key=lambda stop: count_units(text[start:stop]))
        gap = _WEIGHTLESS.match(text, _best_cut(text, start, furthest), end)
        start = gap.end() if gap else end
        if start < end:
            yield start


def _best_cut(text: str, start: int, furthest: int) -> int:
    """The best place to cut in (start, furthest]: in its second half between words, else between clauses, else
    between words in its first half, else at the last whole character."""
    middle = (start + furthest) // 2
    for pattern, low, high in (
        (_WORD_END, middle, furthest),
        (_CLAUSE_END, middle, furthest),
        (_WORD_END, start, middle),
    ):
        places = [found.end() for found in pattern.finditer(text, low, high)]
        if places:
            return min(places, key=lambda place: boundary_key(0, text, place))
    return _before_cluster(text, start, furthest)


def _before_cluster(text: str, start: int, furthest: int) -> int:
    """Moves a cut back so that it does not part a letter from its accents or an emoji from what it is joined to."""
    for place in range(furthest, max(start, furthest - _LONGEST_CLUSTER), -1):
        following = text[place]
        if not unicodedata.combining(following) and following not in _JOINERS and text[place - 1] != "\u200d":
            return place
    return furthest
