"""`livedex contract`: what a view promises about every hit, and how much of it is within that."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from livedex.cli import terminal
from livedex.cli.running import Json, opened, run
from livedex.cli.terminal import counted, note, one_line, say
from livedex.errors import NotFound

if TYPE_CHECKING:
    from livedex.retrieve.coverage import Clause, Coverage
    from livedex.rules.contracts import Contract

app = typer.Typer(help="What a view promises about every hit.", no_args_is_help=True)

View = Annotated[str, typer.Argument(metavar="VIEW", help="The view, by its name in livedex.yaml.", show_default=False)]


@app.command()
def show(context: typer.Context, view: View, as_json: Json = False) -> None:
    """Show a view's contract, and the name of this version of it."""

    async def command() -> None:
        async with opened(context) as index:
            contract = index.contract(view)
        if contract is None:
            raise NotFound(f"View {view} has no contract: livedex.yaml has none under views.{view}.")
        if as_json:
            terminal.emit({"view": view, "contract": contract.name, "clauses": contract.clauses})
            return
        say((contract.name, "bold"))
        for clause, value in contract.clauses.items():
            say("  ", f"{clause}: {_written(value)}")

    run(context, command)


@app.command()
def check(
    context: typer.Context,
    view: View,
    file: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Take the contract from this livedex.yaml, a draft for one."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Say how much of a view is within its contract, before or after it is switched on.

    Judges every document, whoever may see it. What needs a query is left out: `min_score`, and how many hits each
    answer has.
    """

    async def command() -> None:
        async with opened(context) as index:
            draft = None if file is None else _draft(file, view)
            coverage = await index.check_contract(view, draft)
        if as_json:
            terminal.emit(coverage)
        else:
            _show(coverage)

    run(context, command)


def _draft(file: Path, view: str) -> Contract:
    from livedex import config
    from livedex.parts import build_contract

    views = config.load(file, os.environ).views
    contract = views[view].contract if view in views else None
    if contract is None:
        raise NotFound(f"{file} has no contract for a view {view}.")
    return build_contract(view, contract)


def _written(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_written(each)}" for name, each in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _show(coverage: Coverage) -> None:
    say((coverage.contract, "bold"))
    say("  ", f"{_share(coverage.documents_within, coverage.documents)} documents are within it, "
        f"{coverage.documents_partly:,} more in part")  # fmt: skip
    say("  ", f"{_share(coverage.chunks_within, coverage.chunks)} chunks are within it")
    for clause in coverage.clauses:
        _show_clause(clause)
    for violation in coverage.violations:
        say("  ", (f"{violation.clause}: {violation.reason}; searches abstain now", "yellow"))
    for name, counts in {"section types": coverage.section_types, **coverage.document_types}.items():
        say("  ", (f"{name}: {', '.join(f'{one_line(value)} {n:,}' for value, n in counts.items()) or 'none'}", "dim"))
    if coverage.documents == 0:
        note("There are no documents. Run: livedex sync")


def _show_clause(clause: Clause) -> None:
    if not clause.documents:
        say("  ", f"{clause.clause}: ", ("kept by all", "green"))
        return
    named = ", ".join(one_line(example) for example in clause.examples)
    rest = ", …" if clause.documents > len(clause.examples) else ""
    violating = f"{counted(clause.chunks, 'chunk')} of {counted(clause.documents, 'document')} off"
    say("  ", f"{clause.clause}: ", (violating, "yellow"), f"  {named}{rest}")


def _share(part: int, whole: int) -> str:
    share = f" ({100 * part / whole:.0f} %)" if whole else ""
    return f"{part:,} of {whole:,}{share}"
