"""Which embedder the demonstration uses: the local model if it can be had soon."""

from __future__ import annotations

import asyncio
from pathlib import Path

from livedex.adapters.embedders import weights
from livedex.adapters.embedders.local import LocalEmbedder
from livedex.errors import MissingExtra, WeightsUnavailable

MODEL = "all-MiniLM-L6-v2"
PATIENCE_SECONDS = 120.0


async def choose(cache: Path, progress: weights.Progress) -> tuple[str, str]:
    """`local` or `hashing`, and a sentence that says why. Downloads the model where it may be used and is missing."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await _load(cache, progress)
    except MissingExtra:
        why = "The local model needs packages that are not installed (pip install 'livedex[local]')"
    except WeightsUnavailable:
        why = "The local model could not be fetched (livedex models fetch tries harder, and says why)"
    except TimeoutError:
        why = f"The local model did not arrive within {PATIENCE_SECONDS:.0f} s (livedex models fetch waits longer)"
    else:
        return "local", f"Embedding with {MODEL} on this machine."
    return "hashing", f"{why}, so texts are hashed: searches match words, not meanings."


async def _load(cache: Path, progress: weights.Progress) -> None:
    try:
        embedder = LocalEmbedder(MODEL, cache_directory=cache)
    except WeightsUnavailable:
        # Not from the hub, whose client tries for half a minute, and says so, where there is no way to it.
        await weights.fetch(MODEL, cache, progress=progress, use_hub=False)
        embedder = LocalEmbedder(MODEL, cache_directory=cache)
    try:
        await embedder.load()
    finally:
        await embedder.close()
