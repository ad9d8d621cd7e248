"""Embedders: their packages, their weights, their endpoint."""

from __future__ import annotations

import asyncio
from pathlib import Path

from livedex import config
from livedex.adapters.embedders import weights
from livedex.doctor.report import Check, failed, ok, warning
from livedex.errors import LivedexError
from livedex.parts import build_embedder

SENTENCE = "Is this endpoint there?"


async def check_embedder(wanted: config.Embedder, cache: Path) -> list[Check]:
    """An endpoint is asked for one vector; a local model's files are compared with their checksums."""
    if isinstance(wanted, config.HashingEmbedder):
        return [warning("model", "none: hashing finds words, not meanings. Choose local or api for real use")]
    try:
        embedder = await asyncio.to_thread(build_embedder, wanted, cache)
    except LivedexError as error:
        return [failed("model", error)]
    try:
        if isinstance(wanted, config.ApiEmbedder):
            vector = await embedder.embed_query(SENTENCE)
            return [ok("endpoint", f"{wanted.base_url} answers for {wanted.model} with {len(vector)} dimensions")]
        return [await asyncio.to_thread(_check_weights, wanted, cache)]
    except LivedexError as error:
        return [failed("endpoint", error)]
    finally:
        await embedder.close()


def _check_weights(wanted: config.LocalEmbedder, cache: Path) -> Check:
    if wanted.path is not None:
        return ok("weights", f"{wanted.model}, in {wanted.path}")
    damaged = [model for model in weights.installed(cache) if model.name == wanted.model and not model.intact]
    if damaged:
        return failed("weights", f"{wanted.model} in {damaged[0].path} is damaged. Run: livedex models fetch")
    return ok("weights", f"{wanted.model} is whole")
