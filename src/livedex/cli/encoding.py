"""Terminals that lack a character get the nearest one that they have: `...` for an ellipsis, `e` for an accented e."""

from __future__ import annotations

import codecs
import unicodedata

FALLBACK = "livedex.nearest"
"""The name of the error handler, for `reconfigure(errors=...)`."""

_NEAREST = {
    "·": "-",
    "–": "-",
    "—": "-",
    "−": "-",
    "‑": "-",
    "•": "*",
    "›": ">",
    "‹": "<",
    "»": '"',
    "«": '"',
    "→": "->",
    "←": "<-",
    "×": "x",
    "⁄": "/",
    "‘": "'",
    "’": "'",
    "“": '"',
    "”": '"',
    "„": '"',
    "€": "EUR",
    "°": "",
    "≤": "<=",
    "≥": ">=",
}


def nearest(error: UnicodeError) -> tuple[str, int]:
    """What to write for characters that the encoding lacks. ASCII only, so that every encoding has it."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_one(character) for character in error.object[error.start : error.end]), error.end


def _one(character: str) -> str:
    if character in _NEAREST:
        return _NEAREST[character]
    parts = "".join(_NEAREST.get(part, part) for part in unicodedata.normalize("NFKD", character))
    return parts.encode("ascii", "ignore").decode() or "?"


codecs.register_error(FALLBACK, nearest)
