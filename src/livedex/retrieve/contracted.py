"""Searches under a view's contract: hits that violate it reach nobody."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import ceil
from typing import Protocol

from livedex.model import Hit, Outcome, Query, Retrieval, Verdict
from livedex.ports import Vectors
from livedex.retrieve import MOST_HITS, Retrieves
from livedex.rules.contracts import MOST_DROPPED, Contract, OnViolation, decide, is_short, judge_hits

SPARE = 1.2
"""So many times more are looked at at first than would do if as many kept the contract as lately."""
REMEMBERED = 0.9
"""How much of that share is what it was before the last search."""
MANY = 100
"""So many are looked at where that was too few. Each leg proposes as many anyway."""


class Tickets(Protocol):
    """Where a question goes that a person has to look at."""

    async def open(self, query: Query, retrieval: Retrieval, verdict: Verdict) -> int | None:
        """The number of the ticket, which is an older one where the same question waits already; None where nobody is
        to be asked."""
        ...


@dataclass(frozen=True, slots=True)
class _Attempt:
    """`suffices`: looking further would serve nothing more."""

    retrieval: Retrieval
    hits: tuple[Hit, ...]
    verdict: Verdict
    suffices: bool


class Contracted:
    """Answers as the retriever within does, with what is off contract withheld. A query can narrow the contract by
    filters, `top_k` and freshness of its own; nothing in it widens or lifts the contract."""

    def __init__(self, within: Retrieves, contract: Contract, tickets: Tickets) -> None:
        self._within = within
        self._contract = contract
        self._name = contract.name
        self._tickets = tickets
        # Which share of what was looked at lately is within the contract. It decides how much is looked at in the first
        # search, so that one does; what is served is the same with any other.
        self._share = 1.0

    @property
    def model(self) -> str:
        """The name of the model whose vectors the view holds."""
        return self._within.model

    async def embed(self, text: str) -> Vectors:
        """The query vector of a text. Shape (dimensions,)."""
        return await self._within.embed(text)

    async def retrieve(self, query: Query) -> Retrieval:
        """One search as a rule, four at most where much violates the contract; each is judged in its own snapshot, and
        what is served stems from the last. Raises what the retriever within raises, and StoreError when a ticket cannot
        be opened."""
        first, *wider = self._searches(query)
        attempt = await self._attempt(query, first)
        withheld = {dropped.chunk_id: dropped for dropped in attempt.verdict.dropped}
        timings = Counter(attempt.retrieval.timings)
        waited = attempt.retrieval.freshness.waited_seconds
        for search in wider:
            if attempt.suffices:
                break
            attempt = await self._attempt(query, replace(search, wait_seconds=max(0.0, query.wait_seconds - waited)))
            withheld = {dropped.chunk_id: dropped for dropped in attempt.verdict.dropped} | withheld
            timings.update(attempt.retrieval.timings)
            waited += attempt.retrieval.freshness.waited_seconds
        summed = {name: round(milliseconds, 3) for name, milliseconds in timings.items()}
        served = {hit.chunk_id for hit in attempt.hits}  # one of them may have been off contract a moment ago
        dropped = [each for each in withheld.values() if each.chunk_id not in served]
        verdict = replace(attempt.verdict, dropped=tuple(dropped[:MOST_DROPPED]))
        if verdict.outcome is Outcome.ESCALATED:
            verdict = replace(verdict, escalation=await self._tickets.open(query, attempt.retrieval, verdict))
        freshness = replace(attempt.retrieval.freshness, waited_seconds=waited)
        return replace(attempt.retrieval, hits=attempt.hits, verdict=verdict, timings=summed, freshness=freshness)

    def _searches(self, query: Query) -> Iterator[Query]:
        """What to ask, one after the other as long as too little is within the contract."""
        if not 1 <= query.top_k <= MOST_HITS:
            yield query  # for the retriever to refuse
            return
        depth = self._contract.depth(query.top_k)
        if self._contract.on_violation is not OnViolation.DROP:
            yield replace(query, top_k=depth)
            return
        first = depth if self._share > 0.99 else max(depth, min(MANY, ceil(depth / max(self._share, 0.01) * SPARE)))
        yield replace(query, top_k=first)
        if first < MANY:
            yield replace(query, top_k=MANY)
        # The store can look for the wanted types by itself, however rare they are.
        filters = {**self._contract.document_types, **query.filters}
        if len(filters) > len(query.filters):
            yield replace(query, top_k=max(MANY, first), filters=filters)
        if first < MOST_HITS:
            yield replace(query, top_k=MOST_HITS, filters=filters)

    async def _attempt(self, query: Query, search: Query) -> _Attempt:
        retrieval = await self._within.retrieve(search)
        started = time.perf_counter()
        if retrieval.searched_at is None:
            raise ValueError(f"Retrieval {retrieval.retrieval_id} has no time at which its hits could be judged.")
        judged = judge_hits(retrieval.hits, self._contract, retrieval.searched_at)
        if judged:
            within = sum(not each.violations for each in judged) / len(judged)
            self._share = REMEMBERED * self._share + (1 - REMEMBERED) * within
        hits, verdict = decide(judged, self._contract, self._name, retrieval.lag_seconds, query.top_k)
        is_all = len(retrieval.hits) < search.top_k
        suffices = is_all or not is_short(judged, self._contract, query.top_k)
        timings = {**retrieval.timings, "contract_ms": round((time.perf_counter() - started) * 1000, 3)}
        return _Attempt(replace(retrieval, timings=timings), hits, verdict, suffices)
