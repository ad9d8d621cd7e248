"""Vectors without a model: signed feature hashing of words and pairs of words.

NOT SEMANTIC. Two texts are near each other when they share words, never because they mean the same. It is for tests,
smoke runs and load runs, where it costs about as much as reading the text.

    text ▸ words ▸ 64-bit hashes of words and of neighbouring pairs ▸ 1 + ln(count) each ▸ signed sums ▸ length 1
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import re
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np
import numpy.typing as npt

from livedex.errors import EmbedderMisconfigured
from livedex.model import ModelIdentity
from livedex.ports import Vectors

REVISION = "1"
"""Raise it when a change here alters any vector."""

PAIR_WEIGHT = 0.25
"""What a pair of words counts against a word: enough that word order shows. In 384 dimensions pairs crowd out words:
nDCG@10 on SciFact's training queries is .324 without them, .316 at this weight and .211 at full weight."""

SLICE_TEXTS = 64
"""Texts between two chances for other tasks of the event loop; at most 256, see `_ROW_SHIFT`."""

KNOWN_WORDS = 200_000

Hashes = npt.NDArray[np.uint64]
Sums = npt.NDArray[np.float64]

# 1 + ln(count). A table, because a vectorised logarithm need not round alike on every machine.
_DAMPED = np.array([0.0, *(1.0 + math.log(count) for count in range(1, 4096))])

# A sort key: 8 bits of row over 56 bits of hash, of which the upper 32 choose the dimension and the lowest the sign.
_ROW_SHIFT = np.uint64(56)
_INDEX_SHIFT = np.uint64(24)
_HASH_BITS = np.uint64(8)
_HALF = np.uint64(32)
_LOWER_HALF = np.uint64(0xFFFFFFFF)
_ONE = np.uint64(1)
_PAIR_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_MIX_FACTOR = np.uint64(0xD6E8FEB86659FD93)

# Scripts that put no space between words: each character counts as one, and pairs then do the rest.
_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_UNICODE_WORD = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+")
_ASCII_WORDS = bytes(ord(chr(byte).lower()) if byte < 128 and chr(byte).isalnum() else 32 for byte in range(256))


class _WordHashes(dict[bytes, int]):
    """The hash of each word, the same in every process and on every machine. Forgets all when full."""

    def __missing__(self, word: bytes) -> int:
        if len(self) >= KNOWN_WORDS:
            self.clear()
        value = self[word] = int.from_bytes(hashlib.blake2b(word, digest_size=8).digest(), "little")
        return value


class HashingEmbedder:
    """Embeds by hashing words; not semantic. See the module.

    A text's vector has the same bits whatever else is in the call. A text without words is hashed by its characters,
    a blank one has a vector of its own. Raises EmbedderMisconfigured for fewer than one dimension.
    """

    batch_size = 512

    def __init__(self, dimensions: int = 384) -> None:
        if dimensions < 1:
            raise EmbedderMisconfigured(f"The hashing embedder needs at least 1 dimension, not {dimensions}.")
        self.identity = ModelIdentity(model="hashing", revision=REVISION, dimensions=dimensions, pooling="sum")
        self._hashes = _WordHashes()

    async def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """Shape (len(texts), dimensions). Lets other tasks run every few milliseconds."""
        vectors = np.empty((len(texts), self.identity.dimensions), dtype=np.float32)
        for start in range(0, len(texts), SLICE_TEXTS):
            await asyncio.sleep(0)
            part = texts[start : start + SLICE_TEXTS]
            vectors[start : start + len(part)] = self._embed(part)
        return vectors

    async def embed_query(self, text: str) -> Vectors:
        """Shape (dimensions,)."""
        vector: Vectors = self._embed([text])[0]
        return vector

    async def close(self) -> None:
        self._hashes.clear()

    def _embed(self, texts: Sequence[str]) -> Vectors:
        words = [_words(text) for text in texts]
        counts = np.fromiter(map(len, words), dtype=np.int64, count=len(words))
        total = int(counts.sum())
        hashes = np.fromiter(map(self._hashes.__getitem__, chain.from_iterable(words)), dtype=np.uint64, count=total)
        rows = np.repeat(np.arange(len(texts), dtype=np.uint64), counts)

        together = rows[1:] == rows[:-1]
        pairs = _mix(hashes[:-1] * _PAIR_FACTOR + hashes[1:])[together]
        sums = self._sums(rows, hashes, len(texts))
        sums += PAIR_WEIGHT * self._sums(rows[1:][together], pairs, len(texts))
        return _unit(sums)

    def _sums(self, rows: Hashes, features: Hashes, texts: int) -> Sums:
        """Shape (texts, dimensions): per row the signed sum of 1 + ln(count) over its distinct features."""
        dimensions = self.identity.dimensions
        keys = np.sort((rows << _ROW_SHIFT) | (features >> _HASH_BITS))
        first = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1]))) if len(keys) else np.empty(0, np.int64)
        weights = _DAMPED.take(np.diff(first, append=len(keys)), mode="clip")
        distinct = keys[first]
        np.negative(weights, out=weights, where=(distinct & _ONE).astype(bool))
        index = (((distinct >> _INDEX_SHIFT) & _LOWER_HALF) * np.uint64(dimensions)) >> _HALF
        places = (distinct >> _ROW_SHIFT) * np.uint64(dimensions) + index
        sums = np.bincount(places.astype(np.int64), weights, minlength=texts * dimensions)
        return sums.astype(np.float64, copy=False).reshape(texts, dimensions)


def _words(text: str) -> list[bytes]:
    """Lower-case words of a text; never empty. Plain ASCII takes a path that is three times as fast."""
    if text.isascii():
        words = text.encode().translate(_ASCII_WORDS).split()
    else:
        words = [word.encode() for word in _UNICODE_WORD.findall(unicodedata.normalize("NFKC", text).casefold())]
    return words or list(_characters(text)) or [b""]


def _characters(text: str) -> Iterator[bytes]:
    for character in text:
        if not character.isspace():
            yield b"\0" + character.encode(errors="surrogatepass")


def _mix(hashes: Hashes) -> Hashes:
    """Spread every input bit over the upper bits, from which dimension and sign are taken."""
    hashes = (hashes ^ (hashes >> _HALF)) * _MIX_FACTOR
    mixed: Hashes = hashes ^ (hashes >> _HALF)
    return mixed


def _unit(sums: Sums) -> Vectors:
    """Bring rows to length 1. A row whose features cancelled out exactly becomes the first axis."""
    lengths = np.sqrt(np.einsum("ij,ij->i", sums, sums))
    sums[lengths == 0, 0] = 1.0
    lengths[lengths == 0] = 1.0
    unit: Vectors = (sums / lengths[:, None]).astype(np.float32)
    return unit
