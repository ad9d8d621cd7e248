"""The API embedder against a real HTTP server on this machine that answers what a test wants."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from livedex.adapters.embedders.api import ApiEmbedder, TokenBucket
from livedex.adapters.embedders.hashing import HashingEmbedder
from livedex.errors import EmbedderError, EmbedderMisconfigured, EmbedderUnavailable, InputRejected
from livedex.testing.embedders import EmbeddingEndpoint, Request, Response, hashed_embeddings

KEY = "sk-made-up-0123456789"
NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)


@pytest.fixture
def endpoint() -> Iterator[EmbeddingEndpoint]:
    with EmbeddingEndpoint() as started:
        yield started


@asynccontextmanager
async def embedder(endpoint: EmbeddingEndpoint, dimensions: int = 384, **settings: Any) -> AsyncIterator[ApiEmbedder]:
    made = ApiEmbedder(endpoint.base_url, "some-model", dimensions, KEY, now=lambda: NOW, **settings)
    try:
        yield made
    finally:
        await made.close()


async def failure(endpoint: EmbeddingEndpoint, response: Response, texts: int = 2) -> EmbedderError:
    endpoint.respond = lambda request: response
    async with embedder(endpoint) as made:
        with pytest.raises(EmbedderError) as raised:
            await made.embed_documents([f"text {number}" for number in range(texts)])
    return raised.value


def altered(change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> Callable[[Request], Response]:
    """Well-formed answers whose rows went through `change`."""

    def respond(request: Request) -> Response:
        answer = hashed_embeddings(request)
        return replace(answer, body={**answer.body, "data": change(answer.body["data"])})

    return respond


def with_vector(index: int, vector: list[Any]) -> Callable[[Request], Response]:
    return altered(lambda rows: [{**row, "embedding": vector} if row["index"] == index else row for row in rows])


async def test_vectors_are_those_of_the_endpoint(endpoint: EmbeddingEndpoint) -> None:
    texts = ["alpha", "beta gamma"]
    async with embedder(endpoint) as made:
        vectors = await made.embed_documents(texts)
    np.testing.assert_allclose(vectors, await HashingEmbedder().embed_documents(texts), rtol=0, atol=1e-6)


async def test_the_request_says_model_texts_and_key(endpoint: EmbeddingEndpoint) -> None:
    async with embedder(endpoint) as made:
        await made.embed_documents(["alpha"])
    (request,) = endpoint.requests
    assert (request.path, request.headers["authorization"]) == ("/v1/embeddings", f"Bearer {KEY}")
    assert request.body == {"model": "some-model", "input": ["alpha"], "encoding_format": "float"}


async def test_dimensions_are_sent_when_asked_for(endpoint: EmbeddingEndpoint) -> None:
    async with embedder(endpoint, send_dimensions=True) as made:
        await made.embed_query("alpha")
    assert endpoint.requests[0].body["dimensions"] == 384


async def test_prefixes_go_before_the_texts_and_into_the_identity(endpoint: EmbeddingEndpoint) -> None:
    async with embedder(endpoint, query_prefix="query: ", document_prefix="passage: ") as made:
        await made.embed_query("alpha")
        await made.embed_documents(["beta"])
        assert (made.identity.query_prefix, made.identity.document_prefix) == ("query: ", "passage: ")
    assert [request.body["input"] for request in endpoint.requests] == [["query: alpha"], ["passage: beta"]]


def test_moving_the_model_to_another_url_keeps_the_identity() -> None:
    here, there = (ApiEmbedder(f"http://{host}.example/v1", "m", 8) for host in ("here", "there"))
    assert here.identity == there.identity


async def test_rows_are_put_in_the_order_of_their_index(endpoint: EmbeddingEndpoint) -> None:
    endpoint.respond = altered(lambda rows: rows[::-1])
    texts = ["alpha", "beta", "gamma"]
    async with embedder(endpoint) as made:
        vectors = await made.embed_documents(texts)
    np.testing.assert_allclose(vectors, await HashingEmbedder().embed_documents(texts), rtol=0, atol=1e-6)


async def test_vectors_are_brought_to_length_one(endpoint: EmbeddingEndpoint) -> None:
    endpoint.respond = with_vector(0, [3.0, 4.0])
    async with embedder(endpoint, dimensions=2) as made:
        assert (await made.embed_query("alpha")).tolist() == pytest.approx([0.6, 0.8])


async def test_many_texts_become_several_requests_in_order(endpoint: EmbeddingEndpoint) -> None:
    texts = [f"text {number}" for number in range(10)]
    async with embedder(endpoint, batch_size=4) as made:
        vectors = await made.embed_documents(texts)
    assert sorted(len(request.body["input"]) for request in endpoint.requests) == [2, 4, 4]
    np.testing.assert_allclose(vectors, await HashingEmbedder().embed_documents(texts), rtol=0, atol=1e-6)


async def test_at_most_the_configured_number_of_requests_is_under_way(endpoint: EmbeddingEndpoint) -> None:
    under_way, most, lock = [0], [0], threading.Lock()

    def respond(request: Request) -> Response:
        with lock:
            under_way[0] += 1
            most[0] = max(most[0], under_way[0])
        answer = hashed_embeddings(request)
        with lock:
            under_way[0] -= 1
        return answer

    endpoint.respond = respond
    async with embedder(endpoint, batch_size=1, concurrency=2) as made:
        await made.embed_documents([f"text {number}" for number in range(12)])
    assert most[0] <= 2
    assert len(endpoint.requests) == 12


async def test_a_query_is_answered_while_every_document_request_hangs(endpoint: EmbeddingEndpoint) -> None:
    hanging = threading.Semaphore(0)

    def respond(request: Request) -> Response:
        if request.body["input"] != ["a question"]:
            hanging.release()
            endpoint.closing.wait()
        return hashed_embeddings(request)

    endpoint.respond = respond
    async with embedder(endpoint, batch_size=1, concurrency=2) as made:
        documents = asyncio.create_task(made.embed_documents(["one", "two", "three", "four"]))
        for _ in range(2):
            await asyncio.to_thread(hanging.acquire)
        answered = await asyncio.wait_for(made.embed_query("a question"), timeout=10)
        documents.cancel()
        assert (answered.shape, len(endpoint.requests)) == ((384,), 3)


async def test_other_dimensions_are_a_misconfiguration_that_names_both(endpoint: EmbeddingEndpoint) -> None:
    async with embedder(endpoint, dimensions=1024) as made:
        with pytest.raises(EmbedderMisconfigured, match=r"384 dimensions, but 1024 are configured"):
            await made.embed_query("alpha")


@pytest.mark.parametrize("status", [401, 403, 404, 405, 402, 301])
async def test_what_retrying_cannot_cure_is_a_misconfiguration(endpoint: EmbeddingEndpoint, status: int) -> None:
    error = await failure(endpoint, Response({"error": {"message": "no"}}, status))
    assert (type(error), f"answered {status}: no" in str(error)) == (EmbedderMisconfigured, True)


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 504, 529])
async def test_what_may_pass_is_unavailable(endpoint: EmbeddingEndpoint, status: int) -> None:
    error = await failure(endpoint, Response(b"<html>busy</html>", status))
    assert isinstance(error, EmbedderUnavailable)
    assert error.retry_after_seconds is None


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [
        ("7", 7.0),
        ("0.5", 0.5),
        ("-3", 0.0),
        ("Thu, 01 Jan 2026 12:01:30 GMT", 90.0),
        ("Thu, 01 Jan 2026 11:00:00 GMT", 0.0),
        ("soon", None),
        ("nan", None),
    ],
)
async def test_retry_after_is_passed_on_in_seconds(
    endpoint: EmbeddingEndpoint, asked: str, seconds: float | None
) -> None:
    error = await failure(endpoint, Response({}, 429, {"Retry-After": asked}))
    assert isinstance(error, EmbedderUnavailable)
    assert error.retry_after_seconds == seconds


async def test_nothing_is_tried_again(endpoint: EmbeddingEndpoint) -> None:
    await failure(endpoint, Response({}, 503))
    assert len(endpoint.requests) == 1


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_rejected_texts_are_not_named_when_the_answer_does_not_tell(
    endpoint: EmbeddingEndpoint, status: int
) -> None:
    error = await failure(endpoint, Response({"error": {"message": "too long"}}, status))
    assert isinstance(error, InputRejected)
    assert error.indexes == ()


async def test_a_text_rejected_alone_is_named(endpoint: EmbeddingEndpoint) -> None:
    def respond(request: Request) -> Response:
        return Response({}, 400) if request.body["input"] == ["bad"] else hashed_embeddings(request)

    endpoint.respond = respond
    async with embedder(endpoint, batch_size=1) as made:
        with pytest.raises(InputRejected) as raised:
            await made.embed_documents(["fine", "bad", "fine"])
    assert raised.value.indexes == (1,)


@pytest.mark.parametrize("error", [{"param": "dimensions"}, {"code": "model_not_found"}])
async def test_a_400_about_a_setting_condemns_no_text(endpoint: EmbeddingEndpoint, error: dict[str, str]) -> None:
    raised = await failure(endpoint, Response({"error": {"message": "unsupported", **error}}, 400), texts=1)
    assert isinstance(raised, EmbedderMisconfigured)


@pytest.mark.parametrize("vector", [[0.0] * 384, [float("nan")] * 384, [None] * 384, [float("inf")] + [0.0] * 383])
async def test_a_text_without_a_direction_is_rejected_by_name(endpoint: EmbeddingEndpoint, vector: list[Any]) -> None:
    endpoint.respond = with_vector(1, vector)
    async with embedder(endpoint) as made:
        with pytest.raises(InputRejected) as raised:
            await made.embed_documents(["fine", "bad", "fine"])
    assert raised.value.indexes == (1,)


async def test_a_lone_text_without_a_direction_is_rejected_when_others_have_one(endpoint: EmbeddingEndpoint) -> None:
    bad = with_vector(0, [0.0] * 384)
    endpoint.respond = lambda request: (bad if request.body["input"] == ["bad"] else hashed_embeddings)(request)
    async with embedder(endpoint) as made:
        with pytest.raises(InputRejected) as raised:
            await made.embed_documents(["bad"])
    assert raised.value.indexes == (0,)


async def test_an_endpoint_that_gives_no_text_a_direction_is_unavailable(endpoint: EmbeddingEndpoint) -> None:
    endpoint.respond = with_vector(0, [0.0] * 384)
    async with embedder(endpoint) as made:
        with pytest.raises(EmbedderUnavailable, match="for every text"):
            await made.embed_query("alpha")


@pytest.mark.parametrize(
    "body",
    [
        b"<html>welcome</html>",
        b"",
        [],
        {"data": None},
        {"data": [{"index": 0}]},
        {"data": [{"index": 0, "embedding": "AAAA"}, {"index": 1, "embedding": None}]},
        {"data": [{"index": 0, "embedding": ["much"] * 384}, {"index": 1, "embedding": [1.0] * 384}]},
    ],
)
async def test_an_answer_that_is_no_embedding_is_unavailable(endpoint: EmbeddingEndpoint, body: Any) -> None:
    assert isinstance(await failure(endpoint, Response(body)), EmbedderUnavailable)


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: rows[:-1],
        lambda rows: [*rows, {**rows[0], "index": 2}],
        lambda rows: [*rows, rows[0]],
        lambda rows: [{**row, "index": 0} for row in rows],
    ],
)
async def test_another_number_of_vectors_is_unavailable(
    endpoint: EmbeddingEndpoint, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]
) -> None:
    endpoint.respond = altered(change)
    async with embedder(endpoint) as made:
        with pytest.raises(EmbedderUnavailable, match="vectors for 2 texts"):
            await made.embed_documents(["alpha", "beta"])


async def test_an_endpoint_that_never_answers_is_unavailable(endpoint: EmbeddingEndpoint) -> None:
    def respond(request: Request) -> Response:
        endpoint.closing.wait()
        return Response()

    endpoint.respond = respond
    async with embedder(endpoint, timeout_seconds=0.2) as made:
        with pytest.raises(EmbedderUnavailable, match=r"did not answer within 0\.2 s"):
            await made.embed_query("alpha")


async def test_an_endpoint_that_begins_to_answer_and_stalls_is_unavailable(endpoint: EmbeddingEndpoint) -> None:
    endpoint.respond = lambda request: replace(hashed_embeddings(request), stalls=True)
    async with embedder(endpoint, timeout_seconds=0.2) as made:
        with pytest.raises(EmbedderUnavailable, match="did not answer within"):
            await made.embed_query("alpha")


async def test_an_endpoint_that_is_not_there_is_unavailable() -> None:
    with EmbeddingEndpoint() as gone:
        pass
    async with embedder(gone) as made:
        with pytest.raises(EmbedderUnavailable, match="cannot be reached"):
            await made.embed_query("alpha")


@pytest.mark.parametrize("status", [400, 401, 429])
async def test_the_key_is_never_shown(endpoint: EmbeddingEndpoint, status: int) -> None:
    error = await failure(endpoint, Response({"error": {"message": f"bad key {KEY}"}}, status))
    assert (KEY in str(error), "bad key ***" in str(error)) == (False, True)


async def test_texts_that_a_validation_error_echoes_are_not_shown(endpoint: EmbeddingEndpoint) -> None:
    detail = [{"msg": "string too long", "input": "a secret memo"}]
    assert "string too long" in (message := str(await failure(endpoint, Response({"detail": detail}, 422))))
    assert "secret" not in message


@pytest.mark.parametrize(
    ("base_url", "complaint"),
    [
        ("ftp://models.example/v1", "must begin with http"),
        ("models.example/v1", "must begin with http"),
        ("https://user:word@models.example/v1", "user name or password"),
    ],
)
def test_a_base_url_that_cannot_work_is_refused(base_url: str, complaint: str) -> None:
    with pytest.raises(EmbedderMisconfigured, match=complaint):
        ApiEmbedder(base_url, "m", 8)


def test_a_key_that_no_header_can_carry_is_refused_without_showing_it() -> None:
    with pytest.raises(EmbedderMisconfigured) as raised:
        ApiEmbedder("http://models.example/v1", "m", 8, "sk-ä")
    assert "sk-" not in str(raised.value)


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        await asyncio.sleep(0)


async def test_documents_keep_to_requests_per_minute(endpoint: EmbeddingEndpoint) -> None:
    clock = Clock()
    limits: dict[str, Any] = {"requests_per_minute": 60, "monotonic": clock.monotonic, "sleep": clock.sleep}
    async with embedder(endpoint, batch_size=1, **limits) as made:
        await made.embed_documents([f"text {number}" for number in range(30)])
    assert clock.seconds == pytest.approx(20.0)  # thirty, less the ten that were saved up


async def test_documents_keep_to_tokens_per_minute(endpoint: EmbeddingEndpoint) -> None:
    clock = Clock()
    limits: dict[str, Any] = {"tokens_per_minute": 600, "monotonic": clock.monotonic, "sleep": clock.sleep}
    async with embedder(endpoint, batch_size=1, **limits) as made:
        await made.embed_documents(["x" * 396] * 3)  # 100 tokens each, 100 saved up, 10 a second
    assert clock.seconds == pytest.approx(20.0)


async def test_queries_do_not_wait_for_the_limit_but_documents_wait_for_them(endpoint: EmbeddingEndpoint) -> None:
    clock = Clock()
    limits: dict[str, Any] = {"requests_per_minute": 60, "monotonic": clock.monotonic, "sleep": clock.sleep}
    async with embedder(endpoint, **limits) as made:
        for _ in range(15):
            await made.embed_query("alpha")
        assert clock.seconds == 0.0
        await made.embed_documents(["beta"])
    assert clock.seconds == pytest.approx(6.0)  # fifteen were taken of ten, and one more is needed


async def test_a_demand_above_what_can_be_saved_up_waits_for_a_full_bucket() -> None:
    clock = Clock()
    bucket = TokenBucket(60, clock.monotonic, clock.sleep)
    await bucket.wait(100)
    await bucket.wait(1)
    assert clock.seconds == pytest.approx(91.0)
