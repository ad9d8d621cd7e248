"""`livedex lineage`: how a document came to be as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from livedex.cli import terminal
from livedex.cli.running import Json, opened, run
from livedex.cli.terminal import counted, note, say, seconds

if TYPE_CHECKING:
    from livedex.rules.lineage import DocumentVersion, Serving
    from livedex.store.history import Lineage

_INDENT = "  "
_OPS = {"r": "read", "c": "created", "u": "changed", "d": "deleted", "t": "truncated"}
_STYLES = {"live": "green", "deleted": "yellow", "expired": "yellow", "purged": "red"}


def lineage(
    context: typer.Context,
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="The source, by its name in livedex.yaml.")],
    key: Annotated[str, typer.Argument(metavar="KEY", help="The document's id, or one that it had before.")],
    as_json: Json = False,
) -> None:
    """Show the versions of a document: when each was committed, captured, searchable and replaced."""

    async def command() -> None:
        async with opened(context) as index:
            found = await index.lineage(source, key)
        if as_json:
            terminal.emit(found)
        else:
            _show(found)

    run(context, command)


def _show(found: Lineage) -> None:
    say((found.document_id, "bold"), f"  {found.source}  ", (found.state, _STYLES[found.state]))
    if found.state == "purged":
        note("It was purged: nothing of it is kept, and what its source sends of it is passed over.")
        return
    for version in found.versions:
        _show_version(version)
    for each in found.quarantine:
        where = "" if each.view is None else f" for {each.view}"
        say(_INDENT, ("in quarantine", "yellow"), f"{where}: {each.reason}")
    note(f"{counted(len(found.versions), 'version')}. Times are UTC.")


def _show_version(version: DocumentVersion) -> None:
    what = "expired" if version.expired else _OPS.get(version.op, version.op)
    said = version.committed_at or version.captured_at
    label = "" if version.committed_at else "captured "
    say(f"{label}{said:%Y-%m-%d %H:%M:%S.%f}"[:-3], "  ", (what, "bold"), f"  {version.version[:12]}",
        (f"  {version.position or ''}", "dim"))  # fmt: skip
    for serving in version.served:
        say(_INDENT * 2, f"{serving.view}, generation {serving.generation}: ", _served(serving))


def _served(serving: Serving) -> str:
    lag = "" if serving.lag_seconds is None else f" ({seconds(max(0.0, serving.lag_seconds))} after its commit)"
    since = "" if serving.searchable_at is None else f" from {serving.searchable_at:%H:%M:%S.%f}"[:-3] + lag
    texts = "" if serving.texts_written is None else f", {counted(serving.texts_written, 'text')} written"
    match serving.served.value:
        case "searchable":
            return f"searchable{since}{texts}"
        case "replaced":
            until = "" if serving.replaced_at is None else f" until {serving.replaced_at:%H:%M:%S.%f}"[:-3]
            return f"searchable{since}{until}{texts}"
        case "replaced_first":
            return "never searchable: replaced first"
        case "deleted":
            return f"unsearchable{lag}"
        case "waiting":
            return "not searchable yet"
        case "refused":
            return "not searchable: in quarantine"
        case "earlier":
            return "replaced before this generation was begun"
        case _:
            return "unknown: times of that long ago are not kept"
