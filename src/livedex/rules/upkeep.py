"""How large and how worn a generation's tables are → what should be done about it.

HNSW keeps dead entries in its graph until a vacuum that cleans indexes takes them out, and GIN keeps room it once
needed. Vacuum makes such room usable again, only a rebuild gives it back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class TableSize:
    """Rows as PostgreSQL counts them, dead ones since the last vacuum; `bytes` without indexes, with TOAST."""

    name: str
    live_rows: int
    dead_rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class IndexSize:
    """An index over `rows` live rows. `usual_bytes_per_row` is what it took when it was last built; None where that is
    not known yet. Not `valid`: left behind by a rebuild that did not end."""

    name: str
    table: str
    rows: int
    bytes: int
    usual_bytes_per_row: float | None = None
    valid: bool = True

    @property
    def growth(self) -> float | None:
        """How many times the room that it usually takes it takes now."""
        if not self.usual_bytes_per_row or not self.rows:
            return None
        return self.bytes / (self.usual_bytes_per_row * self.rows)


@dataclass(frozen=True, slots=True)
class Measured:
    """`vector_index` is the name of the HNSW index; `self_recall` is the share of sampled chunks that it finds by their
    own vectors, those aside of which that is known; None where there were none to ask for."""

    tables: Sequence[TableSize]
    indexes: Sequence[IndexSize]
    vector_index: str = ""
    self_recall: float | None = None


class Kind(StrEnum):
    DROP_INDEX = "drop index"
    VACUUM = "vacuum"
    REINDEX = "reindex"


@dataclass(frozen=True, slots=True)
class Action:
    """Something to do to a table or an index, and why."""

    kind: Kind
    target: str
    reason: str


@dataclass(frozen=True, slots=True)
class Thresholds:
    """When something is worth doing. A table or index below the least size is not worth the trouble."""

    dead_share: float = 0.1
    least_dead_rows: int = 1000
    growth: float = 1.7
    least_index_bytes: int = 8 * 2**20
    self_recall: float = 0.97


def due(measured: Measured, thresholds: Thresholds) -> tuple[Action, ...]:
    """What to do, in this order. A rebuild makes a vacuum of the same table's indexes no less useful: the table itself
    has dead rows too."""
    return (*_invalid(measured), *_vacuums(measured, thresholds), *_rebuilds(measured, thresholds))


def _invalid(measured: Measured) -> Iterator[Action]:
    for index in measured.indexes:
        if not index.valid:
            yield Action(Kind.DROP_INDEX, index.name, "left behind by a rebuild that did not end")


def _vacuums(measured: Measured, thresholds: Thresholds) -> Iterator[Action]:
    for table in measured.tables:
        share = table.dead_rows / max(1, table.live_rows + table.dead_rows)
        if table.dead_rows >= thresholds.least_dead_rows and share >= thresholds.dead_share:
            yield Action(Kind.VACUUM, table.name, f"{share:.0%} of its rows are dead ({table.dead_rows:,})")


def _rebuilds(measured: Measured, thresholds: Thresholds) -> Iterator[Action]:
    for index in measured.indexes:
        lost = measured.self_recall if index.name == measured.vector_index else None
        if not index.valid:
            continue
        if lost is not None and lost < thresholds.self_recall:
            yield Action(Kind.REINDEX, index.name, f"it finds {lost:.0%} of sampled chunks by their own vectors")
        elif (
            index.growth is not None
            and index.growth >= thresholds.growth
            and index.bytes >= thresholds.least_index_bytes
        ):
            yield Action(
                Kind.REINDEX, index.name, f"it takes {index.growth:.1f} times the room that it took when built"
            )
