"""`livedex serve` and the doors of `livedex up`, as people start them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.served import Library, built_library

from livedex.store.embedded import EmbeddedServer

PATIENCE_SECONDS = 60.0
QUESTION = {"view": "handbook", "query": "When is a refund paid?", "top_k": 1}
WITHOUT = "import sys; sys.modules[{!r}] = None; from livedex.cli import main; main()"


@pytest.fixture(scope="module")
def built(server: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    with built_library(server.dsn, tmp_path_factory.mktemp("library")) as library:
        yield library


@pytest.fixture
def library(built: Library, tmp_path: Path) -> Library:
    """The built library with a configuration of its own, which a test may add to."""
    config = tmp_path / "livedex.yaml"
    config.write_text(built.config.read_text())
    return Library(built.source_dsn, built.store_dsn, config)


def add(library: Library, text: str) -> None:
    library.config.write_text(library.config.read_text() + text)


def command(library: Library, *arguments: str, without: str | None = None) -> tuple[list[str], dict[str, str]]:
    program = ["-m", "livedex"] if without is None else ["-c", WITHOUT.format(without)]
    paths = os.pathsep.join(path for path in sys.path if path)
    environ = {**os.environ, **library.environ, "LIVEDEX_CONFIG": str(library.config), "PYTHONPATH": paths}
    return [sys.executable, *program, *arguments], environ


@contextmanager
def started(library: Library, *arguments: str, without: str | None = None) -> Iterator[subprocess.Popen[str]]:
    words, environ = command(library, *arguments, "--json", without=without)
    with subprocess.Popen(
        words, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        ending = threading.Timer(PATIENCE_SECONDS, process.kill)
        ending.start()
        try:
            yield process
        finally:
            ending.cancel()
            process.kill()


def refused(library: Library, *arguments: str, without: str | None = None) -> str:
    """What a command says that ends with exit code 2."""
    words, environ = command(library, *arguments, without=without)
    done = subprocess.run(words, env=environ, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    return done.stderr


def events_until(last: str, process: subprocess.Popen[str]) -> list[Any]:
    assert process.stdout is not None
    events = []
    for line in process.stdout:
        events.append(json.loads(line))
        if events[-1]["event"] == last:
            break
    return events


def event(kind: str, process: subprocess.Popen[str]) -> Any:
    (*_, last) = events_until(kind, process)
    assert last["event"] == kind
    return last


def ask(address: Any) -> list[str]:
    answer = httpx.post(f"{address['http']}/v1/retrieve", json=QUESTION, timeout=PATIENCE_SECONDS)
    return [hit["document_id"] for hit in answer.json()["hits"]]


@contextmanager
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_answers_until_a_signal_and_ends_with_success(library: Library, number: signal.Signals) -> None:
    with started(library, "serve", "--port", "0") as process:
        address = event("serving", process)
        assert address["mcp"] == f"{address['http']}/mcp"
        assert ask(address) == ["refunds"]
        process.send_signal(number)
        assert [event["event"] for event in events_until("stopped", process)] == ["stopping", "stopped"]
        assert process.wait(PATIENCE_SECONDS) == 0


def test_up_follows_and_answers(library: Library) -> None:
    add(library, "serve: {port: 0}\n")
    with started(library, "up") as process:
        address = event("serving", process)
        event("loaded", process)
        assert ask(address) == ["refunds"]
        process.send_signal(signal.SIGTERM)
        assert event("stopped", process)["waiting"] == 0
        assert process.wait(PATIENCE_SECONDS) == 0


def test_up_with_its_doors_switched_off_only_follows(library: Library) -> None:
    add(library, "serve: false\n")
    with started(library, "up") as process:
        assert [event["event"] for event in events_until("loaded", process)] == ["started", "loaded"]


@pytest.mark.parametrize("verb", ["up", "serve"])
def test_a_configured_port_in_use_is_one_error_at_the_start(library: Library, verb: str) -> None:
    with taken_port() as port:
        add(library, f"serve: {{port: {port}}}\n")
        assert refused(library, verb).startswith(f"Error: serve.port: port {port} on 127.0.0.1 is in use.")


def test_up_without_a_word_about_serving_follows_when_the_port_is_in_use(library: Library) -> None:
    with taken_default_port(), started(library, "up") as process:
        events = {event["event"]: event for event in events_until("loaded", process)}
    assert "8484" in events["not_serving"]["message"]
    assert "loaded" in events


@contextmanager
def taken_default_port() -> Iterator[None]:
    """Whoever listens on it: this test or somebody else."""
    listener = socket.socket()
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", 8484))
            listener.listen()
        except OSError:
            pass  # taken already, which is what is wanted
        yield
    finally:
        listener.close()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.1", "example.org"])  # noqa: S104  # what must not be had
def test_other_machines_cannot_be_let_in(library: Library, host: str) -> None:
    add(library, f'serve: {{host: "{host}"}}\n')
    said = refused(library, "serve")
    assert "serve.host: must be 127.0.0.1, ::1 or localhost" in said


@pytest.mark.parametrize(
    ("verb", "package", "extra"), [("serve", "fastapi", "serve"), ("serve", "uvicorn", "serve"), ("mcp", "mcp", "mcp")]
)
def test_a_missing_extra_is_one_error_with_its_install(library: Library, verb: str, package: str, extra: str) -> None:
    assert f"pip install 'livedex[{extra}]'" in refused(library, verb, without=package)


def test_without_the_extra_mcp_http_is_served_alone(library: Library) -> None:
    with started(library, "serve", "--port", "0", without="mcp") as process:
        address = event("serving", process)
        assert address["mcp"] is None
        assert ask(address) == ["refunds"]
        assert httpx.post(f"{address['http']}/mcp", json={}).status_code == 404


@pytest.mark.parametrize(("configured", "told"), [("serve: {port: 0}\n", ["MissingExtra"]), ("", [])])
def test_up_without_the_extra_follows_and_says_how_to_get_it_only_if_asked_to_serve(
    library: Library, configured: str, told: list[str]
) -> None:
    add(library, configured)
    with started(library, "up", without="fastapi") as process:
        events = events_until("loaded", process)
    assert [event["error"] for event in events if event["event"] == "not_serving"] == told
    assert events[-1]["event"] == "loaded"


def test_an_index_that_another_process_builds_later_is_served_then(
    server: EmbeddedServer, database_on: Callable[[EmbeddedServer], str], tmp_path: Path
) -> None:
    library = Library.of(database_on(server), database_on(server), tmp_path)
    with started(library, "serve", "--port", "0") as process:
        address = event("serving", process)
        assert httpx.get(f"{address['http']}/readyz").status_code == 503
        words, environ = command(library, "sync")
        subprocess.run(words, env=environ, capture_output=True, check=True, timeout=PATIENCE_SECONDS)
        assert httpx.get(f"{address['http']}/readyz").status_code == 200
        assert ask(address) == ["refunds"]
