"""Which documents a shard reads and does not make searchable yet, or not by vectors, and up to where everything is
searchable in spite of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Generic, Protocol, Self, TypeVar

from livedex.rules.budget import Budget, WhenSpent, share
from livedex.rules.debounce import Debounce, Waiting, due

MOST_CHECKPOINTS = 512


class Reason(StrEnum):
    """DEBOUNCE: not quiet yet. BUDGET: nothing may be embedded. EXPIRED: too old to be shown. WORDS: searchable, but by
    words alone."""

    DEBOUNCE = "debounce"
    BUDGET = "budget"
    EXPIRED = "expired"
    WORDS = "words"

    @property
    def holds_watermark(self) -> bool:
        """Whether something is missing that a search should find."""
        return self in (Reason.DEBOUNCE, Reason.BUDGET)


@dataclass(frozen=True, slots=True)
class Hold:
    """Why a document waits, and until when where that is a matter of time."""

    reason: Reason
    due: datetime | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """A document that waits already. `since_seq` is the first version that does, captured at `since`."""

    reason: Reason
    since_seq: int
    since: datetime
    due: datetime | None
    content_hash: bytes

    @property
    def waiting(self) -> Waiting | None:
        """As the debounce sees it."""
        return None if self.due is None else Waiting(self.since, self.due, self.content_hash)


@dataclass(frozen=True, slots=True)
class Deferral:
    """How a shard's waiting documents stand, as read in one snapshot. `now` is the store's time, `spent` what the view
    has embedded today, in tokens. `held`: some documents wait for the budget. `oldest` is, per source, the first
    version that is not searchable; `standing` has those of the batch's documents that wait."""

    now: datetime
    spent: int = 0
    held: bool = False
    oldest: Mapping[int, int] = field(default_factory=dict)
    standing: Mapping[int, Standing] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a view defers. `max_ages` has the age beyond which it shows no document, by source. Its `shards` share a
    budget."""

    debounce: Debounce | None = None
    budget: Budget | None = None
    max_ages: Mapping[int, timedelta] = field(default_factory=dict)
    shards: int = 1

    @property
    def any(self) -> bool:
        return bool(self.debounce or self.budget or self.max_ages)

    def with_ages(self, source_ids: Sequence[int], max_ages: Sequence[timedelta | None]) -> Self:
        ages = {source_id: age for source_id, age in zip(source_ids, max_ages, strict=True) if age is not None}
        return replace(self, max_ages=ages)

    def lag_seconds(self, target: timedelta) -> float:
        """How late a change may be: the target lag, after which a debounced one only begins to be late."""
        return (target + (self.debounce.quiet if self.debounce else timedelta())).total_seconds()

    @property
    def lexical_only(self) -> bool:
        """What is done without a budget: texts are found by words."""
        return self.budget is not None and self.budget.when_spent is WhenSpent.LEXICAL_ONLY

    def left(self, deferral: Deferral | None) -> int | None:
        """Tokens that a shard may still embed today; None is no bound."""
        if self.budget is None or deferral is None:
            return None
        return share(max(0, self.budget.tokens_per_day - deferral.spent), self.shards)

    def due_reasons(self, deferral: Deferral) -> list[Reason]:
        """Which kinds of waiting documents can go on now, whenever they began to wait."""
        funded = self.left(deferral) != 0
        reasons = [Reason.WORDS] if funded else []
        return [*reasons, Reason.BUDGET] if funded or self.lexical_only else reasons

    def is_expired(self, source_id: int, dated: datetime | None, now: datetime) -> bool:
        """Whether a document of this date is too old. One without any never is."""
        oldest = self.max_ages.get(source_id)
        return oldest is not None and dated is not None and dated < now - oldest

    def postponed(self, edited_at: datetime, content_hash: bytes, deferral: Deferral, document: int) -> Hold | None:
        """The wait of a searchable document whose text changed, if it has to wait."""
        if self.debounce is None:
            return None
        standing = deferral.standing.get(document)
        until = due(self.debounce, edited_at, content_hash, None if standing is None else standing.waiting)
        return Hold(Reason.DEBOUNCE, until) if until > deferral.now else None


class Mark(Protocol):
    """Where a source partition stood."""

    @property
    def source_id(self) -> int: ...
    @property
    def partition(self) -> str: ...
    @property
    def position(self) -> str | None: ...
    @property
    def position_serial(self) -> int: ...
    @property
    def epoch(self) -> int: ...


_Mark = TypeVar("_Mark", bound=Mark)


class Checkpoints(Generic[_Mark]):
    """Positions that a shard came by at the end of the log, until everything before them is searchable.

    A position that was stored when the log ended at `seq` may be claimed once no version up to there waits. Kept in
    memory: after a restart the watermark stays where it is until the next ones may be claimed.
    """

    def __init__(self) -> None:
        self._passed: dict[tuple[int, str], deque[tuple[int, _Mark]]] = {}

    def claim(self, end: int, marks: Sequence[_Mark], oldest: Mapping[int, int]) -> tuple[_Mark, ...]:
        """Note where partitions stand at the end of the log; per partition, the newest that may be claimed, if any.
        `oldest` is the first waiting version of each source that has one."""
        claimed = [self._claim(end, mark, oldest.get(mark.source_id)) for mark in marks]
        return tuple(mark for mark in claimed if mark is not None)

    def _claim(self, end: int, mark: _Mark, oldest: int | None) -> _Mark | None:
        passed = self._passed.setdefault((mark.source_id, mark.partition), deque())
        if mark.position is None or (passed and passed[-1][1].epoch != mark.epoch):
            passed.clear()  # read anew: what stood before is no statement about the source any more
        if not passed or passed[-1][1].position_serial != mark.position_serial:
            passed.append((end, mark))
        if len(passed) > MOST_CHECKPOINTS:
            thinned = [*list(passed)[:-1:2], passed[-1]]
            passed.clear()
            passed.extend(thinned)
        while len(passed) > 1 and (oldest is None or passed[1][0] < oldest):
            passed.popleft()
        first_end, first = passed[0]
        return first if oldest is None or first_end < oldest else None
