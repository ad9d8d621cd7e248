"""What became of a hit: by literals."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from livedex.rules.replay import Became, Setting, Shown, Standing, compare, settings_changed

ASKED = datetime(2026, 1, 1, tzinfo=UTC)
BEFORE, AFTER = ASKED - timedelta(hours=1), ASKED + timedelta(hours=1)


def shown(rank: int, document: int | None, version: str = "v1", text: bytes = b"text", index: int = 0) -> Shown:
    return Shown(rank, document, f"d{document}", version, index, text, 1.0 / rank)


def standing(document: int, version: str = "v1") -> Standing:
    return Standing(
        document=document,
        document_id=f"d{document}",
        version=version,
        deleted=False,
        expired=False,
        allowed=True,
        filtered_in=True,
        committed_at=BEFORE,
        captured_at=BEFORE,
        first_captured_at=BEFORE,
        applied_version=version,
        applied_committed_at=BEFORE,
        searchable_at=BEFORE,
        quarantined=None,
    )


def became(then: list[Shown], now: list[Shown] | None, *known: Standing) -> list[Became]:
    return [each.became for each in compare(then, now, {one.document: one for one in known}, ASKED)]


def test_the_same_text_at_the_same_rank_is_the_same() -> None:
    assert became([shown(1, 1)], [shown(1, 1)], standing(1)) == [Became.SAME]


def test_the_same_text_at_another_rank_has_moved() -> None:
    then, now = [shown(1, 1), shown(2, 2)], [shown(1, 2), shown(2, 1)]
    (first, second) = compare(then, now, {1: standing(1), 2: standing(2)}, ASKED)
    assert (first.became, first.then_rank, first.now_rank) == (Became.MOVED, 1, 2)
    assert second.became is Became.MOVED


def test_another_text_in_its_place_is_a_newer_version() -> None:
    newer = replace(standing(1, "v2"), committed_at=AFTER, searchable_at=AFTER + timedelta(seconds=1))
    (found,) = compare([shown(1, 1)], [shown(1, 1, "v2", b"other")], {1: newer}, ASKED)
    assert (found.became, found.at, found.searchable_at) == (Became.CHANGED, AFTER, AFTER + timedelta(seconds=1))
    assert (found.then_version, found.now_version) == ("v1", "v2")


def test_a_newer_version_without_that_text_is_said_even_if_it_is_not_found() -> None:
    assert became([shown(1, 1)], [], standing(1, "v2")) == [Became.CHANGED]


def test_equal_texts_are_matched_before_places() -> None:
    then = [shown(1, 1, text=b"a", index=0), shown(2, 1, text=b"b", index=1)]
    now = [shown(1, 1, "v2", b"new", 0), shown(2, 1, "v2", b"a", 1)]
    assert became(then, now, standing(1, "v2")) == [Became.MOVED, Became.CHANGED, Became.RANKED]


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({"deleted": True}, Became.DELETED),
        ({"deleted": True, "expired": True}, Became.EXPIRED),
        ({"allowed": False}, Became.FORBIDDEN),
        ({"filtered_in": False}, Became.FILTERED),
        ({"quarantined": "too large"}, Became.QUARANTINED),
        ({"version": "v2"}, Became.OUTRANKED),
        ({}, Became.OUTRANKED),
    ],
)
def test_a_hit_that_is_gone_has_its_reason(change: dict[str, object], wanted: Became) -> None:
    assert became([shown(1, 1)], [], replace(standing(1), **change)) == [wanted]  # type: ignore[arg-type]  # by name


def test_a_document_of_which_nothing_is_left_was_purged() -> None:
    (found,) = compare([replace(shown(1, None), document_id=None, version="")], [], {}, ASKED)
    assert (found.became, found.document_id) == (Became.PURGED, None)


def test_what_the_contract_withholds_now_is_off_contract() -> None:
    withheld = replace(shown(1, 1), withheld=True, text_hash=None)
    assert became([shown(1, 1)], [withheld], standing(1)) == [Became.WITHHELD]


def test_what_a_contract_withheld_then_is_not_said_to_have_been_outranked() -> None:
    (found,) = compare([replace(shown(1, 1), withheld=True, text_hash=None)], [shown(1, 1)], {1: standing(1)}, ASKED)
    assert (found.became, found.explanation) == (Became.RANKED, "It was withheld under the view's contract then.")


def test_without_the_query_a_document_that_is_as_it_was_says_nothing() -> None:
    assert became([shown(1, 1)], None, standing(1)) == [Became.UNKNOWN]


@pytest.mark.parametrize(
    ("first", "captured", "wanted"),
    [
        (AFTER, AFTER, Became.NEW_DOCUMENT),
        (BEFORE, AFTER, Became.NEW_VERSION),
        (BEFORE, BEFORE, Became.RANKED),
    ],
)
def test_what_is_new_has_its_reason(first: datetime, captured: datetime, wanted: Became) -> None:
    now = replace(standing(1), first_captured_at=first, captured_at=captured)
    assert became([], [shown(1, 1)], now) == [wanted]


def test_another_model_generation_or_contract_is_said() -> None:
    then = Setting(1, "mini", "handbook-1")
    assert settings_changed(then, then) == ()
    assert len(settings_changed(then, Setting(2, "maxi", None))) == 3
