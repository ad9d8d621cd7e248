"""For those who write an embedder, and for those who test what uses one.

`check_embedder` is the port's promise as a program. `FaultyEmbedder` wraps a real embedder and lets a test decide, call
by call, what goes wrong. `EmbeddingEndpoint` is a real HTTP server on this machine that answers what a test wants.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

import numpy as np

from livedex.adapters.embedders.hashing import HashingEmbedder
from livedex.errors import EmbedderUnavailable, InputRejected
from livedex.model import ModelIdentity
from livedex.ports import Embedder, Vectors

TOLERANCE = 1e-5

ODD_TEXTS = (
    "The cursor moves with its effect, in the same transaction.",
    "x",
    "?!",
    " \n\t ",
    "Größenänderung naïve façade",
    "東京は日本の首都です。",
    "مرحبا بالعالم",
    "👩\u200d👩\u200d👧\u200d👦 🚀 e\u0301",
    "zero\0byte and half a pair \ud83d",
    "lease " * 3_000,
    "a" * 5_000,
    "short again",
)
"""Texts that occur in real documents and break careless embedders."""


async def check_embedder(embedder: Embedder) -> None:
    """Raise AssertionError naming the first promise of `livedex.ports.Embedder` that this one does not keep."""
    _check_identity(embedder)
    vectors = await embedder.embed_documents(ODD_TEXTS)
    _check_shape(embedder.identity, vectors, len(ODD_TEXTS))
    await _check_empty_call(embedder)
    await _check_independence(embedder, vectors)
    await _check_query(embedder, vectors)
    await _check_large_call(embedder)
    _check_identity(embedder)


def _check_identity(embedder: Embedder) -> None:
    identity = embedder.identity
    _expect(identity == embedder.identity, "identity is stable")
    restored = ModelIdentity(**json.loads(json.dumps(asdict(identity))))
    _expect(restored == identity and restored.name == identity.name, "identity survives JSON")
    _expect(identity.dimensions > 0, "dimensions are above zero")
    _expect(embedder.batch_size > 0, "batch_size is above zero")


def _check_shape(identity: ModelIdentity, vectors: Vectors, texts: int) -> None:
    _expect(vectors.shape == (texts, identity.dimensions), f"one row a text; got shape {vectors.shape}")
    _expect(vectors.dtype == np.float32, f"vectors are float32; got {vectors.dtype}")
    _expect(bool(np.isfinite(vectors).all()), "every component is finite")
    if identity.normalised:
        worst = float(np.abs(np.linalg.norm(vectors, axis=1) - 1).max())
        _expect(worst < TOLERANCE, f"vectors have length 1; off by {worst:.2g}")


async def _check_empty_call(embedder: Embedder) -> None:
    shape = (await embedder.embed_documents([])).shape
    _expect(shape == (0, embedder.identity.dimensions), f"no texts give no rows; got shape {shape}")


async def _check_independence(embedder: Embedder, vectors: Vectors) -> None:
    """The same texts alone, in another order, and twice in a call."""
    alone = np.concatenate([await embedder.embed_documents([text]) for text in ODD_TEXTS])
    _expect_near(alone, vectors, "a text's vector does not depend on what else is in the call")
    backwards = await embedder.embed_documents(ODD_TEXTS[::-1])
    _expect_near(backwards[::-1], vectors, "vectors come in the order of the texts")
    twice = await embedder.embed_documents([*ODD_TEXTS, *ODD_TEXTS])
    _expect_near(twice, np.concatenate([vectors, vectors]), "a text has one vector")


async def _check_query(embedder: Embedder, vectors: Vectors) -> None:
    identity = embedder.identity
    queries = np.stack([await embedder.embed_query(text) for text in ODD_TEXTS])
    _check_shape(identity, queries, len(ODD_TEXTS))
    if identity.query_prefix == identity.document_prefix:
        _expect_near(queries, vectors, "a query and a document of the same text have the same vector")
    together = await asyncio.gather(embedder.embed_query(ODD_TEXTS[0]), embedder.embed_documents(ODD_TEXTS[:2]))
    _expect_near(together[0], queries[0], "a query is not changed by documents that are embedded meanwhile")
    _expect_near(together[1], vectors[:2], "documents are not changed by a query that is embedded meanwhile")


async def _check_large_call(embedder: Embedder) -> None:
    texts = [f"text {number}" for number in range(embedder.batch_size + 1)]
    vectors = await embedder.embed_documents(texts)
    _check_shape(embedder.identity, vectors, len(texts))
    last = await embedder.embed_documents(texts[-1:])
    _expect_near(vectors[-1:], last, "a call may hold more than batch_size texts")


def _expect_near(actual: Vectors, expected: Vectors, promise: str) -> None:
    worst = float(np.abs(actual - expected).max())
    _expect(worst <= TOLERANCE, f"{promise}; components differ by {worst:.2g}")


def _expect(kept: bool, promise: str) -> None:
    if not kept:
        raise AssertionError(f"Promise not kept: {promise}")


@dataclass(frozen=True, slots=True)
class Works:
    """This call is answered as it should be."""


@dataclass(frozen=True, slots=True)
class Fails:
    """This call raises."""

    error: Exception


@dataclass(frozen=True, slots=True)
class Throttles:
    """This call is refused for now."""

    retry_after_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Hangs:
    """This call is answered when `until` is set; for ever without an answer if it never is."""

    until: asyncio.Event


@dataclass(frozen=True, slots=True)
class ReturnsDimensions:
    """This call returns vectors of another number of dimensions, as if the model had been exchanged."""

    dimensions: int


Step = Works | Fails | Throttles | Hangs | ReturnsDimensions


class FaultyEmbedder:
    """An embedder that fails as told, and counts.

    Each call of `embed_documents` and `embed_query` takes the next step of `script`; when it is used up, all work. A
    call that holds a text of `rejected` raises InputRejected for it, naming the index if `names_rejected`. `embedded`
    counts how often each text was turned into a vector, `calls` the calls, failed ones included.
    """

    def __init__(
        self,
        inner: Embedder,
        script: Iterable[Step] = (),
        *,
        rejected: Collection[str] = (),
        names_rejected: bool = True,
    ) -> None:
        self._inner = inner
        self._script: Iterator[Step] = iter(script)
        self.rejected = frozenset(rejected)
        self.names_rejected = names_rejected
        self.embedded: Counter[str] = Counter()
        self.calls = 0

    @property
    def identity(self) -> ModelIdentity:
        return self._inner.identity

    @property
    def batch_size(self) -> int:
        return self._inner.batch_size

    @property
    def texts_embedded(self) -> int:
        return self.embedded.total()

    async def embed_documents(self, texts: Sequence[str]) -> Vectors:
        step = await self._next(texts)
        vectors = await self._inner.embed_documents(texts)
        self.embedded.update(texts)
        return _resized(vectors, step.dimensions) if isinstance(step, ReturnsDimensions) else vectors

    async def embed_query(self, text: str) -> Vectors:
        step = await self._next([text])
        vector = await self._inner.embed_query(text)
        self.embedded[text] += 1
        return _resized(vector, step.dimensions) if isinstance(step, ReturnsDimensions) else vector

    async def close(self) -> None:
        await self._inner.close()

    async def _next(self, texts: Sequence[str]) -> Step:
        self.calls += 1
        step = next(self._script, Works())
        if isinstance(step, Fails):
            raise step.error
        if isinstance(step, Throttles):
            raise EmbedderUnavailable(
                "The embedder throttles, as the test asked.", retry_after_seconds=step.retry_after_seconds
            )
        if isinstance(step, Hangs):
            await step.until.wait()
        refused = [index for index, text in enumerate(texts) if text in self.rejected]
        if refused:
            message = f"The embedder rejects {len(refused)} of {len(texts)} texts, as the test asked."
            raise InputRejected(message, indexes=refused if self.names_rejected else ())
        return step


def _resized(vectors: Vectors, dimensions: int) -> Vectors:
    """Cut off or filled up with zeros along the last axis."""
    kept = vectors[..., :dimensions]
    missing = dimensions - kept.shape[-1]
    resized: Vectors = np.pad(kept, [(0, 0)] * (kept.ndim - 1) + [(0, missing)])
    return resized


@dataclass(frozen=True, slots=True)
class Request:
    """What a client posted; header names are in lower case."""

    path: str
    headers: Mapping[str, str]
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Response:
    """What the endpoint sends. A `body` that is no bytes goes out as JSON. With `stalls` the last byte never comes; one
    that `hangs_up` closes the connection instead."""

    body: Any = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    stalls: bool = False
    hangs_up: bool = False


def hashed_embeddings(request: Request, dimensions: int = 384) -> Response:
    """The well-formed answer, with vectors of `HashingEmbedder`."""
    vectors = asyncio.run(HashingEmbedder(dimensions).embed_documents(request.body["input"]))
    rows = [
        {"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(vectors.tolist())
    ]
    return Response({"object": "list", "model": request.body["model"], "data": rows})


class _Server(ThreadingHTTPServer):
    """Says nothing about clients that went away in the middle, which tests let happen."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class EmbeddingEndpoint:
    """An OpenAI-compatible endpoint at `base_url` that answers what `respond` returns; use it with `with`.

    `respond` runs on a thread for each request and may block, best on `closing`, which is set when the endpoint closes.
    """

    def __init__(self, respond: Callable[[Request], Response] = hashed_embeddings) -> None:
        self.respond = respond
        self.requests: list[Request] = []
        self.closing = threading.Event()
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                length = int(self.headers["content-length"])
                posted = self.rfile.read(length)
                if len(posted) < length:
                    raise ConnectionAbortedError("The client went away while it was sending.")
                headers = {name.lower(): value for name, value in self.headers.items()}
                request = Request(self.path, headers, json.loads(posted))
                endpoint.requests.append(request)
                self._send(endpoint.respond(request))

            def _send(self, response: Response) -> None:
                if response.hangs_up:
                    self.close_connection = True
                    return
                body = response.body if isinstance(response.body, bytes) else json.dumps(response.body).encode()
                self.send_response(response.status)
                for name, value in {"Content-Type": "application/json", **response.headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body) + response.stalls))
                try:
                    self.end_headers()
                    self.wfile.write(body)
                except ConnectionError:  # the client has stopped waiting, as some tests want
                    self.close_connection = True
                if response.stalls:
                    endpoint.closing.wait()
                    self.close_connection = True

            def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  # the standard library's name
                """Tests read `requests` instead."""

        return Handler
