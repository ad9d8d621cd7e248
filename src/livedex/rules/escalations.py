"""The life of a ticket that a person has to look at. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from livedex.errors import IllegalMove


class State(StrEnum):
    OPEN = "open"
    TAKEN = "taken"
    RESOLVED = "resolved"


class Move(StrEnum):
    TAKE = "take"
    RESOLVE = "resolve"


MOVES: Mapping[tuple[State, Move], State] = {
    (State.OPEN, Move.TAKE): State.TAKEN,
    (State.OPEN, Move.RESOLVE): State.RESOLVED,
    (State.TAKEN, Move.RESOLVE): State.RESOLVED,
}
"""Every move there is. Whoever resolves need not be who took it: people fall ill."""

_DONE = {Move.TAKE: "taken", Move.RESOLVE: "resolved"}


def moved(state: State, move: Move, *, number: int, by: str | None = None) -> State:
    """The state after a move. Raises IllegalMove for one that is not in the table; `by` is who brought the ticket into
    its state."""
    if (state, move) not in MOVES:
        whom = "" if by is None else f" by {by}"
        raise IllegalMove(
            f"Escalation {number} cannot be {_DONE[move]}: it is {state} already{whom}. "
            f"See: livedex escalations show {number}"
        )
    return MOVES[state, move]
