"""The judge of a chaos run finds each kind of wrong answer, and no fault with right ones."""

from __future__ import annotations

from typing import Any

import pytest
from tests.chaos.answers import Answer, Wanted, by_kind, wrong_with
from tests.chaos.history import Content, History, Transaction

FIRST, SECOND = "## One\n\nw1x0 alpha.\n\n## Two\n\nbeta.", "## One\n\nw2x0 gamma.\n\n## Two\n\nbeta."


@pytest.fixture
def history() -> History:
    """`a` was written at 10 and edited at 20, `b` written at 10 and deleted at 20, `c`, of north,
    was `d` before 20."""
    made = History()
    first = [("a", FIRST, None), ("b", FIRST, None), ("d", FIRST, "north")]
    commit(made, 10, lambda t: [t.put(made.next_number(), k, Content("T", says, "faq", who)) for k, says, who in first])
    commit(made, 20, lambda t: t.put(made.next_number(), "a", Content("T2", SECOND, "faq")))
    commit(made, 20, lambda t: t.delete("b"))
    commit(made, 20, lambda t: t.move(made.next_number(), "d", "c", Content("T", FIRST, "faq", "north")))
    return made


def commit(history: History, mark: int, change: Any, at: float = 0.0) -> Transaction:
    transaction = Transaction(history)
    change(transaction)
    transaction.begins_to_commit(mark - 1)
    transaction.landed(mark, at)
    return transaction


def hit(document_id: str, version: int, text: str = "beta.", content: str = FIRST, title: str = "T") -> dict[str, Any]:
    start = content.index(text)
    return {
        "document_id": document_id,
        "document_version": str(version),
        "chunk_index": 0,
        "chunk_id": "g1-1",
        "start": start,
        "end": start + len(text),
        "text": text,
        "title": title,
        "metadata": {"category": "faq"},
    }


def judged(
    history: History,
    *hits: dict[str, Any],
    watermark: int = 15,
    captured: int = 15,
    tenant: str | None = None,
    set_aside: frozenset[str] = frozenset(),
    wanted: Wanted | None = None,
) -> dict[str, int]:
    return by_kind(list(wrong_with(Answer(hits, watermark, captured, tenant, set_aside, wanted), history)))


def test_old_version_is_right_until_the_watermark_has_passed_its_end(history: History) -> None:
    assert judged(history, hit("a", 1)) == {}
    assert judged(history, hit("a", 1), watermark=19) == {}
    assert judged(history, hit("a", 1, title="T2"), watermark=20, captured=20) == {"stale": 1}


def test_deleted_document_is_wrong_as_soon_as_its_deletion_is_captured(history: History) -> None:
    assert judged(history, hit("b", 2), captured=19) == {}
    assert judged(history, hit("b", 2), captured=20) == {"gone": 1}


def test_deleted_document_that_came_back_may_say_what_it_said_until_the_watermark_passes(history: History) -> None:
    commit(history, 30, lambda t: t.put(history.next_number(), "b", Content("T", SECOND, "faq")))
    assert judged(history, hit("b", 2), captured=30) == {}
    assert judged(history, hit("b", 2), watermark=20, captured=30) == {"stale": 1}


def test_renamed_document_is_the_same_document(history: History) -> None:
    assert judged(history, hit("c", 3), captured=20, tenant="north") == {}
    assert judged(history, hit("d", 3), captured=20, tenant="north") == {"current": 1}


def test_title_and_key_are_those_of_what_is_captured_or_later(history: History) -> None:
    assert judged(history, hit("a", 1, title="T2"), captured=20) == {}
    assert judged(history, hit("a", 1, title="T"), captured=20) == {"current": 1}


def test_document_of_a_tenant_is_wrong_for_everybody_else(history: History) -> None:
    assert judged(history, hit("d", 3), tenant="north") == {}
    assert judged(history, hit("d", 3), tenant="south") == {"tenant": 1}
    assert judged(history, hit("d", 3)) == {"tenant": 1}


def test_text_that_the_version_does_not_have_there_is_wrong(history: History) -> None:
    assert judged(history, hit("a", 1) | {"start": 0}) == {"text": 1}
    assert judged(history, hit("a", 4, "w1x0 alpha.", title="T2")) == {"text": 1}


def test_version_that_was_rolled_back_is_unknown(history: History) -> None:
    transaction = Transaction(history)
    made = transaction.put(history.next_number(), "a", Content("T", FIRST, "faq"))
    assert judged(history, hit("a", made.number)) == {}
    transaction.refused()
    assert judged(history, hit("a", made.number)) == {"unknown": 1}
    assert history.live["a"].number == 4
    assert history.live["a"].ended is None


def test_two_versions_of_one_document_in_one_answer_are_wrong(history: History) -> None:
    old, new = hit("a", 1, "w1x0 alpha."), hit("a", 4, "beta.", SECOND, title="T2")
    assert judged(history, old, hit("a", 1)) == {}
    assert judged(history, old, new) == {"half": 1}


def test_text_that_is_surely_searchable_has_to_be_found(history: History) -> None:
    wanted = Wanted(history.numbered[4], "w2x0")
    assert judged(history, watermark=19, wanted=wanted) == {}
    assert judged(history, watermark=20, wanted=wanted) == {"missing": 1}
    assert judged(history, watermark=20, wanted=wanted, set_aside=frozenset({"a"})) == {}
    assert judged(history, hit("a", 4, "w2x0 gamma.", SECOND, "T2"), watermark=20, captured=20, wanted=wanted) == {}


def test_answer_behind_the_write_that_it_was_to_hold_is_wrong(history: History) -> None:
    wanted = Wanted(history.numbered[4], "w2x0", at_least=20)
    assert judged(history, watermark=19, wanted=wanted) == {"unmet": 1}


def test_document_in_quarantine_keeps_what_it_said(history: History) -> None:
    assert judged(history, hit("a", 1), watermark=20, captured=20, set_aside=frozenset({"a"})) == {}


def test_answer_that_says_it_is_fresher_than_its_watermark_is_wrong(history: History) -> None:
    commit(history, 30, lambda t: t.delete("a"), at=1000.0)
    assert fresh_wrongs(history, watermark=28, current_at=1000.0) == []
    assert fresh_wrongs(history, watermark=30, current_at=1060.0) == []
    (wrong,) = fresh_wrongs(history, watermark=28, current_at=1060.0)
    assert wrong == "fresh: says that it is current as of 60.0 s after a commit that lies behind its watermark"


def fresh_wrongs(history: History, watermark: int, current_at: float) -> list[str]:
    return list(wrong_with(Answer((), watermark, watermark, None, frozenset(), current_at=current_at), history))


def test_transaction_that_is_refused_leaves_the_history_as_it_was(history: History) -> None:
    before = {key: revision.number for key, revision in history.live.items()}
    transaction = Transaction(history)
    transaction.delete("a")
    transaction.put(history.next_number(), "a", Content("T", FIRST, "faq"))
    transaction.move(history.next_number(), "c", "e", Content("T", FIRST, "faq"))
    transaction.put(history.next_number(), "b", Content("T", FIRST, "faq"))
    transaction.refused()
    assert {key: revision.number for key, revision in history.live.items()} == before
    assert set(history.dead) == {"b"}
    assert history.numbered[4].ended is None
