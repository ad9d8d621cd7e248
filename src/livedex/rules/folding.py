"""A sequence of changes → what is different afterwards.

Rows are followed as objects, not as keys: a row that moves to another key stays the document it was, also where rows of
one transaction swap keys (which a deferred constraint allows). The pre-image of such a move carries only the key, so
where two rows share a key for a moment the one that has been there longer is taken to be the one that leaves. Whether
a row stood where another comes to cannot be told from the changes: the log has to say which places were vacant.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from livedex.model import Change, Op

Place = tuple[str, tuple[str, ...]]
"""Table and key."""


@dataclass(frozen=True, slots=True)
class Passing:
    """A state in which a source transaction left a row, and from which a later one of the same changes took it: part of
    its history, never to be read. The same fields as those of an `Effect`; `place` is where the row stood, or had stood
    when it was deleted."""

    place: Place
    op: Op
    columns: Mapping[str, Any]
    unchanged: frozenset[str]
    position: str | None
    time: datetime | None


@dataclass(frozen=True, slots=True)
class Effect:
    """What became of one row.

    `origin` is the place whose document it was before, None for a new row; `place` is where it stands now, None when it
    is gone. `unchanged` names columns whose value only the log knows. `refused`: why the source could not read the row.
    `passed` are the states in between, oldest first.
    """

    origin: Place | None
    place: Place | None
    op: Op
    columns: Mapping[str, Any]
    unchanged: frozenset[str]
    position: str | None
    time: datetime | None
    transaction: int
    refused: str | None = None
    passed: tuple[Passing, ...] = ()


@dataclass(frozen=True, slots=True)
class Folded:
    """`truncated` names tables of which only what stands in `effects` still exists. `effects` are in the order of the
    last change of each row; `transaction` counts source transactions from 0."""

    truncated: Mapping[str, Change]
    effects: tuple[Effect, ...]


@dataclass(slots=True)
class _Row:
    origin: Place | None
    last: int = -1
    """Index of the last change; -1 while only its existence is assumed."""
    op: Op = Op.UPDATE
    columns: dict[str, Any] = field(default_factory=dict)
    unchanged: frozenset[str] = frozenset()
    position: str | None = None
    time: datetime | None = None
    transaction: int = 0
    refused: str | None = None
    place: Place | None = None
    """Where it stands, or stood before it was deleted."""
    passed: list[Passing] = field(default_factory=list)

    def take(self, change: Change, index: int, transaction: int) -> None:
        self.leave_behind(transaction)
        if change.refused is not None and not change.unchanged:
            self.columns = {}  # what an earlier change of the batch brought holds no more
        self.columns.update(change.columns)
        self.refused = change.refused
        # A column that was left out keeps the value it had: in this batch if an earlier change brought it.
        fresh = self.origin is None or self.last >= 0
        self.unchanged = (self.unchanged if fresh else frozenset()) | change.unchanged
        self.unchanged -= self.columns.keys()
        self.op = Op.CREATE if self.origin is None and change.op is Op.UPDATE else change.op
        self.stamp(change, index, transaction)

    def go(self, change: Change, index: int, transaction: int) -> None:
        self.leave_behind(transaction)
        self.op, self.refused = Op.DELETE, None
        self.columns, self.unchanged = {}, frozenset()
        self.stamp(change, index, transaction)

    def leave_behind(self, transaction: int) -> None:
        """Before a change: note the state that an earlier transaction left."""
        if self.last >= 0 and self.place is not None and transaction != self.transaction and self.refused is None:
            state = Passing(self.place, self.op, dict(self.columns), self.unchanged, self.position, self.time)
            self.passed.append(state)

    def stamp(self, change: Change, index: int, transaction: int) -> None:
        self.last, self.transaction = index, transaction
        self.position, self.time = change.position, change.time
        self.place = (change.table, change.key)

    def effect(self, place: Place | None) -> Effect:
        op = Op.DELETE if place is None else self.op
        columns = {} if place is None else self.columns
        return Effect(
            self.origin,
            place,
            op,
            columns,
            self.unchanged,
            self.position,
            self.time,
            self.transaction,
            self.refused,
            tuple(self.passed),
        )


class _Table:
    """Rows by place. A place that was never touched is assumed to hold the row that the log has there, unless it is
    known to be vacant."""

    def __init__(self, vacant: Collection[Place]) -> None:
        self.rows: dict[Place, deque[_Row]] = {}
        self.vacant = vacant
        self.gone: list[_Row] = []
        self.truncated: set[str] = set()

    def at(self, place: Place) -> deque[_Row]:
        if place not in self.rows:
            empty = place[0] in self.truncated or place in self.vacant
            self.rows[place] = deque() if empty else deque([_Row(origin=place)])
        return self.rows[place]

    def leave(self, place: Place) -> _Row:
        rows = self.at(place)
        return rows.popleft() if rows else _Row(origin=None)

    def returning(self, place: Place) -> _Row:
        """A row for a place where none stands: deleted and inserted again, it is the same document."""
        for row in self.gone:
            if row.origin == place:
                self.gone.remove(row)
                row.columns, row.unchanged = {}, frozenset()
                return row
        return _Row(origin=None)

    def truncate(self, table: str) -> None:
        for place in [place for place in self.rows if place[0] == table]:
            del self.rows[place]
        self.gone = [row for row in self.gone if row.origin is None or row.origin[0] != table]
        self.truncated.add(table)


def destinations(changes: Iterable[Change]) -> set[Place]:
    """Places that rows move to; `fold` has to be told which of them were vacant."""
    return {(change.table, change.key) for change in changes if change.old_key is not None}


def fold(changes: Iterable[Change], vacant: Collection[Place] = ()) -> Folded:
    """The net effect of changes that come in commit order. `vacant` are those of their destinations where no row stood
    before."""
    table = _Table(vacant)
    truncated: dict[str, Change] = {}
    transaction, position = 0, None
    for index, change in enumerate(changes):
        if index and change.position != position:
            transaction += 1
        position = change.position
        place = (change.table, change.key)
        if change.op is Op.TRUNCATE:
            table.truncate(change.table)
            truncated[change.table] = change
        elif change.op is Op.DELETE:
            row = table.leave(place)
            row.go(change, index, transaction)
            table.gone.append(row)
        else:
            if change.old_key is not None and change.old_key != change.key:
                row = table.leave((change.table, change.old_key))
                table.at(place).append(row)
            else:
                rows = table.at(place)
                if not rows:
                    rows.append(table.returning(place))
                row = rows[-1]
            row.take(change, index, transaction)
    return Folded(truncated, _effects(table))


def _effects(table: _Table) -> tuple[Effect, ...]:
    found: list[tuple[int, Effect]] = []
    for place, rows in table.rows.items():
        for row in rows:
            stands = row is rows[-1]
            if stands and row.last >= 0:
                found.append((row.last, row.effect(place)))
            elif not stands and row.origin is not None:
                # Another row came to its key and it never left: only a source without a unique key does that.
                newest = rows[-1]
                ghost = _stamped_like(row, newest)
                found.append((ghost.last, ghost.effect(None)))
    found.extend((row.last, row.effect(None)) for row in table.gone if row.origin is not None)
    found.sort(key=lambda pair: pair[0])
    return tuple(effect for _, effect in found)


def _stamped_like(row: _Row, newer: _Row) -> _Row:
    return replace(row, last=newer.last, position=newer.position, time=newer.time, transaction=newer.transaction)
