"""What two sides have to compute alike to compare rows without sending them: a source and the log, in SQL and here.

A row's key text is the JSON array of its table and key columns, without spaces. Its `digest` is the first eight bytes,
as a signed big-endian number, of the SHA-256 of these texts in UTF-8, with U+001F between them: the key text, then for
each compared column in the order of names `=` and its text, or `!` where it is NULL. Text is what the source writes;
true and false are written so; a number is written out without an exponent and without trailing zeros after the point; a
list or an object is JSON as PostgreSQL writes `jsonb`. The `range` of a row is the first twelve bits of the SHA-256 of
its key text.

A digest that differs is a suspicion and no more: the same row may be written in two ways.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from decimal import Decimal
from hashlib import sha256
from typing import Any

RANGES = 4096
"""Over so many ranges a table's rows are spread."""
_BETWEEN = "\x1f"


def key_text(table: str, key: tuple[str, ...]) -> str:
    return json.dumps([table, *key], ensure_ascii=False, separators=(",", ":"))


def key_of(text: str) -> tuple[str, tuple[str, ...]]:
    """Table and key columns of a key text."""
    table, *key = json.loads(text)
    return table, tuple(key)


def is_key(text: str) -> bool:
    """Whether a text is one that `key_text` made."""
    try:
        table, key = key_of(text)
        return key_text(table, key) == text
    except (ValueError, TypeError):
        return False


def range_of(text: str) -> int:
    """The range of a key text, from 0 to `RANGES` - 1."""
    first, second = sha256(_bytes(text)).digest()[:2]
    return first << 4 | second >> 4


def digest_of(text: str, columns: Mapping[str, Any], compared: Collection[str]) -> int:
    """The digest of a row with this key text; of its columns, those that are compared."""
    values = [columns[name] for name in sorted(compared) if name in columns]
    said = ["!" if value is None else "=" + _text(value) for value in values]
    return int.from_bytes(sha256(_bytes(_BETWEEN.join([text, *said]))).digest()[:8], "big", signed=True)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return _json(value)


def _json(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    if isinstance(value, int | float):
        return _number(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_json, value)) + "]"
    if isinstance(value, Mapping):
        names = sorted(value, key=lambda name: (len(_bytes(name)), _bytes(name)))
        return "{" + ", ".join(f"{_json(name)}: {_json(value[name])}" for name in names) + "}"
    return json.dumps(value, ensure_ascii=False)


def _number(value: float) -> str:
    written = format(Decimal(repr(value)).normalize(), "f")
    return "0" if written == "-0" else written
