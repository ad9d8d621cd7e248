"""Which version is the later one."""

from __future__ import annotations

import pytest

from livedex.rules.versions import compare, outside


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("9", "10"),
        ("1.9", "1.10"),
        ("1.2", "1.2.1"),
        ("v9", "v10"),
        ("1", "v2"),
        ("2025-12-31", "2026-01-01"),
        ("2026-01-01 09:00:00+00", "2026-01-01 10:00:00+00"),
        ("alpha", "beta"),
    ],
)
def test_the_later_version_is_later(earlier: str, later: str) -> None:
    assert (compare(earlier, later), compare(later, earlier)) == (-1, 1)


@pytest.mark.parametrize(("one", "other"), [("2", "2.0"), ("007", "7"), ("v1.2", "1.2"), (" 3 ", "3"), ("a", "a")])
def test_equal_versions_are_equal(one: str, other: str) -> None:
    assert compare(one, other) == 0


@pytest.mark.parametrize(("one", "other"), [("3", "three"), ("2026-01-01", "2026"), ("", "1")])
def test_a_number_and_a_text_have_no_order(one: str, other: str) -> None:
    assert (compare(one, other), compare(other, one)) == (None, None)


@pytest.mark.parametrize(
    ("version", "reason"),
    [
        ("3", None),
        ("7", None),
        ("2.9", "the version is below 3"),
        ("7.1", "the version is above 7"),
        ("draft", "the version cannot be compared with 3: only one of them is a number"),
    ],
)
def test_a_range_says_why_a_version_is_outside(version: str, reason: str | None) -> None:
    assert outside(version, "3", "7") == reason


def test_one_bound_is_a_range_too() -> None:
    assert (outside("1", None, "3"), outside("9", "3", None), outside("x", None, None)) == (None, None, None)
