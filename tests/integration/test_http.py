"""The HTTP door, over a real index, on a real port."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.served import Library, built_library, served

import livedex
from livedex.config import Serve
from livedex.errors import ConfigError
from livedex.model import Hit, Retrieval
from livedex.serve.guard import MOST_BODY_BYTES
from livedex.serve.http import create_app
from livedex.serve.listen import open_doors
from livedex.status import ViewDescription
from livedex.store.embedded import EmbeddedServer

QUESTION = {"view": "handbook", "query": "When is a refund paid?"}


@pytest.fixture(scope="module")
def library(server: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    with built_library(server.dsn, tmp_path_factory.mktemp("library")) as library:
        yield library


@pytest.fixture
async def index(library: Library) -> AsyncIterator[livedex.Index]:
    async with library.open() as index:
        yield index


@pytest.fixture
async def client(index: livedex.Index) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        open_doors(index, Serve(port=0)) as address,
        httpx.AsyncClient(base_url=address.http, timeout=60) as client,
    ):
        yield client


async def ask(client: httpx.AsyncClient, **question: Any) -> list[str]:
    """The documents found, in order of their names."""
    answer = await client.post("/v1/retrieve", json=QUESTION | question)
    assert answer.status_code == 200, answer.text
    return sorted({hit["document_id"] for hit in answer.json()["hits"]})


def refusal(answer: httpx.Response) -> tuple[int, str]:
    """The status and the type of a refusal, of which nothing but the type and a message is told."""
    told = answer.json()
    assert told.keys() == {"error"}
    assert told["error"].keys() == {"type", "message"}
    assert answer.headers["content-type"] == "application/json"
    return answer.status_code, told["error"]["type"]


async def until_answered(client: httpx.AsyncClient) -> None:
    async with asyncio.timeout(60):
        while True:
            if (await client.post("/v1/retrieve", json=QUESTION)).status_code != 503:
                return
            await asyncio.sleep(0.1)


# Answers


async def test_an_answer_is_what_the_index_says_field_by_field(client: httpx.AsyncClient, index: livedex.Index) -> None:
    told = (await client.post("/v1/retrieve", json=QUESTION)).json()
    found = await index.search("handbook", QUESTION["query"])
    assert set(told) == {field.name for field in fields(Retrieval)}
    assert [set(hit) for hit in told["hits"]] == [{field.name for field in fields(Hit)}] * len(found.hits)
    for hit, wanted in zip(told["hits"], found.hits, strict=True):
        assert (hit["document_id"], hit["text"], hit["start"], hit["end"], hit["score"], hit["metadata"]) == (
            wanted.document_id, wanted.text, wanted.start, wanted.end, wanted.score, wanted.metadata
        )  # fmt: skip
        assert hit["created_at"] == wanted.created_at.isoformat().replace("+00:00", "Z")
    assert [mark["source"] for mark in told["watermark"]] == ["kb"]


async def test_top_k_bounds_the_hits(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/retrieve", json=QUESTION | {"top_k": 1})
    assert len(answer.json()["hits"]) == 1


async def test_a_filter_is_a_value_or_those_of_which_any_will_do(client: httpx.AsyncClient) -> None:
    assert await ask(client, filters={"category": "runbook"}) == ["pager"]
    assert await ask(client, filters={"category": ["runbook", "faq"]}) == ["pager", "shipping", "trap"]


async def test_documents_of_a_tenant_and_of_a_principal_are_found_on_their_behalf_only(
    client: httpx.AsyncClient,
) -> None:
    public = ["pager", "refunds", "shipping", "trap"]
    assert await ask(client) == public
    assert await ask(client, tenant="acme") == sorted(["acme", *public])
    assert await ask(client, principals=["anna"], exact=True) == sorted(["salaries", *public])


async def test_views_tell_what_they_hold(client: httpx.AsyncClient) -> None:
    (view,) = (await client.get("/v1/views")).json()["views"]
    assert set(view) == {field.name for field in fields(ViewDescription)}
    told = {name: view[name] for name in ("view", "description", "sources", "metadata", "documents", "generation")}
    assert told == {
        "view": "handbook",
        "description": "What the staff of a shop must know.",
        "sources": ["kb"],
        "metadata": ["category"],
        "documents": 6,
        "generation": 1,
    }
    assert view["embedding_model"].startswith("hashing:")
    assert view["chunks"] >= 6


async def test_twenty_ask_at_once_and_each_gets_its_own_answer(client: httpx.AsyncClient) -> None:
    questions = ["refund paid", "parcel leaves", "pager handed over", "zebra password"] * 5
    answers = await asyncio.gather(
        *(client.post("/v1/retrieve", json=QUESTION | {"query": text, "top_k": 1}) for text in questions)
    )
    found = [answer.json()["hits"][0]["document_id"] for answer in answers]
    assert found == ["refunds", "shipping", "pager", "trap"] * 5


async def test_the_api_describes_itself_without_a_page_from_elsewhere(client: httpx.AsyncClient) -> None:
    described = (await client.get("/openapi.json")).json()
    assert set(described["paths"]) == {"/v1/retrieve", "/v1/views", "/healthz", "/readyz"}
    hit = described["components"]["schemas"]["Hit"]
    assert set(hit["properties"]) == {field.name for field in fields(Hit)}
    assert [(await client.get(page)).status_code for page in ("/docs", "/redoc")] == [404, 404]


# Health


async def test_a_built_index_is_ready(client: httpx.AsyncClient) -> None:
    answer = await client.get("/readyz")
    assert (answer.status_code, answer.json()) == (200, {"views": ["handbook"]})


async def test_an_index_that_nobody_has_built_is_alive_but_not_ready(
    server: EmbeddedServer, database_on: Callable[[EmbeddedServer], str], tmp_path: Path
) -> None:
    empty = Library.of(database_on(server), database_on(server), tmp_path)
    async with served(empty) as (_, address), httpx.AsyncClient(base_url=address.http) as client:
        assert (await client.get("/healthz")).json() == {"status": "ok"}
        assert refusal(await client.get("/readyz")) == (503, "NotReady")
        assert "handbook: " in (await client.get("/readyz")).json()["error"]["message"]
        assert refusal(await client.post("/v1/retrieve", json=QUESTION)) == (404, "NotFound")
        (view,) = (await client.get("/v1/views")).json()["views"]
        assert (view["generation"], view["documents"]) == (None, 0)


@pytest.mark.slow
async def test_a_store_that_restarts_is_503_meanwhile_and_then_works_again(
    server: EmbeddedServer, database_on: Callable[[EmbeddedServer], str], tmp_path: Path
) -> None:
    own = await EmbeddedServer.start(tmp_path / "store")
    library = Library.of(database_on(server), own.public_dsn, tmp_path)
    try:
        await library.sync()
        async with served(library) as (_, address), httpx.AsyncClient(base_url=address.http, timeout=60) as client:
            assert await ask(client, filters={"category": "runbook"}) == ["pager"]
            await own.stop()
            for answer in [await client.post("/v1/retrieve", json=QUESTION), await client.get("/readyz")]:
                status, kind = refusal(answer)
                assert (status, answer.headers["retry-after"]) == (503, "1")
                assert kind in ("StoreUnavailable", "TooSlow")
            assert (await client.get("/healthz")).status_code == 200
            own = await EmbeddedServer.start(tmp_path / "store")
            assert own.public_dsn == library.store_dsn
            await until_answered(client)
            assert await ask(client, filters={"category": "runbook"}) == ["pager"]
    finally:
        await own.stop()


# Refusals


async def test_a_view_that_does_not_exist_is_404(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/retrieve", json=QUESTION | {"view": "nowhere"})
    assert refusal(answer) == (404, "NotFound")
    assert "handbook" in answer.json()["error"]["message"]


async def test_a_query_that_cannot_be_answered_is_400(client: httpx.AsyncClient) -> None:
    assert refusal(await client.post("/v1/retrieve", json=QUESTION | {"query": "   "})) == (400, "QueryError")


@pytest.mark.parametrize(
    ("wrong", "named"),
    [({"top_k": 1001}, "top_k"), ({"filters": {"category": 5}}, "filters.category"), ({"mdoe": "x"}, "mdoe")],
)
async def test_what_is_wrong_with_a_question_is_named(
    client: httpx.AsyncClient, wrong: dict[str, Any], named: str
) -> None:
    answer = await client.post("/v1/retrieve", json=QUESTION | wrong)
    assert refusal(answer) == (422, "InvalidRequest")
    assert answer.json()["error"]["message"].startswith(f"{named}: ")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 422),
        (b"{", 422),
        (b"null", 422),
        (b'{"view": "handbook", "query": "\\ud800"}', 422),
        (b'{"view": "handbook", "query": "x", "top_k": ' + b"9" * 5000 + b"}", 400),
        (b"[" * 100_000, 400),
        (b"\xff\xfe", 422),
    ],
)
async def test_a_body_that_means_nothing_is_the_callers_fault(
    client: httpx.AsyncClient, body: bytes, status: int
) -> None:
    answer = await client.post("/v1/retrieve", content=body, headers={"content-type": "application/json"})
    assert refusal(answer) == (status, "InvalidRequest")


async def test_a_body_that_is_not_said_to_be_json_is_refused(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/retrieve", content=json.dumps(QUESTION), headers={"content-type": "text/plain"})
    assert refusal(answer) == (415, "UnsupportedMediaType")


async def test_unknown_paths_and_methods_are_refused_in_the_same_shape(client: httpx.AsyncClient) -> None:
    assert refusal(await client.get("/v1/nothing")) == (404, "UnknownPath")
    answer = await client.get("/v1/retrieve")
    assert refusal(answer) == (405, "MethodNotAllowed")
    assert answer.headers["allow"] == "POST"


async def test_a_body_that_is_too_large_is_refused_whether_it_says_so_or_not(client: httpx.AsyncClient) -> None:
    large = b" " * (MOST_BODY_BYTES + 1)

    async def in_pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(large), 1 << 16):
            yield large[start : start + (1 << 16)]

    for body in (large, in_pieces()):
        answer = await client.post("/v1/retrieve", content=body, headers={"content-type": "application/json"})
        assert refusal(answer) == (413, "RequestTooLarge")


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8484", "127.0.0.1.evil.example", "10.0.0.1", "", "::"])
async def test_a_request_for_another_host_is_refused(client: httpx.AsyncClient, host: str) -> None:
    for path in ("/healthz", "/v1/views", "/mcp"):
        assert refusal(await client.get(path, headers={"host": host})) == (421, "HostRefused")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9000", "127.0.0.1", "127.0.0.1:8484", "127.1.2.3", "[::1]:1"])
async def test_this_machine_may_be_called_by_all_its_names(client: httpx.AsyncClient, host: str) -> None:
    assert (await client.get("/healthz", headers={"host": host})).status_code == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost.evil.example", "file://"])
async def test_a_page_of_another_machine_may_not_ask(client: httpx.AsyncClient, origin: str) -> None:
    answer = await client.post("/v1/retrieve", json=QUESTION, headers={"origin": origin})
    assert refusal(answer) == (403, "OriginRefused")


async def test_a_page_of_this_machine_may_ask_but_not_read_across(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/retrieve", json=QUESTION, headers={"origin": "http://localhost:3000"})
    assert answer.status_code == 200
    assert [name for name in answer.headers if name.startswith("access-control")] == []
    asked_first = await client.options("/v1/retrieve", headers={"origin": "http://localhost:3000"})
    assert refusal(asked_first) == (405, "MethodNotAllowed")


class Broken:
    """An index with a fault of its own, as every program has some."""

    @property
    def descriptions(self) -> dict[str, str | None]:
        return {"handbook": None}

    async def retrieve(self, view: str, query: object) -> Retrieval:
        raise RuntimeError("connect to postgresql://livedex:hunter2@db/livedex")

    async def describe(self) -> tuple[ViewDescription, ...]:
        raise NotImplementedError

    async def unready(self) -> dict[str, str]:
        return {}


async def test_an_error_that_nobody_foresaw_is_told_to_the_log_alone_and_without_its_password(
    caplog: pytest.LogCaptureFixture,
) -> None:
    transport = httpx.ASGITransport(create_app(Broken()))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        answer = await client.post("/v1/retrieve", json=QUESTION)
    assert refusal(answer) == (500, "Unexpected")
    assert "postgresql" not in answer.text
    assert "RuntimeError: connect to postgresql://livedex:" in caplog.text
    assert "hunter2" not in caplog.text


# The port


async def test_a_port_in_use_is_one_error_that_names_port_and_setting(index: livedex.Index) -> None:
    async with open_doors(index, Serve(port=0)) as address:
        port = int(address.http.rpartition(":")[2])
        with pytest.raises(ConfigError, match=rf"^serve\.port: port {port} on 127\.0\.0\.1 is in use\."):
            async with open_doors(index, Serve(port=port)):
                pass


async def test_closed_doors_let_their_port_go_and_leave_the_index_open(index: livedex.Index) -> None:
    async with open_doors(index, Serve(port=0)) as first:
        pass
    port = int(first.http.rpartition(":")[2])
    async with open_doors(index, Serve(port=port)) as second, httpx.AsyncClient(base_url=second.http) as client:
        assert await ask(client, top_k=1) == ["refunds"]


async def test_what_was_being_answered_is_answered_before_the_doors_close(index: livedex.Index) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    class Slow:
        descriptions = index.descriptions
        describe = index.describe
        unready = index.unready

        async def retrieve(self, view: str, query: Any) -> Retrieval:
            begun.set()
            await go_on.wait()
            return await index.retrieve(view, query)

    async with httpx.AsyncClient(timeout=60) as client:
        async with open_doors(Slow(), Serve(port=0)) as address:
            asking = asyncio.create_task(client.post(f"{address.http}/v1/retrieve", json=QUESTION))
            await begun.wait()
            asyncio.get_running_loop().call_later(0.3, go_on.set)
        assert (await asking).status_code == 200
