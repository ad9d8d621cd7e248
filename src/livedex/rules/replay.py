"""What a retrieval saw, against what the same query sees now: each difference with its reason. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Became(StrEnum):
    """What became of a hit, or why it is new.

    same: the same text at the same rank. moved: the same text at another rank. changed: the document has a newer
    version, which says something else there. deleted, expired, purged: the document is gone. forbidden: whoever asked
    may not see it any more. filtered: its metadata no longer match the filters. withheld: it is off contract now.
    quarantined: its newest version could not be processed. outranked: it is still there, others are better. unknown:
    without the query it cannot be told.
    new_document: it was captured after the retrieval. new_version: its present version was. ranked: it was there
    already, and is among the best now, or was off contract then.
    """

    SAME = "same"
    MOVED = "moved"
    CHANGED = "changed"
    DELETED = "deleted"
    EXPIRED = "expired"
    PURGED = "purged"
    FORBIDDEN = "forbidden"
    FILTERED = "filtered"
    WITHHELD = "withheld"
    QUARANTINED = "quarantined"
    OUTRANKED = "outranked"
    UNKNOWN = "unknown"
    NEW_DOCUMENT = "new_document"
    NEW_VERSION = "new_version"
    RANKED = "ranked"


@dataclass(frozen=True, slots=True)
class Shown:
    """A hit, then or now. `document` is livedex's own number, None when the document has been purged; `text_hash` None
    where it is not known."""

    rank: int
    document: int | None
    document_id: str | None
    version: str
    chunk_index: int | None
    text_hash: bytes | None
    score: float
    withheld: bool = False


@dataclass(frozen=True, slots=True)
class Standing:
    """A document as it is now, to whoever asked then. `version` is the log's newest, `applied_version` the searchable
    one. Times are of the newest version: its commit, its capture, and when the applied one became searchable."""

    document: int
    document_id: str
    version: str
    deleted: bool
    expired: bool
    allowed: bool
    filtered_in: bool
    committed_at: datetime | None
    captured_at: datetime
    first_captured_at: datetime | None
    applied_version: str | None
    applied_committed_at: datetime | None
    searchable_at: datetime | None
    quarantined: str | None


@dataclass(frozen=True, slots=True)
class Difference:
    """One hit of then, of now, or of both. `at` is when that happened which `became` says, as far as it is known:
    committed in the source, else captured; `searchable_at` when a newer version became searchable."""

    became: Became
    document_id: str | None
    then_rank: int | None
    now_rank: int | None
    then_score: float | None
    now_score: float | None
    then_version: str | None
    now_version: str | None
    at: datetime | None
    searchable_at: datetime | None
    explanation: str


@dataclass(frozen=True, slots=True)
class Setting:
    """What a retrieval ran on."""

    generation: int
    model: str | None
    contract: str | None


def compare(
    then: Sequence[Shown], now: Sequence[Shown] | None, standing: Mapping[int, Standing], asked_at: datetime
) -> tuple[Difference, ...]:
    """Every hit of then in its order, what came of it; then what is new. `now` is None where the query could not be
    asked again. What a contract withheld then is none of its hits."""
    pairs = _pairs(then, now or ())
    withheld = {shown.document for shown in now or () if shown.withheld}
    seen = [
        _became(shown, pairs.get(shown.rank), standing.get(shown.document or 0), now is not None, withheld)
        for shown in then
        if not shown.withheld
    ]
    taken = {shown.rank for shown in pairs.values()}
    held_back = {shown.document for shown in then if shown.withheld}
    fresh = [_fresh(shown, standing.get(shown.document or 0), asked_at, held_back) for shown in now or ()
             if not shown.withheld and shown.rank not in taken]  # fmt: skip
    return (*seen, *fresh)


def settings_changed(then: Setting, now: Setting | None) -> tuple[str, ...]:
    """What else is not as it was, in words."""
    if now is None:
        return ()
    changes = []
    if then.model is not None and then.model != now.model:
        changes.append(f"The view is embedded with {now.model} now; it was {then.model}. Scores do not compare.")
    if then.generation != now.generation:
        changes.append(f"Generation {now.generation} answers now; it was {then.generation}.")
    if then.contract != now.contract:
        changes.append(f"The contract is {now.contract or 'none'} now; it was {then.contract or 'none'}.")
    return tuple(changes)


def _pairs(then: Sequence[Shown], now: Sequence[Shown]) -> dict[int, Shown]:
    """Hits of now by the rank of the hit of then that they continue: the same text of the same document, else the same
    place in it."""
    found: dict[int, Shown] = {}
    free = [shown for shown in now if not shown.withheld]
    # Equal texts first: another place must not take them.
    for is_same in (_is_same_text, _is_same_place):
        for shown in then:
            if shown.withheld or shown.document is None or shown.rank in found:
                continue
            match = next((other for other in free if is_same(shown, other)), None)
            if match is not None:
                found[shown.rank] = match
                free.remove(match)
    return found


def _is_same_text(one: Shown, other: Shown) -> bool:
    return one.document == other.document and one.text_hash is not None and one.text_hash == other.text_hash


def _is_same_place(one: Shown, other: Shown) -> bool:
    return one.document == other.document and one.chunk_index == other.chunk_index


def _became(
    then: Shown, now: Shown | None, standing: Standing | None, asked_again: bool, withheld: set[int | None]
) -> Difference:
    if now is not None and _is_same_text(then, now):
        became = Became.SAME if then.rank == now.rank else Became.MOVED
        moved = f"It was {_nth(then.rank)}, it is {_nth(now.rank)}."
        return _difference(became, then, now, standing, "Nothing changed." if became is Became.SAME else moved)
    if standing is None:
        return _difference(Became.PURGED, then, None, None, "The document has been purged; nothing of it is left.")
    if now is not None:
        return _newer(then, now, standing)
    for became, is_so, explanation in (
        (Became.EXPIRED, standing.expired, "The document's time to live was over."),
        (Became.DELETED, standing.deleted, "The document was deleted at its source."),
        (Became.FORBIDDEN, not standing.allowed, "Whoever asked may not see the document any more."),
        (Became.FILTERED, not standing.filtered_in, "Its metadata no longer match what was filtered by."),
        (Became.WITHHELD, then.document in withheld, "It is withheld under the view's contract now."),
        (Became.QUARANTINED, standing.quarantined is not None, f"Not processed: {standing.quarantined}"),
    ):
        if is_so:
            return _difference(became, then, None, standing, explanation)
    if then.version not in (standing.version, standing.applied_version):
        return _newer(then, None, standing)
    if not asked_again:
        return _difference(Became.UNKNOWN, then, None, standing, "The document is as it was; the query was not kept.")
    return _difference(Became.OUTRANKED, then, None, standing, "It is there as it was; other hits are better now.")


def _newer(then: Shown, now: Shown | None, standing: Standing) -> Difference:
    if standing.searchable_at is None and standing.applied_version != standing.version:
        explanation = "The document has a newer version, which is not searchable yet."
    elif now is None:
        explanation = "The document has a newer version, of which no part is among the best hits in its place."
    else:
        explanation = "The document has a newer version, which says something else here."
    return _difference(Became.CHANGED, then, now, standing, explanation)


def _fresh(now: Shown, standing: Standing | None, asked_at: datetime, held_back: set[int | None]) -> Difference:
    if standing is None:
        return _difference(Became.RANKED, None, now, None, "It was not among the best hits then.")
    if standing.first_captured_at is not None and standing.first_captured_at > asked_at:
        return _difference(Became.NEW_DOCUMENT, None, now, standing, "The document came after the retrieval.")
    if standing.captured_at > asked_at:
        return _difference(Became.NEW_VERSION, None, now, standing, "This version came after the retrieval.")
    if now.document in held_back:
        return _difference(Became.RANKED, None, now, standing, "It was withheld under the view's contract then.")
    return _difference(Became.RANKED, None, now, standing, "It was there, and not among the best hits then.")


_HAPPENED = {Became.CHANGED, Became.DELETED, Became.EXPIRED, Became.NEW_DOCUMENT, Became.NEW_VERSION}
_SEARCHABLE = {Became.CHANGED, Became.NEW_DOCUMENT, Became.NEW_VERSION}


def _difference(
    became: Became, then: Shown | None, now: Shown | None, standing: Standing | None, explanation: str
) -> Difference:
    known = standing.document_id if standing is not None else None if then is None else then.document_id
    at = None
    if standing is not None and became in _HAPPENED:
        at = standing.committed_at or standing.captured_at
    return Difference(
        became=became,
        document_id=known or (None if now is None else now.document_id),
        then_rank=None if then is None else then.rank,
        now_rank=None if now is None else now.rank,
        then_score=None if then is None else then.score,
        now_score=None if now is None else now.score,
        then_version=None if then is None else then.version,
        now_version=None if now is None else now.version,
        at=at,
        searchable_at=standing.searchable_at if standing is not None and became in _SEARCHABLE else None,
        explanation=explanation,
    )


def _nth(rank: int) -> str:
    return f"no. {rank}"
