"""Text → words to look up, and BM25. Pure.

A text's words are runs of letters, with the marks on them, digits and underscores. An identifier counts as itself and
as its parts: `getUserName` also as get, user, name; `PAYMENT_RETRY_LIMIT` also as payment, retry, limit. Scripts
without spaces between words are cut into pairs of characters. Stems and stop words are the business of a text search
dictionary.

BM25 in Lucene's form, without the constant factor (k1 + 1): the sum over a query's terms of `idf` times `saturation`.
https://dl.acm.org/doi/10.1561/1500000019, https://arxiv.org/abs/2407.03618
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

VERSION = 1
"""Of the analysis: a generation is searched with what it was built with."""

K1 = 1.2
B = 0.75
TITLE_WEIGHT = 2
HEADING_WEIGHT = 1
"""How often a word of the title or of a heading above counts, where one of the text counts once."""

LEAST_HEAVIEST = 0.75
"""A term is taken to count so much in some chunk; that it counts more in one is noted. About four occurrences."""

MOST_TERMS = 32
"""Of a query with more, those count that say most: each costs time for every candidate; the others hardly matter."""

LONGEST_WORD = 64
"""In characters. Of longer ones, such as checksums, only the start is looked up; PostgreSQL's limit is 2046 bytes."""

# What Python takes for no part of a word: vowels of Hindi, Tamil or Thai, and points of Arabic or Hebrew.
_MARKS = "".join(
    chr(code)
    for code in (*range(0x300, 0x1D00), *range(0xA600, 0xAC00))
    if unicodedata.category(chr(code)) in {"Mn", "Mc"}
)
_WORD = re.compile(rf"\w[\w{_MARKS}]*")
_ASCII_WORDS = bytes(byte if byte < 128 and (chr(byte).isalnum() or byte == ord("_")) else 32 for byte in range(256))
_LETTER = rf"(?:[^\W\d_A-Z][{_MARKS}]*)"
_IDENTIFIER = re.compile(rf"_|{_LETTER}[A-Z]|[A-Z]{{2,}}[a-z]|\d[^\W\d_]|(?:[A-Z]|{_LETTER})\d")
_PART = re.compile(rf"[A-Z]+(?![a-z])|[A-Z]?{_LETTER}+|[A-Z]|\d+")
_UNSPACED = re.compile(
    "([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+)"
)
"""Thai, Lao, Burmese, Khmer, Japanese syllables and Han characters."""


def recipe(dictionary: str) -> Mapping[str, Any]:
    """What decides which terms a chunk has; goes into the generation's recipe."""
    return {
        "version": VERSION,
        "dictionary": dictionary,
        "title_weight": TITLE_WEIGHT,
        "heading_weight": HEADING_WEIGHT,
        "k1": K1,
        "b": B,
    }


def words(text: str) -> list[str]:
    """The words of a text as they are written, in order."""
    if text.isascii():  # three times as fast as the expression
        return text.encode().translate(_ASCII_WORDS).decode().split()
    return _WORD.findall(unicodedata.normalize("NFKC", text))


def weighted_words(title: str, headings: Sequence[str], text: str) -> list[str]:
    """The words of a chunk, those of its title and headings as often as they count."""
    above = [word for heading in headings for word in words(heading)]
    return words(title) * TITLE_WEIGHT + above * HEADING_WEIGHT + words(text)


def forms(word: str) -> tuple[str, ...]:
    """What a word is looked up as, in lower case: itself, and its parts if it has any."""
    if word.isascii():
        word = word[:LONGEST_WORD]
        return (word.lower(), *_parts(word))
    return tuple(form for run in _UNSPACED.split(word) if run for form in _of_run(run))


def _of_run(run: str) -> Iterator[str]:
    if not _UNSPACED.fullmatch(run):
        run = run[:LONGEST_WORD]
        yield run.lower()
        yield from _parts(run)
    elif len(run) == 1:
        yield run
    else:
        yield from (first + second for first, second in pairwise(run))


def _parts(word: str) -> Sequence[str]:
    if not _IDENTIFIER.search(word):
        return ()
    parts = [part.lower() for part in _PART.findall(word)] or [word.lower()]
    return parts if len(parts) > 1 or parts[0] != word.lower() else ()


def idf(chunks: int, frequency: int) -> float:
    """How much a term says that `frequency` of so many chunks hold. Always positive."""
    return math.log(1 + (chunks - frequency + 0.5) / (frequency + 0.5))


def norm(length: float, average_length: float) -> float:
    """How many occurrences count half in a chunk of that length: more in a longer one."""
    return K1 * (1 - B + B * length / average_length)


def saturation(occurrences: float, length: float, average_length: float) -> float:
    """How much a term's occurrences in a chunk count, below 1."""
    return occurrences / (occurrences + norm(length, average_length))
