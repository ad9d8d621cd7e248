"""A column's text output → the value that a Change carries. Pure; used for snapshot and stream alike, so that both
give the same value for the same row."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from typing import Any

from livedex.errors import SourceError

_BOOL = 16
_INTEGERS = (20, 21, 23, 26)  # int8, int2, int4, oid
_JSON = (114, 3802)  # json, jsonb
_FLOATS = (700, 701)
_TEXT_ARRAYS = (1009, 1015)  # text[], varchar[]

_ARRAY_TOKEN = re.compile(r'([{},])|"((?:[^"\\]|\\.)*)"|([^{},"\\]+)', re.DOTALL)
_ARRAY_BOUNDS = re.compile(r"(?:\[[-+]?\d+:[-+]?\d+\])+=")

TextArray = list["str | TextArray | None"]


def parse_value(type_oid: int, text: str | None) -> Any:
    """NULL → None, bool → bool, integers → int, float → float (NaN and the infinities stay text), json → what it
    says, text[] → list of str or None (nested when it has dimensions). Anything else keeps its canonical text."""
    if text is None:
        return None
    parser = _PARSERS.get(type_oid)
    return text if parser is None else parser(text)


def parse_array(text: str) -> TextArray:
    """`{a,"b,c",NULL}` → ["a", "b,c", None]. Raises SourceError for text that is no array output."""
    bounds = _ARRAY_BOUNDS.match(text)
    tokens = _array_tokens(text, bounds.end() if bounds else 0)
    if next(tokens, None) != "{":
        raise SourceError(f"PostgreSQL sent an array that cannot be read: {text[:80]!r}.")
    return _array_items(tokens)


def _array_tokens(text: str, start: int) -> Iterator[str | tuple[str | None]]:
    """Braces and commas as themselves, elements as 1-tuples."""
    while start < len(text):
        token = _ARRAY_TOKEN.match(text, start)
        if token is None:
            raise SourceError(f"PostgreSQL sent an array that cannot be read: {text[:80]!r}.")
        start = token.end()
        punctuation, quoted, plain = token.groups()
        if punctuation:
            yield punctuation
        elif quoted is not None:
            yield (re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL),)
        else:
            yield (None if plain == "NULL" else plain,)


def _array_items(tokens: Iterator[str | tuple[str | None]]) -> TextArray:
    items: TextArray = []
    for token in tokens:
        if token == "}":
            return items
        if token == "{":
            items.append(_array_items(tokens))
        elif isinstance(token, tuple):
            items.append(token[0])
    raise SourceError("PostgreSQL sent an array that ends early.")


def _parse_float(text: str) -> float | str:
    number = float(text)
    return number if math.isfinite(number) else text


def _parse_json(text: str) -> Any:
    """What the JSON says; its text where Python or the log cannot hold that: `json` may carry NUL and half surrogate
    pairs as escapes, integers of any length, and nesting of any depth."""
    try:
        value = json.loads(text)
        if "\\u" in text:
            rendered = json.dumps(value, ensure_ascii=False)
            rendered.encode()
            if "\\u0000" in rendered:
                return text
    except (ValueError, RecursionError):
        return text
    return value


_PARSERS: dict[int, Callable[[str], Any]] = {
    _BOOL: lambda text: text == "t",
    **dict.fromkeys(_INTEGERS, int),
    **dict.fromkeys(_FLOATS, _parse_float),
    **dict.fromkeys(_JSON, _parse_json),
    **dict.fromkeys(_TEXT_ARRAYS, parse_array),
}
