"""Whether an answer keeps what is promised, judged against the history of its source.

`watermark` is the answer's own, read in its snapshot. `captured` is how far the log had been written before the
search began, if the store has not ended since. For each hit:

    unknown     its version was never committed
    text        its text is not that version's text from `start` to `end`
    stale       that version was surely replaced, or deleted, by the watermark
    gone        its document was surely deleted by what was captured, and has not come back since
    current     its key, title or metadata are none that the document had at what was captured, or later
    tenant      nobody of the tenant that asked could see the document at what was captured, or later
    half        two hits of one document are of two versions

and of the whole answer:

    missing     a text that surely is searchable was asked for by a word of its own and not found
    fresh       something that was surely committed before the answer's `data_timestamp` lies behind its watermark
    unmet       the answer says that it holds a write which lies behind its own watermark
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.chaos.history import History, Revision

NOTHING = -1
CLOCKS_DIFFER_SECONDS = 0.5
RECENT_COMMITS = 1000


@dataclass(frozen=True, slots=True)
class Wanted:
    """A revision that the search was for, by a word that stands in it alone. `at_least`: the answer had to hold it."""

    revision: Revision
    word: str
    at_least: int | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """One retrieval as it was given. Marks lie on the source's axis; `set_aside` names documents in quarantine, which
    keep what they said before."""

    hits: Sequence[Mapping[str, Any]]
    watermark: int
    captured: int
    tenant: str | None
    set_aside: frozenset[str]
    wanted: Wanted | None = None
    is_numbered: bool = True
    current_at: float | None = None


def wrong_with(answer: Answer, history: History) -> Iterator[str]:
    """What is wrong with an answer, in words; nothing if all is right."""
    meant: dict[str, set[int]] = {}
    for hit in answer.hits:
        document_id = hit["document_id"]
        candidates = _candidates(hit, history, is_numbered=answer.is_numbered)
        if not candidates:
            known = [revision.number for revision in history.under.get(document_id, ())][-5:]
            kind = "text" if answer.is_numbered and int(hit["document_version"]) in history.numbered else "unknown"
            yield f"{kind}: {_named(hit)}; the document's last versions are {known}"
            continue
        if document_id in answer.set_aside:
            continue
        faults = {each.number: list(_wrong_with_hit(hit, each, answer)) for each in candidates}
        if all(faults.values()):
            yield from faults[candidates[-1].number]
            continue
        numbers = {number for number, found in faults.items() if not found}
        meant[document_id] = meant.get(document_id, numbers) & numbers
    yield from (
        f"half: hits of {document_id} are of no one version" for document_id, all_of in meant.items() if not all_of
    )
    yield from _missing(answer)
    if answer.current_at is not None and (by := too_fresh_by(answer.current_at, answer.watermark, history)):
        yield f"fresh: says that it is current as of {by:.1f} s after a commit that lies behind its watermark"


def too_fresh_by(current_at: float, watermark: int, history: History) -> float:
    """How many seconds before `current_at` something was committed that surely lies behind the watermark; 0 if nothing
    was."""
    latest = current_at - CLOCKS_DIFFER_SECONDS
    left_out = [c.at for c in history.commits[-RECENT_COMMITS:] if c.before > watermark and 0 < c.at < latest]
    return current_at - min(left_out, default=current_at)


def _candidates(hit: Mapping[str, Any], history: History, *, is_numbered: bool) -> list[Revision]:
    """The revisions that may be meant: one where the version says which, else all that say this at this place."""
    if is_numbered:
        found = [history.numbered.get(int(hit["document_version"]))]
    else:
        found = [*history.under.get(hit["document_id"], ())]
    return [r for r in found if r is not None and r.content[hit["start"] : hit["end"]] == hit["text"]]


def _wrong_with_hit(hit: Mapping[str, Any], revision: Revision, answer: Answer) -> Iterator[str]:
    if revision.is_over_by(answer.watermark):
        assert revision.ended is not None
        yield f"stale: {_named(hit)} ended at {revision.ended.after}, the watermark is {answer.watermark}"
    current = [each for each in revision.onwards() if not each.is_over_by(answer.captured)]
    if not current:
        yield f"gone: {_named(hit)} was deleted by {answer.captured}"
        return
    if hit["document_id"] not in {each.key for each in current}:
        yield f"current: {_named(hit)} has the key {current[0].key} by {answer.captured}"
    # A file's title is read from its text.
    if answer.is_numbered and (hit["title"], hit["metadata"].get("category", "")) not in {
        (each.title, each.category) for each in current
    }:
        yield f"current: {_named(hit)} has the title {current[0].title!r} by {answer.captured}, not {hit['title']!r}"
    if not any(each.tenant in (None, answer.tenant) for each in current):
        yield f"tenant: {_named(hit)} is of {current[0].tenant}, {answer.tenant} asked"


def _missing(answer: Answer) -> Iterator[str]:
    wanted = answer.wanted
    if wanted is None:
        return
    if wanted.at_least is not None and answer.watermark < wanted.at_least:
        yield f"unmet: asked for {wanted.at_least}, watermark {answer.watermark}"
    revision = wanted.revision
    holds = (
        revision.born.surely_by(answer.watermark) and revision.ended is None and revision.key not in answer.set_aside
    )
    if not holds or revision.tenant not in (None, answer.tenant):
        return
    if not any(wanted.word in hit["text"] for hit in answer.hits):
        yield f"missing: {wanted.word} of {revision.key}, version {revision.number}, watermark {answer.watermark}"


def _named(hit: Mapping[str, Any]) -> str:
    return f"{hit['document_id']}, version {hit['document_version']}, chunk {hit['chunk_index']} ({hit['chunk_id']})"


def by_kind(wrongs: Sequence[str]) -> dict[str, int]:
    counts: dict[str, int] = defaultdict(int)
    for wrong in wrongs:
        counts[wrong.partition(":")[0]] += 1
    return dict(counts)
