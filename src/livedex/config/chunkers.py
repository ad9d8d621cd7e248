"""`chunker` of a view: how documents are cut."""

from __future__ import annotations

from typing import Annotated, Literal, Self, TypeVar

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from livedex.config.values import Section

_Settings = TypeVar("_Settings")


def _at_most_half(settings: _Settings, name: str, part: int, whole: int) -> _Settings:
    if part > whole // 2:
        raise PydanticCustomError(
            "room_to_pack",
            "has {name} {part}, more than half of max_tokens {whole}; lower the one or raise the other",
            {"name": name, "part": part, "whole": whole},
        )
    return settings


class _Packing(Section):
    """Settings of the chunkers that pack what is short."""

    kind: str
    max_tokens: Annotated[int, Field(ge=16, le=8192)] = 200
    """Most tokens in a chunk."""
    min_tokens: Annotated[int, Field(ge=0)] = 50
    """What is shorter shares a chunk with its neighbour. At most half of `max_tokens`."""

    @model_validator(mode="after")
    def _room_to_pack(self) -> Self:
        return _at_most_half(self, "min_tokens", self.min_tokens, self.max_tokens)


class AutoChunker(_Packing):
    """Cuts each document the way of its media type: pages as `html`, plain text as `text`, all else as `markdown`."""

    kind: Literal["auto"] = "auto"
    """What the documents are."""


class MarkdownChunker(_Packing):
    """Cuts at headings, then at paragraphs, so that an edit moves no cut outside its section."""

    kind: Literal["markdown"] = "markdown"
    """What the documents are."""


class TextChunker(_Packing):
    """Cuts plain text at paragraphs, then at sentences, so that an edit moves few other cuts. Nothing is markup."""

    kind: Literal["text"] = "text"
    """What the documents are."""


class HtmlChunker(_Packing):
    """Takes every document for a page: reads its main content as Markdown and cuts that."""

    kind: Literal["html"] = "html"
    """What the documents are."""


class FixedChunker(Section):
    """Cuts windows of equal size that overlap. An edit moves all cuts behind it."""

    kind: Literal["fixed"] = "fixed"
    """What the documents are."""
    max_tokens: Annotated[int, Field(ge=16, le=8192)] = 200
    """Tokens in a chunk."""
    overlap_tokens: Annotated[int, Field(ge=0)] = 20
    """How many of them stand in the next chunk too. At most half of `max_tokens`."""

    @model_validator(mode="after")
    def _room_to_move(self) -> Self:
        return _at_most_half(self, "overlap_tokens", self.overlap_tokens, self.max_tokens)


Chunker = AutoChunker | MarkdownChunker | TextChunker | HtmlChunker | FixedChunker
