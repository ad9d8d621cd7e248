"""The audit: sources against the log, the log against every view, and repairs through the ordinary path.

One process audits at a time. Everything it finds is found again by the next one until it is repaired.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass

from livedex.errors import LivedexError, NotFound
from livedex.flow.follow import Workshop
from livedex.flow.hold import holding
from livedex.flow.reconcile_source import SourceAudit
from livedex.flow.reconcile_view import View, audit_view
from livedex.ports import Source
from livedex.rules.audit import MOST_EXAMPLES, Finding, Kind, Part, Report
from livedex.store.audit import Audits
from livedex.store.database import translate
from livedex.store.entries import SourceRow
from livedex.store.leases import Lease, acquire, release

RESOURCE = "audit"
STORE = "store"
LOOK_SECONDS = 30.0
"""How often somebody looks whether an audit is due."""


class AuditedElsewhere(LivedexError):
    """Another process audits this index right now. Try again when it has ended."""


@dataclass(frozen=True, slots=True)
class Subjects:
    """What can be audited: sources with their adapters, and views."""

    sources: Sequence[tuple[SourceRow, Source]]
    views: Sequence[View]


@dataclass(frozen=True, slots=True)
class Wanted:
    """`subject` is the name of a source or view; None for everything, the store included. `deep` reads every row of
    the source and embeds some texts again. `approve_deletions`: also if they are many."""

    subject: str | None = None
    repair: bool = False
    deep: bool = False
    approve_deletions: bool = False


async def reconcile(shop: Workshop, subjects: Subjects, wanted: Wanted) -> Report:
    """Audit once. Somebody has to capture and materialize meanwhile, this process or another.

    Raises NotFound for a subject that there is none of, and AuditedElsewhere while another process audits.
    """
    check_subject(subjects, wanted.subject)
    audits = Audits(shop.database)
    async with _sole_auditor(shop) as lease:
        if lease is None:
            raise AuditedElsewhere
        audit_id, started_at = await audits.begin(shop.owner, asdict(wanted))
        parts: list[Part] = []
        error: str | None = "It was interrupted."
        try:
            await _run(shop, subjects, wanted, audits, audit_id, parts)
            error = None
        except LivedexError as failure:
            error = str(failure)
            raise
        finally:
            finished_at = await asyncio.shield(audits.finish(audit_id, parts, error))
    return Report(audit_id, started_at, finished_at, wanted.repair, wanted.deep, tuple(parts))


async def keep_audited(shop: Workshop, subjects: Subjects, every_seconds: float, *, repair: bool) -> None:
    """Audit everything again and again, in one process at a time; endless."""
    audits = Audits(shop.database)
    while True:
        await shop.clock.sleep(min(LOOK_SECONDS, every_seconds / 10))
        try:
            if await audits.due(every_seconds):
                report = await reconcile(shop, subjects, Wanted(repair=repair))
                if report.left:
                    shop.report("audit", LivedexError(f"{report.left} findings are left. Run: livedex audit --repair"))
        except AuditedElsewhere:
            continue
        except LivedexError as error:
            shop.report("audit", error)


async def _run(
    shop: Workshop, subjects: Subjects, wanted: Wanted, audits: Audits, audit_id: int, parts: list[Part]
) -> None:
    if wanted.subject is None:
        parts.append(await _audit_store(shop, audits, repair=wanted.repair))
    for row, source in subjects.sources:
        if wanted.subject in (None, row.name):
            audit = SourceAudit(shop, row, source, audit_id, deep=wanted.deep)
            part = await audit.run(
                audits, audit_id, repair=wanted.repair, approve_deletions=wanted.approve_deletions
            )  # fmt: skip
            parts.append(part)
    for view in [each for each in subjects.views if wanted.subject in (None, each.generation.view)]:
        part = await audit_view(shop, view, seed=audit_id, repair=wanted.repair, deep=wanted.deep)
        parts.append(part)


async def _audit_store(shop: Workshop, audits: Audits, *, repair: bool) -> Part:
    """What belongs to no source and no view."""
    started = shop.clock.monotonic()
    behind, resting = await audits.behind_log_end(), await audits.resting()
    behind_left, resting_left = len(behind), resting
    if repair and behind:
        await audits.raise_log_end()
        behind_left = len(await audits.behind_log_end())
    if repair and resting:
        await audits.drop_resting()
        resting_left = await audits.resting()
    findings = (
        Finding(Kind.LOG_END, len(behind), tuple(behind[:MOST_EXAMPLES]), behind_left),
        Finding(Kind.RESTING, resting, (), resting_left),
    )
    seconds = shop.clock.monotonic() - started
    return Part(STORE, STORE, findings=tuple(f for f in findings if f.found), seconds=seconds)


def check_subject(subjects: Subjects, subject: str | None) -> None:
    """Raises NotFound when there is no such source or view."""
    names = [*(row.name for row, _ in subjects.sources), *(view.generation.view for view in subjects.views)]
    if subject is not None and subject not in names:
        raise NotFound(f"There is no source or view {subject}. Known: {', '.join(sorted(names))}.")


@asynccontextmanager
async def _sole_auditor(shop: Workshop) -> AsyncIterator[Lease | None]:
    """The right to audit, kept while it lasts; None while somebody else has it."""
    connection = await shop.database.connect()
    try:
        lease = await acquire(connection, RESOURCE, shop.owner)
        if lease is None:
            yield None
            return
        try:
            async with holding(shop.database, lease):
                yield lease
        finally:
            if not connection.closed:
                with translate():
                    await release(connection, lease)
    finally:
        await connection.close()
