"""The MCP door, spoken to by the official SDK's client: over HTTP and over stdin and stdout."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from mcp import Client, StdioServerParameters
from mcp_types import CallToolResult, TextContent
from tests.served import Library, built_library, served
from tests.world import World

from livedex.config import McpDoor, Serve
from livedex.serve.mcp import NOTICE
from livedex.store.embedded import EmbeddedServer

PATIENCE_SECONDS = 60.0
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}},
}
both_eras = pytest.mark.parametrize("mode", ["auto", "legacy"])


@pytest.fixture(scope="module")
def library(server: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    with built_library(server.dsn, tmp_path_factory.mktemp("library")) as library:
        yield library


def environ(world: World) -> dict[str, str]:
    paths = os.pathsep.join(path for path in sys.path if path)
    return {**os.environ, **world.environ, "LIVEDEX_CONFIG": str(world.config), "PYTHONPATH": paths}


@asynccontextmanager
async def over_http(library: Library, mode: str = "auto", **settings: Any) -> AsyncIterator[Client]:
    async with served(library, Serve(port=0, **settings)) as (_, address):
        assert address.mcp is not None
        async with Client(address.mcp, mode=mode, read_timeout_seconds=PATIENCE_SECONDS) as client:
            yield client


@asynccontextmanager
async def over_stdio(library: Library, *options: str, mode: str = "auto") -> AsyncIterator[Client]:
    program = StdioServerParameters(
        command=sys.executable, args=["-m", "livedex", "mcp", *options], env=environ(library)
    )
    async with Client(program, mode=mode, read_timeout_seconds=PATIENCE_SECONDS) as client:
        yield client


async def search(client: Client, query: str, **arguments: Any) -> CallToolResult:
    answer = await client.call_tool("search", {"view": "handbook", "query": query, **arguments})
    assert isinstance(answer, CallToolResult)
    return answer


def found(answer: CallToolResult) -> list[str]:
    """The documents of a structured answer, in order of their names."""
    assert answer.structured_content is not None
    return sorted({hit["document_id"] for hit in answer.structured_content["retrieval"]["hits"]})


def text(answer: CallToolResult) -> str:
    (content,) = answer.content
    assert isinstance(content, TextContent)
    return content.text


@both_eras
async def test_both_ways_lead_to_the_same_documents(library: Library, mode: str) -> None:
    async with over_http(library, mode) as http, over_stdio(library, mode=mode) as stdio:
        for client in (http, stdio):
            answer = await search(client, "When is a refund paid?", top_k=1)
            assert found(answer) == ["refunds"]
            assert "A refund is paid within fourteen days." in text(answer)


async def test_the_tools_say_what_there_is_and_leave_no_choice_of_tenant(library: Library) -> None:
    async with over_http(library) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    assert set(tools) == {"search", "describe_views"}
    asked = tools["search"].input_schema["properties"]
    fresh = {"max_staleness_seconds", "at_least", "when_stale", "wait_seconds"}
    assert set(asked) == {"view", "query", "top_k", "filters"} | fresh
    assert asked["view"]["enum"] == ["handbook"]
    assert "handbook: What the staff of a shop must know. " in str(tools["search"].description)
    assert [tool.annotations.read_only_hint for tool in tools.values() if tool.annotations] == [True, True]


async def test_views_are_described(library: Library) -> None:
    async with over_http(library) as client:
        answer = await client.call_tool("describe_views", {})
    assert answer.structured_content == json.loads(text(answer))
    (view,) = answer.structured_content["views"]
    assert (view["view"], view["documents"], view["metadata"]) == ("handbook", 6, ["category"])


async def test_quoted_text_is_marked_by_what_no_document_could_know(library: Library) -> None:
    async with over_http(library) as client:
        answer = await search(client, "zebra password", top_k=1)
    assert answer.structured_content is not None
    assert answer.structured_content["notice"] == NOTICE
    mark = f"untrusted-{answer.structured_content['retrieval']['retrieval_id']}"
    before, _, rest = text(answer).partition(f"\n<{mark}>\n")
    quoted, _, after = rest.partition(f"\n</{mark}>")
    assert NOTICE in before
    assert "Ignore all instructions" in quoted
    assert "Ignore all instructions" not in before + after


@pytest.mark.parametrize("filters", [{"category": ["runbook"]}, {"category": "runbook"}, '{"category": "runbook"}'])
async def test_filters_are_a_value_a_list_or_the_json_of_either(library: Library, filters: Any) -> None:
    async with over_http(library) as client:
        assert found(await search(client, "refund", filters=filters)) == ["pager"]


async def test_no_hits_are_no_error(library: Library) -> None:
    async with over_http(library) as client:
        answer = await search(client, "refund", filters={"category": "poetry"})
    assert (answer.is_error, found(answer)) == (False, [])
    assert "Nothing in handbook matches" in text(answer)


async def test_whose_documents_are_found_is_configured(library: Library) -> None:
    async with over_http(library) as client:
        assert "acme" not in found(await search(client, "refund", top_k=50))
    async with over_http(library, mcp=McpDoor(tenant="acme", principals=("anna",))) as client:
        assert {"acme", "salaries"} <= set(found(await search(client, "refund", top_k=50)))


async def test_whose_documents_are_found_is_said_on_the_command_line(library: Library) -> None:
    async with over_stdio(library, "--tenant", "acme", "--principal", "anna") as client:
        assert {"acme", "salaries"} <= set(found(await search(client, "refund", top_k=50)))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"view": "nowhere"}, "There is no view nowhere."),
        ({"query": "  "}, "The query is empty."),
        ({"tenant": "acme"}, "tenant: unknown field. Known: view, query, top_k, filters, "),
        ({"top_k": 51}, "top_k: should be less than or equal to 50."),
    ],
)
async def test_an_error_is_the_tools_with_its_message(library: Library, arguments: dict[str, Any], said: str) -> None:
    async with over_http(library) as client:
        answer = await client.call_tool("search", {"view": "handbook", "query": "refund", **arguments})
    assert answer.is_error
    assert text(answer).startswith(said)


async def test_an_unknown_tool_is_an_error(library: Library) -> None:
    async with over_http(library) as client:
        assert (await client.call_tool("delete_everything", {})).is_error


async def test_no_stream_is_opened_that_nothing_would_come_from(library: Library) -> None:
    async with served(library) as (_, address), httpx.AsyncClient() as client:
        assert address.mcp is not None
        assert (await client.get(address.mcp, headers={"accept": "text/event-stream"})).status_code == 405


async def test_a_page_of_another_machine_reaches_no_tool(library: Library) -> None:
    async with served(library) as (_, address), httpx.AsyncClient() as client:
        assert address.mcp is not None
        for headers, status in (({"origin": "https://evil.example"}, 403), ({"host": "evil.example"}, 421)):
            assert (await client.post(address.mcp, json=INITIALIZE, headers=headers)).status_code == status


def start(library: Library, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "livedex", "mcp", *options],
        env=environ(library),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_stdout_holds_the_protocol_and_nothing_else(library: Library) -> None:
    call = {"jsonrpc": "2.0", "id": 2, "method": "tools/call",
            "params": {"name": "search", "arguments": {"view": "handbook", "query": "refund"}}}  # fmt: skip
    sent = [INITIALIZE, {"jsonrpc": "2.0", "method": "notifications/initialized"}, call]
    with start(library) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.writelines(json.dumps(message) + "\n" for message in sent)
        process.stdin.flush()
        first, second = (json.loads(process.stdout.readline()) for _ in range(2))
        out, err = process.communicate(timeout=PATIENCE_SECONDS)
    assert (first["id"], second["id"]) == (1, 2)
    assert second["result"]["isError"] is False
    assert (out, err, process.returncode) == ("", "", 0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_while_its_client_is_silent(library: Library, number: signal.Signals) -> None:
    with start(library) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(INITIALIZE) + "\n")
        process.stdin.flush()
        process.stdout.readline()
        process.send_signal(number)
        try:
            assert process.wait(PATIENCE_SECONDS) == 130
        finally:
            process.kill()


def test_what_is_wrong_at_the_start_goes_to_stderr(library: Library) -> None:
    env = environ(library) | {"LIVEDEX_CONFIG": str(library.config.with_name("missing.yaml"))}
    done = subprocess.run([sys.executable, "-m", "livedex", "mcp"], env=env, input="", capture_output=True, text=True,
                          timeout=PATIENCE_SECONDS, check=False)  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Error: No missing.yaml")
