"""Which embedder the demonstration uses: the local model if it can be had soon."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from livedex.adapters.embedders import weights
from livedex.adapters.embedders.hashing import HashingEmbedder
from livedex.adapters.embedders.local import LocalEmbedder
from livedex.errors import MissingExtra, WeightsUnavailable
from livedex.ports import Embedder

MODEL = "all-MiniLM-L6-v2"
PATIENCE_SECONDS = 35.0
"""For the model's download. With servers to start and texts to embed, the first answer shall come within a minute."""

Step = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Chosen:
    """`kind` is what livedex.yaml calls it; `why` a sentence that says why it is this one."""

    kind: str
    why: str
    embedder: Embedder


async def choose(cache: Path, step: Step, progress: weights.Progress) -> Chosen:
    """The local model, loaded, or hashing. Downloads the model where it may be used and is missing."""
    try:
        local = await _local(cache, step, progress)
    except MissingExtra:
        why = "The local model needs packages that are not installed (pip install 'livedex[local]')"
    except WeightsUnavailable:
        why = "The local model could not be fetched (livedex models fetch tries harder, and says why)"
    except TimeoutError:
        why = f"The local model did not arrive within {PATIENCE_SECONDS:.0f} s (livedex models fetch waits longer)"
    else:
        return Chosen("local", f"Embedding with {MODEL} on this machine.", local)
    return Chosen("hashing", f"{why}, so texts are hashed: searches match words, not meanings.", HashingEmbedder())


async def _local(cache: Path, step: Step, progress: weights.Progress) -> LocalEmbedder:
    try:
        embedder = LocalEmbedder(MODEL, cache_directory=cache)
    except WeightsUnavailable:
        step("Fetching the local model")
        async with asyncio.timeout(PATIENCE_SECONDS):
            # Not from the hub, whose client tries for half a minute, and says so, where there is no way to it.
            await weights.fetch(MODEL, cache, progress=progress, use_hub=False)
        embedder = LocalEmbedder(MODEL, cache_directory=cache)
    step("Loading the local model")
    try:
        await embedder.load()
    except BaseException:
        await embedder.close()
        raise
    return embedder
