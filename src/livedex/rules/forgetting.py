"""Which changes of a source are passed over because their keys were purged, and how a person names a key. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from livedex.errors import NotFound
from livedex.model import Change, Op, TableMapping

Place = tuple[str, tuple[str, ...]]
"""A table and a key in it."""


@dataclass(frozen=True, slots=True)
class Passed:
    """`changes` are left; `followed` are the keys that forgotten rows were moved to, which are forgotten with them."""

    changes: tuple[Change, ...]
    followed: frozenset[Place]


def pass_over(changes: Iterable[Change], is_forgotten: Callable[[Place], bool]) -> Passed:
    """The changes that do not concern a forgotten key, in their order.

    A forgotten row that is given another key stays forgotten. Another row that is given a forgotten key goes away: a
    key stays forgotten, whatever row has it, until a person lifts that.
    """
    kept: list[Change] = []
    followed: set[Place] = set()

    def forgotten(place: Place) -> bool:
        return place in followed or is_forgotten(place)

    for change in changes:
        if change.op is Op.TRUNCATE:
            kept.append(change)
            continue
        place = (change.table, change.key)
        before = None if change.old_key in (None, change.key) else (change.table, change.old_key or ())
        if before is not None and forgotten(before):
            if not forgotten(place):
                followed.add(place)
        elif not forgotten(place):
            kept.append(change)
        elif before is not None:
            kept.append(_gone(change, before))
    return Passed(tuple(kept), frozenset(followed))


def _gone(change: Change, before: Place) -> Change:
    return replace(change, op=Op.DELETE, key=before[1], columns={}, old_key=None, unchanged=frozenset(), refused=None)


def place_of(key: str, mapping: Mapping[str, TableMapping], source: str) -> Place:
    """The table and key that a document_id stands for, whether or not there is such a document.

    Several key columns are joined by `/`, with the table in front where the source has several; where the values
    themselves hold a `/` that says too little, and the key is written as JSON: `["articles", "en/us", "7"]`.
    Raises NotFound with the form that is wanted.
    """
    if (written := _written(key)) is not None:
        table, *values = written
        if table in mapping and len(values) == len(mapping[table].key):
            return table, tuple(values)
        raise NotFound(f"{key} is not a key of source {source}: it is [table, {_columns(mapping)}].")
    table, rest = _table_of(key, mapping)
    columns = len(mapping[table].key) if table in mapping else 0
    values = [rest] if columns == 1 else rest.split("/")
    if columns == 0 or len(values) != columns:
        raise NotFound(
            f"{key} could be more than one key of source {source}, or none. Write it as JSON, [table, key columns], "
            f"such as '{json.dumps(_example(mapping))}'."
        )
    return table, tuple(values)


def _written(key: str) -> list[str] | None:
    """A key in JSON; None for anything else, which may well begin with a bracket."""
    if not key.startswith("["):
        return None
    try:
        value = json.loads(key)
    except ValueError:
        return None
    return [str(part) for part in value] if isinstance(value, list) and len(value) > 1 else None


def _table_of(key: str, mapping: Mapping[str, TableMapping]) -> tuple[str, str]:
    if len(mapping) == 1:
        return next(iter(mapping)), key
    fitting = [table for table in mapping if key.startswith(f"{table}/")]
    table = max(fitting, key=len, default="")
    return table, key.removeprefix(f"{table}/")


def _columns(mapping: Mapping[str, TableMapping]) -> str:
    return " or ".join(", ".join(columns.key) for columns in mapping.values())


def _example(mapping: Mapping[str, TableMapping]) -> list[str]:
    table, columns = next(iter(mapping.items()))
    return [table, *columns.key]
