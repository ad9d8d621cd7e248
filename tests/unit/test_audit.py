"""What an audit concludes from what it sees, and how keys and rows are digested."""

from __future__ import annotations

import pytest

from livedex.digests import digest_of, is_key, key_of, key_text, range_of
from livedex.rules.audit import Held, Suspects, confirmed, differing_ranges, judge

NOTHING: frozenset[str] = frozenset()
A, B = Held(1, 11), Held(2, 22)


@pytest.mark.parametrize(
    ("before", "source", "after", "kind"),
    [
        (A, 11, A, None),
        (None, 11, None, "missing"),
        (A, None, A, "ghosts"),
        (A, 12, A, "different"),
        (A, 22, B, None),
        (A, 33, B, "moving"),
        (None, 33, A, "moving"),
        (A, None, None, None),
        (A, 11, None, "moving"),
        (None, None, A, "moving"),
    ],
)
def test_a_key_is_judged_by_three_looks(before: Held | None, source: int | None, after: Held | None, kind: str) -> None:
    def of(value: Held | None) -> dict[str, Held]:
        return {} if value is None else {"key": value}

    suspects = judge(of(before), {} if source is None else {"key": source}, of(after))
    found = {name for name, keys in suspects._asdict().items() if keys}
    assert found == ({kind} if kind else set())


def test_only_what_two_rounds_agree_on_is_a_finding() -> None:
    earlier = Suspects(frozenset("ab"), frozenset("c"), frozenset("d"), frozenset("e"))
    later = Suspects(frozenset("bc"), frozenset("c"), NOTHING, frozenset("f"))
    assert confirmed(earlier, later) == Suspects(frozenset("b"), frozenset("c"), NOTHING, frozenset("f"))


def test_ranges_differ_by_number_of_rows_or_by_digest() -> None:
    ours, theirs = {1: (1, 7), 2: (1, 8), 3: (2, 9)}, {1: (1, 7), 2: (1, 0), 3: (1, 9), 4: (1, 1)}
    assert differing_ranges(ours, theirs) == [2, 3, 4]


def test_a_key_text_tells_table_and_key_again() -> None:
    text = key_text("kb.notes", ('say "é"', "\x01\\"))
    assert (is_key(text), key_of(text)) == (True, ("kb.notes", ('say "é"', "\x01\\")))
    assert [is_key(other) for other in ("", "7", '["a", "b"]', "[]")] == [False, False, False, False]


def test_digests_do_not_depend_on_how_a_number_is_written() -> None:
    one, other = {"n": 1e16, "m": 2.50, "z": -0.0}, {"n": 10**16, "m": 2.5, "z": 0}
    assert digest_of("[]", one, "nmz") == digest_of("[]", other, "nmz")


@pytest.mark.parametrize(
    ("one", "other"), [({"a": None}, {"a": ""}), ({"a": "1"}, {"a": "2"}), ({"a": ["x", "y"]}, {"a": ["x,y"]})]
)
def test_rows_that_differ_have_other_digests(one: dict[str, object], other: dict[str, object]) -> None:
    assert digest_of("[]", one, "a") != digest_of("[]", other, "a")


def test_ranges_are_what_sha256_says() -> None:
    assert range_of('["documents","one"]') == 0xD94
