"""The command line: reads what was asked, calls `Index`, and shows what came back. Decides nothing else."""

from __future__ import annotations

import logging
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated

import typer

from livedex.cli import (
    audit,
    contract,
    demo,
    doctor,
    encoding,
    escalations,
    init,
    lineage,
    maintain,
    mcp,
    models,
    purge,
    quarantine,
    replay,
    search,
    serve,
    source,
    status,
    sync,
    token,
    up,
)
from livedex.cli.running import Options

EXIT_CODES = (
    "Exit codes: 0 done · 1 unexpected error, or livedex doctor or audit found something · 2 usage, configuration, "
    "or no such thing · 3 store · 4 source · 5 embedder · 6 not as fresh as was asked for · 130 interrupted. Results "
    "go to stdout, everything else to stderr."
)

app = typer.Typer(
    name="livedex",
    help="Keep a search index live over data that changes.\n\nReads livedex.yaml in this directory.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if not wanted:
        return
    try:
        typer.echo(f"livedex {version('livedex')}")
    except PackageNotFoundError:
        typer.echo("livedex, run from source")
    raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="The configuration; else $LIVEDEX_CONFIG, else ./livedex.yaml."),
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", metavar="", help="Show where an error came from.")] = False,
    show_version: Annotated[
        bool,
        typer.Option("--version", metavar="", help="Show the version and exit.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    context.obj = Options(config, debug)


app.command("demo")(demo.demo)
app.command("init")(init.init)
app.command("doctor")(doctor.doctor)
app.command("up")(up.up)
app.command("serve")(serve.serve)
app.command("mcp")(mcp.mcp)
app.command("sync")(sync.sync)
app.command("status")(status.status)
app.command("maintain")(maintain.maintain)
app.command("audit")(audit.audit)
app.command("purge")(purge.purge)
app.command("unpurge")(purge.unpurge)
app.command("receipts")(purge.receipts)
app.command("search")(search.search)
app.command("replay")(replay.replay)
app.command("lineage")(lineage.lineage)
app.command("token")(token.token)
app.command("embed")(search.embed)
app.command("dsn")(source.dsn)
app.add_typer(source.app, name="source")
app.add_typer(contract.app, name="contract")
app.add_typer(escalations.app, name="escalations")
app.add_typer(replay.app, name="retrievals")
app.add_typer(quarantine.app, name="quarantine")
app.add_typer(models.app, name="models")


def main() -> None:
    """The entry point of the program `livedex`."""
    for stream in (sys.stdout, sys.stderr):
        # Documents come in every script; on a terminal that lacks one something near is better than an error.
        stream.reconfigure(errors=encoding.FALLBACK)  # type: ignore[union-attr]  # a text stream on a file always can
    # What it tells of connections that were lost, livedex tells in its own words.
    logging.getLogger("psycopg").setLevel(logging.CRITICAL)
    app(prog_name="livedex")
