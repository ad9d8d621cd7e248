"""The life of a ticket."""

from __future__ import annotations

from itertools import product

import pytest

from livedex.errors import IllegalMove
from livedex.rules.escalations import MOVES, Move, State, moved


def test_a_ticket_is_taken_and_resolved() -> None:
    assert moved(State.OPEN, Move.TAKE, number=1) is State.TAKEN
    assert moved(State.TAKEN, Move.RESOLVE, number=1) is State.RESOLVED


@pytest.mark.parametrize(("state", "move"), sorted(set(product(State, Move)) - set(MOVES)))
def test_every_move_that_is_not_in_the_table_is_refused(state: State, move: Move) -> None:
    with pytest.raises(IllegalMove):
        moved(state, move, number=1)


def test_a_refused_move_says_who_was_faster() -> None:
    with pytest.raises(IllegalMove, match=r"^Escalation 3 cannot be taken: it is taken already by anna\. See: livedex"):
        moved(State.TAKEN, Move.TAKE, number=3, by="anna")
