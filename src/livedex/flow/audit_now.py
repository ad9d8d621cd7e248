"""Audits beside the workers that capture and materialize: once, or again and again."""

from __future__ import annotations

import asyncio
from functools import partial

from livedex.errors import LivedexError
from livedex.flow.follow import Workshop
from livedex.flow.keep_up import Beside, Work, keep_up
from livedex.flow.reconcile import Subjects, Wanted, check_subject, keep_audited, reconcile
from livedex.flow.reconcile_view import View
from livedex.rules.audit import Report


async def audit_now(shop: Workshop, work: Work, wanted: Wanted) -> Report:
    """Audit once. What has to be captured and materialized for that is, here unless another process does it."""
    check_subject(subjects(work), wanted.subject)
    stop = asyncio.Event()
    ended: asyncio.Future[Report] = asyncio.get_running_loop().create_future()

    async def auditing(shop: Workshop) -> None:
        try:
            ended.set_result(await reconcile(shop, subjects(work), wanted))
        except LivedexError as error:
            ended.set_exception(error)
        finally:
            stop.set()

    await keep_up(shop, work, stop, [auditing])
    return await ended


def audits(work: Work, every_seconds: float, *, repair: bool) -> Beside:
    """A worker that audits everything from time to time."""
    return partial(keep_audited, subjects=subjects(work), every_seconds=every_seconds, repair=repair)


def subjects(work: Work) -> Subjects:
    return Subjects(
        [(followed.row, followed.source) for followed in work.sources],
        [View(built.generation, built.parts, work.mappings) for built in work.built],
    )
