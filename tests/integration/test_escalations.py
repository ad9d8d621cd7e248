"""Questions that a contract leaves to a person: one ticket a question, and one person a ticket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from tests.contracted import QUESTION, built_library, make, sync, under
from tests.world import World

import livedex
from livedex.errors import NotFound
from livedex.model import Query
from livedex.rules.escalations import State
from livedex.store.embedded import EmbeddedServer
from livedex.store.statements import load

WAITING = "SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'livedex.leases'::regclass"
ESCALATING = "{require: [team], on_violation: escalate}"


@pytest.fixture(scope="module")
def library(server: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with built_library(server, tmp_path_factory.mktemp("library"), 10) as library:
        yield library


@pytest.fixture
def world(server: EmbeddedServer, database_on: Callable[[EmbeddedServer], str], tmp_path: Path) -> World:
    """A few notes of a test's own."""
    return make(database_on(server), database_on(server), tmp_path, 10)


async def ask(index: livedex.Index, question: str = QUESTION, tenant: str | None = None) -> int:
    retrieval = await index.search("handbook", question, tenant=tenant)
    assert retrieval.verdict is not None
    assert retrieval.verdict.escalation is not None
    return retrieval.verdict.escalation


async def test_a_ticket_lives_from_the_question_to_its_resolution(library: World, tmp_path: Path) -> None:
    async with under(library, ESCALATING, tmp_path) as index:
        number = await ask(index, "refunds in a lifetime")
        opened = await index.escalations.one(number)
        assert (opened.state, opened.question, opened.times) == (State.OPEN, "refunds in a lifetime", 1)
        assert opened.nearest != ()
        assert number in {ticket.escalation for ticket in await index.escalations.list([State.OPEN])}
        taken = await index.escalations.take(number, "anna")
        assert (taken.state, taken.taken_by) == (State.TAKEN, "anna")
        resolved = await index.escalations.resolve(number, "ben", "Teams were filled in.")
        assert (resolved.state, resolved.taken_by, resolved.resolved_by) == (State.RESOLVED, "anna", "ben")
        assert resolved.resolution == "Teams were filled in."


async def test_a_question_that_waits_opens_no_second_ticket(library: World, tmp_path: Path) -> None:
    async with under(library, ESCALATING, tmp_path) as index:
        first = await ask(index)
        await index.escalations.take(first, "anna")
        assert [await ask(index), await ask(index, f"  {QUESTION} ")] == [first, first]
        assert (await index.escalations.one(first)).times == 3
        others = [await ask(index, "How do refunds work?"), await ask(index, tenant="acme")]
        await index.escalations.resolve(first, "anna", "done")
        assert len({first, *others, await ask(index)}) == 4


async def test_a_question_that_is_not_to_be_kept_is_known_again(library: World, tmp_path: Path) -> None:
    question = "refunds nobody may know of"
    async with under(library, ESCALATING + "\nrecord: {text: false}", tmp_path) as index:
        number = await ask(index, question)
        assert await ask(index, question) == number
        assert (await index.escalations.one(number)).question is None
    assert library.stored("SELECT 1 FROM livedex.escalations e WHERE e::text LIKE %s", f"%{question}%") == []


async def test_half_a_character_in_a_question_keeps_no_ticket_from_being_opened(library: World, tmp_path: Path) -> None:
    async with under(library, ESCALATING, tmp_path) as index:
        number = await ask(index, "refunds \ud83d")
        assert (await index.escalations.one(number)).question == "refunds ?"


async def test_many_who_ask_at_once_open_one_ticket(library: World, tmp_path: Path) -> None:
    async with under(library, ESCALATING, tmp_path) as index:
        numbers = await asyncio.gather(*(ask(index, "refunds for many") for _ in range(8)))
        ticket = await index.escalations.one(numbers[0])
    assert (set(numbers), ticket.times) == ({ticket.escalation}, 8)


async def test_of_several_who_take_a_ticket_at_once_one_has_it(library: World, tmp_path: Path) -> None:
    async with under(library, ESCALATING, tmp_path) as index:
        number = await ask(index, "refunds to take")
        names = [f"person-{n}" for n in range(6)]
        outcomes = await asyncio.gather(
            *(index.escalations.take(number, name) for name in names), return_exceptions=True
        )
        winners = [name for name, outcome in zip(names, outcomes, strict=True) if not isinstance(outcome, Exception)]
        assert winners == [(await index.escalations.one(number)).taken_by]
        refused = {f"{type(outcome).__name__}: {outcome}" for outcome in outcomes if isinstance(outcome, Exception)}
    told = f"IllegalMove: Escalation {number} cannot be taken: it is taken already by {winners[0]}. "
    assert refused == {told + f"See: livedex escalations show {number}"}


async def test_a_ticket_that_is_not_there_is_not_found(library: World, tmp_path: Path) -> None:
    async with under(library, "{}", tmp_path) as index:
        with pytest.raises(NotFound, match="There is no escalation 999"):
            await index.escalations.take(999, "anna")


async def test_a_ticket_names_no_document_that_is_gone_by_then(world: World, tmp_path: Path) -> None:
    await sync(world)
    async with under(world, ESCALATING, tmp_path) as index:
        retrieval = await index.search("handbook", QUESTION)
        assert retrieval.verdict is not None
        world.execute("DELETE FROM notes WHERE id = %s", retrieval.verdict.dropped[0].document_id)
        await index.sync()
        number = await index.escalations.open(Query("another"), retrieval, retrieval.verdict)
        named = [dropped.document_id for dropped in (await index.escalations.one(number)).nearest]
        assert (await index.escalations.one(number)).question == "another"
    gone = retrieval.verdict.dropped[0].document_id
    assert named == [d.document_id for d in retrieval.verdict.dropped if d.document_id != gone]


async def test_a_ticket_that_comes_after_a_purge_holds_no_question(world: World, tmp_path: Path) -> None:
    await sync(world)
    async with under(world, ESCALATING, tmp_path) as index:
        retrieval = await index.search("handbook", QUESTION)
        assert retrieval.verdict is not None
        purged = retrieval.verdict.dropped[0].document_id
        await index.forgetting.purge("kb", [purged], by="anna", rewrite=False)
        ticket = await index.escalations.one(
            await index.escalations.open(Query(f"What does {purged} say?"), retrieval, retrieval.verdict)
        )
    assert ticket.question is None
    assert purged not in {dropped.document_id for dropped in ticket.nearest}


async def test_a_purge_takes_questions_that_the_document_was_nearest_to_earlier(world: World, tmp_path: Path) -> None:
    await sync(world)
    async with under(world, ESCALATING, tmp_path) as index:
        retrieval = await index.search("handbook", QUESTION)
        assert retrieval.verdict is not None
        first = retrieval.verdict.dropped[0].document_id
        others = tuple(each for each in retrieval.verdict.dropped if each.document_id != first)
        number = await index.escalations.open(Query("another"), retrieval, retrieval.verdict)
        later = replace(retrieval.verdict, dropped=others)
        assert await index.escalations.open(Query("another"), retrieval, later) == number
        await index.forgetting.purge("kb", [first], by="anna", rewrite=False)
        assert (await index.escalations.one(number)).question is None


async def test_tickets_wait_for_a_purge_that_is_under_way(world: World, tmp_path: Path) -> None:
    await sync(world)
    async with under(world, ESCALATING, tmp_path) as index:
        with psycopg.connect(world.store_dsn) as purging:
            purging.execute(load("purge")["exclude_workers"])
            ticket = asyncio.create_task(ask(index))
            async with asyncio.timeout(20):
                while not await asyncio.to_thread(world.stored, WAITING):  # noqa: ASYNC110  # it happens in the store
                    await asyncio.sleep(0.01)
        assert (await index.escalations.one(await ticket)).question == QUESTION
