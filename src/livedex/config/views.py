"""The section `views`: the search indexes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from livedex.config.chunkers import AutoChunker, Chunker
from livedex.config.contracts import Contract
from livedex.config.cost import Budget, Debounced
from livedex.config.values import Duration, Names, Section, Text


def _sql_schema(name: str) -> str:
    if not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", name):
        raise PydanticCustomError("name", "must be a schema's name in lower case, 63 characters at most")
    if re.match(r"pg_|livedex($|_g\d)", name):
        raise PydanticCustomError("reserved", "is a schema that PostgreSQL or livedex keeps for itself")
    return name


def _by_kind(written: Any) -> Any:
    return {"kind": written} if isinstance(written, str) else written


def _auto(written: Any) -> Any:
    return {"kind": "auto", **written} if isinstance(written, Mapping) else written


Language = Literal[
    "simple", "arabic", "armenian", "basque", "catalan", "danish", "dutch", "english", "finnish", "french", "german",
    "greek", "hindi", "hungarian", "indonesian", "irish", "italian", "lithuanian", "nepali", "norwegian", "portuguese",
    "romanian", "russian", "serbian", "spanish", "swedish", "tamil", "turkish", "yiddish",
]  # fmt: skip


class View(Section):
    """A search index that livedex keeps up to date."""

    sources: Annotated[Names, Field(alias="from")]
    """The source, or list of sources, whose documents it holds."""
    description: Text | None = None
    """What it holds, in a sentence: for people and models who choose where to search."""
    chunker: Annotated[
        Annotated[Chunker, Field(discriminator="kind")], BeforeValidator(_by_kind), BeforeValidator(_auto)
    ] = AutoChunker()
    """How documents are cut: a mapping with `kind` and its settings, or the kind alone. Without a kind, `auto`."""
    language: Language = "english"
    """The language that words are stemmed in, so that `refunded` finds `refunds`; `simple` stems nothing."""
    fusion: Literal["zscore", "rrf"] = "zscore"
    """How the scores of vectors and words become one: by standard deviations from the mean of a query's candidates, or
    by reciprocal ranks."""
    embedder: str = "local"
    """The name of an embedder. `local` and `hashing` need no declaration."""
    target_lag: Duration = timedelta(seconds=2)
    """How long after its commit a change should be searchable. `livedex status` says when a view is later than that;
    nothing is dropped."""
    debounce: Debounced | None = None
    """How long a document must have been quiet before its new text is embedded, so that one that is edited again and
    again costs one embedding: a duration, or a mapping with `quiet` and `at_most`. First versions, deletes and changes
    of metadata or access are not delayed."""
    budget: Budget | None = None
    """How much text may be embedded in a day."""
    ttl: Duration | None = None
    """How old a document may be to be shown: by its `updated_at` where that is mapped, else by its commit. One of
    unknown age is always shown."""
    shards: Annotated[int, Field(ge=1, le=64)] = 1
    """How many workers can build it side by side."""
    contract: Contract | None = None
    """What whoever searches it is promised about every hit."""
    sql_schema: Annotated[str, AfterValidator(_sql_schema), Field(alias="schema")] = "public"
    """The schema of the store's database in which the SQL view stands."""
