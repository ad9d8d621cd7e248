"""The whole of livedex.yaml, and what it comes to.

The docstring under a field, here and in the modules of its sections, is its description in
docs/reference/configuration.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, SecretStr, model_validator
from pydantic_core import PydanticCustomError

from livedex.config.audit import Audit, Audited
from livedex.config.doors import Doors, Serve
from livedex.config.embedders import Embedder
from livedex.config.records import Recording, Records
from livedex.config.sources import Source
from livedex.config.upkeep import Upkeep, Upkept
from livedex.config.values import DatabaseURL, Location, Name, Section
from livedex.config.views import View


class Store(Section):
    """Where the index is kept. Without it: a PostgreSQL server of livedex's own, in `.livedex/` beside the file."""

    url: DatabaseURL | None = None
    """A PostgreSQL 15 or newer with pgvector 0.8.4 or newer. `LIVEDEX_DATABASE_URL` comes before it."""
    directory: Location | None = None
    """The directory of livedex's own server, relative to the file."""

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if self.url is not None and self.directory is not None:
            raise PydanticCustomError("one_place", "has both url and directory; keep the one that is meant")
        return self


class Configuration(Section):
    """The whole of livedex.yaml."""

    sources: Annotated[Mapping[Name, Source], Field(min_length=1)]
    """Where documents come from, by a name of your choice."""
    embedders: Mapping[Name, Embedder] = Field(default_factory=dict)
    """What turns text into vectors, by a name of your choice."""
    views: Annotated[Mapping[Name, View], Field(min_length=1)]
    """The search indexes, by a name of your choice."""
    store: Store = Store()
    """Where the index is kept."""
    serve: Doors = Serve()
    """The doors through which others search, or `false`."""
    record: Recording = Records()
    """What is remembered of searches, or `false`."""
    upkeep: Upkept = Upkeep()
    """What a running livedex does to keep its store small and quick, or `false`."""
    audit: Audited = Audit()
    """How often a running livedex compares everything it holds, or `false`."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that livedex.yaml and the environment decide, checked and complete.

    `embedders` holds every embedder that a view names, declared or implied. `database_url` is None when the embedded
    server in `store_directory` holds the index. `serve` is None when the file says nothing of it. Paths are absolute.
    """

    file: Path
    sources: Mapping[str, Source]
    embedders: Mapping[str, Embedder]
    views: Mapping[str, View]
    database_url: SecretStr | None
    store_directory: Path
    cache_directory: Path
    serve: Serve | None = None
    record: Records = field(default_factory=Records)
    upkeep: Upkeep = field(default_factory=Upkeep)
    audit: Audit = field(default_factory=Audit)
