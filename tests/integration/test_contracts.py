"""Searches under a contract, against a real source and store: what is off contract reaches nobody."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import psycopg
import pytest
from tests.contracted import CONFIG, HUSH, NOTES, QUESTION, built_library, make, sync, under
from tests.world import World

import livedex
from livedex.errors import NotFound
from livedex.model import Freshness, Outcome, Query, Retrieval
from livedex.ports import Vectors
from livedex.retrieve.contracted import Contracted
from livedex.rules.contracts import Contract, Facts, judge
from livedex.store.embedded import EmbeddedServer


@pytest.fixture(scope="module")
def library(server: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with built_library(server, tmp_path_factory.mktemp("library"), NOTES) as library:
        yield library


@pytest.fixture
def world(server: EmbeddedServer, database_on: Callable[[EmbeddedServer], str], tmp_path: Path) -> World:
    """A few notes of a test's own."""
    return make(database_on(server), database_on(server), tmp_path, 10)


def ids(retrieval: Retrieval) -> list[str]:
    return [hit.document_id for hit in retrieval.hits]


def clauses(retrieval: Retrieval) -> list[str]:
    assert retrieval.verdict is not None
    return [violation.clause for violation in retrieval.verdict.violations]


def said(value: object) -> str:
    return json.dumps(value, default=str)


async def test_without_a_contract_there_is_no_verdict(library: World) -> None:
    library.config.write_text(CONFIG.replace("    contract: CONTRACT\n", ""))
    async with library.open() as index:
        assert (await index.search("handbook", QUESTION)).verdict is None


@pytest.mark.parametrize(
    ("contract", "wanted"),
    [
        ("{require: [team]}", "team = 'pay'"),
        ("{document_types: {kind: [policy]}}", "kind = 'policy'"),
        ("{section_types: [steps]}", "true"),
        ("{version: {min: 3, max: 10}}", "revision::integer BETWEEN 3 AND 10"),
        ("{max_age: 50d}", "changed > now() - interval '50 days'"),
        ("{max_staleness: 30d}", "true"),
        ("{min_characters: 30}", "true"),
        ("{complete: true}", "true"),
        ("{min_score: {dense: 0.01, lexical: 0.01}}", "true"),
    ],
)
async def test_each_clause_holds_for_every_hit_and_top_k_is_full(
    library: World, tmp_path: Path, contract: str, wanted: str
) -> None:
    async with under(library, contract, tmp_path) as index:
        retrieval = await index.search("handbook", QUESTION, top_k=12)
        judged_by = index.contract("handbook")
    assert judged_by is not None
    assert retrieval.verdict is not None
    assert retrieval.searched_at is not None
    assert (len(retrieval.hits), retrieval.verdict.outcome) == (12, Outcome.ANSWERED)
    assert [judge(Facts.of(hit), judged_by, retrieval.searched_at) for hit in retrieval.hits] == [()] * 12
    with psycopg.connect(library.source_dsn) as connection:
        allowed = {row[0] for row in connection.execute(f"SELECT id FROM notes WHERE {wanted}".encode())}
    assert set(ids(retrieval)) - allowed == set()


async def test_what_is_dropped_leaves_the_others_in_their_order(library: World, tmp_path: Path) -> None:
    async with under(library, "{}", tmp_path) as index:
        everything = await index.search("handbook", QUESTION, top_k=40)
    async with under(library, "{require: [team]}", tmp_path) as index:
        kept = await index.search("handbook", QUESTION, top_k=10)
    wanted = [hit.chunk_id for hit in everything.hits if hit.metadata["team"] == "pay"]
    assert [hit.chunk_id for hit in kept.hits] == wanted[:10]


async def test_rare_types_fill_top_k_however_many_others_are_nearer(library: World, tmp_path: Path) -> None:
    async with under(library, "{document_types: {kind: [policy]}, section_types: [text]}", tmp_path) as index:
        retrieval = await index.search("handbook", "refunds take 7 days", top_k=20)
    assert sorted(ids(retrieval)) == sorted(f"note-{n}" for n in range(10, NOTES + 1, 10))


class Counting:
    """Counts what is asked of the retriever within, which is said to have waited."""

    def __init__(self, within: livedex.Index, waits: float = 0) -> None:
        self.asked: list[int] = []
        self.patience: list[float] = []
        self._index = within
        self._waits = waits

    @property
    def model(self) -> str:
        return "counted"

    async def retrieve(self, query: Query) -> Retrieval:
        self.asked.append(query.top_k)
        self.patience.append(query.wait_seconds)
        found = await self._index.retrieve("handbook", query)
        return replace(found, freshness=Freshness(waited_seconds=min(self._waits, query.wait_seconds)))

    async def embed(self, text: str) -> Vectors:
        raise AssertionError(text)


@pytest.mark.parametrize(
    ("contract", "asked"),
    [
        (Contract("handbook", require=("kind",)), [10]),
        (Contract("handbook", min_hits=20), [20]),
        (Contract("handbook", require=("team",), min_hits=15), [15, 100]),
        (Contract("handbook", require=("nothing",)), [10, 100, 1000]),
    ],
)
async def test_there_is_one_search_where_all_is_well(
    library: World, tmp_path: Path, contract: Contract, asked: list[int]
) -> None:
    async with under(library, "{}", tmp_path) as index:
        counting = Counting(index)
        await Contracted(counting, contract, index.escalations).retrieve(Query("refunds take days"))
    assert counting.asked == asked


async def test_searches_under_contract_wait_no_longer_together_than_one_may(library: World, tmp_path: Path) -> None:
    async with under(library, "{}", tmp_path) as index:
        counting = Counting(index, waits=1.5)
        contracted = Contracted(counting, Contract("handbook", require=("nothing",)), index.escalations)
        retrieval = await contracted.retrieve(Query("refunds take days", wait_seconds=2))
    assert counting.patience == [2, 0.5, 0]
    assert retrieval.freshness.waited_seconds == 2


async def test_where_many_violate_one_search_comes_to_do(library: World, tmp_path: Path) -> None:
    async with under(library, "{}", tmp_path) as index:
        counting = Counting(index)
        contracted = Contracted(counting, Contract("handbook", require=("team",), min_hits=15), index.escalations)
        first = await contracted.retrieve(Query("refunds take days"))
        for _ in range(30):
            await contracted.retrieve(Query("refunds take days"))
        asked, counting.asked = counting.asked, []
        later = await contracted.retrieve(Query("refunds take days"))
    assert (asked[:2], len(counting.asked)) == ([15, 100], 1)
    assert [hit.chunk_id for hit in later.hits] == [hit.chunk_id for hit in first.hits]


async def test_a_filter_narrows_and_nothing_widens(library: World, tmp_path: Path) -> None:
    async with under(library, "{document_types: {kind: [policy]}}", tmp_path) as index:
        narrowed = await index.search("handbook", QUESTION, filters={"team": "pay"})
        others = await index.search("handbook", QUESTION, filters={"kind": "draft"})
    assert {hit.metadata["kind"] for hit in narrowed.hits} == {"policy"}
    assert (others.hits, clauses(others)) == ((), ["min_hits"])


@pytest.mark.parametrize(("on_violation", "outcome"), [("abstain", Outcome.ABSTAINED), ("escalate", Outcome.ESCALATED)])
async def test_one_violation_among_the_best_keeps_the_whole_answer_back(
    library: World, tmp_path: Path, on_violation: str, outcome: Outcome
) -> None:
    async with under(library, f"{{require: [team], on_violation: {on_violation}}}", tmp_path) as index:
        retrieval = await index.search("handbook", f"{QUESTION} {on_violation}", top_k=10)
    assert retrieval.verdict is not None
    assert (retrieval.hits, retrieval.verdict.outcome, clauses(retrieval)) == ((), outcome, ["require"])
    assert len(retrieval.verdict.dropped) == 10


@pytest.mark.parametrize("on_violation", ["drop", "abstain", "escalate"])
async def test_nothing_of_what_is_withheld_leaves(library: World, tmp_path: Path, on_violation: str) -> None:
    contract = f"{{require: [team], min_characters: 5000, max_age: 1d, on_violation: {on_violation}}}"
    async with under(library, contract, tmp_path) as index:
        retrieval = await index.search("handbook", f"{QUESTION} {on_violation}")
        tickets = await index.escalations.list()
    assert retrieval.verdict is not None
    assert retrieval.verdict.dropped != ()
    for word in (HUSH, "Cheer", "pay"):
        assert word not in said(asdict(retrieval)) + said([asdict(ticket) for ticket in tickets])


async def test_a_view_that_nothing_follows_abstains_in_time(library: World, tmp_path: Path) -> None:
    async with under(library, "{max_staleness: 1ms}", tmp_path) as index:
        retrieval = await index.search("handbook", QUESTION)
    assert (retrieval.hits, clauses(retrieval)) == ((), ["max_staleness"])


async def test_a_newer_version_in_quarantine_makes_a_hit_stale_since_it_was_refused_first(
    world: World, tmp_path: Path
) -> None:
    await sync(world)
    with psycopg.connect(world.store_dsn, autocommit=True) as store:
        store.execute("UPDATE livedex.documents SET seq = seq + 1000000 WHERE document_id = 'note-3'")
        store.execute(
            "INSERT INTO livedex.quarantine (document, generation, stage, reason, version, first_at) "
            "SELECT document, g.generation, 'embed', 'odd', '2', now() - interval '1 hour' "
            "FROM livedex.documents, livedex.generations g WHERE document_id = 'note-3'"
        )
    async with under(world, "{max_staleness: 10m}", tmp_path) as index:
        retrieval = await index.search("handbook", "refunds take 3 days", top_k=30)
    assert retrieval.verdict is not None
    withheld = {(d.document_id, v.clause) for d in retrieval.verdict.dropped for v in d.violations}
    assert ("note-3" in ids(retrieval), withheld) == (False, {("note-3", "max_staleness")})


async def test_a_document_with_a_chunk_missing_is_not_complete(world: World, tmp_path: Path) -> None:
    await sync(world)
    ((generation,),) = world.stored("SELECT active_generation FROM livedex.views")
    with psycopg.connect(world.store_dsn, autocommit=True) as store:
        store.execute(
            f"DELETE FROM livedex_g{generation}.chunks WHERE chunk_index = 1 AND document = "
            "(SELECT document FROM livedex.documents WHERE document_id = 'note-3')".encode()
        )
    async with under(world, "{complete: true}", tmp_path) as index:
        retrieval = await index.search("handbook", QUESTION, top_k=30)
        coverage = await index.check_contract("handbook")
    assert set(ids(retrieval)) == {f"note-{n}" for n in range(1, 11)} - {"note-3"}
    assert [(each.clause, each.examples) for each in coverage.clauses] == [("complete", ("note-3",))]


async def test_every_version_of_a_contract_that_was_used_is_kept(library: World, tmp_path: Path) -> None:
    async with under(library, "{min_characters: 7}", tmp_path) as index:
        retrieval = await index.search("handbook", QUESTION)
    assert retrieval.verdict is not None
    kept = library.stored("SELECT clauses FROM livedex.contracts WHERE contract = %s", retrieval.verdict.contract)
    assert kept == [({"min_characters": 7, "min_hits": 1, "on_violation": "drop"},)]


CONTRACTS: Sequence[str] = (
    "{}",
    "{require: [team], document_types: {kind: [policy]}, max_age: 100d}",
    "{section_types: [steps], version: {min: 5}, min_characters: 32}",
    "{max_staleness: 30d, complete: true, min_hits: 100}",
)


@pytest.mark.parametrize("contract", CONTRACTS)
async def test_a_check_counts_what_searches_would_withhold(library: World, tmp_path: Path, contract: str) -> None:
    async with under(library, contract, tmp_path) as index:
        judged_by = index.contract("handbook")
        assert judged_by is not None
        checked = await index.check_contract("handbook")
    async with under(library, "{complete: true}", tmp_path) as index:
        found = await index.search("handbook", QUESTION, top_k=1000, exact=True, filters={"kind": ["policy", "draft"]})
    assert found.searched_at is not None
    judged = [(hit, judge(replace(Facts.of(hit), scores=None), judged_by, found.searched_at)) for hit in found.hits]
    off = {hit.document_id for hit, violations in judged if violations}
    within = {hit.document_id for hit, violations in judged if not violations}
    assert (checked.chunks, checked.documents) == (len(judged), NOTES)
    assert checked.chunks_within == sum(not violations for _, violations in judged)
    assert (checked.documents_within, checked.documents_partly) == (len(within - off), len(within & off))
    for clause in checked.clauses:
        violating = [hit.document_id for hit, violations in judged if clause.clause in {v.clause for v in violations}]
        assert (clause.chunks, clause.documents) == (len(violating), len(set(violating)))
        assert set(clause.examples) - set(violating) == set()


async def test_a_check_counts_types(library: World, tmp_path: Path) -> None:
    async with under(library, "{document_types: {kind: [policy]}}", tmp_path) as index:
        checked = await index.check_contract("handbook")
    assert checked.document_types == {"kind": {"draft": NOTES * 9 // 10, "policy": NOTES // 10}}
    assert sum(checked.section_types.values()) == checked.chunks


async def test_a_draft_is_checked_before_it_is_switched_on(library: World, tmp_path: Path) -> None:
    async with under(library, "{}", tmp_path) as index:
        draft = Contract("handbook", require=("team",), max_staleness_seconds=1e-9)
        checked = await index.check_contract("handbook", draft)
    assert (checked.contract, checked.documents_within) == (draft.name, NOTES // 2)
    assert [violation.clause for violation in checked.violations] == ["max_staleness"]


async def test_a_view_without_a_contract_has_nothing_to_check(library: World) -> None:
    library.config.write_text(CONFIG.replace("    contract: CONTRACT\n", ""))
    async with library.open() as index:
        with pytest.raises(NotFound, match="View handbook has no contract"):
            await index.check_contract("handbook")


async def test_a_check_leaves_out_what_is_too_old_to_be_shown(world: World) -> None:
    world.config.write_text(CONFIG.replace("CONTRACT", "{}\n    ttl: 5d"))
    async with world.open() as index:
        await index.sync()
        checked = await index.check_contract("handbook")
        found = await index.search("handbook", QUESTION, top_k=100)
    assert checked.documents == len({hit.document_id for hit in found.hits})
    assert checked.documents < 10
