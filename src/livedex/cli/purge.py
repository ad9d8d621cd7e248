"""`livedex purge`, `livedex unpurge` and `livedex receipts`: forgetting documents for good."""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from livedex.cli import terminal
from livedex.cli.running import Json, opened, run
from livedex.cli.terminal import ago, counted, note, say

if TYPE_CHECKING:
    from livedex.app import Index
    from livedex.flow.purge import Preview
    from livedex.store.purge import Receipt

SHOWN = 20

Reason = Annotated[str, typer.Option(metavar="TEXT", help="Why, for the receipt. Name no document in it.")]
By = Annotated[str | None, typer.Option(metavar="NAME", help="Who, for the receipt; else your login.")]


def purge(
    context: typer.Context,
    source: Annotated[
        str | None, typer.Argument(metavar="SOURCE", help="The source, by its name in livedex.yaml.")
    ] = None,
    keys: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY", help="Documents, by document_id; they need not be known.", show_default=False),
    ] = None,
    where: Annotated[
        str | None, typer.Option(metavar="NAME=VALUE", help="Documents with this metadata.", show_default=False)
    ] = None,
    matching: Annotated[
        str | None,
        typer.Option(metavar="WORDS", help="Documents with all these words, in any form.", show_default=False),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", metavar="", help="Do it; else it is only shown.")] = False,
    reason: Reason = "",
    by: By = None,
    no_rewrite: Annotated[
        bool,
        typer.Option("--no-rewrite", metavar="", help="Do not write the tables anew now; --finish does that later."),
    ] = False,
    finish: Annotated[
        bool, typer.Option("--finish", metavar="", help="Write the tables anew after purges that did not.")
    ] = False,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Remove every trace of some documents for good, and keep them away.

    Without --yes it shows what would go. What is gone does not come back with an update of the row at its source, nor
    when the source is read again; livedex unpurge lifts that. Tables that hold text are written anew, so that the
    server's files do not hold it either; searches wait meanwhile.
    """
    if finish == bool(source):
        raise typer.BadParameter("name a source and what to purge of it, or --finish alone")
    if not finish and not (keys or where or matching):
        raise typer.BadParameter("name some documents, --where or --matching")
    if where is not None and "=" not in where:
        raise typer.BadParameter(f"{where!r} is not NAME=VALUE", param_hint="--where")

    async def command() -> None:
        async with opened(context) as index:
            if source is None:
                _show_finished(await _finished(index), as_json=as_json)
                return
            chosen = await _chosen(index, source, keys or [], where, matching)
            if not yes or not chosen:
                _show_preview(await index.forgetting.preview(source, chosen), as_json=as_json)
                return
            receipt = await index.forgetting.purge(
                source, chosen, by=by or getpass.getuser(), reason=reason, rewrite=not no_rewrite
            )
        if as_json:
            terminal.emit(_json(receipt))
        else:
            _show_receipt(receipt)

    run(context, command)


def unpurge(
    context: typer.Context,
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="The source, by its name in livedex.yaml.")],
    keys: Annotated[list[str], typer.Argument(metavar="KEY", help="Documents that were purged, by document_id.")],
    reason: Reason = "",
    by: By = None,
    as_json: Json = False,
) -> None:
    """Keep purged documents away no longer.

    They come back from their source: each with its next change, or all when the source is read again.
    """

    async def command() -> None:
        async with opened(context) as index:
            lifted = await index.forgetting.unpurge(source, keys, by=by or getpass.getuser(), reason=reason)
        if as_json:
            terminal.emit({"source": source, "lifted": lifted})
        else:
            say(f"{counted(lifted, 'key')} of {source} no longer kept away.")
            note(f"To have what stands there now: livedex source resync {source}")

    run(context, command)


def receipts(context: typer.Context, as_json: Json = False) -> None:
    """List what was purged, when, by whom, and how completely."""

    async def command() -> None:
        async with opened(context) as index:
            found = await index.forgetting.receipts()
        if as_json:
            terminal.emit({"receipts": [_json(receipt) for receipt in found]})
            return
        for receipt in found:
            _show_line(receipt)
        if not found:
            note("Nothing was purged.")
        if any(not receipt.complete for receipt in found):
            note("Files still hold what was purged. Run: livedex purge --finish")

    run(context, command)


async def _chosen(index: Index, source: str, keys: list[str], where: str | None, matching: str | None) -> list[str]:
    """What is named, and of it, or of everything, what fits the conditions."""
    sets = [set(keys)] if keys else []
    if where is not None:
        name, _, value = where.partition("=")
        sets.append(set(await index.forgetting.with_metadata(source, name, value)))
    if matching is not None:
        sets.append(set(await index.forgetting.with_words(source, matching)))
    return sorted(set.intersection(*sets))


async def _finished(index: Index) -> list[Receipt]:
    done = await index.forgetting.finish()
    return [receipt for receipt in await index.forgetting.receipts() if receipt.purge_id in set(done.purge_ids)]


def _show_preview(preview: Preview, *, as_json: bool) -> None:
    if as_json:
        documents = [
            {"document_id": found.document_id, "deleted": found.deleted, "formerly": found.formerly}
            for found in preview.documents
        ]
        terminal.emit(
            {"purged": False, "documents": documents, "unknown": preview.unknown, "rows": dict(preview.removed)}
        )
        return
    for found in preview.documents[:SHOWN]:
        remark = "  deleted already" if found.deleted else "  had this key before" if found.formerly else ""
        say((found.document_id, "bold"), remark)
    if len(preview.documents) > SHOWN:
        say(f"and {len(preview.documents) - SHOWN:,} more")
    for key in preview.unknown[:SHOWN]:
        say((key, "bold"), "  not known here; it would be kept away")
    _show_rows(preview.removed)
    if preview.documents or preview.unknown:
        note("Nothing was removed. To remove it for good, add --yes.")
    else:
        note("There is nothing to remove.")


def _show_receipt(receipt: Receipt) -> None:
    say(
        (f"Receipt {receipt.purge_id}: ", "bold"),
        f"{counted(receipt.documents, 'document')} of {receipt.source} purged.",
    )
    _show_rows(receipt.removed)
    if not receipt.complete:
        note("The server's files still hold it. Run: livedex purge --finish")
    elif receipt.remains:
        say("What this does not reach:")
        for remark in receipt.remains:
            say("  ", remark)


def _show_finished(receipts: list[Receipt], *, as_json: bool) -> None:
    if as_json:
        terminal.emit({"receipts": [_json(receipt) for receipt in receipts]})
        return
    for receipt in receipts:
        _show_receipt(receipt)
    if not receipts:
        note("There is no purge to finish.")


def _show_line(receipt: Receipt) -> None:
    what = "lifted" if receipt.action == "unpurge" else f"purged {counted(receipt.documents, 'document')}"
    state = "" if receipt.complete else " · files not written anew yet"
    why = f" · {receipt.reason}" if receipt.reason else ""
    say(
        (f"{receipt.purge_id:4}  ", "bold"),
        f"{receipt.source}: {what} · {ago(receipt.made_at)} by {receipt.made_by}{why}{state}",
    )


def _show_rows(removed: Any) -> None:
    for table, rows in removed.items():
        if rows:
            say(f"  {rows:8,} {'row ' if rows == 1 else 'rows'} of {table}")


def _json(receipt: Receipt) -> dict[str, Any]:
    return {name: getattr(receipt, name) for name in receipt.__slots__} | {"complete": receipt.complete}
