"""What became of a table's columns, and whether its source can go on. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

ADDED = "added"
DROPPED = "dropped"
RETYPED = "retyped"


@dataclass(frozen=True, slots=True)
class ColumnChange:
    """`was` and `became` are types; None: there was or is no such column. `mapped`: livedex.yaml reads it."""

    table: str
    column: str
    kind: str
    was: str | None
    became: str | None
    mapped: bool

    @property
    def stops(self) -> bool:
        """Whether what is read of the table no longer means what it did."""
        return self.mapped and self.kind != ADDED


def compare(
    table: str, known: Mapping[str, str], seen: Mapping[str, str], mapped: Collection[str]
) -> list[ColumnChange]:
    """Columns, by name with their types, as they were and as they are. A table that was not known has not changed."""
    if not known:
        return []
    changes = []
    for column in sorted({*known, *seen}):
        was, became = known.get(column), seen.get(column)
        if was != became:
            kind = ADDED if was is None else DROPPED if became is None else RETYPED
            changes.append(ColumnChange(table, column, kind, was, became, column in mapped))
    return changes


def explained(changes: Sequence[ColumnChange], source: str) -> str:
    """Why the source pauses, and what to do. `changes` are those that stop it, at least one."""
    first = changes[0]
    if first.kind == DROPPED:
        what = f'Column "{first.column}" of table "{first.table}" is gone: it was dropped or renamed'
    else:
        what = (
            f'Column "{first.column}" of table "{first.table}" has type {first.became}, and had {first.was} when the '
            "table was read"
        )
    others = f", and {len(changes) - 1} more columns changed" if len(changes) > 1 else ""
    return (
        f"{what}{others}. The source is paused and keeps its changes. Take the change back, or adapt livedex.yaml if "
        f"need be and run: livedex source resync {source}"
    )
