"""Which changes are passed over, and which key a person means."""

from __future__ import annotations

import pytest

from livedex.errors import NotFound
from livedex.model import Change, Op, TableMapping
from livedex.rules.forgetting import Place, pass_over, place_of

ONE = {"articles": TableMapping(key=("id",), content="body")}
TWO_COLUMNS = {"articles": TableMapping(key=("lang", "id"), content="body")}
SEVERAL = {**ONE, "articles/old": TableMapping(key=("id",), content="body")}


def update(key: str, old_key: str | None = None) -> Change:
    return Change(Op.UPDATE, "articles", (key,), {"body": key}, None if old_key is None else (old_key,))


def left(changes: list[Change], *forgotten: str) -> tuple[list[Change], set[Place]]:
    passed = pass_over(changes, lambda place: place in {("articles", (key,)) for key in forgotten})
    return list(passed.changes), set(passed.followed)


def test_changes_of_a_forgotten_key_are_passed_over_whatever_they_are() -> None:
    changes = [update("a"), Change(Op.DELETE, "articles", ("a",)), Change(Op.CREATE, "articles", ("a",)), update("b")]
    assert left(changes, "a") == ([update("b")], set())


def test_a_truncate_concerns_everybody() -> None:
    truncate = Change(Op.TRUNCATE, "articles", ())
    assert left([truncate, update("a")], "a") == ([truncate], set())


def test_a_forgotten_row_stays_forgotten_under_its_next_keys() -> None:
    changes = [update("b", old_key="a"), update("b"), update("c", old_key="b"), update("c"), update("d")]
    assert left(changes, "a") == ([update("d")], {("articles", ("b",)), ("articles", ("c",))})


def test_another_row_that_is_given_a_forgotten_key_goes_away() -> None:
    assert left([update("a", old_key="b")], "a") == ([Change(Op.DELETE, "articles", ("b",))], set())


def test_a_row_that_keeps_its_key_was_not_renamed() -> None:
    assert left([update("b", old_key="b")], "a") == ([update("b", old_key="b")], set())


def test_the_same_key_of_another_table_is_another_key() -> None:
    other = Change(Op.CREATE, "notes", ("a",))
    assert left([other], "a") == ([other], set())


@pytest.mark.parametrize(
    ("key", "mapping", "place"),
    [
        ("refunds", ONE, ("articles", ("refunds",))),
        ("de/refunds", ONE, ("articles", ("de/refunds",))),
        ("de/refunds", TWO_COLUMNS, ("articles", ("de", "refunds"))),
        ("articles/refunds", SEVERAL, ("articles", ("refunds",))),
        ("articles/old/refunds", SEVERAL, ("articles/old", ("refunds",))),
        ('["articles", "de/at", "refunds"]', TWO_COLUMNS, ("articles", ("de/at", "refunds"))),
        ("[draft] refunds", ONE, ("articles", ("[draft] refunds",))),
    ],
)
def test_a_document_id_names_a_key(key: str, mapping: dict[str, TableMapping], place: Place) -> None:
    assert place_of(key, mapping, "kb") == place


@pytest.mark.parametrize(
    ("key", "mapping"),
    [("de/at/refunds", TWO_COLUMNS), ("refunds", TWO_COLUMNS), ("refunds", SEVERAL), ('["notes", "7"]', ONE)],
)
def test_a_document_id_that_names_no_one_key_is_an_error(key: str, mapping: dict[str, TableMapping]) -> None:
    with pytest.raises(NotFound):
        place_of(key, mapping, "kb")
