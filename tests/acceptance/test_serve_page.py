"""What docs/how-to/serve.md shows works as it stands there, against a real index."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from mcp import Client, StdioServerParameters
from tests.served import Library, built_library, served

from livedex.errors import (
    EmbedderUnavailable,
    InputRejected,
    ModelMismatch,
    NotFound,
    QueryError,
    StoreFull,
    StoreUnavailable,
    TooSlow,
)
from livedex.serve.wire import STATUS_TYPES, STATUSES, RetrieveRequest
from livedex.store.embedded import EmbeddedServer

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "how-to" / "serve.md").read_text(encoding="utf-8")
ADDRESS = "http://127.0.0.1:8484"
PATIENCE_SECONDS = 60.0
TOLD_BY_NAME = (QueryError, InputRejected, NotFound, ModelMismatch, StoreUnavailable, EmbedderUnavailable, TooSlow,
                StoreFull)  # fmt: skip


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def library(server: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    with built_library(server.dsn, tmp_path_factory.mktemp("library")) as library:
        yield library


@asynccontextmanager
async def at_its_address(library: Library, example: str) -> AsyncIterator[str]:
    """The example with the address at which the library is served."""
    async with served(library) as (_, address):
        assert ADDRESS in example
        yield example.replace(ADDRESS, address.http)


async def output(*command: str) -> str:
    """What a program prints, while this one goes on serving it."""
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = await asyncio.wait_for(process.communicate(), PATIENCE_SECONDS)
    assert process.returncode == 0, err.decode()
    return out.decode()


async def test_curl_finds_the_document(library: Library) -> None:
    if shutil.which("curl") is None:
        pytest.skip("no curl on this machine")
    (example,) = [block for block in blocks("sh") if "curl" in block]
    async with at_its_address(library, example) as command:
        told = json.loads(await output("sh", "-c", command))
    assert told["hits"][0]["document_id"] == "refunds"


async def test_python_finds_the_document(library: Library) -> None:
    (example,) = [block for block in blocks("python") if "httpx" in block]
    async with at_its_address(library, example) as program:
        assert (await output(sys.executable, "-c", program)).startswith("refunds ")


async def test_a_client_is_configured_over_http(library: Library) -> None:
    (example,) = [block for block in blocks("json") if '"url"' in block]
    async with at_its_address(library, example) as configuration:
        (wanted,) = json.loads(configuration)["mcpServers"].values()
        assert wanted["type"] == "http"
        async with Client(wanted["url"]) as client:
            assert {tool.name for tool in (await client.list_tools()).tools} == {"search", "describe_views"}


async def test_a_client_is_configured_over_stdio(library: Library) -> None:
    (example,) = [block for block in blocks("json") if '"command"' in block]
    (wanted,) = json.loads(example)["mcpServers"].values()
    assert wanted["command"] == "livedex"
    arguments = [word.replace("/srv/shop/livedex.yaml", str(library.config)) for word in wanted["args"]]
    environ = {**wanted["env"], **library.environ, "PYTHONPATH": ":".join(path for path in sys.path if path)}
    program = StdioServerParameters(command=sys.executable, args=["-m", "livedex", *arguments], env=environ)
    async with Client(program) as client:
        assert {tool.name for tool in (await client.list_tools()).tools} == {"search", "describe_views"}


async def test_an_application_of_ones_own_mounts_the_api(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    (example,) = [block for block in blocks("python") if "create_app" in block]
    for name, value in library.environ.items():
        monkeypatch.setenv(name, value)
    names: dict[str, Any] = {}
    exec(compile(example.replace('"livedex.yaml"', repr(str(library.config))), "serve.md", "exec"), names)  # noqa: S102  # the page's own
    app = names["app"]
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="https://search.example.org/search") as client:
            assert (await client.get("/readyz")).json() == {"views": ["handbook"]}
        async with httpx.AsyncClient(transport=transport, base_url="https://evil.example/search") as client:
            assert (await client.get("/readyz")).status_code == 421


def test_the_page_tells_every_field_of_a_question() -> None:
    table = PAGE.partition("| field | meaning | default |")[2].partition("\n\n")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == list(RetrieveRequest.model_fields)


def test_the_page_tells_statuses_as_they_are() -> None:
    table = PAGE.partition("| status | when | `type` |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| ([\d, ]+) \|.*\| (.+) \|$", table, re.MULTILINE)
    told = {
        (int(code), name)
        for codes, names in rows
        for code in codes.split(", ")
        for name in re.findall(r"`(\w+)`", names)
    }
    assert set(STATUS_TYPES.items()) - told == set()
    kinds = {kind.__name__: status for kind, status in STATUSES.items()}
    assert [(status, name) for status, name in told if kinds.get(name, status) != status] == []
    assert {kind.__name__ for kind in TOLD_BY_NAME} - {name for _, name in told} == set()
