"""A source against the log: what the stream never delivered, and what the log has and the source has not.

Ranges of keys are compared by digest first; only of those that differ is anything looked at key by key, and only of
keys that differ are rows read. `livedex.rules.audit` says when a difference counts.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from livedex.digests import RANGES, is_key, key_of, key_text
from livedex.errors import LivedexError
from livedex.flow.follow import Workshop
from livedex.ports import Auditable, Look, Source
from livedex.rules.audit import (
    MOST_EXAMPLES,
    Example,
    Finding,
    Held,
    Kind,
    Part,
    Suspects,
    confirmed,
    differing_ranges,
    judge,
)
from livedex.rules.brake import Losses, exceeded
from livedex.store.audit import Audits, LogAudit, example_of
from livedex.store.entries import SourceRow

SETTLE_SECONDS = 10.0
"""How long a look waits for transactions of the source that were under way."""
REACH_SECONDS = 60.0
REPAIR_SECONDS = 120.0
LOOK_SECONDS = 0.1
READ_AT_ONCE = 500
CHECKED_AT_ONCE = 20_000
PARTS = 8
"""Of a source with more documents, so many audits check each once for whether its own parts belong together."""
READY_SECONDS = 60.0
_COMING = ("new", "snapshot", "streaming")
_NOTHING: frozenset[str] = frozenset()
_NONE = Suspects(_NOTHING, _NOTHING, _NOTHING, _NOTHING)


@dataclass(slots=True)
class _Found:
    """Key texts by kind; of damaged documents, as examples too."""

    keys: dict[Kind, set[str]] = field(default_factory=dict)
    damaged: dict[str, Example] = field(default_factory=dict)
    documents: int = 0
    unjudged: int = 0
    source_bytes: int = 0
    content_bytes: int = 0

    @property
    def all(self) -> set[str]:
        return set().union(*self.keys.values())


class SourceAudit:
    """Of one source."""

    def __init__(self, shop: Workshop, row: SourceRow, source: Source, turn: int, *, deep: bool) -> None:
        """`turn` chooses what is checked in parts; the next audit has the next one."""
        self._shop = shop
        self._row = row
        self._source = source
        self._log = LogAudit(shop.database, row)
        self._deep = deep
        self._turn = turn

    async def run(self, audits: Audits, audit_id: int, *, repair: bool, approve_deletions: bool) -> Part:
        """Compare, and repair what differs by having capture read it again."""
        started = self._shop.clock.monotonic()
        part = Part("source", self._row.name)
        try:
            if not isinstance(self._source, Auditable):
                return replace(part, skipped="This kind of source cannot be compared.")
            if (reason := await self._ready()) is not None:
                return replace(part, skipped=reason)
            found = await self._compare(self._source)
            part = replace(part, compared=found.documents, unjudged=found.unjudged,
                           source_bytes=found.source_bytes, content_bytes=found.content_bytes)  # fmt: skip
            left, notes = found, dict[Kind, str]()
            if repair and found.all:
                left, notes = await self._repair(self._source, found, audits, audit_id, approve_deletions)
            part = replace(part, findings=self._findings(found, left, notes))
        except LivedexError as error:
            return replace(part, skipped=str(error))
        return replace(part, seconds=self._shop.clock.monotonic() - started)

    async def _ready(self) -> str | None:
        """Wait until the source is followed; why nothing can be said of it, if it is not in time."""
        clock = self._shop.clock
        deadline = clock.monotonic() + READY_SECONDS
        while (reason := await self._unable()) is not None and clock.monotonic() < deadline:
            states = await self._log.state()
            if any(state.error or state.state not in _COMING for state in states):
                break
            await clock.sleep(LOOK_SECONDS)
        return reason

    async def _unable(self) -> str | None:
        states = await self._log.state()
        if len(states) != 1:
            return "It is not captured yet." if not states else "Sources of several parts cannot be compared."
        state = states[0]
        if state.position is None:
            return state.error or "Its first snapshot is not complete."
        return None if state.state == "streaming" else (state.error or f"It is {state.state}.")

    async def _compare(self, source: Auditable) -> _Found:
        found = _Found()
        parts = 1 if self._deep or await self._log.documents() <= CHECKED_AT_ONCE else PARTS
        async for key, example in self._log.damaged(self._turn % parts, parts):
            found.damaged[key] = example
        differing: dict[str, tuple[Sequence[str], list[int]]] = {}
        async with source.look(patience_seconds=0.0) as look:
            for table in self._row.mapping:
                compared = await look.compare(table)
                ours = await self._log.ranges(table, compared.columns)
                found.documents += ours.documents
                found.content_bytes += ours.content_bytes
                ranges = list(range(RANGES)) if self._deep else differing_ranges(ours.ranges, compared.ranges)
                if ranges:
                    differing[table] = compared.columns, ranges
            await self._clear(look, found)
            found.source_bytes += look.received_bytes
        together = _NONE
        for table, (columns, ranges) in differing.items():
            together = _joined(together, await self._judge(source, table, columns, ranges, found))
        found.keys = {
            Kind.MISSING: set(together.missing),
            Kind.GHOST: set(together.ghosts),
            Kind.DIFFERENT: set(together.different),
        }
        found.keys[Kind.DAMAGED] = set(found.damaged) - found.all
        found.unjudged = len(together.moving)
        return found

    async def _clear(self, look: Look, found: _Found) -> None:
        """Keep the damaged documents that the row itself does not clear: some numbers come out of the log in another
        form than they went in."""
        for table in self._row.mapping:
            damaged = [key for key in found.damaged if is_key(key) and key_of(key)[0] == table]
            for keys in _batches(damaged):
                rows = await look.rows(table, keys)
                differing = await self._log.differing(rows)
                for key in {key_text(table, row.key) for row in rows} - differing:
                    found.damaged.pop(key, None)

    async def _judge(
        self, source: Auditable, table: str, columns: Sequence[str], ranges: Collection[int], found: _Found
    ) -> Suspects:
        """Two rounds of looks: a row that came and went, or a file in the middle of being written, misleads one."""
        first = await self._round(source, table, columns, ranges, found)
        if not (first.all or first.moving):
            return _NONE
        second = await self._round(source, table, columns, ranges, found)
        return confirmed(first, second)

    async def _round(
        self, source: Auditable, table: str, columns: Sequence[str], ranges: Collection[int], found: _Found
    ) -> Suspects:
        before = await self._log.keys(table, columns, ranges)
        async with source.look(patience_seconds=SETTLE_SECONDS) as look:
            theirs = await look.digests(table, ranges)
            came = look.settled and await self._reached(await look.position())
            after = await self._log.keys(table, columns, ranges)
            suspects = judge(before, theirs, after)
            if not came:
                suspects = Suspects(_NOTHING, _NOTHING, _NOTHING, suspects.all | suspects.moving)
            elif self._deep:
                suspects = suspects._replace(different=suspects.different | _standing(before, theirs, after))
            sure = await self._sure(look, table, suspects)
            found.source_bytes += look.received_bytes
        return sure

    async def _sure(self, look: Look, table: str, suspects: Suspects) -> Suspects:
        """Suspects that are not cleared by the row itself, read and judged as capture would."""
        missing, different = set[str](), set[str]()
        for keys in _batches(suspects.missing):
            missing |= await self._log.lacking(await look.rows(table, keys))
        for keys in _batches(suspects.different):
            different |= await self._log.differing(await look.rows(table, keys))
        return suspects._replace(missing=frozenset(missing), different=frozenset(different))

    async def _reached(self, target: str) -> bool:
        """Whether the log comes as far in time."""
        clock = self._shop.clock
        deadline = clock.monotonic() + REACH_SECONDS
        while clock.monotonic() < deadline:
            (state,) = await self._log.state()
            if state.position is not None and self._source.reached(state.position, target):
                return True
            await clock.sleep(LOOK_SECONDS)
        return False

    async def _repair(
        self, source: Auditable, found: _Found, audits: Audits, audit_id: int, approve_deletions: bool
    ) -> tuple[_Found, dict[Kind, str]]:
        """What is left of what was found, and why."""
        notes: dict[Kind, str] = {}
        wanted = found.all
        ghosts = Losses(0.0, deletes=len(found.keys[Kind.GHOST]))
        limits = None if approve_deletions else self._row.brake
        if limits is not None and exceeded(limits, ghosts, found.documents):
            wanted -= found.keys[Kind.GHOST]
            notes[Kind.GHOST] = (
                f"So many deletions are more likely a mistake at the source. If they are meant, run: "
                f"livedex audit {self._row.name} --repair --approve-deletions"
            )
        for keys in _batches(wanted):
            await audits.ask(audit_id, self._row, keys)
        error = await self._answered(audits, audit_id)
        left = await self._compare(source)
        notes |= {kind: error for kind in found.keys if error is not None and kind not in notes}
        return left, notes

    async def _answered(self, audits: Audits, audit_id: int) -> str | None:
        """Wait for capture; why it did not do everything, if so."""
        clock = self._shop.clock
        deadline = clock.monotonic() + REPAIR_SECONDS
        waiting, error = await audits.asked(audit_id, self._row)
        while waiting and clock.monotonic() < deadline:
            await clock.sleep(LOOK_SECONDS)
            waiting, error = await audits.asked(audit_id, self._row)
        if waiting:
            error = "The source was not captured in time, or a transaction there did not end."
        await audits.withdraw(audit_id)
        return error

    def _findings(self, found: _Found, left: _Found, notes: Mapping[Kind, str]) -> tuple[Finding, ...]:
        return tuple(
            Finding(kind, len(keys), self._examples(keys, found), len(left.keys[kind]),
                    notes.get(kind) if left.keys[kind] else None)
            for kind, keys in found.keys.items()
            if keys or left.keys[kind]
        )  # fmt: skip

    def _examples(self, keys: Collection[str], found: _Found) -> tuple[Example, ...]:
        some = sorted(keys)[:MOST_EXAMPLES]
        return tuple(found.damaged.get(key) or example_of(self._row, key) for key in some)


def _standing(before: Mapping[str, Held], source: Mapping[str, int], after: Mapping[str, Held]) -> frozenset[str]:
    """Keys that are there in all three looks and did not move."""
    return frozenset(
        key for key in before.keys() & source.keys() & after.keys() if before[key].seq == after[key].seq
    )  # fmt: skip


def _joined(one: Suspects, other: Suspects) -> Suspects:
    return Suspects(*(mine | theirs for mine, theirs in zip(one, other, strict=True)))


def _batches(keys: Collection[str]) -> list[list[str]]:
    ordered = sorted(keys)
    return [ordered[start : start + READ_AT_ONCE] for start in range(0, len(ordered), READ_AT_ONCE)]
