"""A recorded retrieval, asked again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from livedex.errors import EmbedderError, NotFound, QueryError
from livedex.model import Generation, Outcome, Query, Retrieval, Verdict
from livedex.retrieve import Retrieves
from livedex.rules.replay import Difference, Setting, Shown, Standing, compare, settings_changed
from livedex.store.answers import Records, SeenHit, SeenRetrieval, chunk_number, query_of


@dataclass(frozen=True, slots=True)
class Replay:
    """What was seen, and what is seen now by the same query on the same behalf; `now` is None where that could not be
    asked, and `why_not` says why. `changes` are what else is not as it was."""

    then: SeenRetrieval
    now: Retrieval | None
    why_not: str | None
    changes: tuple[str, ...]
    differences: tuple[Difference, ...]


class NoTickets:
    """For a question that nobody asks: a replay opens no ticket."""

    async def open(self, query: Query, retrieval: Retrieval, verdict: Verdict) -> None:
        """Nothing happens."""


async def replay(
    seen: SeenRetrieval,
    records: Records,
    retriever: Callable[[str], Awaitable[Retrieves]],
    active: Callable[[str], Awaitable[Generation | None]],
    hash_key: bytes,
) -> Replay:
    """Ask again, with `retriever`, which must record nothing, and explain what differs. Raises StoreError."""
    query, now, why_not = query_of(seen), None, None
    if query is None:
        why_not = (
            "The query was not kept: texts are not recorded (record.text), or a document that it found was purged. "
            "What is known of the documents is told all the same."
        )
    else:
        try:
            now = await (await retriever(seen.view)).retrieve(query)
        except (NotFound, QueryError, EmbedderError) as error:
            why_not = f"It cannot be asked again: {error}"
    generation = await active(seen.view)
    then = [_then(hit) for hit in seen.hits]
    if generation is None:
        return Replay(seen, now, why_not, (), compare(then, None, {}, seen.at))
    shown = None if now is None else await _now(now, records, generation, hash_key)
    documents = sorted({hit.document for hit in [*then, *(shown or ())] if hit.document is not None})
    rows = await records.standing(generation, documents, seen)
    standing = {row["document"]: Standing(**row) for row in rows}
    setting = None if now is None else _setting(now, generation)
    changes = settings_changed(Setting(seen.generation, seen.model, seen.contract), setting)
    return Replay(seen, now, why_not, (*changes, *_kept_back(now)), compare(then, shown, standing, seen.at))


def _then(hit: SeenHit) -> Shown:
    return Shown(
        hit.rank, hit.document, hit.document_id, hit.version, hit.chunk_index, hit.text_hash, hit.score, hit.withheld
    )


async def _now(now: Retrieval, records: Records, generation: Generation, hash_key: bytes) -> Sequence[Shown]:
    dropped = () if now.verdict is None else now.verdict.dropped
    ids = [*(hit.chunk_id for hit in now.hits), *(each.chunk_id for each in dropped)]
    numbers = {chunk_id: chunk_number(chunk_id) for chunk_id in ids}
    documents = await records.documents_of(generation, list(numbers.values()))
    shown = [
        Shown(
            rank,
            documents.get(numbers[hit.chunk_id]),
            hit.document_id,
            hit.document_version,
            hit.chunk_index,
            blake2b(hit.text.encode("utf-8", "surrogatepass"), digest_size=16, key=hash_key).digest(),
            hit.score,
        )
        for rank, hit in enumerate(now.hits, 1)
    ]
    for rank, each in enumerate(dropped, len(shown) + 1):
        document = documents.get(numbers[each.chunk_id])
        shown.append(
            Shown(rank, document, each.document_id, each.document_version, None, None, each.score, withheld=True)
        )
    return shown


def _kept_back(now: Retrieval | None) -> list[str]:
    if now is None or now.verdict is None or now.verdict.outcome is Outcome.ANSWERED:
        return []
    reasons = "; ".join(f"{violation.clause}: {violation.reason}" for violation in now.verdict.violations)
    return [f"Nothing is served now, because the contract is not kept ({reasons})."]


def _setting(now: Retrieval, generation: Generation) -> Setting:
    contract = None if now.verdict is None else now.verdict.contract
    return Setting(now.generation, generation.recipe.model.name, contract)
