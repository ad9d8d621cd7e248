"""When losses are too many, by literals."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livedex.rules.brake import Limits, Losses, Question, exceeded, explained, has_shrunk, may_exceed, recent, total

LIMITS = Limits(deletes=0.3, shrinks=0.2, least=100, window_seconds=60.0)


@pytest.mark.parametrize(
    ("deletes", "shrinks", "documents", "kinds"),
    [
        (99, 0, 99, ()),
        (100, 0, 100, ("deletes",)),
        (300, 0, 1000, ()),
        (301, 0, 1000, ("deletes",)),
        (0, 200, 1000, ()),
        (0, 201, 1000, ("shrinks",)),
        (301, 201, 1000, ("deletes", "shrinks")),
        (5000, 5000, 1_000_000, ()),
    ],
)
def test_losses_are_too_many_beyond_a_share_and_a_number(
    deletes: int, shrinks: int, documents: int, kinds: tuple[str, ...]
) -> None:
    assert exceeded(LIMITS, Losses(0.0, deletes, shrinks), documents) == kinds


@pytest.mark.parametrize(
    ("before", "after", "shrunk"), [(100, 49, True), (100, 50, False), (0, 0, False), (1, 0, True), (10, 1000, False)]
)
def test_less_than_half_is_a_shrink(before: int, after: int, shrunk: bool) -> None:
    assert has_shrunk(before, after) == shrunk


def test_what_is_older_than_the_window_counts_no_more() -> None:
    losses = [Losses(0.0, 50), Losses(30.0, 60, 1), Losses(70.0, 70)]
    assert total(recent(losses, 80.0, LIMITS.window_seconds), 80.0) == Losses(80.0, 130, 1)


@given(st.integers(0, 500), st.integers(0, 500), st.integers(0, 2000))
def test_documents_need_no_counting_where_nothing_can_be_too_much(deletes: int, shrinks: int, documents: int) -> None:
    losses = Losses(0.0, deletes, shrinks)
    if not may_exceed(LIMITS, losses):
        assert exceeded(LIMITS, losses, documents) == ()


def test_the_question_says_what_would_be_lost_and_what_to_run() -> None:
    question = Question(("deletes",), 400, 3, 1000)
    assert explained(question, LIMITS, "kb") == (
        "Source kb is held: 400 of its 1,000 documents would be gone within 60 s, more than its brake allows "
        "(deletes: 30%). What would do so was not taken over, and the source keeps its changes. If it is meant, run: "
        "livedex source resume kb. If not, mend the source and run: livedex source retry kb"
    )
