"""Every parser keeps what the port promises, and the kit notices one that does not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import count
from typing import Any

import pytest

from livedex.adapters.parsers.html import HtmlParser
from livedex.errors import DocumentError
from livedex.testing.parsers import check_parser

PAGES = ("<h1>Title</h1><p>text", "<table><tr><th>a<th>b<tr><td>1<td>2</table>", "<ul><li>" * 200 + "deep")


def test_the_html_parser_conforms() -> None:
    check_parser(HtmlParser, PAGES)


class _Careless(HtmlParser):
    """An HTML parser whose text is changed on the way out."""

    def __init__(self, change: Callable[[str], str]) -> None:
        self._change = change

    def parse(self, content: str) -> str:
        return self._change(super().parse(content))


_calls = count()


def _unstable(text: str) -> str:
    return text and f"{text}{next(_calls)}"


def _refuse(text: str) -> str:
    if text:
        raise DocumentError
    return text


@pytest.mark.parametrize(
    ("change", "promise"),
    [
        (lambda text: text or "\n", "an empty one"),
        (_unstable, "the same content gives the same text"),
        (lambda text: text and text + "\0", "zero byte"),
        (lambda text: text and text + "\ud800", "half of a pair"),
        (lambda text: text * 2_000, "grows with the content's length only"),
        (_refuse, "what is written in its format is read"),
    ],
    ids=["blank", "unstable", "zero byte", "half a pair", "endless", "refused"],
)
def test_the_kit_notices(change: Callable[[str], str], promise: str) -> None:
    with pytest.raises(AssertionError, match=promise):
        check_parser(lambda: _Careless(change), PAGES)


def test_the_kit_notices_a_recipe_without_a_kind() -> None:
    class Nameless(HtmlParser):
        @property
        def recipe(self) -> Mapping[str, Any]:
            return {}

    with pytest.raises(AssertionError, match="names its kind"):
        check_parser(Nameless)
