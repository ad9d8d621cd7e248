"""For those who write a chunker: `check_chunker` is the port's promise as a program."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence

from livedex.adapters.chunkers.tokens import estimate_tokens
from livedex.model import Chunk
from livedex.ports import Chunker

BLANK_DOCUMENTS = ("", " ", "\n", "\r\n\r\n", " \t\n\u00a0\u2003\n", "\ufeff", "\ufeff\r\n")

AWKWARD_DOCUMENTS: Mapping[str, str] = {
    "one character": "x",
    "one heading": "# Only a heading",
    "sections": "# One\n\ntext\n\n## Two\n\nmore\n\n# Three\n\nend\n",
    "headings without text": "# A\n\n## B\n\n### C\n\nfinally text\n\n## D\n\n## E\n",
    "many empty headings": "#\n" * 2_000,
    "carriage returns": "# A\r\n\r\ntext\r\nmore\r\n\r\n- item\r\n- item\r\n",
    "lone carriage returns": "# A\rtext\r\rmore\r",
    "mixed line ends": "a\r\n\nb\r\rc\n\r\nd",
    "byte order mark": "\ufeff# Title\n\ntext",
    "odd white space": "a\u00a0b\u2028c\n\u3000\n\x0cnew page\n\v\n\x1c\x85d",
    "zero byte and half a pair": "zero\0byte and half a pair \ud83d\n\n\udc00",
    "other scripts": "# 標題\n\n東京は日本の首都です。人口が多い。\n\nمرحبا بالعالم\n\nGrößenänderung naïve",
    "joined emoji": "👩\u200d👩\u200d👧\u200d👦" * 300,
    "stacked accents": "e" + "\u0301" * 3_000,
    "no spaces in Chinese": "字" * 3_000,
    "long line": "word " * 5_000,
    "long word": "a" * 20_000,
    "long sentences": "This is one sentence of a paragraph without end. " * 500,
    "wide gap": "left" + " " * 20_000 + "right",
    "many blank lines": "top" + "\n" * 20_000 + "bottom",
    "equal lines": "- same\n" * 5_000,
    "unclosed fence": "text\n\n```python\n" + "value = 1\n# no heading\n" * 500,
    "long fence": "# Code\n\n```\n" + "line of code\n" * 500 + "```\n\nafter\n",
    "long table": "| a | b |\n|---|---|\n" + "| left | right |\n" * 500,
    "long link": "see [this](https://example.org/" + "x" * 5_000 + ") and [that](y)",
    "many links": "[a](https://example.org/a/long/path/to/it) " * 500,
    "unclosed brackets": "[" * 5_000 + "](" * 5_000,
    "comment across headings": "<!--\n# hidden\n\n# too\n-->\n\n# seen\n\ntext",
    "unclosed comment": "text\n\n<!-- and then\n\n# nothing\n" * 5,
    "deep quote": ">" * 3_000 + " deep\n> # not a section\n",
    "deep list": "".join(f"{'  ' * depth}- level {depth}\n" for depth in range(200)),
    "rules": "---\n\ntext\n\n---\n\nTitle\n---\n\n***\n___\n- - -\n",
    "code indented": "text\n\n    # code\n\n\tmore = 1\n",
    "page of HTML": "<!DOCTYPE html>\n<html><body>\n<h1>Title</h1>\n\n<p>text</p>\n</body></html>\n",
    "json on one line": "{" + ",".join(f'"key{i}":[{i},null,true]' for i in range(2_000)) + "}",
}
"""Texts that occur in real systems and break careless chunkers. Everything in them is content."""


def check_chunker(
    make_chunker: Callable[[], Chunker], *, count_tokens: Callable[[str], int] = estimate_tokens, overlaps: bool = False
) -> None:
    """Raise AssertionError naming the first promise of `livedex.ports.Chunker` that this kind does not keep.

    `count_tokens` is what the recipe's `max_tokens` is measured with. `overlaps` is for a kind that says so.
    """
    chunker, twin = make_chunker(), make_chunker()
    _check_recipe(chunker, twin)
    limit = chunker.recipe.get("max_tokens")
    for content in BLANK_DOCUMENTS:
        _expect(not chunker.chunk(content, "Title"), repr(content), "blank content gives no chunks")
    for name, content in AWKWARD_DOCUMENTS.items():
        chunks = chunker.chunk(content, "Title")
        _expect(list(chunks) == list(chunker.chunk(content, "Title")), name, "the same content gives the same chunks")
        _expect(list(chunks) == list(twin.chunk(content, "Title")), name, "equal chunkers give the same chunks")
        check_chunks(content, chunks, overlaps=overlaps, name=name)
        for chunk in chunks:
            if isinstance(limit, int):
                tokens = count_tokens(chunk.embedded_text)
                _expect(tokens <= limit, name, f"no chunk has more than {limit} tokens; one has {tokens}")


def check_chunks(
    content: str, chunks: Sequence[Chunk], *, overlaps: bool = False, start: int = 0, name: str = "document"
) -> None:
    """Raise AssertionError unless these are chunks as the port promises them, and hold all content from `start` on."""
    covered = start
    for index, chunk in enumerate(chunks):
        _expect(chunk.index == index, name, f"chunks are numbered from 0 in order; {index} says {chunk.index}")
        _expect(content[chunk.start : chunk.end] == chunk.text, name, f"chunk {index} is what stands at its offsets")
        _expect(bool(chunk.text.strip()) and bool(chunk.embedded_text.strip()), name, f"chunk {index} is not blank")
        _expect(bool(re.split(r"[\r\n]", chunk.text)[0].strip()), name, f"chunk {index} starts with no blank line")
        _expect(chunk.text == chunk.text.rstrip(), name, f"chunk {index} ends with no blank")
        _expect(overlaps or chunk.start >= covered, name, f"chunk {index} does not overlap the one before")
        _expect(_is_blank(content[covered : chunk.start]), name, f"nothing is left out before chunk {index}")
        covered = max(covered, chunk.end)
    _expect(_is_blank(content[covered:]), name, "nothing is left out at the end")


def _is_blank(text: str) -> bool:
    return not text.replace("\ufeff", "").strip()


def _check_recipe(chunker: Chunker, twin: Chunker) -> None:
    recipe = dict(chunker.recipe)
    _expect(json.loads(json.dumps(recipe)) == recipe, "recipe", "survives JSON")
    _expect(recipe == dict(twin.recipe), "recipe", "equal settings give equal recipes")
    _expect(isinstance(recipe.get("kind"), str) and isinstance(recipe.get("version"), int), "recipe", "names its kind")


def _expect(holds: bool, where: str, promise: str) -> None:
    if not holds:
        raise AssertionError(f"{where}: {promise}")
