"""Each clause of a contract, by literals; what is served, what is withheld, and what is said of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import pytest

from livedex.config.contracts import SectionType
from livedex.model import Hit, Outcome, Violation
from livedex.rules import section_types
from livedex.rules.contracts import MOST_DROPPED, Contract, Facts, OnViolation, decide, is_short, judge, judge_hits

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
FACTS = Facts(
    metadata={"team": "pay", "kind": "policy"},
    section_type="steps",
    version="5",
    changed_at=NOW - timedelta(days=10),
    stale_since=None,
    characters=100,
    complete=True,
    scores={"dense": 0.5, "lexical": 3.0},
)
HIT = Hit(
    document_id="refunds",
    document_version="5",
    chunk_id="g1-7",
    chunk_index=0,
    source="kb",
    title="Refunds",
    section=(),
    section_type="text",
    start=0,
    end=4,
    text="A secret of ours.",
    metadata={"team": "pay"},
    score=1.0,
    scores={"dense": 0.5},
    source_position="1",
    source_time=NOW - timedelta(days=1),
    created_at=NOW,
    embedding_model="m",
    schema_version="s",
    stale=False,
)
EVERYTHING = Contract(
    view="v",
    require=("team",),
    document_types={"kind": ("policy",)},
    section_types=("steps",),
    min_version="3",
    max_version="7",
    max_age_seconds=11 * 86_400,
    max_staleness_seconds=60,
    min_characters=100,
    complete=True,
    min_score={"dense": 0.5, "lexical": 3.0},
)


def violated(contract: Contract, **facts: Any) -> list[str]:
    return [violation.clause for violation in judge(replace(FACTS, **facts), contract, NOW)]


def test_a_chunk_that_keeps_every_clause_violates_none() -> None:
    assert violated(EVERYTHING) == []


def test_a_chunk_is_told_every_clause_that_it_violates() -> None:
    nothing = Facts({}, "text", "2", None, NOW - timedelta(hours=1), 5, complete=False, scores={})
    assert [violation.clause for violation in judge(nothing, EVERYTHING, NOW)] == [
        "require", "document_types", "section_types", "version", "max_age", "max_staleness", "min_characters",
        "complete", "min_score",
    ]  # fmt: skip


def test_a_contract_without_clauses_lets_everything_by() -> None:
    nothing = Facts({}, "text", "", None, NOW, 0, complete=False, scores={})
    assert judge(nothing, Contract("v"), NOW) == ()


@pytest.mark.parametrize("blank", [None, "", " \n", [], [""], {}, {"a": None}])
def test_required_metadata_must_say_something(blank: Any) -> None:
    assert violated(Contract("v", require=("team",)), metadata={"team": blank}) == ["require"]


@pytest.mark.parametrize("value", ["pay", 0, False, ["pay", ""], {"a": 1}])
def test_required_metadata_that_says_something_will_do(value: Any) -> None:
    assert violated(Contract("v", require=("team",)), metadata={"team": value}) == []


@pytest.mark.parametrize(
    ("value", "clauses"),
    [
        ("policy", []),
        (["draft", "policy"], []),
        ("draft", ["document_types"]),
        (["draft"], ["document_types"]),
        (None, ["document_types"]),
        ("Policy", ["document_types"]),
    ],
)
def test_the_document_type_is_one_of_the_accepted_values(value: Any, clauses: list[str]) -> None:
    assert violated(Contract("v", document_types={"kind": ("policy", "faq")}), metadata={"kind": value}) == clauses


@pytest.mark.parametrize(("value", "written"), [(True, "true"), (3, "3"), (1.5, "1.5")])
def test_a_document_type_that_is_no_text_is_compared_as_it_is_written(value: Any, written: str) -> None:
    assert violated(Contract("v", document_types={"kind": (written,)}), metadata={"kind": value}) == []


def test_every_document_type_counts() -> None:
    contract = Contract("v", document_types={"kind": ("policy",), "state": ("final",)})
    assert violated(contract, metadata={"kind": "policy", "state": "draft"}) == ["document_types"]


@pytest.mark.parametrize(("section_type", "clauses"), [("steps", []), ("table", ["section_types"])])
def test_the_section_type_is_one_of_those_named(section_type: str, clauses: list[str]) -> None:
    assert violated(Contract("v", section_types=("steps", "faq")), section_type=section_type) == clauses


@pytest.mark.parametrize(("version", "clauses"), [("2", ["version"]), ("3", []), ("10", []), ("11", ["version"])])
def test_the_bounds_of_the_version_belong_to_the_range(version: str, clauses: list[str]) -> None:
    assert violated(Contract("v", min_version="3", max_version="10"), version=version) == clauses


@pytest.mark.parametrize("checksum", ["3" * 32, "f" * 32])
@pytest.mark.parametrize("bounds", [{"min_version": "3"}, {"min_version": "2024-01-01"}, {"max_version": "zeta"}])
def test_a_checksum_in_place_of_a_version_is_within_no_range(bounds: dict[str, str], checksum: str) -> None:
    assert violated(Contract("v", **bounds), version=checksum) == ["version"]  # type: ignore[arg-type]  # by name
    assert violated(Contract("v"), version=checksum) == []


@pytest.mark.parametrize(("days", "clauses"), [(9, ["max_age"]), (10, []), (11, [])])
def test_a_document_is_as_old_as_the_contract_allows(days: int, clauses: list[str]) -> None:
    assert violated(Contract("v", max_age_seconds=days * 86_400)) == clauses


def test_a_document_without_a_time_is_too_old() -> None:
    assert violated(Contract("v", max_age_seconds=1e9), changed_at=None) == ["max_age"]


def test_a_time_in_the_future_is_not_too_old() -> None:
    assert violated(Contract("v", max_age_seconds=1), changed_at=NOW + timedelta(days=1)) == []


@pytest.mark.parametrize(("seconds", "clauses"), [(None, []), (60, []), (61, ["max_staleness"])])
def test_a_hit_is_out_of_date_for_so_long_only(seconds: int | None, clauses: list[str]) -> None:
    since = None if seconds is None else NOW - timedelta(seconds=seconds)
    assert violated(Contract("v", max_staleness_seconds=60), stale_since=since) == clauses


@pytest.mark.parametrize(("characters", "clauses"), [(39, ["min_characters"]), (40, [])])
def test_a_chunk_is_as_long_as_the_contract_asks(characters: int, clauses: list[str]) -> None:
    assert violated(Contract("v", min_characters=40), characters=characters) == clauses


def test_all_chunks_of_the_document_are_there_where_that_is_asked() -> None:
    contract = Contract("v", complete=True)
    assert (violated(contract, complete=False), violated(contract, complete=True)) == (["complete"], [])


def test_a_hit_whose_chunks_nobody_counted_is_not_complete() -> None:
    assert Facts.of(replace(HIT, complete=None)).complete is False


@pytest.mark.parametrize(
    ("scores", "clauses"),
    [({"dense": 0.3}, []), ({"dense": 0.29}, ["min_score"]), ({"lexical": 9.0}, ["min_score"])],
)
def test_a_leg_that_a_score_is_asked_of_has_it(scores: dict[str, float], clauses: list[str]) -> None:
    assert violated(Contract("v", min_score={"dense": 0.3}), scores=scores) == clauses


def test_scores_are_not_judged_where_nothing_was_asked() -> None:
    assert violated(Contract("v", min_score={"dense": 0.3}), scores=None) == []


def test_the_age_is_that_of_the_document_before_that_of_the_commit() -> None:
    told = NOW - timedelta(days=30)
    assert Facts.of(replace(HIT, updated_at=told)).changed_at == told
    assert Facts.of(replace(HIT, updated_at=None)).changed_at == HIT.source_time


def test_the_section_types_of_the_configuration_are_those_that_are_told() -> None:
    assert set(section_types.TYPES) - set(get_args(SectionType)) == set()


def hits(*teams: str) -> list[Hit]:
    return [
        replace(HIT, document_id=f"d{number}", chunk_id=f"g1-{number}", metadata={"team": team}, score=float(-number))
        for number, team in enumerate(teams)
    ]


TEAM = Contract("v", require=("team",))


def decided(contract: Contract, top_k: int, *teams: str, lag_seconds: float | None = 0.0) -> tuple[str, list[str], str]:
    """The outcome, the documents that are served, and the documents that were withheld."""
    served, verdict = decide(judge_hits(hits(*teams), contract, NOW), contract, contract.name, lag_seconds, top_k)
    return verdict.outcome, [hit.document_id for hit in served], " ".join(d.document_id for d in verdict.dropped)


def test_drop_serves_what_is_within_in_its_order() -> None:
    assert decided(TEAM, 2, "a", "", "b", "c") == (Outcome.ANSWERED, ["d0", "d2"], "d1")


def test_what_was_only_looked_at_to_be_sure_is_not_called_withheld() -> None:
    assert decided(TEAM, 2, "a", "b", "", "c") == (Outcome.ANSWERED, ["d0", "d1"], "")


def test_drop_abstains_when_too_few_are_left() -> None:
    assert decided(replace(TEAM, min_hits=2), 10, "a", "", "") == (Outcome.ABSTAINED, [], "d0 d1 d2")


def test_nothing_found_is_no_answer() -> None:
    assert decided(TEAM, 10) == (Outcome.ABSTAINED, [], "")


def test_who_asks_for_one_hit_does_not_get_by_with_less_evidence() -> None:
    assert decided(replace(TEAM, min_hits=2), 1, "a", "") == (Outcome.ABSTAINED, [], "d0 d1")
    assert decided(replace(TEAM, min_hits=2), 1, "a", "b") == (Outcome.ANSWERED, ["d0"], "")


@pytest.mark.parametrize(
    ("on_violation", "outcome"),
    [(OnViolation.ABSTAIN, Outcome.ABSTAINED), (OnViolation.ESCALATE, Outcome.ESCALATED)],
)
def test_abstain_and_escalate_serve_nothing_beside_a_violation(on_violation: OnViolation, outcome: Outcome) -> None:
    contract = replace(TEAM, on_violation=on_violation)
    assert decided(contract, 3, "a", "", "b") == (outcome, [], "d0 d1 d2")
    assert decided(contract, 2, "a", "b", "") == (Outcome.ANSWERED, ["d0", "d1"], "")


@pytest.mark.parametrize("lag_seconds", [None, 61.0])
def test_a_view_that_is_too_stale_answers_nothing(lag_seconds: float | None) -> None:
    contract = replace(TEAM, max_staleness_seconds=60)
    assert decided(contract, 1, "a", lag_seconds=lag_seconds) == (Outcome.ABSTAINED, [], "d0")


def test_a_view_as_stale_as_it_may_be_answers() -> None:
    assert decided(replace(TEAM, max_staleness_seconds=60), 1, "a", lag_seconds=60.0) == (Outcome.ANSWERED, ["d0"], "")


def test_an_abstention_says_each_clause_once_with_how_many_violate_it() -> None:
    contract = replace(TEAM, on_violation=OnViolation.ABSTAIN)
    _, verdict = decide(judge_hits(hits("a", "", ""), contract, NOW), contract, contract.name, 0.0, 3)
    assert verdict.violations == (Violation("require", "2 of 3 hits: team missing or blank"),)


def test_a_lack_of_hits_says_what_was_in_the_way() -> None:
    _, verdict = decide(judge_hits(hits("", ""), TEAM, NOW), TEAM, TEAM.name, 0.0, 3)
    reason = "0 found within the contract, at least 1 needed; withheld because of require 2"
    assert verdict.violations == (Violation("min_hits", reason),)


def test_no_verdict_holds_text_title_or_metadata() -> None:
    contract = replace(EVERYTHING, on_violation=OnViolation.ABSTAIN, require=("owner",))
    secret = replace(HIT, text="hush", title="hush", section=("hush",), metadata={"kind": "hush", "team": "hush"})
    assert "hush" not in repr(decide(judge_hits([secret], contract, NOW), contract, contract.name, 0.0, 1))


def test_a_verdict_names_so_many_at_most() -> None:
    _, verdict = decide(judge_hits(hits(*[""] * 200), TEAM, NOW), TEAM, TEAM.name, 0.0, 100)
    assert len(verdict.dropped) == MOST_DROPPED


@pytest.mark.parametrize(
    ("contract", "top_k", "short"),
    [
        (TEAM, 2, False),
        (TEAM, 3, True),
        (replace(TEAM, min_hits=3), 1, True),
        (replace(TEAM, on_violation=OnViolation.ABSTAIN), 3, False),
    ],
)
def test_others_are_looked_for_where_some_were_dropped(contract: Contract, top_k: int, short: bool) -> None:
    assert is_short(judge_hits(hits("a", "", "b"), contract, NOW), contract, top_k) is short


def test_a_contract_of_other_clauses_has_another_name() -> None:
    changed: list[dict[str, Any]] = [
        {"require": ("team", "url")},
        {"document_types": {"kind": ("faq",)}},
        {"section_types": ("faq",)},
        {"min_version": "4"},
        {"max_version": "8"},
        {"max_age_seconds": 1.0},
        {"max_staleness_seconds": 1.0},
        {"min_characters": 1},
        {"complete": False},
        {"min_score": {"dense": 0.1}},
        {"min_hits": 2},
        {"on_violation": OnViolation.ABSTAIN},
        {"view": "w"},
    ]
    names = [EVERYTHING.name, *(replace(EVERYTHING, **change).name for change in changed)]
    assert len(set(names)) == len(changed) + 1


def test_a_contract_keeps_its_name() -> None:
    assert EVERYTHING.name == replace(EVERYTHING, document_types={"kind": ("policy",)}).name


def test_clauses_read_as_in_the_file() -> None:
    contract = Contract("v", require=("team",), max_age_seconds=86_400, min_version="3", on_violation=OnViolation.DROP)
    assert contract.clauses == {
        "require": ["team"], "version": {"min": "3"}, "max_age": "86400s", "min_hits": 1, "on_violation": "drop",
    }  # fmt: skip
