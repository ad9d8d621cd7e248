"""Chunks' terms as they are stored."""

from __future__ import annotations

import struct

import pytest

from livedex.rules.lexical import saturation
from livedex.store.lexicon import Known
from livedex.store.terms import DIMENSIONS, SparseVector, reweigh, weigh

KNOWN = Known(
    {"refund": (7,), "Refund": (7,), "the": (), "getUser": (900, 3, 12)},
    {7: b"refund", 900: b"getuser", 3: b"get", 12: b"user"},
)
WRITTEN = [["refund", "the", "Refund", "getUser"], ["the"], ["refund"] * 9]


def unpacked(vector: SparseVector) -> dict[int, float]:
    dimensions, count, _ = struct.unpack_from(">iii", vector.packed)
    assert dimensions == DIMENSIONS
    places = struct.unpack_from(f">{count}i", vector.packed, 12)
    values = struct.unpack_from(f">{count}f", vector.packed, 12 + 4 * count)
    return {place + 1: value for place, value in zip(places, values, strict=True)}


def test_terms_count_by_the_average_that_the_generation_will_have() -> None:
    terms = weigh(WRITTEN, KNOWN, chunks=7, terms_length=36)
    assert terms.average == (36 + 5 + 0 + 9) / 10
    assert list(terms.lengths) == [5, 0, 9]
    assert unpacked(terms.weights[0]) == pytest.approx(
        {7: saturation(2, 5, 5), 900: saturation(1, 5, 5), 3: saturation(1, 5, 5), 12: saturation(1, 5, 5)}
    )
    assert unpacked(terms.weights[1]) == {}
    assert unpacked(terms.weights[2]) == pytest.approx({7: saturation(9, 9, 5)})


def test_places_ascend_as_a_sparse_vector_wants_them() -> None:
    assert list(unpacked(weigh(WRITTEN, KNOWN, 0, 0).weights[0])) == [3, 7, 12, 900]


def test_lexemes_stand_in_a_tsvector_without_places() -> None:
    packed = weigh([["refund"]], KNOWN, 0, 0).tsvs[0].packed
    assert packed == b"\0\0\0\x01refund\0\0\0"
    assert weigh([["the"]], KNOWN, 0, 0).tsvs[0].packed == b"\0\0\0\0"


def test_statistics_say_in_how_many_chunks_a_term_stands_and_where_it_weighs_most() -> None:
    terms = weigh(WRITTEN, KNOWN, 0, 0)
    assert dict(zip(terms.numbers, terms.frequencies, strict=True)) == {3: 1, 7: 2, 12: 1, 900: 1}
    heaviest = dict(zip(terms.numbers, terms.heaviest, strict=True))
    assert heaviest[7] == pytest.approx(saturation(9, 9, 14 / 3))


def test_weighing_anew_gives_what_weighing_by_the_other_average_gave() -> None:
    before, after = weigh(WRITTEN, KNOWN, 0, 0), weigh(WRITTEN, KNOWN, chunks=97, terms_length=986)
    assert after.average == 10
    anew = reweigh(before.lengths, before.norms, [vector.packed for vector in before.weights], 10.0)
    assert anew.norms == pytest.approx(after.norms)
    assert [unpacked(vector) for vector in anew.weights] == [
        pytest.approx(unpacked(vector)) for vector in after.weights
    ]
    assert dict(zip(anew.numbers, anew.heaviest, strict=True)) == pytest.approx(
        dict(zip(after.numbers, after.heaviest, strict=True))
    )
