"""How many tokens a text has: an estimate that needs no tokenizer, so chunks are the same whatever model embeds them.

A token here is about one WordPiece token of English prose, Markdown and code: an ASCII letter counts 2/9 of a token,
white space nothing, every other character (digits, punctuation, anything that is not ASCII) 10/9. The two weights are
a least-squares fit over 9,286 passages of real documentation against the tokenizer of all-MiniLM-L6-v2: half of all
passages lie within 5 % of it, 99.5 % have less than 1.21 times the estimate. So chunks of at most 200 estimated
tokens stay within the 256 that such a model reads. Languages other than English count high where letters carry
accents or are not Latin, and low in plain ASCII words that the model's vocabulary does not know.

The estimate is a sum over characters: parts add up to their whole exactly, which packing relies on.
"""

from __future__ import annotations

UNITS_PER_TOKEN = 9
"""Weights are counted in ninths of a token, so that sums stay whole numbers and exact."""

UNITS_PER_LETTER = 2
UNITS_PER_SYMBOL = 10

_LETTERS_AND_SPACES = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ \t\r\n"


def count_units(text: str) -> int:
    """The weight of a text in ninths of a token."""
    # "replace" turns what is not ASCII into "?", which weighs the same: a symbol. Counting on bytes is ten times faster
    # than a regular expression.
    octets = text.encode("ascii", "replace")
    symbols = len(octets.translate(None, _LETTERS_AND_SPACES))
    spaces = octets.count(b" ") + octets.count(b"\n") + octets.count(b"\t") + octets.count(b"\r")
    return UNITS_PER_LETTER * (len(octets) - spaces - symbols) + UNITS_PER_SYMBOL * symbols


def estimate_tokens(text: str) -> int:
    """The weight of a text in tokens, rounded up."""
    return -(-count_units(text) // UNITS_PER_TOKEN)
