"""Documents that are read and not made searchable yet, or by words alone: what becomes of them in a batch, and which
positions may be claimed in spite of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

from livedex.errors import BudgetSpent
from livedex.flow.embed import Embedded
from livedex.model import Generation
from livedex.rules.budget import goes_on_at
from livedex.rules.deferral import Checkpoints, Deferral, Hold, Limits, Reason
from livedex.rules.diff import Plan
from livedex.store.chunk_rows import Applied, Batch, LogDocument, Outcome, Position
from livedex.store.chunks import Shard


@dataclass(slots=True)
class Deferring:
    """What a shard remembers of its waiting documents between batches. `more`: others may go on at once. `unsaid`: that
    the budget is spent has to be written down again, since the last batch took it away. `said`: what was reported."""

    view: str
    limits: Limits
    checkpoints: Checkpoints[Position] = field(default_factory=Checkpoints)
    more: bool = False
    spent: BudgetSpent | None = None
    unsaid: bool = True
    said: str = ""

    def claimed(self, batch: Batch, outcomes: Sequence[Outcome]) -> Batch:
        """The batch with the positions before which nothing waits; it has none but at the end of the log."""
        if batch.deferral is None:
            return batch
        self._judge(batch.deferral, outcomes)
        if not batch.at_end:
            return batch
        oldest = dict(batch.deferral.oldest)
        for outcome in outcomes:
            if outcome.hold is not None and outcome.hold.reason.holds_watermark:
                seq, source_id = outcome.source.document.seq, outcome.source.source_id
                oldest[source_id] = min(seq, oldest.get(source_id, seq))
        return replace(batch, positions=self.checkpoints.claim(batch.end, batch.positions, oldest))

    def _judge(self, deferral: Deferral, outcomes: Sequence[Outcome]) -> None:
        budget = self.limits.budget
        waits = deferral.held or any(o.hold is not None and o.hold.reason is Reason.BUDGET for o in outcomes)
        if budget is None or self.limits.lexical_only or not waits:
            self.spent = None
            return
        until = goes_on_at(deferral.now)
        self.spent = BudgetSpent(
            f"{_spent_by(self.view)} {budget.tokens_per_day} tokens of today, and new texts wait. It goes "
            f"on at {until:%Y-%m-%d %H:%M} UTC, or after a restart with a larger budget.tokens_per_day. Deletes and "
            "changes of metadata take effect all the same."
        )

    def to_say(self) -> BudgetSpent | None:
        """What has to be written down now, if anything."""
        if self.spent is None or not self.unsaid:
            return None
        self.unsaid = False
        return self.spent


def _spent_by(view: str) -> str:
    return f"View {view} has embedded its"


async def deferring(shard: Shard, generation: Generation, limits: Limits) -> Deferring | None:
    """For a shard that defers documents, or has deferred some before its limits were lifted; None for any other."""
    ages = [limits.max_ages.get(source_id) for source_id in generation.source_ids]
    waiting = await shard.any_deferred(ages, _spent_by(generation.view))
    return Deferring(generation.view, limits) if waiting or limits.any else None


def unchanged(row: LogDocument, applied: Applied | None, deferral: Deferral | None, limits: Limits) -> Outcome | None:
    """Of a document whose text is searchable as it is: nothing to do. One that is found by words alone stays so until
    there is budget."""
    if applied is None or applied.content_hash != row.content_hash:
        return None
    if applied.lexical_only and limits.left(deferral) != 0:
        return None
    return Outcome(row, Plan(kept=applied.chunks), applied.chunks, is_new=False, lexical_only=applied.lexical_only)


def held(row: LogDocument, applied: Applied | None, deferral: Deferral | None, limits: Limits) -> Hold | None:
    """Why a document has to wait before it is even cut."""
    if deferral is None:
        return None
    if limits.is_expired(row.source_id, row.dated, deferral.now):
        return Hold(Reason.EXPIRED)
    if applied is None or row.quarantined or not applied.content_hash:
        return None  # nothing of it is searchable, or nothing that can be relied on: nobody is editing it
    return limits.postponed(row.document.captured_at, row.content_hash, deferral, row.document.document)


def unaffordable(outcome: Outcome, texts: Collection[bytes], limits: Limits) -> Outcome:
    """A document with texts for which there is no budget: it waits, or is found by words until there is."""
    if not outcome.is_done or not any(wanted.text_hash in texts for wanted in outcome.plan.insert):
        return outcome
    if limits.lexical_only:
        return replace(outcome, lexical_only=True)
    return Outcome(outcome.source, Plan(), 0, outcome.is_new, hold=Hold(Reason.BUDGET))


async def keep_made(planned: Sequence[Outcome], outcomes: Sequence[Outcome], embedded: Embedded, shard: Shard) -> None:
    """Let the vectors rest that were made for documents which wait now, so that they are not made again."""
    applied = {wanted.text_hash for outcome in outcomes for wanted in outcome.plan.insert}
    waiting = {wanted.text_hash for outcome in planned for wanted in outcome.plan.insert} - applied
    made = {text_hash: embedded.vectors[text_hash] for text_hash in waiting & embedded.vectors.keys()}
    if made:
        await shard.rest(made)
    embedded.rested = [text_hash for text_hash in embedded.rested if text_hash not in waiting]
