"""Every embedder keeps what the port promises, and the kit notices one that does not."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from livedex.adapters.embedders import weights
from livedex.adapters.embedders.api import ApiEmbedder
from livedex.adapters.embedders.hashing import HashingEmbedder
from livedex.adapters.embedders.local import LocalEmbedder
from livedex.adapters.embedders.weights import Precision
from livedex.errors import EmbedderUnavailable, InputRejected, WeightsUnavailable
from livedex.model import ModelIdentity
from livedex.ports import Vectors
from livedex.testing.embedders import (
    EmbeddingEndpoint,
    Fails,
    FaultyEmbedder,
    Hangs,
    ReturnsDimensions,
    Step,
    Throttles,
    Works,
    check_embedder,
)

CACHE = Path(os.environ.get("LIVEDEX_CACHE", Path.home() / ".cache" / "livedex"))


@pytest.mark.parametrize("dimensions", [1, 7, 384])
async def test_the_hashing_embedder_conforms(dimensions: int) -> None:
    await check_embedder(HashingEmbedder(dimensions))


async def test_the_api_embedder_conforms() -> None:
    with EmbeddingEndpoint() as endpoint:
        embedder = ApiEmbedder(endpoint.base_url, "some-model", 384, batch_size=5)
        await check_embedder(embedder)
        await embedder.close()


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "int8"])
async def test_the_local_embedder_conforms(precision: Precision) -> None:
    pytest.importorskip("onnxruntime")
    try:
        await weights.fetch("all-MiniLM-L6-v2", CACHE, progress=lambda stage, done, total: None, use_hub=False)
    except WeightsUnavailable as error:
        pytest.skip(str(error))
    embedder = LocalEmbedder(cache_directory=CACHE, precision=precision)
    await check_embedder(embedder)
    await embedder.close()


async def test_the_faulty_embedder_conforms_while_its_script_is_empty() -> None:
    await check_embedder(FaultyEmbedder(HashingEmbedder()))


class Careless(HashingEmbedder):
    """Breaks one promise, chosen by name."""

    def __init__(self, flaw: str) -> None:
        super().__init__(16)
        self.flaw = flaw

    async def embed_documents(self, texts: Sequence[str]) -> Vectors:
        vectors = await super().embed_documents(texts)
        match self.flaw:
            case "length":
                vectors = vectors * np.float32(1.01)
            case "type":
                vectors = vectors.astype(np.float64)
            case "neighbours" if len(texts) > 1:
                vectors = vectors + np.float32(1e-3)
                vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            case "order":
                vectors = vectors[np.argsort([len(text) for text in texts])]
            case "empty" if not texts:
                vectors = np.empty((0,), dtype=np.float32)
        return vectors

    async def embed_query(self, text: str) -> Vectors:
        return -(await super().embed_query(text)) if self.flaw == "query" else await super().embed_query(text)


@pytest.mark.parametrize(
    ("flaw", "complaint"),
    [
        ("length", "length 1"),
        ("type", "float32"),
        ("neighbours", "what else is in the call"),
        ("order", "what else is in the call"),
        ("empty", "no texts give no rows"),
        ("query", "a query and a document"),
    ],
)
async def test_the_kit_names_the_broken_promise(flaw: str, complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        await check_embedder(Careless(flaw))


async def test_the_kit_notices_an_identity_that_changes() -> None:
    class Restless(HashingEmbedder):
        @property
        def identity(self) -> ModelIdentity:
            self.asked += 1
            return ModelIdentity("restless", str(self.asked), 384)

        @identity.setter
        def identity(self, value: ModelIdentity) -> None:
            self.asked = 0

    with pytest.raises(AssertionError, match="identity is stable"):
        await check_embedder(Restless())


async def test_a_script_is_followed_call_by_call_and_then_all_works() -> None:
    script: list[Step] = [Fails(EmbedderUnavailable("down")), Throttles(3.0), Works()]
    embedder = FaultyEmbedder(HashingEmbedder(8), script)
    with pytest.raises(EmbedderUnavailable, match="down"):
        await embedder.embed_documents(["a"])
    with pytest.raises(EmbedderUnavailable) as throttled:
        await embedder.embed_query("a")
    await embedder.embed_documents(["a", "b"])
    await embedder.embed_documents(["b"])
    assert throttled.value.retry_after_seconds == 3.0
    assert (embedder.calls, embedder.texts_embedded, embedder.embedded["b"]) == (4, 3, 2)


async def test_a_hanging_call_is_answered_when_it_is_let_go() -> None:
    until = asyncio.Event()
    embedder = FaultyEmbedder(HashingEmbedder(8), [Hangs(until)])
    call = asyncio.create_task(embedder.embed_documents(["a"]))
    for _ in range(5):
        await asyncio.sleep(0)
    waiting = not call.done()
    until.set()
    assert (waiting, (await call).shape) == (True, (1, 8))


@pytest.mark.parametrize("dimensions", [3, 20])
async def test_another_number_of_dimensions_is_returned_on_demand(dimensions: int) -> None:
    embedder = FaultyEmbedder(HashingEmbedder(8), [ReturnsDimensions(dimensions), ReturnsDimensions(dimensions)])
    assert (await embedder.embed_documents(["a", "b"])).shape == (2, dimensions)
    assert (await embedder.embed_query("a")).shape == (dimensions,)


@pytest.mark.parametrize(("names", "indexes"), [(True, (1, 3)), (False, ())])
async def test_chosen_texts_are_rejected(names: bool, indexes: tuple[int, ...]) -> None:
    embedder = FaultyEmbedder(HashingEmbedder(8), rejected={"bad"}, names_rejected=names)
    with pytest.raises(InputRejected) as raised:
        await embedder.embed_documents(["a", "bad", "b", "bad"])
    assert (raised.value.indexes, embedder.texts_embedded) == (indexes, 0)
