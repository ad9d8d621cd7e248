"""The values that move through livedex. All are frozen; none knows where it came from or where it goes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cache
from typing import Any

Scalar = str | int | float | bool | None
"""A column's value in a `Change`: text in the source's canonical output, or the JSON value it plainly is."""


class Op(StrEnum):
    """What happened to a row, in Debezium's letters."""

    READ = "r"
    CREATE = "c"
    UPDATE = "u"
    DELETE = "d"
    TRUNCATE = "t"


@dataclass(frozen=True, slots=True)
class Change:
    """One row's change as the source saw it.

    `key` holds the key columns' values in their configured order and is empty for a truncate. `old_key` is set only
    when an update moved the row to another key. `columns` holds the mapped columns that the source sent; `unchanged`
    names mapped columns that it left out because they did not change (PostgreSQL does so with TOASTed values).
    `position` and `time` (UTC) are those of the commit; a snapshot's rows have no time. `refused` says why the source
    could not read the row: it goes to quarantine with that reason, and is shown as far as `unchanged` columns tell.
    """

    op: Op
    table: str
    key: tuple[str, ...]
    columns: Mapping[str, Any] = field(default_factory=dict)
    old_key: tuple[str, ...] | None = None
    unchanged: frozenset[str] = frozenset()
    position: str | None = None
    time: datetime | None = None
    refused: str | None = None


@dataclass(frozen=True, slots=True)
class TableMapping:
    """Which columns of one source table mean what.

    `content` and `title` are a column's name or a template such as `{title}\\n\\n{body}`. `media_type` is the column
    that says what the content is written in, `text/html` for one. `front_matter` names what to read into the metadata
    from the content's own front matter.
    """

    key: tuple[str, ...]
    content: str
    title: str | None = None
    updated_at: str | None = None
    metadata: tuple[str, ...] = ()
    tenant: str | None = None
    acl: str | None = None
    version: str | None = None
    media_type: str | None = None
    front_matter: tuple[str, ...] = ()

    @property
    def metadata_names(self) -> tuple[str, ...]:
        """What its documents' metadata holds: columns, then names from front matter."""
        return (*self.metadata, *self.front_matter)


@dataclass(frozen=True, slots=True)
class Document:
    """The state of one key of one source at `seq`. `content` is empty when `deleted`.

    `media_type` is in lower case and without parameters; empty: unknown.
    """

    document: int
    source: str
    table: str
    document_id: str
    seq: int
    version: str
    title: str
    content: str
    deleted: bool
    source_position: str | None
    source_time: datetime | None
    captured_at: datetime
    media_type: str = ""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A span of one document: `content[start:end] == text`, offsets in code points.

    `heading_path` runs from the outermost heading inwards. `embedded_text` is what the model sees.
    """

    index: int
    start: int
    end: int
    text: str
    heading_path: tuple[str, ...] = ()
    section_type: str = "text"
    embedded_text: str = ""

    def __post_init__(self) -> None:
        if not self.embedded_text:
            object.__setattr__(self, "embedded_text", self.text)


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """What makes two vectors comparable. Where the model runs is no part of it.

    `truncation` is the most tokens that are read, `normalised` says that vectors have length 1, the prefixes are what
    is put before a text. `name` is how people and SQL refer to the identity.
    """

    model: str
    revision: str
    dimensions: int
    precision: str = "fp32"
    pooling: str = "mean"
    truncation: int | None = None
    normalised: bool = True
    query_prefix: str = ""
    document_prefix: str = ""

    @property
    def name(self) -> str:
        return _name(self)


@cache
def _name(identity: ModelIdentity) -> str:
    canonical = json.dumps(asdict(identity), sort_keys=True, ensure_ascii=False)
    return f"{identity.model}:{hashlib.blake2b(canonical.encode(), digest_size=4).hexdigest()}"


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a generation was built with; locked when it is made. Two equal recipes build equal views."""

    parser: Mapping[str, Any]
    chunker: Mapping[str, Any]
    model: ModelIdentity
    lexical: Mapping[str, Any] = field(default_factory=dict)
    extractor: Mapping[str, Any] = field(default_factory=dict)

    @property
    def schema_version(self) -> str:
        """Names parser, chunker and extractor with versions and settings; stands on every hit."""
        parts = [dict(part) for part in (self.parser, self.chunker, self.extractor) if part]
        canonical = json.dumps(parts, sort_keys=True, ensure_ascii=False)
        digest = hashlib.blake2b(canonical.encode(), digest_size=4).hexdigest()
        return f"{self.chunker['kind']}-{self.chunker['version']}:{digest}"


@dataclass(frozen=True, slots=True)
class Generation:
    """One physical build of a view. `max_ages` says of each source, in the order of `source_ids`, how old a document
    may be to be shown; None is no bound."""

    generation: int
    view: str
    state: str
    recipe: Recipe
    model_id: int
    shards: int
    source_ids: tuple[int, ...]
    indexed: bool
    max_ages: tuple[timedelta | None, ...] = ()

    @property
    def expires(self) -> bool:
        """Whether it shows no documents beyond some age."""
        return any(age is not None for age in self.max_ages)

    @property
    def schema(self) -> str:
        """The PostgreSQL schema that holds its tables."""
        return f"livedex_g{self.generation}"


class SourceState(StrEnum):
    """How a source stands to a view. An idle source is current: it is heard of, and all that it said is searchable.

    behind: what it said longer ago than the view's target lag is not searchable yet. loading: its first load is not
    complete. silent: it cannot be reached, or nothing was heard of it for a while. unfollowed: nothing captures it.
    paused: it needs a person. held: it would delete so much that a person has to agree.
    """

    CURRENT = "current"
    BEHIND = "behind"
    LOADING = "loading"
    SILENT = "silent"
    UNFOLLOWED = "unfollowed"
    PAUSED = "paused"
    HELD = "held"


@dataclass(frozen=True, slots=True)
class Watermark:
    """Everything up to here is searchable. Missing position: the first snapshot is not complete yet.

    `time` is when the source was as it is searchable, `lag_seconds` how long ago that was, by the store's clock.
    """

    source: str
    position: str | None
    time: datetime | None
    heartbeat_at: datetime | None = None
    state: SourceState | None = None
    lag_seconds: float | None = None


class Mode(StrEnum):
    """What proposes and ranks: vectors, words (BM25), or both."""

    HYBRID = "hybrid"
    DENSE = "dense"
    LEXICAL = "lexical"


class Fusion(StrEnum):
    """How the scores of both legs become one: `rules/ranking.py`."""

    ZSCORE = "zscore"
    RRF = "rrf"


class WhenStale(StrEnum):
    """What to do about a query that asks for fresher data than there is."""

    WAIT = "wait"
    SERVE = "serve"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Query:
    """What to look for, and on whose behalf.

    A document with a tenant is seen only by that tenant; one with an access list only by a principal on it.
    `filters` maps a metadata name to the values that are accepted. `exact` bypasses the indexes: every visible chunk is
    measured and scored.

    `max_staleness_seconds` bounds how long ago what is searched may have been current; `at_least` holds tokens of
    writes that must be searchable. Where that is not so, `when_stale` says whether to wait (at most `wait_seconds`, and
    then to refuse), to serve all the same, flagged, or to refuse at once.
    """

    text: str
    top_k: int = 10
    filters: Mapping[str, Sequence[str]] = field(default_factory=dict)
    tenant: str | None = None
    principals: tuple[str, ...] = ()
    exact: bool = False
    mode: Mode = Mode.HYBRID
    max_staleness_seconds: float | None = None
    at_least: tuple[str, ...] = ()
    when_stale: WhenStale = WhenStale.WAIT
    wait_seconds: float = 2.0


@dataclass(frozen=True, slots=True)
class Hit:
    """One chunk that answers a query.

    `score` orders the hits of one retrieval and says nothing beyond it; `scores` has the cosine similarity (`dense`)
    and BM25 (`lexical`), as far as they were asked for; a chunk without a vector has no `dense`. Text, offsets,
    version, position and source time are those of the version that was applied; title, metadata and access are the
    document's current ones. `stale`: a newer version is on its way, since `stale_since` at least. `updated_at` is when
    the document says that it was last changed, where a column for that is mapped. `complete`: all chunks of that
    version are there; None where no contract asks for it.
    """

    document_id: str
    document_version: str
    chunk_id: str
    chunk_index: int
    source: str
    title: str
    section: tuple[str, ...]
    section_type: str
    start: int
    end: int
    text: str
    metadata: Mapping[str, Any]
    score: float
    scores: Mapping[str, float]
    source_position: str | None
    source_time: datetime | None
    created_at: datetime
    embedding_model: str
    schema_version: str
    stale: bool
    updated_at: datetime | None = None
    stale_since: datetime | None = None
    complete: bool | None = None


@dataclass(frozen=True, slots=True)
class Freshness:
    """Whether a retrieval was as fresh as was asked for; `unmet` says in which respects not. `waited_seconds` is 0
    where the first search was."""

    met: bool = True
    waited_seconds: float = 0.0
    unmet: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Violation:
    """A clause of a contract, by its name in livedex.yaml, and why it is not met."""

    clause: str
    reason: str


@dataclass(frozen=True, slots=True)
class Dropped:
    """A chunk that was found and withheld. Its text is withheld too: what is off contract reaches nobody."""

    document_id: str
    document_version: str
    chunk_id: str
    source: str
    score: float
    scores: Mapping[str, float]
    violations: tuple[Violation, ...]


class Outcome(StrEnum):
    """What a retrieval under contract came to."""

    ANSWERED = "answered"
    ABSTAINED = "abstained"
    ESCALATED = "escalated"


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a retrieval stands to its view's contract. `contract` names the contract's version. `violations` are those of
    the retrieval as a whole; `dropped`, best first, holds the chunks that were withheld. `escalation` is the number of
    the ticket that was opened."""

    contract: str
    outcome: Outcome
    violations: tuple[Violation, ...] = ()
    dropped: tuple[Dropped, ...] = ()
    escalation: int | None = None


@dataclass(frozen=True, slots=True)
class Retrieval:
    """A query's hits, best first, with what they were read from.

    `watermark` is per source. Everything committed before `data_timestamp` is searchable; `lag_seconds` is how long ago
    that was. Both are None before the first snapshot is complete. `capturing` says whether anything follows the sources
    right now. `searched_at` is the store's time in the snapshot. `lexical_only` counts the documents of the view, up to
    1000, of which texts are found by words alone until there is budget to embed them. `verdict` is there whenever the
    view has a contract; `hits` are then within it.
    """

    retrieval_id: str
    view: str
    generation: int
    hits: tuple[Hit, ...]
    watermark: tuple[Watermark, ...]
    lag_seconds: float | None
    capturing: bool
    timings: Mapping[str, float]
    data_timestamp: datetime | None = None
    freshness: Freshness = Freshness()
    verdict: Verdict | None = None
    searched_at: datetime | None = None
    lexical_only: int = 0
