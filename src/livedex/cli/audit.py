"""`livedex audit`: compare sources, log and views, and repair what differs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from livedex.cli import terminal
from livedex.cli.running import Json, opened, run
from livedex.cli.terminal import ago, counted, note, say, seconds

if TYPE_CHECKING:
    from livedex.rules.audit import Finding, Part, Report
    from livedex.status import AuditStatus

FINDINGS_LEFT = 1
_INDENT = "  "
_SHOWN = 5


def audit(
    context: typer.Context,
    subject: Annotated[
        str | None, typer.Argument(metavar="SOURCE|VIEW", help="Only this source or view.", show_default=False)
    ] = None,
    repair: Annotated[bool, typer.Option("--repair", metavar="", help="Repair what is found.")] = False,
    deep: Annotated[
        bool, typer.Option("--deep", metavar="", help="Read every row of sources, and embed some texts again.")
    ] = False,
    approve_deletions: Annotated[
        bool, typer.Option("--approve-deletions", metavar="", help="Repair also if that deletes many documents.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Find what was lost or damaged: compare each source with the log, and the log with each view.

    Ends with 1 when findings are left, with 4 when a source could not be compared. Searches and edits go on meanwhile.
    """

    if approve_deletions and not repair:
        raise typer.BadParameter("it is a matter of --repair, which is not given", param_hint="--approve-deletions")

    async def command() -> int:
        async with opened(context) as index:
            report = await index.audit(subject, repair=repair, deep=deep, approve_deletions=approve_deletions)
        if as_json:
            terminal.emit(_as_json(report))
        else:
            _show(report)
        return _exit_code(report)

    run(context, command)


def show_audit(last: AuditStatus | None) -> None:
    """What `livedex status` says of the last audit."""
    if last is None:
        return
    say()
    what = "" if last.subject is None else f" of {last.subject}"
    found = f"{last.found:,} found, {last.left:,} left" if last.found else "nothing found"
    say(("Audit", "bold"), f"  {ago(last.finished_at)}{what}: ", (found, "red" if last.left else "green"))
    if last.left:
        say(_INDENT, "To repair them, run: livedex audit --repair")
    if last.not_compared:
        say(_INDENT, (f"{last.not_compared} sources or views could not be compared", "yellow"))
    if last.error:
        say(_INDENT, ("it ended early: ", "yellow"), last.error)


def _exit_code(report: Report) -> int:
    from livedex.errors import SourceError

    if report.left:
        return FINDINGS_LEFT
    return SourceError.exit_code if any(part.skipped for part in report.parts) else 0


def _show(report: Report) -> None:
    for part in report.parts:
        _show_part(part)
    if any(part.skipped for part in report.parts):
        note("Not everything could be compared.")
    elif not report.found:
        note("Nothing is lost or damaged.")
    elif not report.left:
        note("Everything that was found is repaired.")
    elif report.repair:
        note(f"{report.left:,} findings are left.")
    else:
        note(f"{report.left:,} findings are left. To repair them, run: livedex audit --repair")


def _show_part(part: Part) -> None:
    compared = f" · {counted(part.compared, 'document')}" if part.subject != part.name else ""
    read = f" · {part.source_bytes:,} bytes read from it" if part.source_bytes else ""
    name = (part.name, "bold")
    say(name, f"  {part.subject}{compared}{read} · {seconds(part.seconds)}" if part.subject != part.name else "")
    if part.skipped is not None:
        say(_INDENT, ("not compared: ", "yellow"), part.skipped)
    elif not part.findings:
        say(_INDENT, ("nothing found", "green"))
    for finding in part.findings:
        _show_finding(finding)
    if part.unjudged:
        moving = f"{counted(part.unjudged, 'document')} kept moving and could not be judged this time"
        say(_INDENT, (moving, "yellow"))


def _show_finding(finding: Finding) -> None:
    from livedex.rules.audit import MEANINGS

    outcome = ("repaired", "green") if not finding.left else (f"{finding.left:,} left", "red")
    say(_INDENT, MEANINGS[finding.kind], ": ", (f"{finding.found:,}", "bold"), ", ", outcome)
    named = [
        example.document_id if example.document_id is not None else f"document {example.document}"
        for example in finding.examples[:_SHOWN]
    ]
    if named:
        more = finding.found - len(named)
        say(_INDENT * 2, ", ".join(map(terminal.one_line, named)) + (f", and {more:,} more" if more > 0 else ""))
    if finding.note:
        say(_INDENT * 2, finding.note)


def _as_json(report: Report) -> dict[str, object]:
    return {
        "audit_id": report.audit_id,
        "started_at": report.started_at,
        "finished_at": report.finished_at,
        "repair": report.repair,
        "deep": report.deep,
        "found": report.found,
        "left": report.left,
        "parts": [
            {
                **part.figures,
                "findings": [
                    {
                        "kind": finding.kind.value,
                        "found": finding.found,
                        "left": finding.left,
                        "note": finding.note,
                        "examples": [example.document_id or example.document for example in finding.examples],
                    }
                    for finding in part.findings
                ],
            }
            for part in report.parts
        ],
    }
