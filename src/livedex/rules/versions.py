"""Which of two versions is the later one. Pure.

Numbers go by value and numbers with dots part by part, so that 9 < 10, 1.9 < 1.10 and 2 = 2.0; a leading `v` does not
count. Anything else is text and goes by its characters, which suits dates and times in ISO's form. A number and a text
have no order.
"""

from __future__ import annotations

import re

_NUMBER = re.compile(r"v?(\d+(?:\.\d+)*)", re.IGNORECASE | re.ASCII)


def outside(version: str, least: str | None, most: str | None) -> str | None:
    """Why a version is not within bounds, which belong to the range; None when it is."""
    for bound, allowed, said in ((least, (0, 1), "below"), (most, (0, -1), "above")):
        if bound is None:
            continue
        order = compare(version, bound)
        if order is None:
            return f"the version cannot be compared with {bound}: only one of them is a number"
        if order not in allowed:
            return f"the version is {said} {bound}"
    return None


def compare(one: str, other: str) -> int | None:
    """-1, 0 or 1 as `one` is earlier, equal or later; None when they have no order."""
    first, second = _parts(one), _parts(other)
    if first is not None and second is not None:
        return (first > second) - (first < second)
    if first is None and second is None:
        return (one > other) - (one < other)
    return None


def _parts(version: str) -> tuple[int, ...] | None:
    number = _NUMBER.fullmatch(version.strip())
    if number is None or len(number[1]) > 200:
        return None
    parts = [int(part) for part in number[1].split(".")]
    while len(parts) > 1 and parts[-1] == 0:
        parts.pop()
    return tuple(parts)
