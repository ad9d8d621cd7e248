"""What became of columns, by literals."""

from __future__ import annotations

from livedex.rules.schema_changes import ColumnChange, compare, explained

KNOWN = {"id": "integer", "body": "text", "extra": "text"}


def test_columns_are_added_dropped_and_retyped() -> None:
    seen = {"id": "bigint", "body": "text", "new": "date"}
    assert compare("notes", KNOWN, seen, {"id", "body"}) == [
        ColumnChange("notes", "extra", "dropped", "text", None, mapped=False),
        ColumnChange("notes", "id", "retyped", "integer", "bigint", mapped=True),
        ColumnChange("notes", "new", "added", None, "date", mapped=False),
    ]


def test_a_table_seen_for_the_first_time_has_not_changed() -> None:
    assert compare("notes", {}, KNOWN, {"id"}) == []


def test_only_a_mapped_column_that_is_gone_or_retyped_stops_a_source() -> None:
    changes = compare("notes", KNOWN, {"id": "integer", "body": "json", "new": "date"}, {"id", "body", "new"})
    assert [change.column for change in changes if change.stops] == ["body"]


def test_the_error_names_table_column_types_and_remedy() -> None:
    (change,) = compare("notes", KNOWN, KNOWN | {"body": "json"}, {"body"})
    assert explained([change], "kb") == (
        'Column "body" of table "notes" has type json, and had text when the table was read. The source is paused and '
        "keeps its changes. Take the change back, or adapt livedex.yaml if need be and run: livedex source resync kb"
    )
