"""`livedex replay` and `livedex retrievals`: what was found then, and what would be found now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from livedex.cli import terminal
from livedex.cli.running import Json, opened, run
from livedex.cli.search import _number as number
from livedex.cli.search import snippet
from livedex.cli.terminal import ago, counted, note, one_line, say, seconds

if TYPE_CHECKING:
    from livedex.retrieve.replayed import Replay
    from livedex.rules.replay import Difference
    from livedex.store.answers import SeenHit, SeenRetrieval, Summary

app = typer.Typer(help="Searches that were recorded.", no_args_is_help=True)
_INDENT = "    "


@app.command("list")
def list_retrievals(
    context: typer.Context,
    view: Annotated[str | None, typer.Option(metavar="VIEW", help="Of this view only.", show_default=False)] = None,
    last: Annotated[int, typer.Option(metavar="N", min=1, help="How many.")] = 20,
    as_json: Json = False,
) -> None:
    """List the last searches, newest first, with the ids for `livedex replay`."""

    async def command() -> None:
        async with opened(context) as index:
            found = await index.retrievals(view, last=last)
        if as_json:
            terminal.emit(found)
            return
        for each in found.retrievals:
            _list(each)
        if not found.retrievals:
            note("No searches are recorded." if view is None else f"No searches of a view {view} are recorded.")
        if found.lost:
            note((f"{counted(found.lost, 'search')} could not be recorded.".replace("searchs", "searches"), "yellow"))

    run(context, command)


def replay(
    context: typer.Context,
    retrieval_id: Annotated[
        str, typer.Argument(metavar="ID", help="The retrieval's id, as its answer or `livedex retrievals list` has it.")
    ],
    as_json: Json = False,
) -> None:
    """Show what a search found then, and what it finds now, with the reason of each difference.

    It is asked again on behalf of whoever asked then, with the same settings: whoever runs this sees what they may see.
    """

    async def command() -> None:
        async with opened(context) as index:
            found = await index.replay(retrieval_id)
        if as_json:
            terminal.emit(_readable(found))
        else:
            _show(found)

    run(context, command)


def _readable(found: Replay) -> dict[str, object]:
    """For JSON, which has no bytes."""
    from dataclasses import asdict

    shown = asdict(found)
    for hit in shown["then"]["hits"]:
        hit["text_hash"] = None if hit["text_hash"] is None else hit["text_hash"].hex()
    return shown


def _list(each: Summary) -> None:
    say((each.retrieval_id, "bold"), f"  {ago(each.at)}  {each.view}  {counted(each.hits, 'hit')}", _outcome(each))
    say(_INDENT, snippet(each.query) if each.query is not None else "(the query was not kept)")


def _outcome(each: Summary) -> str:
    return "" if each.outcome in (None, "answered") else f"  {each.outcome}"


def _show(found: Replay) -> None:
    then = found.then
    say(("Then", "bold"), f"  {then.at:%Y-%m-%d %H:%M:%S} UTC, {ago(then.at)}  {_facts(then)}")
    say(_INDENT, one_line(then.query) if then.query is not None else "(the query was not kept)")
    for hit in then.hits:
        _show_seen(hit)
    for violation in then.violations:
        say(_INDENT, ("off contract: ", "yellow"), f"{violation['clause']}: {violation['reason']}")
    say()
    say(("Now", "bold"))
    if found.why_not is not None:
        note((found.why_not, "yellow"))
    for change in found.changes:
        note((change, "yellow"))
    for difference in found.differences:
        _show_difference(difference)
    if not found.differences:
        note("Nothing was served then, and nothing is now." if found.now else "Nothing was served then.")
    elif all(each.became.value == "same" for each in found.differences):
        note("The same is found now.")


def _facts(then: SeenRetrieval) -> str:
    facts = [then.view, f"generation {then.generation}", then.mode]
    if then.lag_seconds is not None:
        facts.append(f"{seconds(then.lag_seconds)} old")
    if then.tenant is not None:
        facts.append(f"tenant {then.tenant}")
    if then.principals:
        facts.append(f"as {', '.join(then.principals)}")
    if then.contract is not None:
        facts.append(f"contract {then.contract}: {then.outcome}")
    return " · ".join(facts)


def _show_seen(hit: SeenHit) -> None:
    who = hit.document_id or "(purged)"
    mark = ("  withheld: off contract", "yellow") if hit.withheld else ("  was stale", "yellow") if hit.stale else ""
    say(
        (f"{hit.rank:2}  ", "bold"), (f"{number(hit.score):>6}  ", "cyan"), (who, "bold"), f"  {hit.version[:12]}", mark
    )
    if not hit.withheld:
        say(_INDENT, snippet(hit.text) if hit.text is not None else "(its text was not kept)")


def _show_difference(each: Difference) -> None:
    ranks = f"{_rank(each.then_rank)} → {_rank(each.now_rank)}"
    when = [] if each.at is None else [f"{each.at:%Y-%m-%d %H:%M:%S} UTC"]
    if each.searchable_at is not None:
        when.append(f"searchable {each.searchable_at:%H:%M:%S.%f}"[:-3])
    times = f" ({', '.join(when)})" if when else ""
    style = "green" if each.became.value == "same" else "yellow"
    say(f"{ranks:>9}  ", (each.document_id or "(purged)", "bold"), "  ", (each.became.value.replace("_", " "), style))
    if each.became.value != "same":
        say(_INDENT, f"{each.explanation}{times}")


def _rank(rank: int | None) -> str:
    return "–" if rank is None else str(rank)
