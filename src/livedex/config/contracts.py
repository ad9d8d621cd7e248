"""The section `views.<name>.contract`: what whoever searches a view is promised about every hit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from livedex.config.values import Count, Duration, Section, Text, Texts, one_or_more
from livedex.config.yaml_file import Parsed, Problem

if TYPE_CHECKING:
    from livedex.config.settings import Configuration

SectionType = Literal[
    "text", "heading", "list", "table", "code", "quote", "html",
    "definitions", "scope", "exceptions", "effective_dates", "steps", "faq",
]  # fmt: skip

Accepted = Annotated[tuple[Text, ...], BeforeValidator(one_or_more), Field(min_length=1)]


class Versions(Section):
    """A range of versions; its bounds belong to it. Numbers are compared by value, with dots part by part, anything
    else as text."""

    min: Text | None = None
    """The earliest version."""
    max: Text | None = None
    """The latest version."""

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.min is None and self.max is None:
            raise PydanticCustomError("bounded", "has neither min nor max; name one")
        return self


class Scores(Section):
    """The least scores that a hit needs, per leg."""

    dense: Annotated[float, Field(ge=-1, le=1)] | None = None
    """Cosine similarity, 1 at best. Which one still means something depends on the model."""
    lexical: Annotated[float, Field(ge=0)] | None = None
    """BM25, 0 where no word of the query occurs."""


class Contract(Section):
    """What every hit of a view has to be; what is not is withheld from everybody."""

    require: Texts = ()
    """Metadata that has to be there and not blank."""
    document_types: Mapping[Text, Accepted] = Field(default_factory=dict)
    """Metadata names that say what a document is, each with the value, or list of values, that is accepted."""
    section_types: Annotated[tuple[SectionType, ...], BeforeValidator(one_or_more)] = ()
    """The types of sections that are served."""
    version: Versions | None = None
    """The range of the document's version, for sources that map a column for it."""
    max_age: Duration | None = None
    """How long ago the document may have been changed: by its `updated_at` where that is mapped, else by when it was
    committed. A document without any time is off contract."""
    max_staleness: Duration | None = None
    """How far the view may lag behind its sources, and how long a newer version of a hit may have been waiting."""
    min_characters: Count | None = None
    """How long a chunk has to be, at least."""
    complete: bool = False
    """Whether all chunks of the document's version have to be there."""
    min_score: Scores | None = None
    """The least scores that a hit needs."""
    min_hits: Annotated[int, Field(ge=1, le=100)] = 1
    """How many hits within the contract an answer takes, however few were asked for."""
    on_violation: Literal["drop", "abstain", "escalate"] = "drop"
    """What comes of hits that violate it, which are withheld in any case: `drop` serves the rest, `abstain` serves
    nothing, `escalate` serves nothing and opens a ticket for a person. Where the view is too stale or too few hits are
    left nothing is served either way."""


def unkept(configuration: Configuration, parsed: Parsed) -> Iterator[Problem]:
    """Contracts that no document could ever keep, because no source of the view has what they ask for."""
    for name, view in configuration.views.items():
        contract = view.contract
        if contract is None:
            continue
        sources = [configuration.sources[source] for source in view.sources if source in configuration.sources]
        tables = [table for source in sources for table in source.tables.values()]
        known = {column for table in tables for column in table.metadata_names}
        asked = [("require", metadata) for metadata in contract.require]
        for clause, metadata in [*asked, *(("document_types", metadata) for metadata in contract.document_types)]:
            if metadata not in known:
                has = f"They have: {', '.join(sorted(known))}." if known else "They map none."
                message = f"no source of the view has metadata of the name {metadata}. {has}"
                place = ("views", name, "contract", clause)
                yield Problem(place, parsed.line(place), message)
        if contract.version is not None and not any(table.version for table in tables):
            place = ("views", name, "contract", "version")
            yield Problem(place, parsed.line(place), "no source of the view maps a column to version")
