"""The program as people start it, against a real source."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from livedex.model import Hit, Retrieval
from livedex.store.embedded import EmbeddedServer

PATIENCE_SECONDS = 120.0
INTERRUPTED_WHILE_LOADING = """\
import os, signal, sys

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == "typer":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
from livedex.__main__ import main
main()
"""

CONFIGURATION = """\
sources:
  kb:
    kind: postgres
    url: ${KB_DATABASE_URL}
    tables:
      documents: {key: doc_id, title: title, content: content, metadata: [category], acl: readers}
views:
  handbook: {from: kb, embedder: hashing, shards: 2}
"""
TABLE = """\
CREATE TABLE documents (doc_id text PRIMARY KEY, title text, content text, category text, readers text DEFAULT '*')
"""
ROWS = (
    ("refunds", "Refunds", "# Refunds\n\nRefunds take fourteen days.\n", "policy"),
    ("shipping", "Shipping", "# Shipping\n\nParcels leave on the same day.\n", "faq"),
    ("pager", "Pager", "# Pager\n\nThe pager is handed over on Monday. [bold]Never[/bold] \x1b[31mlate.\n", "runbook"),
)


class Program:
    """`livedex` in a directory of its own, with a configuration that reads one source into one store."""

    def __init__(self, directory: Path, source: str, store: str) -> None:
        self.directory = directory
        self.source = source
        self.environ = os.environ | {
            "KB_DATABASE_URL": source,
            "LIVEDEX_DATABASE_URL": store,
            "LIVEDEX_CACHE": str(directory / "cache"),
            "COLUMNS": "80",
        }

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "livedex", *arguments],
            cwd=self.directory,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    def run(self, *arguments: str, exits: int = 0) -> subprocess.CompletedProcess[str]:
        """Run to the end, and insist on the exit code."""
        with self.start(*arguments) as process:
            ending = threading.Timer(PATIENCE_SECONDS, process.kill)
            ending.start()
            out, err = process.communicate()
            ending.cancel()
        assert process.returncode == exits, f"{arguments}: exit code {process.returncode}\n{out}\n{err}"
        return subprocess.CompletedProcess(arguments, exits, out, err)

    def json(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "--json").stdout)

    def execute(self, statement: str, values: Sequence[Any] = ()) -> None:
        """Run a statement in the source, and commit it."""
        with psycopg.connect(self.source, autocommit=True) as connection:
            connection.execute(statement.encode(), values)

    def synced(self) -> dict[str, int]:
        counts: dict[str, int] = self.json("sync")["views"]["handbook"]
        return counts

    def found(self, query: str, *options: str) -> list[str]:
        """The documents of the best hits, each once, in order."""
        hits = self.json("search", "handbook", query, *options)["hits"]
        return list(dict.fromkeys(hit["document_id"] for hit in hits))


@pytest.fixture
def program(tmp_path: Path, server: EmbeddedServer, database_on: Callable[[EmbeddedServer], str]) -> Program:
    """Three documents that nobody has read yet."""
    source, store = database_on(server), database_on(server)
    (tmp_path / "livedex.yaml").write_text(CONFIGURATION)
    with psycopg.connect(source, autocommit=True) as connection:
        connection.execute(TABLE)
        connection.cursor().executemany("INSERT INTO documents VALUES (%s, %s, %s, %s)", ROWS)
    return Program(tmp_path, source, store)


def events_until(last: str, process: subprocess.Popen[str]) -> list[Any]:
    """What `up --json` says up to a kind of event, or all when it ends or has to be ended without that."""
    assert process.stdout is not None
    events = []
    ending = threading.Timer(PATIENCE_SECONDS, process.kill)
    ending.start()
    try:
        for line in process.stdout:
            events.append(json.loads(line))
            if events[-1]["event"] == last:
                break
    finally:
        ending.cancel()
    return events


@pytest.fixture
def following(program: Program) -> Iterator[subprocess.Popen[str]]:
    """`livedex up --json`, once it has said that everything is loaded."""
    with program.start("up", "--json") as process:
        try:
            assert events_until("loaded", process)[-1]["event"] == "loaded"
            yield process
        finally:
            process.kill()


def until(claim: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not claim():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.2)


def test_sync_counts_what_was_added_and_nothing_the_second_time(program: Program) -> None:
    assert program.json("sync") == {
        "views": {
            "handbook": {
                "added": 3,
                "updated": 0,
                "unchanged": 0,
                "deleted": 0,
                "quarantined": 0,
                "texts_embedded": 3,
            }
        }
    }
    again = {"added": 0, "updated": 0, "unchanged": 3, "deleted": 0, "quarantined": 0, "texts_embedded": 0}
    assert program.synced() == again


def test_sync_counts_an_update_and_a_delete(program: Program) -> None:
    program.synced()
    program.execute("UPDATE documents SET content = replace(content, 'fourteen', 'three') WHERE doc_id = 'refunds'")
    program.execute("DELETE FROM documents WHERE doc_id = 'shipping'")
    counts = {"added": 0, "updated": 1, "unchanged": 1, "deleted": 1, "quarantined": 0, "texts_embedded": 1}
    assert program.synced() == counts


def test_rewriting_a_row_as_it_was_is_no_update(program: Program) -> None:
    program.synced()
    program.execute("UPDATE documents SET title = title")
    counts = {"added": 0, "updated": 0, "unchanged": 3, "deleted": 0, "quarantined": 0, "texts_embedded": 0}
    assert program.synced() == counts


def test_a_change_of_metadata_embeds_nothing_and_is_found_by_its_new_value(program: Program) -> None:
    program.synced()
    program.execute("UPDATE documents SET category = 'archive' WHERE doc_id = 'shipping'")
    assert program.synced()["texts_embedded"] == 0
    assert program.found("parcels", "--filter", "category=archive") == ["shipping"]


def test_search_as_json_has_every_field_of_retrieval_and_hit(program: Program) -> None:
    program.synced()
    retrieval = program.json("search", "handbook", "pager handed over", "--top-k", "1")
    assert set(retrieval) == {field.name for field in fields(Retrieval)}
    (hit,) = retrieval["hits"]
    assert set(hit) == {field.name for field in fields(Hit)}
    assert hit["document_id"] == "pager"
    assert hit["metadata"] == {"category": "runbook"}
    assert datetime.fromisoformat(hit["created_at"]).tzinfo is not None
    assert datetime.fromisoformat(retrieval["watermark"][0]["time"]).tzinfo is not None


def test_a_filter_given_twice_accepts_either_value(program: Program) -> None:
    program.synced()
    either = program.found("refunds parcels pager", "--filter", "category=policy", "--filter", "category=faq")
    assert sorted(either) == ["refunds", "shipping"]


def test_search_shows_documents_as_they_are(program: Program) -> None:
    """Neither as markup nor as orders to the terminal."""
    program.synced()
    shown = program.run("search", "handbook", "pager", "--top-k", "1").stdout
    assert "[bold]Never[/bold]" in shown
    assert "\x1b" not in shown


def test_search_by_words_alone_finds_only_what_holds_them(program: Program) -> None:
    program.synced()
    assert program.found("parcels", "--mode", "lexical") == ["shipping"]


@pytest.mark.parametrize(
    ("mode", "legs"), [("hybrid", ["dense", "lexical"]), ("dense", ["dense"]), ("lexical", ["lexical"])]
)
def test_search_tells_the_scores_of_the_legs_it_asked(program: Program, mode: str, legs: list[str]) -> None:
    program.synced()
    (hit,) = program.json("search", "handbook", "parcels", "--top-k", "1", "--mode", mode)["hits"]
    assert list(hit["scores"]) == legs
    shown = program.run("search", "handbook", "parcels", "--top-k", "1", "--mode", mode).stdout
    assert [leg for leg in ("dense", "lexical") if f"{leg} " in shown] == (legs if len(legs) > 1 else [])


def test_search_prints_no_spaces_at_the_end_of_lines(program: Program) -> None:
    program.synced()
    program.environ["COLUMNS"] = "30"  # so that the texts take several
    lines = program.run("search", "handbook", "pager").stdout.splitlines()
    assert [line for line in lines if line != line.rstrip()] == []


def test_search_says_that_nothing_follows_the_sources(program: Program) -> None:
    program.synced()
    assert "Run: livedex up" in program.run("search", "handbook", "pager").stderr


def test_status_knows_source_and_view(program: Program) -> None:
    program.synced()
    status = program.json("status")
    (source,) = status["sources"]
    (view,) = status["views"]
    assert (source["source"], source["documents"], source["error"]) == ("kb", 3, None)
    assert (view["view"], view["documents"], view["backlog"], view["capturing"]) == ("handbook", 3, 0, False)
    assert "handbook" in program.run("status").stdout


def test_up_makes_an_edit_searchable_for_other_processes(program: Program, following: subprocess.Popen[str]) -> None:
    program.execute("UPDATE documents SET content = 'Zebras cross here.' WHERE doc_id = 'shipping'")
    until(lambda: "Zebras" in program.run("search", "handbook", "zebras", "--top-k", "1").stdout)
    assert program.json("status")["views"][0]["capturing"] is True


def test_up_ends_with_success_on_sigterm(program: Program, following: subprocess.Popen[str]) -> None:
    following.send_signal(signal.SIGTERM)
    assert events_until("stopped", following)[-1]["event"] == "stopped"
    assert following.wait(PATIENCE_SECONDS) == 0


def test_up_reports_a_source_that_went_away_and_came_back(program: Program, following: subprocess.Popen[str]) -> None:
    program.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE backend_type = 'walsender' AND datname = current_database()"
    )
    events = events_until("recovered", following)
    assert [(event["event"], event["worker"]) for event in events] == [
        ("error", "source kb"),
        ("recovered", "source kb"),
    ]


def test_a_poison_row_waits_in_quarantine_until_it_is_mended(program: Program) -> None:
    program.execute("UPDATE documents SET readers = '[broken' WHERE doc_id = 'pager'")
    assert program.synced()["quarantined"] == 1
    (row,) = program.json("quarantine", "list")["quarantined"]
    number = str(row["quarantine_id"])
    assert (row["document_id"], row["source"], row["stage"]) == ("pager", "kb", "map")
    assert program.json("quarantine", "show", number)["reason"] == row["reason"]
    assert "readers" in program.run("quarantine", "show", number).stdout
    assert program.found("pager", "--principal", "anna") == ["refunds", "shipping"]

    program.execute("UPDATE documents SET readers = '[\"anna\"]' WHERE doc_id = 'pager'")
    assert program.json("quarantine", "retry", number) == {"retried": 1}
    assert program.synced()["quarantined"] == 0
    assert program.json("quarantine", "list") == {"quarantined": []}
    assert program.found("pager handed over", "--principal", "anna")[0] == "pager"


def test_retry_and_show_refuse_a_number_that_nobody_has(program: Program) -> None:
    program.synced()
    assert "7" in program.run("quarantine", "show", "7", exits=2).stderr
    assert "7" in program.run("quarantine", "retry", "7", exits=2).stderr


def test_the_sql_function_takes_what_embed_prints(program: Program) -> None:
    program.synced()
    embedded = program.json("embed", "handbook", "pager handed over")
    statement = program.run("embed", "handbook", "pager handed over").stdout
    with psycopg.connect(program.json("dsn")["dsn"]) as connection:
        nearest = connection.execute(
            "SELECT document_id FROM handbook_search(%s, %s, 1)", (embedded["embedding"], embedded["model"])
        ).fetchone()
        pasted = connection.execute(statement.encode()).fetchone()
        seen = connection.execute("SELECT count(DISTINCT document_id) FROM handbook").fetchone()
    assert nearest == ("pager",)
    assert pasted is not None
    assert pasted[0] == "pager"
    assert seen == (3,)


def test_resync_reads_again_and_embeds_nothing(program: Program) -> None:
    program.synced()
    program.run("source", "resync", "kb")
    counts = {"added": 0, "updated": 0, "unchanged": 3, "deleted": 0, "quarantined": 0, "texts_embedded": 0}
    assert program.synced() == counts


def test_models_list_reads_no_configuration(program: Program) -> None:
    (program.directory / "livedex.yaml").unlink()
    assert program.json("models", "list") == {"models": []}


def test_without_a_configuration_the_error_shows_one(program: Program) -> None:
    (program.directory / "livedex.yaml").unlink()
    said = program.run("status", exits=2).stderr
    assert said.startswith("Error: No livedex.yaml in ")
    assert "views:" in said


def test_a_wrong_configuration_is_one_line_with_its_place(program: Program) -> None:
    (program.directory / "livedex.yaml").write_text(CONFIGURATION.replace("hashing", "hushing"))
    said = program.run("sync", exits=2)
    assert said.stdout == ""
    assert said.stderr.count("\n") == 1
    assert said.stderr.startswith("Error: livedex.yaml:8: views.handbook.embedder: ")


@pytest.mark.parametrize(
    "arguments", [("search", "nowhere", "x"), ("embed", "nowhere", "x"), ("source", "resync", "x")]
)
def test_what_does_not_exist_is_one_line_with_exit_code_2(program: Program, arguments: tuple[str, ...]) -> None:
    program.synced()
    said = program.run(*arguments, exits=2).stderr
    assert said.startswith("Error: There is no ")
    assert said.count("\n") == 1


def test_a_filter_without_a_value_is_a_usage_error(program: Program) -> None:
    assert "category" in program.run("search", "handbook", "x", "--filter", "category", exits=2).stderr


def test_a_store_that_is_down_is_one_line_with_exit_code_3(program: Program) -> None:
    program.environ["LIVEDEX_DATABASE_URL"] = "postgresql://livedex:hunter2@127.0.0.1:9/livedex"
    said = program.run("status", exits=3).stderr
    assert said.startswith("Error: ")
    assert said.count("\n") == 1
    assert "hunter2" not in said


def test_a_source_that_is_down_is_one_line_with_exit_code_4(program: Program) -> None:
    program.environ["KB_DATABASE_URL"] = "postgresql://app:hunter2@127.0.0.1:9/app"
    said = program.run("sync", "--json", exits=4)
    assert said.stdout == ""
    assert said.stderr.startswith("Error: PostgreSQL at 127.0.0.1:9/app ")
    assert said.stderr.count("\n") == 1
    assert "hunter2" not in said.stderr


def test_a_wrong_password_is_not_shown(program: Program, server: EmbeddedServer) -> None:
    place = server.public_dsn.partition("@")[2]
    program.environ["KB_DATABASE_URL"] = f"postgresql://livedex:hunter2@{place}"
    said = program.run("sync", exits=4).stderr
    assert "password authentication failed" in said
    assert "hunter2" not in said


def test_debug_shows_where_an_error_came_from(program: Program) -> None:
    (program.directory / "livedex.yaml").unlink()
    assert "Traceback" in program.run("--debug", "status", exits=1).stderr


def test_an_interrupt_while_the_program_loads_ends_it_without_a_word() -> None:
    command = [sys.executable, "-c", INTERRUPTED_WHILE_LOADING]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "")


def test_a_reader_that_leaves_is_no_error(program: Program) -> None:
    program.synced()
    with program.start("search", "handbook", "pager") as process:
        assert process.stdout is not None
        process.stdout.close()
        process.wait(PATIENCE_SECONDS)
        assert process.stderr is not None
        said = process.stderr.read()
    assert process.returncode == 0
    assert "Broken" not in said
    assert "Traceback" not in said


def test_help_names_commands_and_exit_codes(program: Program) -> None:
    shown = " ".join(program.run("--help").stdout.split())
    for command in ("up", "sync", "status", "search", "embed", "quarantine", "models", "dsn", "source", "demo"):
        assert f" {command} " in shown
    assert "4 source" in shown


def test_help_needs_no_heavy_package(program: Program) -> None:
    heavy = "import sys, livedex.cli; print([m for m in ('numpy', 'psycopg', 'pydantic') if m in sys.modules])"
    said = subprocess.run(
        [sys.executable, "-c", heavy], env=program.environ, capture_output=True, text=True, check=True, timeout=60
    )
    assert said.stdout == "[]\n"
