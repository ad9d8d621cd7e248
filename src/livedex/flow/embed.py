"""Texts → vectors, each text once while it is known."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from livedex.clock import Backoff, Clock
from livedex.errors import EmbedderMisconfigured, EmbedderUnavailable, InputRejected
from livedex.ports import Embedder, Vectors
from livedex.rules.budget import affordable, tokens
from livedex.store.chunks import Shard

CALLS_AT_ONCE = 4
CHECKPOINT_SECONDS = 2.0
OTHERS_SECONDS = 0.05


@dataclass(slots=True)
class Embedded:
    """`vectors`, `rejected` (hash → reason) and `unaffordable` together cover what was asked for. `made` counts texts
    that went through the model and `tokens` estimates theirs; `rested` lists those that were stored before the batch is
    applied."""

    vectors: dict[bytes, Any] = field(default_factory=dict)
    rejected: dict[bytes, str] = field(default_factory=dict)
    unaffordable: set[bytes] = field(default_factory=set)
    made: int = 0
    tokens: int = 0
    rested: list[bytes] = field(default_factory=list)


async def embed_missing(
    texts: Mapping[bytes, str],
    shard: Shard,
    embedder: Embedder,
    clock: Clock,
    backoff: Backoff,
    allowance: int | None = None,
) -> Embedded:
    """Find the vectors that are known and make the others, up to an allowance of tokens.

    A text that another worker is embedding is waited for, not embedded twice: our claims hold until
    `shard.release_texts`, which the caller calls once the batch is applied. Nothing is held while we wait.
    """
    embedded = Embedded()
    waiting = dict(texts)
    while waiting:
        claimed, known = await shard.claim_texts(list(waiting))
        embedded.vectors |= known
        ours = {
            text_hash: text for text_hash, text in waiting.items() if text_hash in claimed and text_hash not in known
        }
        left = None if allowance is None else allowance - embedded.tokens
        chosen = affordable(ours, left)
        embedded.unaffordable |= ours.keys() - chosen
        ours = {text_hash: text for text_hash, text in ours.items() if text_hash in chosen}
        await _make(ours, embedded, shard, embedder, clock, backoff)
        waiting = {h: text for h, text in waiting.items() if h not in claimed and h not in known}
        if waiting:
            await _rest(embedded, ours, shard)
            await shard.release_texts()
            await clock.sleep(OTHERS_SECONDS)
    return embedded


async def _make(
    texts: Mapping[bytes, str], embedded: Embedded, shard: Shard, embedder: Embedder, clock: Clock, backoff: Backoff
) -> None:
    hashes = list(texts)
    step = embedder.batch_size * CALLS_AT_ONCE
    started = clock.monotonic()
    unsaved: list[bytes] = []
    for start in range(0, len(hashes), step):
        group = hashes[start : start + step]
        calls = [group[i : i + embedder.batch_size] for i in range(0, len(group), embedder.batch_size)]
        try:
            async with asyncio.TaskGroup() as tasks:
                for call in calls:
                    tasks.create_task(_call(call, texts, embedded, embedder, clock, backoff))
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        unsaved += group
        if clock.monotonic() - started > CHECKPOINT_SECONDS and start + step < len(hashes):
            await _rest(embedded, unsaved, shard)
            started, unsaved = clock.monotonic(), []


async def _rest(embedded: Embedded, hashes: Sequence[bytes] | Mapping[bytes, str], shard: Shard) -> None:
    made = {text_hash: embedded.vectors[text_hash] for text_hash in hashes if text_hash in embedded.vectors}
    if made:
        await shard.rest(made)
        embedded.rested += made


async def _call(
    hashes: Sequence[bytes],
    texts: Mapping[bytes, str],
    embedded: Embedded,
    embedder: Embedder,
    clock: Clock,
    backoff: Backoff,
) -> None:
    """Embed some texts; where the embedder refuses some of them, find out which by halving."""
    try:
        vectors = await _persist([texts[text_hash] for text_hash in hashes], embedder, clock, backoff)
    except InputRejected as error:
        if len(hashes) == 1:
            embedded.rejected[hashes[0]] = str(error)
            return
        named = {hashes[index] for index in error.indexes if index < len(hashes)}
        if named and len(named) < len(hashes):
            embedded.rejected |= dict.fromkeys(named, str(error))
            parts = [[text_hash for text_hash in hashes if text_hash not in named]]
        else:
            middle = len(hashes) // 2
            parts = [list(hashes[:middle]), list(hashes[middle:])]
        for part in parts:
            await _call(part, texts, embedded, embedder, clock, backoff)
        return
    embedded.vectors |= dict(zip(hashes, vectors, strict=True))
    embedded.made += len(hashes)
    embedded.tokens += sum(tokens(texts[text_hash]) for text_hash in hashes)


async def _persist(texts: Sequence[str], embedder: Embedder, clock: Clock, backoff: Backoff) -> Vectors:
    """Try again while the embedder fails or throttles, up to the limit of `backoff`."""
    failures = 0
    while True:
        try:
            return _checked(await embedder.embed_documents(texts), len(texts), embedder)
        except EmbedderUnavailable as error:
            failures += 1
            if failures >= backoff.attempts:
                raise
            # However long it asks for: other workers wait for the texts that we hold meanwhile.
            asked = min(error.retry_after_seconds or 0.0, backoff.most)
            await clock.sleep(asked or backoff.seconds(failures, clock.jitter()))


def _checked(vectors: Vectors, count: int, embedder: Embedder) -> Vectors:
    expected = (count, embedder.identity.dimensions)
    if vectors.shape != expected:
        raise EmbedderMisconfigured(
            f"{embedder.identity.model} returned vectors of shape {vectors.shape} where {expected} was expected. "
            "Set `dimensions` to what the model gives; nothing was stored."
        )
    if not np.isfinite(vectors).all():
        raise EmbedderMisconfigured(
            f"{embedder.identity.model} returned a vector that is not finite; nothing was stored."
        )
    return vectors
