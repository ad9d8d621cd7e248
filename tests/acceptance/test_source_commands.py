"""What is asked about a source on the command line, and answered."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.world import World
from typer.testing import CliRunner

from livedex.cli import app
from livedex.store.embedded import EmbeddedServer


@dataclass(frozen=True)
class Program:
    """The program `livedex` within this process, which spares it from starting again and again."""

    world: World

    def run(self, *arguments: str, exits: int = 0, answer: str = "") -> str:
        """What it prints, errors included; insists on the exit code. `answer` is what it may read."""
        given = ["--config", str(self.world.config), *arguments]
        ended = CliRunner().invoke(app, given, env=self.world.environ | {"COLUMNS": "200"}, input=answer)
        assert ended.exit_code == exits, f"{arguments}: exit code {ended.exit_code}\n{ended.output}"
        return ended.output

    def json(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "--json"))


@pytest.fixture
def program(server: EmbeddedServer, database_on: Callable[[EmbeddedServer], str], tmp_path: Path) -> Program:
    """Six documents, loaded."""
    world = World.make(database_on(server), database_on(server), tmp_path)
    brake = "    kind: postgres\n    brake: {least: 3}\n"
    world.config.write_text(world.config.read_text().replace("    kind: postgres\n", brake))
    world.execute("INSERT INTO documents SELECT 'doc-' || n, '', 'Text.', 'c' FROM generate_series(1, 6) AS n")
    program = Program(world)
    program.run("sync")
    return program


def test_a_held_source_ends_sync_with_the_code_of_sources_and_is_let_pass_by_a_person(program: Program) -> None:
    program.world.execute("DELETE FROM documents WHERE doc_id <> 'doc-6'")
    said = program.run("sync", exits=4)
    assert "Source kb is held: 5 of its 6 documents would be gone" in " ".join(said.split())
    assert "livedex source resume kb" in " ".join(said.split())
    (source,) = program.json("status")["sources"]
    assert source["state"] == "held"
    (hold,) = program.json("source", "show", "kb")["holds"]
    assert (hold["is_open"], hold["deletes"], sorted(hold["examples"])) == (
        True,
        5,
        [f"doc-{number}" for number in range(1, 6)],
    )
    assert "doc-1, doc-2" in program.run("source", "show", "kb")
    status, found = program.run("status"), program.run("search", "handbook", "text")
    doctor = program.run("doctor", exits=1)
    assert "kb is held · as of" in status
    assert "kb is held: this is" in found
    assert "✗ capture: Source kb is held" in doctor
    assert "! freshness: kb is held" in doctor
    assert [said for said in (status, found, doctor) if "livedex up" in said] == []  # which would mend nothing
    for answer in ("n\n", ""):  # no, and nobody there
        said = program.run("source", "resume", "kb", exits=130, answer=answer)
        assert "Let this pass?" in said
        assert "Nothing was let pass: kb stays held." in said
    assert program.json("status")["sources"][0]["state"] == "held"
    program.run("source", "resume", "kb", "--json", exits=2)
    assert program.json("source", "resume", "kb", "--yes")["resumed"]["approved_by"]
    program.run("sync")
    assert program.json("status")["sources"][0]["documents"] == 1
    (hold,) = program.json("source", "show", "kb")["holds"]
    assert (hold["is_open"], bool(hold["approved_by"])) == (False, True)
    program.run("source", "resume", "kb", "--yes", exits=2)
    program.run("source", "retry", "kb", exits=2)
    program.run("source", "show", "nobody", exits=2)


def test_columns_that_changed_are_listed_and_the_status_names_the_one_that_waits(program: Program) -> None:
    program.world.execute("ALTER TABLE documents DROP category, ADD extra int")
    program.run("sync", exits=4)
    assert program.json("status")["sources"][0]["schema_change"] == "documents.category was dropped"
    assert "documents.category was dropped" in program.run("status")
    changes = program.json("source", "schema", "kb")["schema_changes"]
    assert {(change["column"], change["kind"], change["resolved_at"] is None) for change in changes} == {
        ("category", "dropped", True),
        ("extra", "added", False),
    }
    assert "documents.category  dropped (text)" in program.run("source", "schema", "kb")
