"""What is stored of chunks for BM25, packed as PostgreSQL and pgvector take it.

Binary forms, after `tsvectorsend`: the number of lexemes, then each with a zero byte and its number of positions, none
here; and after pgvector's `sparsevec_send`: dimensions, entries, 32 unused bits, then places from 0 on and values as
32-bit floats; all big-endian.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from psycopg import AsyncConnection
from psycopg.adapt import Dumper
from psycopg.pq import Format
from psycopg.types import TypeInfo

from livedex.rules.lexical import K1, LONGEST_WORD, B
from livedex.store.lexicon import Known

DIMENSIONS = 1_000_000_000
MOST_TERMS = 16_000
MOST_BYTES = 2**20 - 1
"""A sparsevec holds no more terms, a tsvector no more bytes of them. Of a chunk with more, because its title has
thousands of words, the most frequent are kept."""
SURELY_FIT = MOST_BYTES // (8 * LONGEST_WORD)

_TSVECTOR_OID, _TSVECTOR_ARRAY_OID = 3614, 3643
_COUNT = struct.Struct(">i")
_SPARSE_HEADER = struct.Struct(">iii")
_NO_POSITIONS = b"\0\0\0"


@dataclass(frozen=True, slots=True)
class TsVector:
    packed: bytes


@dataclass(frozen=True, slots=True)
class SparseVector:
    packed: bytes


@dataclass(frozen=True, slots=True)
class Terms:
    """Rows of `terms`, in parallel, weighed by the `average` length; and what they add to the statistics: `numbers` of
    terms, in how many of the rows each stands, and what it weighs in the one where that is most."""

    average: float | None = None
    lengths: Sequence[int] = ()
    norms: Sequence[float] = ()
    tsvs: Sequence[TsVector] = ()
    weights: Sequence[SparseVector] = ()
    numbers: Sequence[int] = ()
    frequencies: Sequence[int] = ()
    heaviest: Sequence[float] = ()


def weigh(written: Sequence[Sequence[str]], known: Known, chunks: int, terms_length: int) -> Terms:
    """Of some chunks' weighted words, by the average length that the generation will have with them, which is now
    `chunks` large and `terms_length` long."""
    counted = [_counted(words, known) for words in written]
    lengths = [counts.total() for counts in counted]
    average = max(1.0, (terms_length + sum(lengths)) / (chunks + len(counted)))
    norms = _norms(lengths, average)
    ends = list(accumulate(map(len, counted), initial=0))

    # All chunks' terms at once: by chunk, and within it by number, as a sparsevec wants them.
    row = np.repeat(np.arange(len(counted)), np.diff(ends))
    numbers = np.fromiter(chain.from_iterable(counted), np.int64, ends[-1])
    occurrences = np.fromiter(chain.from_iterable(counts.values() for counts in counted), np.float64, ends[-1])
    order = np.argsort(row * (DIMENSIONS + 1) + numbers)
    numbers, occurrences = numbers[order], occurrences[order]
    saturations = (occurrences / (occurrences + norms[row])).astype(np.float32)

    places, values = (numbers - 1).astype(">i4").tobytes(), saturations.astype(">f4").tobytes()
    distinct, place, frequencies = np.unique(numbers, return_inverse=True, return_counts=True)
    heaviest = np.zeros(len(distinct), np.float32)
    np.maximum.at(heaviest, place, saturations)
    return Terms(
        average,
        lengths,
        norms.tolist(),
        [_tsvector(counts, known) for counts in counted],
        [_sparse(places[4 * start : 4 * end], values[4 * start : 4 * end]) for start, end in pairwise(ends)],
        distinct.tolist(),
        frequencies.tolist(),
        heaviest.tolist(),
    )


@dataclass(frozen=True, slots=True)
class Reweighed:
    """Norms and weights of some rows by another average length, and what each of their `numbers` weighs at most."""

    norms: Sequence[float]
    weights: Sequence[SparseVector]
    numbers: Sequence[int]
    heaviest: Sequence[float]


def reweigh(lengths: Sequence[int], norms: Sequence[float], packed: Sequence[bytes], average: float) -> Reweighed:
    """Rows as they stand, with their weights as `sparsevec_send` has them, by another average."""
    entries = np.array([_SPARSE_HEADER.unpack_from(weights)[1] for weights in packed])
    row = np.repeat(np.arange(len(packed)), entries)
    sizes = [(_SPARSE_HEADER.size, int(count)) for count in entries]
    places = b"".join(w[head : head + 4 * n] for w, (head, n) in zip(packed, sizes, strict=True))
    values = b"".join(w[head + 4 * n :] for w, (head, n) in zip(packed, sizes, strict=True))
    before = np.frombuffer(values, ">f4").astype(np.float64)
    occurrences = np.rint(before * np.array(norms)[row] / (1 - before))
    wanted = _norms(lengths, average)
    saturations = (occurrences / (occurrences + wanted[row])).astype(np.float32)
    numbers, place = np.unique(np.frombuffer(places, ">i4").astype(np.int64) + 1, return_inverse=True)
    heaviest = np.zeros(len(numbers), np.float32)
    np.maximum.at(heaviest, place, saturations)
    ends = list(accumulate(map(int, entries), initial=0))
    packed_values = saturations.astype(">f4").tobytes()
    return Reweighed(
        wanted.tolist(),
        [_sparse(places[4 * a : 4 * b], packed_values[4 * a : 4 * b]) for a, b in pairwise(ends)],
        numbers.tolist(),
        heaviest.tolist(),
    )


def _norms(lengths: Sequence[int], average: float) -> npt.NDArray[np.float64]:
    """`livedex.rules.lexical.norm` of each."""
    return K1 * (1 - B + B * np.array(lengths, np.float64) / average)


def _counted(words: Sequence[str], known: Known) -> Counter[int]:
    counts = Counter(chain.from_iterable(map(known.numbers.__getitem__, words)))
    if len(counts) <= SURELY_FIT:
        return counts
    most = counts.most_common(MOST_TERMS)
    ends = accumulate(len(known.lexemes[number]) for number, _ in most)
    return Counter({number: count for (number, count), end in zip(most, ends, strict=True) if end <= MOST_BYTES})


def _tsvector(counts: Counter[int], known: Known) -> TsVector:
    lexemes = _NO_POSITIONS.join(map(known.lexemes.__getitem__, counts))
    return TsVector(_COUNT.pack(len(counts)) + lexemes + (_NO_POSITIONS if counts else b""))


def _sparse(places: bytes, values: bytes) -> SparseVector:
    return SparseVector(_SPARSE_HEADER.pack(DIMENSIONS, len(places) // 4, 0) + places + values)


class _Packed(Dumper):
    format = Format.BINARY

    def dump(self, obj: TsVector | SparseVector) -> bytes:
        return obj.packed


def register(connection: AsyncConnection[Any], oid: int, array_oid: int) -> None:
    """Teach a connection to send both types. The numbers are those of `sparsevec`, which differ between databases."""

    class TsVectorDumper(_Packed):
        pass

    class SparseVectorDumper(_Packed):
        pass

    TsVectorDumper.oid, SparseVectorDumper.oid = _TSVECTOR_OID, oid
    TypeInfo("tsvector", _TSVECTOR_OID, _TSVECTOR_ARRAY_OID).register(connection)
    TypeInfo("sparsevec", oid, array_oid).register(connection)
    connection.adapters.register_dumper(TsVector, TsVectorDumper)
    connection.adapters.register_dumper(SparseVector, SparseVectorDumper)
