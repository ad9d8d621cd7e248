"""A document → chunks: parse, cut, and say what each chunk is good for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from livedex.errors import DocumentError
from livedex.model import Chunk, Document
from livedex.ports import Chunker, Parser
from livedex.rules import section_types

AS_IT_IS: Mapping[str, Any] = {"kind": "text", "version": 1}
"""The recipe of no parser."""
_OTHERWISE = "otherwise"


@dataclass(frozen=True, slots=True)
class Cut:
    """`text` is what the chunks' offsets refer to: the document's content, or what the parser made of it."""

    text: str
    chunks: Sequence[Chunk]


@dataclass(frozen=True, slots=True)
class Route:
    """How documents of some kind are cut. Without a parser the content is cut as it is."""

    chunker: Chunker
    parser: Parser | None = None


@dataclass(frozen=True, slots=True)
class Extractor:
    """Names the section type of a chunk from its heading path, its text and the structure that the chunker found."""

    recipe: Mapping[str, Any]
    classify: Callable[[Sequence[str], str, str], str]


SECTION_TYPES = Extractor(section_types.RECIPE, section_types.classify)


@dataclass(frozen=True, slots=True)
class Cutter:
    """Cuts each document the way of its media type. Pure, like its parts: safe to use from any thread."""

    otherwise: Route
    by_media_type: Mapping[str, Route]
    extractor: Extractor = SECTION_TYPES

    def cut(self, document: Document) -> Cut:
        """Raises DocumentError for a document that its parser or chunker refuses."""
        route = self.by_media_type.get(document.media_type, self.otherwise)
        text = document.content if route.parser is None else _parsed(route.parser, document.content)
        return Cut(text, [self._typed(chunk) for chunk in route.chunker.chunk(text, document.title)])

    @property
    def parser_recipe(self) -> Mapping[str, Any]:
        return self._recipe(lambda route: AS_IT_IS if route.parser is None else route.parser.recipe)

    @property
    def chunker_recipe(self) -> Mapping[str, Any]:
        return self._recipe(lambda route: route.chunker.recipe)

    @property
    def extractor_recipe(self) -> Mapping[str, Any]:
        return dict(self.extractor.recipe)

    def _typed(self, chunk: Chunk) -> Chunk:
        section_type = self.extractor.classify(chunk.heading_path, chunk.text, chunk.section_type)
        return chunk if section_type == chunk.section_type else replace(chunk, section_type=section_type)

    def _recipe(self, part: Callable[[Route], Mapping[str, Any]]) -> Mapping[str, Any]:
        """One part's recipe for all routes, or each media type's."""
        usual = dict(part(self.otherwise))
        special = {media_type: dict(part(route)) for media_type, route in sorted(self.by_media_type.items())}
        if all(recipe == usual for recipe in special.values()):
            return usual
        return {"kind": "auto", "version": 1, **special, _OTHERWISE: usual}


def _parsed(parser: Parser, content: str) -> str:
    kind = parser.recipe["kind"]
    try:
        return parser.parse(content)
    except DocumentError as error:
        raise DocumentError(f"The parser {kind} refused it: {error}") from error
    except Exception as error:
        raise DocumentError(f"The parser {kind} failed: {type(error).__name__}.") from error
