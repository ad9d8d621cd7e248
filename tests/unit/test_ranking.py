"""The scores of both legs become one order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livedex.rules.ranking import by_deviations, by_ranks

SCORES = st.lists(st.tuples(st.floats(-1, 1), st.floats(0, 50)), min_size=1, max_size=30)


def test_deviations_from_the_mean_are_summed() -> None:
    assert by_deviations([0.9, 0.5, 0.1], [0.0, 10.0, 5.0]) == pytest.approx([0.0, 1.2247449, -1.2247449])


def test_a_leg_in_which_all_are_equal_has_no_say() -> None:
    assert by_deviations([0.3, 0.3], [2.0, 1.0]) == pytest.approx([1.0, -1.0])


def test_ranks_are_fused_with_sixty_and_equal_scores_share_the_better_rank() -> None:
    assert by_ranks([0.9, 0.5, 0.5], [1.0, 3.0, 2.0]) == pytest.approx(
        [1 / 61 + 1 / 63, 1 / 62 + 1 / 61, 1 / 62 + 1 / 62]
    )


@given(SCORES)
def test_a_chunk_that_both_legs_put_first_is_first(pairs: list[tuple[float, float]]) -> None:
    dense, lexical = [2.0, *(a for a, _ in pairs)], [60.0, *(b for _, b in pairs)]
    for fused in (by_deviations(dense, lexical), by_ranks(dense, lexical)):
        assert fused[0] == max(fused)
        assert len(fused) == len(dense)


def test_a_chunk_without_a_vector_gets_nothing_from_the_dense_leg() -> None:
    assert by_deviations([0.9, None, 0.1], [5.0, 10.0, 0.0]) == pytest.approx([1.0, 1.2247449, -2.2247449])
    assert by_ranks([0.9, None, 0.1], [5.0, 10.0, 0.0]) == pytest.approx([1 / 61 + 1 / 62, 1 / 61, 1 / 62 + 1 / 63])
