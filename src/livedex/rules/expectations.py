"""Whether a row is what its producer was held to. Pure.

A reason names the place, never the value: what is wrong with a value of a document may be its owner's secret. Only
characters that cannot be text are shown, as code points.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from math import isfinite
from typing import Any
from urllib.parse import urlsplit

from livedex.rules.mapping import Rendered

MOST_REASONS = 3
MOST_CODE_POINTS = 8
LONGEST_MATCHED = 1000
"""Characters of a value that is matched against a pattern. A longer one does not match."""
LEAST_LETTERS = 80
"""A shorter text is in no language that could be told."""
JUDGED_CHARACTERS = 4000
"""From a text's beginning, by which its language is told."""
LEAST_LIKELY = 0.1
"""What the accepted languages have to come to together."""

Likely = Callable[[str], Mapping[str, float]]
"""How likely each language is that a text may be in, by ISO 639-1 code; together 1."""


@dataclass(frozen=True, slots=True)
class ValueType:
    """`kind` is a name of `CHECKS`, `one_of` or `pattern`."""

    kind: str
    values: tuple[str, ...] = ()
    pattern: str = ""


@dataclass(frozen=True, slots=True)
class NearDuplicates:
    """How many documents of a source may say almost the same: their shingles' cosine `similarity` or more."""

    limit: int
    similarity: float


@dataclass(frozen=True, slots=True)
class Expectations:
    """What is expected of the rows of one table. Sizes are of the content in UTF-8. `utf8`: texts are what their writer
    meant, as far as that can be told."""

    required: tuple[str, ...] = ()
    types: Mapping[str, ValueType] = field(default_factory=dict)
    least_bytes: int | None = None
    most_bytes: int | None = None
    utf8: bool = False
    languages: tuple[str, ...] = ()
    near_duplicates: NearDuplicates | None = None


def unmet(
    expected: Expectations, table: str, columns: Mapping[str, Any], rendered: Rendered, likely: Likely | None
) -> str | None:
    """Why a row is refused, or None. `columns` are all mapped ones; a name that is no column is one of the metadata."""
    found = list(_every(expected, {**rendered.metadata, **columns}, rendered, likely))
    if not found:
        return None
    more = f" And {len(found) - MOST_REASONS} more." if len(found) > MOST_REASONS else ""
    return f'Not as expected of table "{table}": ' + "; ".join(found[:MOST_REASONS]) + "." + more


def _every(
    expected: Expectations, columns: Mapping[str, Any], rendered: Rendered, likely: Likely | None
) -> Iterator[str]:
    for name in expected.required:
        value = columns.get(name)
        if value is None or value == [] or (isinstance(value, str) and not value.strip()):
            yield f'column "{name}" is {"NULL" if value is None else "blank"}, and is required'
    for name, wanted in expected.types.items():
        for value in _single(columns.get(name)):
            if (wrong := _mistyped(wanted, value)) is not None:
                yield f'column "{name}" {wrong}'
                break
    yield from _of_wrong_size(expected, rendered.content)
    if expected.utf8:
        for name, value in columns.items():
            for text in _single(value):
                if isinstance(text, str) and (wrong := _unreadable(text)) is not None:
                    yield f'column "{name}", {wrong}'
                    break
    if expected.languages and likely is not None and (wrong := _foreign(expected.languages, rendered.content, likely)):
        yield wrong


def _single(value: Any) -> list[Any]:
    """A list's values one by one; nothing for NULL."""
    values = value if isinstance(value, list) else [value]
    return [each for each in values if each is not None]


def _of_wrong_size(expected: Expectations, content: str) -> Iterator[str]:
    size = len(content.encode("utf-8", "surrogatepass"))
    if expected.most_bytes is not None and size > expected.most_bytes:
        yield f"the content has {size:,} bytes, and {expected.most_bytes:,} are allowed"
    if expected.least_bytes is not None and size < expected.least_bytes:
        yield f"the content has {size:,} bytes, and {expected.least_bytes:,} are wanted at least"


# Types


def _mistyped(wanted: ValueType, value: Any) -> str | None:
    if wanted.kind == "one_of":
        return None if _text(value) in wanted.values else f"is none of {', '.join(wanted.values)}"
    if wanted.kind == "pattern":
        text = _text(value)
        matches = len(text) <= LONGEST_MATCHED and re.fullmatch(wanted.pattern, text) is not None
        return None if matches else f"does not match the pattern {wanted.pattern}"
    check, called = CHECKS[wanted.kind]
    return None if check(value) else f"is no {called}"


def _text(value: Any) -> str:
    return "true" if value is True else "false" if value is False else str(value)


def _is_number(value: Any) -> bool:
    if isinstance(value, str):
        return re.fullmatch(r"\s*[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?\s*", value) is not None
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _is_integer(value: Any) -> bool:
    if isinstance(value, str):
        return re.fullmatch(r"\s*[+-]?\d+\s*", value) is not None
    return isinstance(value, int) and not isinstance(value, bool)


def _is_boolean(value: Any) -> bool:
    return isinstance(value, bool) or _text(value).strip().lower() in {"true", "false", "t", "f", "yes", "no", "0", "1"}


def _is_date(value: Any) -> bool:
    if not isinstance(value, str) or re.fullmatch(r"\s*\d{4}-\d\d-\d\d\s*", value) is None:
        return False
    try:
        date.fromisoformat(value.strip())
    except ValueError:
        return False
    return True


_TIME = re.compile(
    r"\s*(\d{4}-\d\d-\d\d)[T ]([01]\d|2[0-3]):[0-5]\d(:([0-5]\d|60)(\.\d{1,9})?)?\s*(Z|[+-]\d\d(:?\d\d)?)?\s*"
)


def _is_timestamp(value: Any) -> bool:
    written = _TIME.fullmatch(value) if isinstance(value, str) else None
    return written is not None and _is_date(written[1])


def _is_url(value: Any) -> bool:
    if not isinstance(value, str) or re.search(r"\s", value.strip()):
        return False
    try:
        parts = urlsplit(value.strip())
        return parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        return False


def _is_email(value: Any) -> bool:
    return (
        isinstance(value, str)
        and re.fullmatch(r"\s*[^\s@<>,;]{1,64}@[^\s@<>,;.]+(\.[^\s@<>,;.]+)+\s*", value) is not None
    )


def _is_uuid(value: Any) -> bool:
    return (
        isinstance(value, str)
        and re.fullmatch(r"\s*[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\s*", value) is not None
    )


CHECKS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "number": (_is_number, "number"),
    "integer": (_is_integer, "whole number"),
    "boolean": (_is_boolean, "boolean"),
    "date": (_is_date, "date such as 2026-01-31"),
    "timestamp": (_is_timestamp, "time such as 2026-01-31T12:00:00Z"),
    "url": (_is_url, "http or https URL"),
    "email": (_is_email, "e-mail address"),
    "uuid": (_is_uuid, "UUID"),
}


# Encoding

# What Â and Ã are followed by where a byte pair of UTF-8 was read as two characters of Latin-1 or Windows-1252. Without
# the quotes and dashes that may follow a word in capitals which ends in one of them: “MAÇÃ”.
_SECOND_BYTES = "\x80-\x9f\xa1-\xaa\xac-\xba\xbc-\xbf€‚ƒ„†‡ˆ‰ŠŒŽ˜™šœžŸ"
_WRONG = re.compile(
    "(?P<replaced>�)"
    f"|(?P<misread>Ã[{_SECOND_BYTES}]|Â[\xa0{_SECOND_BYTES}]|â€[\x80-\xbf™œž“”˜¦¢š¹º]|ï»¿|ðŸ[\x80-\xbf€-™])"
    "|(?P<control>[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f])"
    "|(?P<half>[\ud800-\udfff])"
)
_CALLED = {
    "replaced": "the replacement character, where something could not be read",
    "misread": "UTF-8 that was read as Latin-1 or Windows-1252",
    "control": "a control character",
    "half": "half a surrogate pair",
}


def _unreadable(text: str) -> str | None:
    """The first place where a text is not what its writer meant: line and character in it from 1."""
    found = _WRONG.search(text)
    if found is None:
        return None
    before = text[: found.start()]
    line, character = before.count("\n") + 1, found.start() - (before.rfind("\n") + 1) + 1
    points = " ".join(f"U+{ord(point):04X}" for point in found[0][:MOST_CODE_POINTS])
    return f"line {line}, character {character} (offset {found.start()}): {_CALLED[found.lastgroup or '']} ({points})"


# Language


def _foreign(accepted: tuple[str, ...], content: str, likely: Likely) -> str | None:
    text = content[:JUDGED_CHARACTERS]
    if sum(map(str.isalpha, text)) < LEAST_LETTERS:
        return None
    by_language = likely(text)
    if sum(by_language.get(language, 0.0) for language in accepted) >= LEAST_LIKELY:
        return None
    likeliest = max(by_language, key=lambda language: by_language[language])
    return f"the content is in {likeliest} by all appearance, and {' or '.join(accepted)} is expected"
