"""How an index stands, from what its store knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from livedex.model import Generation, Watermark
from livedex.rules.freshness import lag_seconds, view_watermarks
from livedex.store.catalog import Catalog
from livedex.store.entries import SourceRow


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """One partition of a source. `heartbeat_at` is when it was last heard of."""

    source: str
    kind: str
    partition: str | None
    state: str
    error: str | None
    position: str | None
    position_time: datetime | None
    heartbeat_at: datetime | None
    documents: int


@dataclass(frozen=True, slots=True)
class ViewStatus:
    """One view's active generation. `backlog` counts documents that wait in the log. Lags are in seconds: how old the
    view is now, and commit to searchable over the last hour."""

    view: str
    generation: int
    embedding_model: str
    schema_version: str
    shards: int
    indexed: bool
    documents: int
    chunks: int
    backlog: int
    quarantined: int
    lag_seconds: float | None
    target_lag_seconds: float
    lag_p50_seconds: float | None
    lag_p99_seconds: float | None
    watermark: tuple[Watermark, ...]
    capturing: bool
    errors: tuple[str, ...]
    totals: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Status:
    sources: tuple[SourceStatus, ...]
    views: tuple[ViewStatus, ...]
    quarantined: int


@dataclass(frozen=True, slots=True)
class ViewDescription:
    """What a view holds, for whoever searches it. `description` is its owner's word, `metadata` names what it can be
    filtered by. A view that has not been built yet has no generation and holds nothing; `lag_seconds` is None until
    its first load is complete."""

    view: str
    description: str | None
    sources: tuple[str, ...]
    metadata: tuple[str, ...]
    generation: int | None
    embedding_model: str | None
    documents: int
    chunks: int
    lag_seconds: float | None
    capturing: bool
    watermark: tuple[Watermark, ...]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one view has come, in documents: those that its sources hold, and those that it has yet to read.
    `loaded`: everything that was there at the start has been captured and read once."""

    view: str
    documents: int
    waiting: int
    loaded: bool


async def read_progress(catalog: Catalog) -> tuple[Progress, ...]:
    """Cheaper than `read_status`; to be asked again and again while a view is loading."""
    return tuple([await _progress(catalog, generation) for generation in await catalog.generations()])


async def read_status(catalog: Catalog) -> Status:
    """Reads only the store: it says as much about an index that nobody follows right now."""
    partitions = [_source(row) for row in await catalog.partitions()]
    names = {row.source_id: row.name for row in await catalog.sources()}
    views = [await _view(catalog, generation, names) for generation in await catalog.generations()]
    return Status(tuple(partitions), tuple(views), len(await catalog.quarantined()))


async def read_descriptions(catalog: Catalog, views: Mapping[str, str | None]) -> tuple[ViewDescription, ...]:
    """What the named views hold, each given with its owner's description."""
    sources = {row.source_id: row for row in await catalog.sources()}
    return tuple([await _describe(catalog, view, said, sources) for view, said in views.items()])


async def _describe(
    catalog: Catalog, view: str, description: str | None, sources: Mapping[int, SourceRow]
) -> ViewDescription:
    generation = await catalog.active_generation(view)
    if generation is None:
        return ViewDescription(view, description, (), (), None, None, 0, 0, None, False, ())
    built_from = [sources[source_id] for source_id in generation.source_ids]
    tables = [table for source in built_from for table in source.mapping.values()]
    found = await _view(catalog, generation, {source_id: row.name for source_id, row in sources.items()})
    return ViewDescription(
        view=view,
        description=description,
        sources=tuple(source.name for source in built_from),
        metadata=tuple(sorted({name for table in tables for name in table.metadata_names})),
        generation=found.generation,
        embedding_model=found.embedding_model,
        documents=found.documents,
        chunks=found.chunks,
        lag_seconds=found.lag_seconds,
        capturing=found.capturing,
        watermark=found.watermark,
    )


def _source(row: Mapping[str, Any]) -> SourceStatus:
    fields = {name: value for name, value in row.items() if name != "source_id"}
    return SourceStatus(**{**fields, "state": fields["state"] or "new"})


async def _progress(catalog: Catalog, generation: Generation) -> Progress:
    counters = await catalog.counters(generation)
    marks = await catalog.marks(generation)
    return Progress(
        view=generation.view,
        documents=counters["documents"],
        waiting=sum(row["documents"] for row in await catalog.backlog(generation)),
        loaded=bool(marks.marks) and all(mark.position is not None for mark in marks.marks),
    )


async def _view(catalog: Catalog, generation: Generation, names: Mapping[int, str]) -> ViewStatus:
    counters = await catalog.counters(generation)
    backlog = await catalog.backlog(generation)
    sources = [names[source_id] for source_id in generation.source_ids]
    marks = await catalog.marks(generation)
    watermark = view_watermarks(marks.marks, sources, generation.shards)
    lag = await catalog.lag(generation)
    return ViewStatus(
        view=generation.view,
        generation=generation.generation,
        embedding_model=generation.recipe.model.name,
        schema_version=generation.recipe.schema_version,
        shards=generation.shards,
        indexed=generation.indexed,
        documents=counters["documents"],
        chunks=await catalog.chunk_count(generation),
        backlog=sum(row["documents"] for row in backlog),
        quarantined=counters["quarantined"],
        lag_seconds=lag_seconds(watermark, marks.now),
        target_lag_seconds=lag["target_seconds"],
        lag_p50_seconds=lag["p50_seconds"],
        lag_p99_seconds=lag["p99_seconds"],
        watermark=watermark,
        capturing=marks.capturing,
        errors=tuple(sorted({row["error"] for row in backlog if row["error"]})),
        totals={name: counters[name] for name in ("added", "updated", "deleted", "texts_embedded", "chunks_inserted")},
    )
