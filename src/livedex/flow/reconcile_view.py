"""A view against the log: is everything searchable that should be, and whole?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from livedex.errors import LivedexError
from livedex.flow.follow import Workshop
from livedex.flow.materialize import Parts, text_hash
from livedex.model import Document, Generation, TableMapping
from livedex.ports import Vectors
from livedex.rules.audit import Finding, Kind, Part
from livedex.rules.mapping import render
from livedex.store.audit_view import Inspected, Sampled, ViewAudit
from livedex.store.entries import SLOTS

READ_SECONDS = 120.0
LOOK_SECONDS = 0.1
ATTEMPTS = 4
"""Rows first, then the statistics over them; and again for what changed hands meanwhile."""
SAMPLED = 64
NO_TIME = datetime(1970, 1, 1, tzinfo=UTC)
LEAST_SIMILARITY = 0.98
"""What a text embedded again must have in common with its vector; providers do not give the same bits each time."""


@dataclass(frozen=True, slots=True)
class View:
    """A generation, what it is made with, and per source its name and what is mapped of its tables."""

    generation: Generation
    parts: Parts
    mappings: Mapping[int, tuple[str, Mapping[str, TableMapping]]]


async def audit_view(shop: Workshop, view: View, *, seed: int, repair: bool, deep: bool) -> Part:
    """Inspect one generation, and repair what is wrong through its materializers. `deep` makes some of it again, other
    documents for another `seed`."""
    started = shop.clock.monotonic()
    part = Part("view", view.generation.view)
    audit = ViewAudit(shop.database, view.generation, partial(text_hash, key=view.parts.hash_key))
    try:
        found = await audit.inspect(deep=deep)
        if deep:
            await _make_again(audit, found, view, seed)
        left = await _repair(shop, audit, found, deep=deep) if repair and found.counts else found
    except LivedexError as error:
        return replace(part, skipped=str(error))
    findings = tuple(
        Finding(kind, found.counts.get(kind, 0), found.examples.get(kind, ()), left.counts.get(kind, 0))
        for kind in Kind
        if kind in found.counts or kind in left.counts
    )
    seconds = shop.clock.monotonic() - started
    return replace(part, compared=found.compared, findings=findings, seconds=seconds)


async def _repair(shop: Workshop, audit: ViewAudit, found: Inspected, *, deep: bool) -> Inspected:
    left = found
    for _ in range(ATTEMPTS):
        if left.counts.keys() == {Kind.STATISTICS}:
            await audit.correct(left.drift)
        else:
            await _read_again(shop, audit, await audit.repair(left))
        left = await audit.inspect(deep=deep)
        if not left.counts:
            break
    return left


async def _read_again(shop: Workshop, audit: ViewAudit, documents: list[int]) -> None:
    """Wait until shards have come by; what they did not do in time is found again."""
    deadline = shop.clock.monotonic() + READ_SECONDS
    shop.log_changed.ring(range(SLOTS))
    while await audit.waiting(documents) and shop.clock.monotonic() < deadline:
        await shop.clock.sleep(LOOK_SECONDS)


async def _make_again(audit: ViewAudit, found: Inspected, view: View, seed: int) -> None:
    """Cut and embed some documents again: whether their chunks have the texts and vectors that they should."""
    embedder = view.parts.embedder
    if embedder.identity != view.generation.recipe.model:
        return
    stored: list[tuple[int, int, npt.NDArray[np.float32]]] = []
    texts: list[str] = []
    for sampled in await audit.sample(seed, SAMPLED):
        wanted = _texts(sampled, view)
        if not sampled.vectors.keys() <= wanted.keys():
            found.documents[Kind.CHUNKS].add(sampled.document)
        for hashed, (chunk, vector) in sampled.vectors.items():
            if hashed in wanted:
                stored.append((chunk, sampled.document, vector))
                texts.append(wanted[hashed])
    if texts:
        made = await embedder.embed_documents(texts)
        likeness = _likeness(made, np.stack([vector for *_, vector in stored]))
        wrong = [row[:2] for row, like in zip(stored, likeness, strict=True) if like < LEAST_SIMILARITY]
        found.doubt(Kind.VECTOR, wrong)
    for kind in (Kind.CHUNKS, Kind.VECTOR):
        if found.documents[kind]:
            found.examples[kind] = await audit.name(found.documents[kind])


def _texts(sampled: Sampled, view: View) -> dict[bytes, str]:
    """By hash, what of a document is embedded."""
    source, mapping = view.mappings[sampled.source_id]
    rendered = render(mapping[sampled.table], sampled.raw, with_front_matter=False)
    document = Document(
        sampled.document, source, sampled.table, "", 0, "", sampled.title, rendered.content, False, None, None,
        NO_TIME, rendered.media_type,
    )  # fmt: skip
    chunks = view.parts.cutter.cut(document).chunks
    return {text_hash(chunk.embedded_text, view.parts.hash_key): chunk.embedded_text for chunk in chunks}


def _likeness(made: Vectors, stored: Vectors) -> npt.NDArray[np.floating[Any]]:
    """Cosines, row by row."""
    lengths = np.linalg.norm(made, axis=1) * np.linalg.norm(stored, axis=1)
    similar: npt.NDArray[np.floating[Any]] = np.einsum("ij,ij->i", made, stored) / np.maximum(lengths, 1e-9)
    return similar
