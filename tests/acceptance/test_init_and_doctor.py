"""From a database or a folder that livedex has never seen to searching it, with the commands that are printed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from livedex.store.embedded import EmbeddedServer

PATIENCE_SECONDS = 120.0
PROSE = "repeat('A printer that prints nothing wants paper before it wants anything else. ', 4)"
TICKETS = f"""
CREATE TABLE tickets (tenant_id text NOT NULL, number int, subject text, description text, state text,
                      PRIMARY KEY (tenant_id, number));
INSERT INTO tickets SELECT 'acme', i, 'Ticket ' || i, {PROSE}, 'open' FROM generate_series(1, 20) i;
CREATE TABLE access_log (id serial PRIMARY KEY, line text);
"""


@dataclass
class Desk:
    """An empty folder in which somebody types commands."""

    directory: Path
    environ: dict[str, str] = field(default_factory=dict)

    def run(self, *arguments: str, exits: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "livedex", *arguments],
            cwd=self.directory,
            env={**os.environ, **self.environ},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_SECONDS,
        )
        assert done.returncode == exits, f"{arguments}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def json(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "--json").stdout)

    def added(self) -> int:
        """How many documents a sync adds to the one view."""
        (counts,) = self.json("sync")["views"].values()
        return int(counts["added"])

    @property
    def configuration(self) -> Path:
        return self.directory / "livedex.yaml"


@pytest.fixture
def desk(tmp_path: Path, server: EmbeddedServer, database_on: Callable[[EmbeddedServer], str]) -> Desk:
    return Desk(tmp_path, {"LIVEDEX_DATABASE_URL": database_on(server), "HOME": str(tmp_path), "COLUMNS": "80"})


@pytest.fixture
def url(fresh_database: str) -> str:
    """A database of tickets, as an URL with its password."""
    with psycopg.connect(fresh_database, autocommit=True) as connection:
        connection.execute(TICKETS.encode())
    parts = conninfo_to_dict(fresh_database)
    return "postgresql://{user}:{password}@/{dbname}?host={host}&port={port}".format(**parts)


def test_from_a_database_to_searching_it(desk: Desk, url: str) -> None:
    said = desk.run("init", url, "--embedder", "hashing").stdout
    password = str(conninfo_to_dict(url)["password"])
    assert password not in said + desk.configuration.read_text()
    (export,) = re.findall(r"export (\w+)='(.*)'", said)
    assert "***" in export[1]
    desk.environ[export[0]] = url
    desk.run("doctor")
    assert desk.added() == 20
    (command,) = re.findall(r"livedex search (\w+)", said)
    assert desk.json("search", command, "printer")["hits"] == []
    assert len(desk.json("search", command, "printer", "--tenant", "acme", "--top-k", "3")["hits"]) == 3
    desk.run("doctor")


def test_variable_of_the_environment_is_found_and_referred_to(desk: Desk, url: str) -> None:
    desk.environ["DATABASE_URL"] = url
    made = desk.json("init", "--embedder", "hashing")
    assert (made["exports"], [table["table"] for table in made["tables"]]) == ({}, ["tickets"])
    assert "url: ${DATABASE_URL}\n" in desk.configuration.read_text()
    assert desk.added() == 20


def test_variables_of_libpq_are_found(desk: Desk, url: str) -> None:
    parts = conninfo_to_dict(url)
    desk.environ |= {"PGHOST": str(parts["host"]), "PGPORT": str(parts["port"]), "PGUSER": str(parts["user"]),
                     "PGPASSWORD": str(parts["password"]), "PGDATABASE": str(parts["dbname"])}  # fmt: skip
    desk.run("init", "--embedder", "hashing")
    assert desk.added() == 20


def test_from_a_folder_to_searching_it(desk: Desk) -> None:
    (desk.directory / "handbook").mkdir()
    (desk.directory / "handbook" / "refunds.md").write_text("# Refunds\n\nRefunds are paid within fourteen days.\n")
    said = desk.run("init", "./handbook", "--embedder", "hashing").stdout
    assert "livedex search handbook" in said
    desk.run("doctor")
    desk.run("sync")
    hits = desk.json("search", "handbook", "refunds")["hits"]
    assert [hit["document_id"] for hit in hits] == ["refunds.md"]


def test_with_nothing_to_find_a_template_is_written(desk: Desk) -> None:
    said = desk.run("init")
    assert "fill in the names" in said.stderr
    assert "APP_DATABASE_URL" in desk.configuration.read_text()


def test_file_that_is_there_is_kept_unless_forced(desk: Desk, url: str) -> None:
    desk.configuration.write_text("mine")
    assert "--force" in desk.run("init", url, exits=2).stderr
    assert desk.configuration.read_text() == "mine"
    desk.run("init", url, "--force")
    assert "tickets" in desk.configuration.read_text()


def test_print_writes_no_file(desk: Desk, url: str) -> None:
    said = desk.run("init", url, "--print").stdout
    assert "      tickets:\n" in said
    assert not desk.configuration.exists()


def test_without_a_configuration_every_command_points_to_init(desk: Desk) -> None:
    assert "Run: livedex init" in desk.run("status", exits=2).stderr
    assert "livedex init" in desk.run("doctor", exits=1).stdout


def test_doctor_ends_with_one_when_something_failed_and_says_so_in_json(desk: Desk, url: str) -> None:
    desk.run("init", url, "--embedder", "hashing")
    done = desk.run("doctor", "--json", exits=1)
    report = json.loads(done.stdout)
    failed = [check for group in report["groups"] for check in group["checks"] if check["state"] == "failed"]
    assert (report["ok"], [check["name"] for check in failed]) == (False, ["environment"])


@pytest.mark.parametrize(("encoding", "marks"), [("utf-8", "✓✗"), ("ascii", "+x")])
def test_doctor_shows_marks_that_the_terminal_has(desk: Desk, encoding: str, marks: str) -> None:
    desk.environ["PYTHONIOENCODING"] = encoding
    said = desk.run("doctor", exits=1).stdout
    assert f"  {marks[0]} Python: " in said
    assert f"  {marks[1]} livedex.yaml: " in said
    assert "\n        livedex init\n" in said
