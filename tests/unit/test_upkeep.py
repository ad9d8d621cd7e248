"""Measurements → what upkeep does about them."""

from __future__ import annotations

import pytest

from livedex.rules.upkeep import Action, IndexSize, Kind, Measured, TableSize, Thresholds, due

MB = 2**20
THRESHOLDS = Thresholds(dead_share=0.1, least_dead_rows=1000, growth=1.7, least_index_bytes=8 * MB, self_recall=0.97)


def targets(measured: Measured) -> list[tuple[Kind, str]]:
    return [(action.kind, action.target) for action in due(measured, THRESHOLDS)]


@pytest.mark.parametrize(
    ("live", "dead", "wanted"),
    [
        (9000, 1000, [(Kind.VACUUM, "g.vectors")]),
        (9001, 999, []),  # too few to be worth it
        (100_000, 5000, []),  # too small a share
        (0, 1000, [(Kind.VACUUM, "g.vectors")]),
        (0, 0, []),
    ],
)
def test_a_table_is_vacuumed_when_many_and_a_good_share_of_its_rows_are_dead(
    live: int, dead: int, wanted: list[tuple[Kind, str]]
) -> None:
    assert targets(Measured([TableSize("g.vectors", live, dead, 0)], [])) == wanted


@pytest.mark.parametrize(
    ("rows", "size", "usual", "wanted"),
    [
        (10_000, 17 * MB, 17 * MB / 10_000 / 1.7, [(Kind.REINDEX, "g.i")]),
        (10_000, 17 * MB, 17 * MB / 10_000 / 1.6, []),
        (10_000, 7 * MB, 100.0, []),  # small, so what it wastes is too
        (0, 17 * MB, 100.0, []),  # nothing to compare with
        (10_000, 17 * MB, None, []),
    ],
)
def test_an_index_is_rebuilt_when_it_takes_much_more_room_than_it_took(
    rows: int, size: int, usual: float | None, wanted: list[tuple[Kind, str]]
) -> None:
    assert targets(Measured([], [IndexSize("g.i", "g.t", rows, size, usual)])) == wanted


@pytest.mark.parametrize(("recall", "wanted"), [(0.96, [(Kind.REINDEX, "g.v")]), (0.97, []), (None, [])])
def test_a_vector_index_that_misses_chunks_is_rebuilt_and_no_other(
    recall: float | None, wanted: list[tuple[Kind, str]]
) -> None:
    indexes = [IndexSize("g.v", "g.vectors", 10, 1, 0.1), IndexSize("g.t", "g.terms", 10, 1, 0.1)]
    assert targets(Measured([], indexes, "g.v", recall)) == wanted


def test_what_a_rebuild_left_behind_goes_first_and_is_not_rebuilt() -> None:
    indexes = [IndexSize("g.v_ccnew", "g.vectors", 10, 100 * MB, 1.0, valid=False)]
    measured = Measured([TableSize("g.vectors", 10, 5000, 0)], indexes, "g.v_ccnew", 0.1)
    assert due(measured, THRESHOLDS) == (
        Action(Kind.DROP_INDEX, "g.v_ccnew", "left behind by a rebuild that did not end"),
        Action(Kind.VACUUM, "g.vectors", "100% of its rows are dead (5,000)"),
    )
