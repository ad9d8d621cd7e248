"""What waits, what may be spent, and which positions may be claimed: by literals."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from livedex.rules.budget import Budget, WhenSpent, affordable, goes_on_at, share, tokens
from livedex.rules.debounce import Debounce, Waiting, due
from livedex.rules.deferral import MOST_CHECKPOINTS, Checkpoints, Deferral, Limits, Reason
from livedex.rules.diff import Plan, Recorded, plan

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
WANTED = Debounce(timedelta(seconds=2), timedelta(seconds=30))


def later(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("waiting", "expected"),
    [
        (None, later(2)),
        (Waiting(later(-10), later(1), b"before"), later(2)),
        (Waiting(later(-29), later(1), b"before"), later(1)),
        (Waiting(later(-40), later(-10), b"before"), later(-10)),
        (Waiting(later(-10), later(0.5), b"now"), later(0.5)),
    ],
    ids=["first edit", "another edit", "never quiet", "waited too long", "same text"],
)
def test_a_document_waits_until_it_is_quiet_but_not_for_ever(waiting: Waiting | None, expected: datetime) -> None:
    assert due(WANTED, NOON, b"now", waiting) == expected


def test_four_characters_are_a_token_and_every_text_has_one() -> None:
    assert [tokens(text) for text in ("", "a", "abcd", "abcde")] == [1, 1, 1, 2]


def test_texts_are_embedded_as_long_as_anything_is_left() -> None:
    texts = {b"a": "four", b"b": "eight ch", b"c": "four"}
    assert [affordable(texts, left) for left in (None, 0, 1, 2, 4)] == [
        set(texts),
        set(),
        {b"a"},
        {b"a", b"b"},
        set(texts),
    ]


def test_shards_together_take_no_more_than_is_left() -> None:
    assert [share(left, 3) for left in (0, 1, 3, 10)] == [0, 1, 1, 4]


def test_a_spent_budget_goes_on_at_midnight_utc() -> None:
    assert goes_on_at(NOON.astimezone()) == datetime(2026, 3, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("spent", "when_spent", "expected"),
    [
        (9, WhenSpent.PAUSE, [Reason.WORDS, Reason.BUDGET]),
        (10, WhenSpent.PAUSE, []),
        (10, WhenSpent.LEXICAL_ONLY, [Reason.BUDGET]),
    ],
)
def test_what_waits_for_the_budget_goes_on_when_there_is_some(
    spent: int, when_spent: WhenSpent, expected: list[Reason]
) -> None:
    assert Limits(budget=Budget(10, when_spent)).due_reasons(Deferral(NOON, spent)) == expected


def test_documents_without_a_date_or_of_an_unbounded_source_never_expire() -> None:
    limits = Limits(max_ages={1: timedelta(days=30)})
    dated = [(1, later(-31 * 86400)), (1, later(-29 * 86400)), (1, None), (2, later(-31 * 86400))]
    assert [limits.is_expired(source, date, NOON) for source, date in dated] == [True, False, False, False]


@dataclass(frozen=True)
class At:
    position_serial: int
    position: str | None = "somewhere"
    epoch: int = 1
    source_id: int = 1
    partition: str = "0"


def test_a_position_is_claimed_once_nothing_before_it_waits() -> None:
    checkpoints = Checkpoints[At]()
    assert checkpoints.claim(10, [At(1)], {}) == (At(1),)
    assert checkpoints.claim(20, [At(2)], {1: 15}) == (At(1),)
    assert checkpoints.claim(30, [At(3)], {1: 15}) == (At(1),)
    assert checkpoints.claim(30, [At(3)], {1: 25}) == (At(2),)
    assert checkpoints.claim(30, [At(3)], {}) == (At(3),)


def test_a_shard_that_begins_while_something_waits_claims_nothing() -> None:
    assert Checkpoints[At]().claim(20, [At(2)], {1: 15}) == ()


def test_another_source_is_not_held_back() -> None:
    assert Checkpoints[At]().claim(20, [At(2), At(7, source_id=2)], {1: 15}) == (At(7, source_id=2),)


@pytest.mark.parametrize("anew", [At(5, position=None), At(5, epoch=2)])
def test_positions_from_before_a_source_was_read_anew_are_not_claimed(anew: At) -> None:
    checkpoints = Checkpoints[At]()
    checkpoints.claim(10, [At(1)], {})
    assert checkpoints.claim(20, [anew], {1: 15}) == ()


def test_positions_that_wait_to_be_claimed_are_bounded_in_number_and_lose_neither_end() -> None:
    checkpoints = Checkpoints[At]()
    for number in range(4 * MOST_CHECKPOINTS):
        assert checkpoints.claim(10 + number, [At(number)], {1: 11}) == (At(0),)
    last = 4 * MOST_CHECKPOINTS - 1
    assert checkpoints.claim(10 + last, [At(last)], {1: 10 + last}) == (At(last - 1),)


def test_a_chunk_without_a_vector_counts_as_missing_and_goes() -> None:
    bare = Recorded(7, b"t", b"s", b"w", 0, 0, 1, (), "text", embedded=False)
    assert plan([], [bare]) == Plan(drop=(7,))
