"""Fingerprints of texts that say almost the same."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livedex.rules.near_duplicates import (
    BANDS,
    BITS,
    LEAST_WORDS,
    are_near,
    bands,
    distance_of,
    fingerprint,
    probes,
    signed,
    unsigned,
)

WORDS = [f"word{number}" for number in range(400)]


def text(seed: int, words: int = 200) -> list[str]:
    return random.Random(seed).choices(WORDS, k=words)


def printed(words: list[str]) -> int:
    found = fingerprint(" ".join(words))
    assert found is not None
    return found


def test_one_word_changed_among_two_hundred_is_nearly_the_same() -> None:
    words = text(1)
    changed = [*words[:100], "other", *words[101:]]
    assert are_near(printed(words), printed(changed), distance_of(0.95))


def test_texts_of_their_own_are_not() -> None:
    prints = [printed(text(seed)) for seed in range(60)]
    near = [(a, b) for a in range(60) for b in range(a) if are_near(prints[a], prints[b], distance_of(0.85))]
    assert near == []


def test_case_and_marks_make_no_difference() -> None:
    words = text(2)
    assert fingerprint(" ".join(words)) == fingerprint(", ".join(words).upper())


def test_a_short_text_has_none() -> None:
    assert fingerprint("word " * (LEAST_WORDS - 1)) is None
    assert fingerprint("word " * LEAST_WORDS) is not None


@pytest.mark.parametrize(("similarity", "bits"), [(1.0, 0), (0.99, 3), (0.95, 6), (0.9, 9), (0.85, 11)])
def test_similarity_comes_to_a_number_of_bits(similarity: float, bits: int) -> None:
    assert distance_of(similarity) == bits


PRINTS = st.integers(0, 2**BITS - 1)


@given(PRINTS, st.sets(st.integers(0, BITS - 1), max_size=11))
def test_everything_within_the_distance_is_found_in_one_band(one: int, flipped: set[int]) -> None:
    other = one
    for bit in flipped:
        other ^= 1 << bit
    looked_up = dict(probes(one, max(len(flipped), 3)))
    assert any(bands(other)[band] in looked_up[band] for band in range(BANDS))


@given(PRINTS)
def test_a_fingerprint_survives_a_bigint(one: int) -> None:
    assert unsigned(signed(one)) == one
    assert -(2**63) <= signed(one) < 2**63
