"""How an index stands, from what its store knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from livedex.model import Generation, Watermark
from livedex.rules.freshness import data_timestamp, lag_seconds
from livedex.store.catalog import Catalog
from livedex.store.cost import ViewCost
from livedex.store.entries import SourceRow
from livedex.store.upkeep import Size

WINDOW_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """One partition of a source. `heartbeat_at` is when it was last heard of, `clock_offset_seconds` how far its clock
    is ahead of the store's, as far as that is known."""

    source: str
    kind: str
    partition: str | None
    state: str
    error: str | None
    position: str | None
    position_time: datetime | None
    heartbeat_at: datetime | None
    clock_offset_seconds: float | None
    documents: int
    schema_change: str | None = None
    """The newest change of a column that waits for somebody."""


@dataclass(frozen=True, slots=True)
class ViewStatus:
    """One view's active generation. `backlog` counts documents that wait in the log.

    `lag_seconds` is how old the view is now: everything committed before `data_timestamp` is searchable. Over the last
    `window_seconds`: percentiles from commit to searchable (`lag`) and from a delete's commit to its document being
    found no more (`delete`), the share of time within the target lag, and the share of retrievals with a stale hit;
    None where nothing was measured.
    """

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
    lag_p95_seconds: float | None
    lag_p99_seconds: float | None
    delete_p50_seconds: float | None
    delete_p95_seconds: float | None
    delete_p99_seconds: float | None
    within_target: float | None
    stale_retrieval_rate: float | None
    window_seconds: float
    data_timestamp: datetime | None
    watermark: tuple[Watermark, ...]
    capturing: bool
    errors: tuple[str, ...]
    totals: Mapping[str, int]
    cost: ViewCost
    size: Size
    bytes_per_chunk: float | None
    """With indexes; None where there is no chunk."""
    index_inserts_per_text: float | None
    """How many entries the vector index took for each text that was embedded, since the generation was made."""


@dataclass(frozen=True, slots=True)
class AuditStatus:
    """The last audit that ended. `found` counts findings, `left` those that it did not repair; `error` says why it
    ended early. `subject` is None when it was of everything."""

    audit_id: int
    finished_at: datetime
    subject: str | None
    found: int
    left: int
    not_compared: int
    error: str | None


@dataclass(frozen=True, slots=True)
class Status:
    sources: tuple[SourceStatus, ...]
    views: tuple[ViewStatus, ...]
    quarantined: int
    audit: AuditStatus | None = None


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


async def read_status(catalog: Catalog, window_seconds: float = WINDOW_SECONDS) -> Status:
    """Reads only the store: it says as much about an index that nobody follows right now. Figures are over the last
    `window_seconds`."""
    partitions = [_source(row) for row in await catalog.partitions()]
    views = [await _view(catalog, generation, window_seconds) for generation in await catalog.generations()]
    audit = _audit(await catalog.last_audit())
    return Status(tuple(partitions), tuple(views), len(await catalog.quarantined()), audit)


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
    found = await _view(catalog, generation, WINDOW_SECONDS)
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


def _audit(row: Mapping[str, Any] | None) -> AuditStatus | None:
    if row is None:
        return None
    parts = row["report"] or []
    findings = [finding for part in parts for finding in part["findings"]]
    return AuditStatus(
        audit_id=row["audit_id"],
        finished_at=row["finished_at"],
        subject=row["wanted"]["subject"],
        found=sum(finding["found"] for finding in findings),
        left=sum(finding["left"] for finding in findings),
        not_compared=sum(part["skipped"] is not None for part in parts),
        error=row["error"],
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


async def _view(catalog: Catalog, generation: Generation, window_seconds: float) -> ViewStatus:
    counters = await catalog.counters(generation)
    backlog = await catalog.backlog(generation)
    marks = await catalog.marks(generation)
    watermark = marks.watermarks()
    figures = await catalog.figures(generation, window_seconds)
    chunks, size = await catalog.chunk_count(generation), await catalog.size(generation)
    return ViewStatus(
        view=generation.view,
        generation=generation.generation,
        embedding_model=generation.recipe.model.name,
        schema_version=generation.recipe.schema_version,
        shards=generation.shards,
        indexed=generation.indexed,
        documents=counters["documents"],
        chunks=chunks,
        backlog=sum(row["documents"] for row in backlog),
        quarantined=counters["quarantined"],
        lag_seconds=lag_seconds(watermark, marks.now),
        target_lag_seconds=marks.target_seconds,
        **asdict(figures),
        window_seconds=window_seconds,
        data_timestamp=data_timestamp(watermark),
        watermark=watermark,
        capturing=marks.capturing,
        errors=tuple(sorted({row["error"] for row in backlog if row["error"]})),
        cost=await catalog.cost(generation),
        size=size,
        bytes_per_chunk=size.bytes / chunks if chunks else None,
        index_inserts_per_text=counters["chunks_inserted"] / texts if (texts := counters["texts_embedded"]) else None,
        totals={name: counters[name] for name in ("added", "updated", "deleted", "texts_embedded", "chunks_inserted")},
    )
