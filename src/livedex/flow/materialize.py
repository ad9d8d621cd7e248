"""The log → one shard of a generation."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import zip_longest

from livedex.clock import Backoff, Clock
from livedex.errors import DocumentError
from livedex.faults import Faults
from livedex.flow.cut import Cutter
from livedex.flow.defer import Deferring, held, keep_made, unaffordable, unchanged
from livedex.flow.embed import Embedded, embed_missing
from livedex.model import Chunk
from livedex.ports import Embedder
from livedex.rules.deferral import Limits
from livedex.rules.diff import Plan, Wanted, plan
from livedex.store.chunk_rows import Batch, LogDocument, Outcome, Spent
from livedex.store.chunks import Shard
from livedex.store.lexicon import Lexicon

READ_BYTES = 16 * 2**20
INLINE_BYTES = 32 * 2**10
"""Less content than this is cut on the event loop; handing it to a thread would take longer."""
BATCH_SECONDS = 2.0
MOST_DOCUMENTS = 1000
LEAST_DOCUMENTS = 16


@dataclass(frozen=True, slots=True)
class Parts:
    """What a generation is made with."""

    cutter: Cutter
    embedder: Embedder
    lexicon: Lexicon
    hash_key: bytes
    clock: Clock
    faults: Faults
    backoff: Backoff = Backoff()
    limits: Limits = field(default_factory=Limits)


@dataclass(slots=True)
class Pace:
    """How much goes into one batch: one change at once, a backlog in batches of about two seconds."""

    most_texts: int = 2048
    texts: int = 512
    documents: int = MOST_DOCUMENTS

    def learn(self, batch: Batch, read: int, made: int, seconds: float) -> None:
        """Adapt to how long the last batch took, and to how many of the documents read it had room for."""
        if seconds > BATCH_SECONDS:
            self.texts = max(16, min(self.texts, made) // 2)
        elif seconds < BATCH_SECONDS / 2:
            self.texts = min(self.most_texts, self.texts * 2)
        used = len(batch.documents)
        if used < read:
            self.documents = max(LEAST_DOCUMENTS, 2 * used)
        elif batch.at_end:
            self.documents = MOST_DOCUMENTS


@dataclass(slots=True)
class Follower:
    """A shard's place in the log, kept between calls."""

    cursor: int
    pace: Pace = field(default_factory=Pace)
    serials: dict[tuple[int, str], int] = field(default_factory=dict)
    deferral: Deferring | None = None


async def materialize(shard: Shard, follower: Follower, parts: Parts) -> None:
    """Bring a shard up to the end of the log, one batch a transaction.

    Safe to kill at any point: a batch is applied with its cursor or not at all, and until then its documents' old
    chunks are served. Vectors that a long batch has made are kept aside, so that they are not made again.
    """
    while True:
        if follower.deferral is not None:
            await _resume(shard, follower, parts, follower.deferral)
        started = parts.clock.monotonic()
        deferring = follower.deferral is not None
        batch = await shard.read(
            follower.cursor, limit=follower.pace.documents, max_bytes=READ_BYTES, deferring=deferring
        )
        await parts.faults.reach("materialize.read")
        if not batch.documents:
            batch = _claimed(batch, (), follower)
        if batch.documents or _has_news(batch, follower):
            batch = await _process(batch, shard, follower, parts, started)
        elif batch.end != batch.after:
            follower.cursor = await _skip(shard, batch)
        done = batch.at_end or not batch.documents
        if done and (follower.deferral is None or not follower.deferral.more):
            return


async def _resume(shard: Shard, follower: Follower, parts: Parts, deferral: Deferring) -> None:
    """One batch of the documents whose wait is over. The log goes on in between, so that nobody waits for them."""
    started = parts.clock.monotonic()
    limit = follower.pace.documents
    batch = await shard.read_due(follower.cursor, limit=limit, max_bytes=READ_BYTES, limits=parts.limits)
    if batch.documents:
        await _process(batch, shard, follower, parts, started)
    deferral.more = len(batch.documents) == limit


async def _process(batch: Batch, shard: Shard, follower: Follower, parts: Parts, started: float) -> Batch:
    """Make a batch searchable, or as much of its front as fits one transaction; what it was."""
    read = len(batch.documents)
    batch, outcomes, embedded = await _prepare(batch, shard, parts, follower.pace.texts)
    if outcomes:
        batch = _claimed(batch, outcomes, follower)
    await parts.faults.reach("materialize.embedded")
    await shard.apply(batch, outcomes, embedded.vectors, Spent(embedded.made, embedded.tokens), embedded.rested)
    if embedded.vectors or embedded.unaffordable:
        await shard.release_texts()
    follower.cursor = batch.end
    follower.serials = _serials(batch) or follower.serials
    follower.pace.learn(batch, read, embedded.made, parts.clock.monotonic() - started)
    if follower.deferral is not None:
        follower.deferral.unsaid = True
    return batch


def _claimed(batch: Batch, outcomes: Sequence[Outcome], follower: Follower) -> Batch:
    """With the positions up to which everything is searchable once the batch is applied."""
    return batch if follower.deferral is None else follower.deferral.claimed(batch, outcomes)


async def _skip(shard: Shard, batch: Batch) -> int:
    """Move the cursor over what concerns other shards."""
    await shard.apply(batch, (), {}, Spent(), ())
    return batch.end


def _has_news(batch: Batch, follower: Follower) -> bool:
    serials = _serials(batch)
    return bool(serials) and serials != follower.serials


def _serials(batch: Batch) -> dict[tuple[int, str], int]:
    return {(p.source_id, p.partition): p.position_serial for p in batch.positions}


async def _prepare(
    batch: Batch, shard: Shard, parts: Parts, most_texts: int
) -> tuple[Batch, Sequence[Outcome], Embedded]:
    """Cut, compare and embed as much of a batch as fits one transaction."""
    if not batch.documents:
        return batch, (), Embedded()
    if sum(row.content_bytes for row in batch.documents) < INLINE_BYTES:
        outcomes = _plan_affordable(batch, parts, most_texts)
    else:
        outcomes = await asyncio.to_thread(_plan_affordable, batch, parts, most_texts)
    batch = batch.first(len(outcomes))
    texts = {wanted.text_hash: wanted.chunk.embedded_text for o in outcomes for wanted in o.plan.insert}
    if not texts:
        return batch, outcomes, Embedded()
    left = parts.limits.left(batch.deferral)
    embedded = await embed_missing(texts, shard, parts.embedder, parts.clock, parts.backoff, left)
    if embedded.rejected:
        outcomes = [_refuse_rejected(outcome, embedded) for outcome in outcomes]
    if embedded.unaffordable:
        planned = outcomes
        outcomes = [unaffordable(outcome, embedded.unaffordable, parts.limits) for outcome in planned]
        await keep_made(planned, outcomes, embedded, shard)
    return batch, outcomes, embedded


def _plan_affordable(batch: Batch, parts: Parts, most_texts: int) -> list[Outcome]:
    """Plans for documents from the front of a batch, until they hold as many new texts as are embedded together: whole
    source transactions, at least one."""
    outcomes: list[Outcome] = []
    texts: set[bytes] = set()
    whole = 0
    for row, following in zip_longest(batch.documents, batch.documents[1:]):
        outcome = _plan_one(row, batch, parts)
        outcomes.append(outcome)
        texts.update(wanted.text_hash for wanted in outcome.plan.insert)
        if whole and len(texts) > most_texts:
            return outcomes[:whole]
        if following is None or following.commit_seq != row.commit_seq:
            whole = len(outcomes)
    return outcomes


def _plan_one(row: LogDocument, batch: Batch, parts: Parts) -> Outcome:
    applied, recorded = batch.applied.get(row.document.document), batch.recorded[row.document.document]
    is_new = applied is None
    if row.document.deleted:
        return Outcome(row, plan((), recorded), 0, is_new)
    if (settled := unchanged(row, applied, batch.deferral, parts.limits)) is not None:
        return settled
    if (hold := held(row, applied, batch.deferral, parts.limits)) is not None:
        return Outcome(row, Plan(), 0, is_new, hold=hold)
    try:
        chunks = parts.cutter.cut(row.document).chunks
    except DocumentError as error:
        return Outcome(row, Plan(), 0, is_new, refusal=("chunk", str(error)))
    except Exception as error:  # noqa: BLE001  # whatever a document does to a chunker, the others flow on
        return Outcome(row, Plan(), 0, is_new, refusal=("chunk", f"The chunker failed: {type(error).__name__}."))
    wanted = [_wanted(chunk, row.document.title, parts.hash_key) for chunk in chunks]
    again = applied is not None and applied.lexical_only and applied.version == row.document.version
    return Outcome(row, plan(wanted, recorded), len(chunks), is_new, again=again)


def _wanted(chunk: Chunk, title: str, key: bytes) -> Wanted:
    shown = text_hash(chunk.text, key)
    same = chunk.embedded_text is chunk.text or chunk.embedded_text == chunk.text
    embedded = shown if same else text_hash(chunk.embedded_text, key)
    above = "\0".join((title, *chunk.heading_path)).encode("utf-8", "surrogatepass")
    indexed = blake2b(embedded + above, digest_size=16, key=key).digest()
    return Wanted(chunk, embedded, shown, indexed)


def text_hash(text: str, key: bytes) -> bytes:
    """Keyed, 16 bytes: without the store's key it confirms no guess about a text that is gone."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16, key=key).digest()


def _refuse_rejected(outcome: Outcome, embedded: Embedded) -> Outcome:
    reasons = [embedded.rejected[w.text_hash] for w in outcome.plan.insert if w.text_hash in embedded.rejected]
    if not reasons:
        return outcome
    return Outcome(outcome.source, Plan(), 0, outcome.is_new, refusal=("embed", reasons[0]))
