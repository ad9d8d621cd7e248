"""What stored terms come to: how many chunks have each term, and whether a chunk's weights, norm and length belong
together."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

_HEADER = struct.Struct(">iii")
_ROUNDING = 2.0**-23
"""Of a weight as it is stored, relative to 1."""


class Tally(NamedTuple):
    """In parallel: numbers of terms in rising order, in how many chunks each stands, and what it weighs where that is
    most."""

    terms: npt.NDArray[np.int64] = np.empty(0, np.int64)
    chunks: npt.NDArray[np.int64] = np.empty(0, np.int64)
    heaviest: npt.NDArray[np.float32] = np.empty(0, np.float32)

    def plus(self, other: Self) -> Tally:
        return _summed(
            np.concatenate((self.terms, other.terms)),
            np.concatenate((self.chunks, other.chunks)),
            np.concatenate((self.heaviest, other.heaviest)),
        )


def tally(rows: Sequence[Mapping[str, Any]]) -> tuple[list[int], Tally]:
    """Rows of the statement `weights`: chunks whose parts do not belong together, and what all of them come to."""
    packed = [bytes(row["weights"]) for row in rows]
    sizes = np.array([_HEADER.unpack_from(weights)[1] for weights in packed], np.int64)
    heads = [(_HEADER.size, int(count)) for count in sizes]
    places = b"".join(w[head : head + 4 * n] for w, (head, n) in zip(packed, heads, strict=True))
    values = b"".join(w[head + 4 * n :] for w, (head, n) in zip(packed, heads, strict=True))
    terms = np.frombuffer(places, ">i4").astype(np.int64) + 1
    weights = np.frombuffer(values, ">f4").astype(np.float32)
    wrong = ~_fits(rows, sizes, weights.astype(np.float64))
    chunks = [row["chunk"] for row, is_wrong in zip(rows, wrong.tolist(), strict=True) if is_wrong]
    return chunks, _summed(terms, np.ones(len(terms), np.int64), weights)


def _fits(
    rows: Sequence[Mapping[str, Any]], sizes: npt.NDArray[np.int64], weights: npt.NDArray[np.float64]
) -> npt.NDArray[np.bool_]:
    """Per row: as many weights as lexemes, each of a whole number of occurrences, which together are the length."""
    owners = np.repeat(np.arange(len(rows)), sizes)
    norms = np.array([row["norm"] for row in rows], np.float64)[owners]
    lengths = np.array([row["length"] for row in rows], np.float64)
    lexemes = np.array([row["lexemes"] for row in rows], np.int64)
    possible = (weights > 0) & (weights < 1) & (norms > 0)
    safe = np.where(possible, weights, 0.5)
    occurrences = safe * norms / (1 - safe)
    # A weight near 1 tells less exactly what it was made from.
    slack = 0.01 + _ROUNDING * norms / (1 - safe) ** 2
    whole = np.abs(occurrences - np.rint(occurrences)) <= slack
    good = possible & whole & (occurrences > 0.5)
    together = np.bincount(owners, np.rint(occurrences), len(rows))
    uncertain = np.bincount(owners, np.floor(slack), len(rows))
    bad = np.bincount(owners, ~good, len(rows)) > 0
    fits: npt.NDArray[np.bool_] = ~bad & (sizes == lexemes) & (np.abs(together - lengths) <= uncertain)
    return fits


def _summed(terms: npt.NDArray[np.int64], chunks: npt.NDArray[np.int64], heaviest: npt.NDArray[np.float32]) -> Tally:
    order = np.argsort(terms)
    terms, chunks, heaviest = terms[order], chunks[order], heaviest[order]
    if not len(terms):
        return Tally()
    starts = np.flatnonzero(np.concatenate(([True], terms[1:] != terms[:-1])))
    return Tally(terms[starts], np.add.reduceat(chunks, starts), np.maximum.reduceat(heaviest, starts))
