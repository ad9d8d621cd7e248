"""How much has been embedded so far, for whoever waits for it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from livedex.model import ModelIdentity
from livedex.ports import Embedder, Vectors

_TEXTS_AT_ONCE = 16
"""Few enough that the numbers move several times a second on a slow machine."""


class MeteredEmbedder:
    """An embedder that counts the documents' `texts` and their `characters` once their vectors are made."""

    def __init__(self, inner: Embedder) -> None:
        self._inner = inner
        self.texts = 0
        self.characters = 0

    @property
    def identity(self) -> ModelIdentity:
        return self._inner.identity

    @property
    def batch_size(self) -> int:
        return self._inner.batch_size

    async def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """As the embedder's own, in small steps."""
        vectors = np.empty((len(texts), self.identity.dimensions), dtype=np.float32)
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            step = texts[start : start + _TEXTS_AT_ONCE]
            vectors[start : start + len(step)] = await self._inner.embed_documents(step)
            self.texts += len(step)
            self.characters += sum(len(text) for text in step)
        return vectors

    async def embed_query(self, text: str) -> Vectors:
        return await self._inner.embed_query(text)

    async def close(self) -> None:
        await self._inner.close()
