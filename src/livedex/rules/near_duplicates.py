"""Which texts say almost the same: 64-bit SimHash over shingles of words, looked up by bands. Pure.

SimHash (Charikar 2002): the share of bits in which two fingerprints differ is about the angle between the texts' sets
of shingles, divided by pi. Fingerprints within `distance` bits of each other differ in at most a quarter of these bits
in one of four bands of 16, so that looking up every value that near in each band finds them all (Manku et al. 2007).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from functools import cache
from hashlib import blake2b
from itertools import combinations

import numpy as np

BITS = 64
BANDS = 4
BAND_BITS = BITS // BANDS
SHINGLE_WORDS = 3
LEAST_WORDS = 20
"""A shorter text says too little to be called the same as another."""

_WORD = re.compile(r"\w+")
_MASK = (1 << BAND_BITS) - 1


def fingerprint(text: str) -> int | None:
    """64 bits, unsigned; None for a text that is too short."""
    words = _WORD.findall(text.lower())
    if len(words) < LEAST_WORDS:
        return None
    shingles = {" ".join(words[start : start + SHINGLE_WORDS]) for start in range(len(words) - SHINGLE_WORDS + 1)}
    digests = b"".join(blake2b(shingle.encode("utf-8", "replace"), digest_size=8).digest() for shingle in shingles)
    bits = np.unpackbits(np.frombuffer(digests, dtype=np.uint8).reshape(-1, 8), axis=1)
    most = 2 * bits.sum(axis=0, dtype=np.int64) > len(shingles)
    return int.from_bytes(np.packbits(most).tobytes(), "big")


def distance_of(similarity: float) -> int:
    """In how many bits two texts may differ whose shingles have this cosine similarity, 0 to 1."""
    return round(BITS * math.acos(similarity) / math.pi)


def are_near(one: int, other: int, distance: int) -> bool:
    return (one ^ other).bit_count() <= distance


def bands(fingerprint: int) -> list[int]:
    """Its four parts, 0 to 65535 each."""
    return [fingerprint >> (BAND_BITS * band) & _MASK for band in range(BANDS)]


def probes(fingerprint: int, distance: int) -> Iterator[tuple[int, list[int]]]:
    """Per band the values under which everything within the distance is found."""
    flips = _flips(distance // BANDS)
    for band, value in enumerate(bands(fingerprint)):
        yield band, [value ^ flip for flip in flips]


@cache
def _flips(most: int) -> tuple[int, ...]:
    return tuple(
        sum(1 << bit for bit in chosen) for count in range(most + 1) for chosen in combinations(range(BAND_BITS), count)
    )


def signed(fingerprint: int) -> int:
    """As PostgreSQL's bigint holds it."""
    return fingerprint - (1 << BITS) if fingerprint >> (BITS - 1) else fingerprint


def unsigned(stored: int) -> int:
    return stored & ((1 << BITS) - 1)
