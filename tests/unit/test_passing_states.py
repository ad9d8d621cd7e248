"""States that came and went within one batch of changes are known to the history."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from livedex.model import Change, Op, TableMapping
from livedex.rules.folding import fold
from livedex.store.entries import Entry, SourceRow, key_hash, resolve

SOURCE = SourceRow(1, "kb", {"notes": TableMapping(key=("id",), content="content", metadata=("kind",))})
START = datetime(2026, 1, 1, tzinfo=UTC)


def change(op: Op, content: str | None, transaction: int, *, key: str = "a", unchanged: bool = False,
           old_key: str | None = None) -> Change:  # fmt: skip
    columns = {} if content is None else {"id": key, "kind": content}
    if content is not None and not unchanged:
        columns["content"] = content
    return Change(
        op, "notes", (key,), columns, None if old_key is None else (old_key,),
        frozenset({"content"}) if unchanged else frozenset(), f"p{transaction}", START + timedelta(seconds=transaction),
    )  # fmt: skip


def passed(*changes: Change, stored: str | None = None) -> list[tuple[str, int, str]]:
    """Op, distance from the last and version of each state in between."""
    entries = [] if stored is None else [
        Entry(7, key_hash(("notes", ("a",))), False, 1, b"", False, {"id": "a", "kind": stored, "content": stored})
    ]  # fmt: skip
    (row,) = resolve(fold(changes), SOURCE, entries).rows
    return [(state["op"], state["before"], state["version"]) for state in row.get("passed", [])]


def version(*changes: Change, stored: str | None = None) -> str:
    entries = [] if stored is None else [
        Entry(7, key_hash(("notes", ("a",))), False, 1, b"", False, {"id": "a", "kind": stored, "content": stored})
    ]  # fmt: skip
    (row,) = resolve(fold(changes), SOURCE, entries).rows
    return str(row["version"])


def test_each_source_transaction_but_the_last_leaves_a_state() -> None:
    edits = [change(Op.UPDATE, text, number) for number, text in enumerate(["one", "two", "three"])]
    one, two = version(edits[0], stored="x"), version(edits[1], stored="x")
    assert passed(*edits, stored="x") == [("u", 2, one), ("u", 1, two)]


def test_changes_of_one_transaction_are_one_state() -> None:
    edits = [change(Op.UPDATE, text, 1) for text in ("one", "two")]
    assert passed(*edits, stored="x") == []


def test_a_column_that_was_left_out_is_taken_from_the_log() -> None:
    first = change(Op.UPDATE, "one", 1, unchanged=True)
    assert passed(first, change(Op.UPDATE, "two", 2), stored="long") == [("u", 1, version(first, stored="long"))]


def test_a_deletion_between_two_lives_is_a_state() -> None:
    found = passed(change(Op.DELETE, None, 1), change(Op.CREATE, "back", 2), stored="x")
    assert found == [("d", 1, "")]


def test_a_transaction_that_altered_nothing_is_no_state() -> None:
    same = [change(Op.UPDATE, "one", number) for number in (1, 2)]
    assert len(passed(*same, change(Op.UPDATE, "two", 3), stored="x")) == 1


def test_a_state_has_the_key_that_it_stood_at() -> None:
    moves = [change(Op.UPDATE, "one", 1), change(Op.UPDATE, "one", 2, key="b", old_key="a")]
    entries = [Entry(7, key_hash(("notes", ("a",))), False, 1, b"", False, None)]
    (row,) = resolve(fold(moves, vacant={("notes", ("b",))}), SOURCE, entries).rows
    assert [state["key_hash"] for state in row["passed"]] == ["\\x" + key_hash(("notes", ("a",))).hex()]
