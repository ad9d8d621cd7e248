"""For those who write a parser: `check_parser` is the port's promise as a program."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from livedex.errors import DocumentError
from livedex.ports import Parser
from livedex.testing.chunkers import AWKWARD_DOCUMENTS, BLANK_DOCUMENTS

_MOST_GROWTH = 20
"""Characters of text that one character of content may become, beyond what any short document may."""


def check_parser(make_parser: Callable[[], Parser], documents: Sequence[str] = ()) -> None:
    """Raise AssertionError naming the first promise of `livedex.ports.Parser` that this one does not keep.

    `documents` are some of its own format, beside the awkward ones that it may refuse.
    """
    parser, twin = make_parser(), make_parser()
    _check_recipe(parser, twin)
    for content in BLANK_DOCUMENTS:
        _expect(parser.parse(content) == "", repr(content), "content without any text gives an empty one")
    for content in (*documents, *AWKWARD_DOCUMENTS.values()):
        where = repr(content[:40])
        try:
            text = parser.parse(content)
        except DocumentError:
            _expect(content not in documents, where, "what is written in its format is read")
            continue
        _expect(text == parser.parse(content) == twin.parse(content), where, "the same content gives the same text")
        _expect("\0" not in text, where, "no text holds a zero byte")
        _expect(text == text.encode("utf-8", "replace").decode(), where, "no text holds half of a pair")
        _expect(len(text) <= 1_000 + _MOST_GROWTH * len(content), where, "text grows with the content's length only")
        _expect(bool(text) == bool(text.strip()), where, "content without any text gives an empty one")


def _check_recipe(parser: Parser, twin: Parser) -> None:
    recipe = dict(parser.recipe)
    _expect(json.loads(json.dumps(recipe)) == recipe == dict(twin.recipe), "recipe", "is equal, and survives JSON")
    _expect(isinstance(recipe.get("kind"), str) and isinstance(recipe.get("version"), int), "recipe", "names its kind")
    types = list(parser.media_types)
    _expect(bool(types) and types == [media_type.lower() for media_type in types], "media types", "are in lower case")


def _expect(holds: bool, where: str, promise: str) -> None:
    if not holds:
        raise AssertionError(f"{where}: {promise}")
