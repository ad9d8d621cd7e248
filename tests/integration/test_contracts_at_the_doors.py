"""What people, programs and models are told of a contract: over HTTP, MCP and on the command line."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import httpx
import pytest
from mcp import Client
from mcp_types import CallToolResult, TextContent
from tests.served import CONFIG, Library, built_library, served
from typer.testing import CliRunner

from livedex.cli import app
from livedex.config import Serve
from livedex.store.embedded import EmbeddedServer

TEXTS = ("fourteen days", "same day", "handed over", "zebra")
QUESTION = "When is a refund paid?"
Program = Callable[..., str]


@pytest.fixture(scope="module")
def library(server: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    with built_library(server.dsn, tmp_path_factory.mktemp("library")) as library:
        yield library


@pytest.fixture
def program(library: Library) -> Iterator[Program]:
    """`livedex` in this process: its exit code is insisted on, what it prints comes back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def run(*arguments: str, exits: int = 0) -> str:
        environ: Mapping[str, str] = {**library.environ, "LIVEDEX_CONFIG": str(library.config), "COLUMNS": "200"}
        result = CliRunner().invoke(app, arguments, env=environ)
        assert result.exit_code == exits, result.output
        return str(result.output)

    yield run
    for number, handler in before.items():
        signal.signal(number, handler)


def contracted(library: Library, contract: str) -> None:
    library.config.write_text(CONFIG.replace("description: ", f"contract: {contract}, description: "))


async def test_an_abstention_over_http_says_why_and_no_more(library: Library) -> None:
    contracted(library, "{min_characters: 5000, on_violation: abstain}")
    async with served(library, Serve(port=0)) as (_, address), httpx.AsyncClient(base_url=address.http) as client:
        answer = await client.post("/v1/retrieve", json={"view": "handbook", "query": QUESTION, "top_k": 1})
    told = answer.json()
    assert (answer.status_code, told["hits"], told["verdict"]["outcome"]) == (200, [], "abstained")
    assert [violation["clause"] for violation in told["verdict"]["violations"]] == ["min_characters", "min_hits"]
    assert [dropped["document_id"] for dropped in told["verdict"]["dropped"]] == ["refunds"]
    assert [text for text in TEXTS if text in answer.text] == []


async def test_a_model_is_told_to_have_no_source(library: Library) -> None:
    contracted(library, "{min_characters: 5000}")
    async with served(library, Serve(port=0)) as (_, address):
        assert address.mcp is not None
        async with Client(address.mcp, read_timeout_seconds=60) as client:
            answer = await client.call_tool("search", {"view": "handbook", "query": QUESTION})
    assert isinstance(answer, CallToolResult)
    (content,) = answer.content
    assert isinstance(content, TextContent)
    assert "No passage of handbook may be used for this question: the view's contract is not kept" in content.text
    before, _, rest = content.text.partition("\n<untrusted-")
    assert ("refunds" in before, "document_id: refunds" in rest) == (False, True)
    assert [text for text in TEXTS if text in content.text + json.dumps(answer.structured_content)] == []


def test_the_command_line_says_why_there_is_no_answer(library: Library, program: Program) -> None:
    contracted(library, "{document_types: {category: poetry}, on_violation: abstain}")
    told = program("search", "handbook", QUESTION, "--top-k", "1")
    assert "No answer: the contract handbook-" in told
    assert "document_types: 1 of 1 hits: category is none of: poetry" in told
    assert "withheld: refunds" in told
    assert [text for text in TEXTS if text in told] == []


def test_the_command_line_says_what_was_withheld_beside_an_answer(library: Library, program: Program) -> None:
    contracted(library, "{document_types: {category: [faq]}}")
    told = program("search", "handbook", QUESTION, "--top-k", "2")
    assert "withheld under the contract handbook-" in told
    assert ": document_types " in told


def test_a_contract_is_shown_and_checked(library: Library, program: Program) -> None:
    contracted(library, "{document_types: {category: [policy]}}")
    shown: dict[str, Any] = json.loads(program("contract", "show", "handbook", "--json"))
    assert shown["clauses"]["document_types"] == {"category": ["policy"]}
    assert "document_types: category policy" in program("contract", "show", "handbook")
    checked: dict[str, Any] = json.loads(program("contract", "check", "handbook", "--json"))
    assert (checked["contract"], checked["documents"], checked["documents_within"]) == (shown["contract"], 6, 3)
    told = program("contract", "check", "handbook")
    assert "3 of 6 (50 %) documents are within it, 0 more in part" in told
    assert "category: policy 3, faq 2, runbook 1" in told


def test_a_draft_in_another_file_is_checked(library: Library, program: Program) -> None:
    contracted(library, "{document_types: {category: [faq]}}")
    draft = library.config.rename(library.config.with_name("draft.yaml"))
    library.config.write_text(CONFIG)
    told = json.loads(program("contract", "check", "handbook", "--file", str(draft), "--json"))
    assert told["documents_within"] == 2
    assert "View handbook has no contract" in program("contract", "check", "handbook", exits=2)
    assert "View handbook has no contract" in program("contract", "show", "handbook", exits=2)


def test_a_ticket_is_handled_on_the_command_line(library: Library, program: Program) -> None:
    contracted(library, "{min_characters: 5000, on_violation: escalate}")
    number = str(json.loads(program("search", "handbook", QUESTION, "--json"))["verdict"]["escalation"])
    assert f"{QUESTION}  handbook · open" in program("escalations", "list")
    assert "withheld: refunds" in program("escalations", "show", number)
    assert "taken by anna" in program("escalations", "take", number, "--by", "anna")
    assert f"Escalation {number} cannot be taken: it is taken already by anna." in program(
        "escalations", "take", number, "--by", "ben", exits=2
    )
    resolved = json.loads(program("escalations", "resolve", number, "--by", "ben", "-m", "Ask sales.", "--json"))
    assert (resolved["state"], resolved["resolution"]) == ("resolved", "Ask sales.")
    assert "No question waits for a person." in program("escalations", "list")
    assert "resolved by ben: Ask sales." in program("escalations", "show", number)
    assert [each["state"] for each in json.loads(program("escalations", "list", "--all", "--json"))["escalations"]] == [
        "resolved"
    ]
