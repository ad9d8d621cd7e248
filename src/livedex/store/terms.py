"""What is stored of a chunk for BM25, packed as PostgreSQL and pgvector take it.

Binary forms, after `tsvectorsend`: the number of lexemes, then each with a zero byte and its number of positions, none
here; and after pgvector's `sparsevec_send`: dimensions, entries, 32 unused bits, then places from 0 on and values as
32-bit floats; all big-endian.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from psycopg import AsyncConnection
from psycopg.adapt import Dumper
from psycopg.pq import Format
from psycopg.types import TypeInfo

from livedex.rules.lexical import HEADING_WEIGHT, TITLE_WEIGHT, norm, words
from livedex.store.lexicon import Term

DIMENSIONS = 1_000_000_000
MOST_TERMS = 16_000
"""A sparsevec holds no more. Of a chunk with more terms, the most frequent are kept."""

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
class Written:
    """The words of a chunk's title, of the headings above it and of its text."""

    title: list[str]
    headings: list[str]
    text: list[str]

    @classmethod
    def of(cls, title: str, headings: Sequence[str], text: str) -> Self:
        return cls(words(title), [word for heading in headings for word in words(heading)], words(text))

    @property
    def parts(self) -> tuple[list[str], ...]:
        return self.title, self.headings, self.text

    def counted(self, known: Mapping[str, tuple[Term, ...]]) -> dict[Term, int]:
        """How often each term occurs, by the weight of where."""
        counts: dict[Term, int] = {}
        for weight, part in ((TITLE_WEIGHT, self.title), (HEADING_WEIGHT, self.headings), (1, self.text)):
            for word, times in Counter(part).items():
                for term in known[word]:
                    counts[term] = counts.get(term, 0) + weight * times
        if len(counts) > MOST_TERMS:
            counts = dict(Counter(counts).most_common(MOST_TERMS))
        return counts


@dataclass(frozen=True, slots=True)
class Terms:
    """One row: the terms' numbers, how much each counts, how many they are by weight, and both packed."""

    numbers: npt.NDArray[np.int32]
    saturations: npt.NDArray[np.float32]
    length: int
    norm: float
    tsv: TsVector
    weights: SparseVector

    @classmethod
    def of(cls, counts: Mapping[Term, int], average_length: float) -> Self:
        ordered = sorted(counts)
        length = sum(counts.values())
        share = norm(length, average_length)
        occurrences = np.array([counts[term] for term in ordered], np.float64)
        numbers = np.array([term.number for term in ordered], np.int32)
        saturations = (occurrences / (occurrences + share)).astype(np.float32)
        return cls(
            numbers,
            saturations,
            length,
            share,
            TsVector(_COUNT.pack(len(ordered)) + b"".join(term.lexeme + _NO_POSITIONS for term in ordered)),
            SparseVector(
                _SPARSE_HEADER.pack(DIMENSIONS, len(ordered), 0)
                + (numbers - 1).astype(">i4").tobytes()
                + saturations.astype(">f4").tobytes()
            ),
        )


def frequencies(rows: Sequence[Terms]) -> tuple[list[int], list[int], list[float]]:
    """Terms, in how many of the rows each stands, and how much it counts in the one where that is most."""
    if not rows:
        return [], [], []
    terms, place, deltas = np.unique(
        np.concatenate([row.numbers for row in rows]), return_inverse=True, return_counts=True
    )
    heaviest = np.zeros(len(terms), np.float32)
    np.maximum.at(heaviest, place, np.concatenate([row.saturations for row in rows]))
    return terms.tolist(), deltas.tolist(), heaviest.tolist()


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
