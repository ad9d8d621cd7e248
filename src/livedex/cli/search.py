"""`livedex search` and `livedex embed`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from livedex.cli import terminal
from livedex.cli.durations import duration
from livedex.cli.running import Json, Principals, Tenant, opened, run
from livedex.cli.terminal import counted, note, one_line, say, seconds
from livedex.cli.verdict import show_verdict
from livedex.model import Mode, WhenStale
from livedex.rules.freshness import trouble

if TYPE_CHECKING:
    from livedex.model import Hit, Retrieval

SNIPPET_CHARACTERS = 280
INDENT = "    "

View = Annotated[str, typer.Argument(metavar="VIEW", help="The view, by its name in livedex.yaml.", show_default=False)]


def search(
    context: typer.Context,
    view: View,
    query: Annotated[str, typer.Argument(metavar="QUERY", help="What to look for, in your own words.")],
    top_k: Annotated[int, typer.Option("--top-k", "-k", metavar="N", help="How many hits.")] = 10,
    filters: Annotated[
        list[str] | None,
        typer.Option("--filter", metavar="KEY=VALUE", help="Only documents with this metadata. A key given twice "
                     "accepts any of its values.", show_default=False),
    ] = None,
    mode: Annotated[
        Mode, typer.Option(metavar="MODE", help="What finds and ranks: hybrid (meaning and words), dense or lexical.")
    ] = Mode.HYBRID,
    max_staleness: Annotated[
        float | None,
        typer.Option(metavar="DURATION", parser=duration, help="How old what is searched may be, such as 500ms or 5s.",
                     show_default=False),
    ] = None,
    at_least: Annotated[
        list[str] | None,
        typer.Option(metavar="TOKEN", help="A write that must be searchable, as livedex token prints; repeatable.",
                     show_default=False),
    ] = None,
    when_stale: Annotated[
        WhenStale, typer.Option(metavar="POLICY", help="What to do when it is not so: wait, serve or refuse.")
    ] = WhenStale.WAIT,
    wait: Annotated[
        float, typer.Option(metavar="DURATION", parser=duration, help="How long to wait at most.")
    ] = "2s",  # type: ignore[assignment]  # typer hands a default to the parser as it would be written
    exact: Annotated[
        bool, typer.Option("--exact", metavar="", help="Measure and score everything instead of asking the indexes.")
    ] = False,
    tenant: Tenant = None,
    principals: Principals = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Search a view: the best chunks first, with how fresh they are.

    The number before a hit orders the hits of this search and says nothing beyond it. Of a hybrid search each hit ends
    with what went into it: its cosine similarity (dense) and its BM25 score (lexical).
    """
    accepted = _filters(filters or [])

    async def command() -> None:
        async with opened(context) as index:
            retrieval = await index.search(
                view,
                query,
                top_k=top_k,
                filters=accepted,
                tenant=tenant,
                principals=principals or [],
                exact=exact,
                mode=mode,
                max_staleness_seconds=max_staleness,
                at_least=at_least or (),
                when_stale=when_stale,
                wait_seconds=wait,
            )
            if as_json:
                terminal.emit(retrieval)
            else:
                show(retrieval)
                if index.settings.record.enabled:
                    note((f"retrieval {retrieval.retrieval_id}", "dim"))

    run(context, command)


def embed(
    context: typer.Context,
    view: View,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="The text to embed as a query.")],
    as_json: Json = False,
) -> None:
    """Embed a text with a view's model, for a search in plain SQL.

    Prints a statement for the database that `livedex dsn` names; with `--json` the vector and the model.
    """

    async def command() -> None:
        async with opened(context) as index:
            vector, model = await index.embed(view, text)
            schema = index.settings.views[view].sql_schema
        if as_json:
            terminal.emit({"model": model, "embedding": vector})
        else:
            function = f"{view}_search" if schema == "public" else f"{schema}.{view}_search"
            quoted = model.replace("'", "''")
            say(f"SELECT document_id, title, chunk_text FROM {function}('{vector}', '{quoted}', 5);")  # noqa: S608  # for people to paste; the view's name is checked

    run(context, command)


def show(retrieval: Retrieval) -> None:
    """Print hits with their place and the beginning of their text, then how fresh they are."""
    for rank, hit in enumerate(retrieval.hits, 1):
        _show_hit(rank, hit)
    show_verdict(retrieval.verdict)
    _show_freshness(retrieval)


def _filters(given: list[str]) -> dict[str, list[str]]:
    accepted: dict[str, list[str]] = {}
    for written in given:
        name, equals, value = written.partition("=")
        if not equals or not name:
            raise typer.BadParameter(f"{written} is not KEY=VALUE, such as category=policy", param_hint="--filter")
        accepted.setdefault(name, []).append(value)
    return accepted


def _show_hit(rank: int, hit: Hit) -> None:
    place = " › ".join(one_line(part) for part in dict.fromkeys([hit.title or hit.document_id, *hit.section]))
    mark = ("  a newer version is on its way", "yellow") if hit.stale else ""
    say(
        (f"{rank:2}  ", "bold"),
        (f"{_number(hit.score):>6}  ", "cyan"),
        (place, "bold"),
        "  ",
        (hit.document_id, "dim"),
        (_legs(hit), "dim"),
        mark,
    )
    for line in Text(snippet(hit.text)).wrap(terminal.out, terminal.out.width - len(INDENT)):
        say(INDENT, line.plain.rstrip())
    say()


def _legs(hit: Hit) -> str:
    """What a fused score was made of; nothing where the score is that of the only leg."""
    if len(hit.scores) < 2:
        return ""
    return f"  ({', '.join(f'{leg} {_number(score)}' for leg, score in hit.scores.items())})"


def _number(score: float) -> str:
    """Three digits that count: fused scores may be all small, BM25's are large."""
    return f"{score:#.3g}".rstrip(".")


def snippet(text: str) -> str:
    """The beginning of a chunk on one line, without the headings that stand beside it anyway."""
    prose = " ".join(line for line in text.splitlines() if not line.startswith("#"))
    shown = one_line(prose) or one_line(text)
    return shown if len(shown) <= SNIPPET_CHARACTERS else shown[:SNIPPET_CHARACTERS].rsplit(" ", 1)[0] + " …"


def _show_freshness(retrieval: Retrieval) -> None:
    for reason in retrieval.freshness.unmet:
        note(("not as fresh as was asked for: ", "yellow"), reason)
    took = sum(retrieval.timings.values()) / 1000
    found = f"{counted(len(retrieval.hits), 'hit') if retrieval.hits else 'No hits'} in {seconds(took)}"
    if retrieval.lag_seconds is None:
        note((f"{found} · the first load is not complete, so some documents are missing", "yellow"))
        return
    age = seconds(retrieval.lag_seconds)
    if (amiss := trouble(retrieval.watermark)) is not None:
        note((f"{found} · {amiss}: this is {age} old. See: livedex status", "yellow"))
    elif retrieval.capturing:
        note((f"{found} · as of {age} ago", "dim"))
    else:
        note((f"{found} · nothing follows the sources: this is {age} old. Run: livedex up", "yellow"))
