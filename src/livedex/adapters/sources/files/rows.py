"""A file's text → the columns of its row. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from html.parser import HTMLParser
from typing import Any

from livedex import front_matter
from livedex.adapters.sources.files.positions import as_time
from livedex.adapters.sources.files.reading import Reading
from livedex.adapters.sources.files.selection import extension, media_type

TABLE = "files"
KEY = "path"
COLUMNS = ("content", "title", "updated_at", "media_type")
"""What every row holds beside its key and its metadata."""
LONGEST_TITLE = 300
_HEAD = 2**18
"""Characters of an HTML page in which its title, heading and <meta> are looked for."""

_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_HEADING = re.compile(r" {0,3}#{1,6}(?:[ \t]+(.*?))??(?:[ \t]+#+)?[ \t]*$")
_UNDERLINE = re.compile(r" {0,3}(?:=+|-+)[ \t]*$")
_LINK = re.compile(r"!?\[([^\[\]]{0,300})\]\([^()\s]{0,2000}\)")
_MARKS = re.compile(r"[*`]+|(?<!\w)_+|_+(?!\w)")


def shown(relative: str) -> str:
    """A path as text: bytes of a name that are not UTF-8 are written `\\xNN`."""
    return relative.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def columns(relative: str, reading: Reading, metadata: Sequence[str]) -> dict[str, Any]:
    """The row of a document. Metadata that the file does not give is None; names of columns and `folder`, `path` and
    `extension` stand for themselves, whatever the file says."""
    path = shown(relative)
    if reading.text is None:
        return {KEY: path}
    kind = media_type(relative)
    said = _Page.read(reading.text) if kind == "text/html" else _said(reading.text)
    own = {
        KEY: path,
        "content": reading.text,
        "title": _title(path, kind, reading.text, said),
        "updated_at": as_time(reading.stat.modified_ns).isoformat(),
        "media_type": kind,
        "folder": path.partition("/")[0] if "/" in path else None,
        "extension": extension(path) or None,
    }
    names = {KEY, *COLUMNS, *metadata}
    return {
        name: own[name] if name in own else said.get(name.lower() if kind == "text/html" else name) for name in names
    }


def _said(text: str) -> Mapping[str, Any]:
    return front_matter.read(text)


def _title(path: str, kind: str, text: str, said: Mapping[str, Any]) -> str:
    given = said.get("title")
    candidates = [str(given) if isinstance(given, str | int | float) else ""]
    if kind == "text/html":
        candidates.append(str(said.get(_Page.HEADING, "")))
    elif kind == "text/markdown":
        candidates.append(_first_heading(text[front_matter.body_start(text) :]))
    return next((line for title in candidates if (line := _one_line(title))), "") or _readable(path)


def _readable(path: str) -> str:
    name = path.rpartition("/")[2]
    words = re.sub(r"[\s_-]+", " ", name.rpartition(".")[0] or name).strip()
    return words[:1].upper() + words[1:] or name


def _one_line(title: str) -> str:
    line = " ".join(title.split())
    return line if len(line) <= LONGEST_TITLE else line[: LONGEST_TITLE - 1].rstrip() + "…"


def _first_heading(text: str) -> str:
    """The first heading outside of fenced code, without marks of emphasis and targets of links."""
    fence, before = "", ""
    for line in _lines(text):
        mark = _FENCE.match(line)
        if fence:
            closes = mark and mark[1].startswith(fence) and not line.strip(" \t" + fence[0])
            fence = "" if closes else fence
        elif mark:
            fence, before = mark[1], ""
        elif (heading := _HEADING.match(line)) and heading[1]:
            return _plain(heading[1])
        elif before.strip() and _UNDERLINE.match(line):
            return _plain(before)
        else:
            before = line if not line.startswith(("    ", "\t")) else ""
    return ""


def _lines(text: str) -> Iterator[str]:
    start = 0
    while start < len(text):
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        # No heading that anybody reads is longer, and expressions need not look at more.
        yield text[start : min(end, start + 2 * LONGEST_TITLE)].rstrip("\r")
        start = end + 1


def _plain(heading: str) -> str:
    return _MARKS.sub("", _LINK.sub(r"\1", heading)).strip()


class _Page(HTMLParser):
    """What an HTML page says about itself: <meta name=… content=…> by lower-case name, the first wins; under
    `HEADING` its <title>, or else its first <h1>."""

    HEADING = "<title>"

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.said: dict[str, str] = {}
        self._texts: dict[str, list[str]] = {}
        self._inside: str | None = None

    @classmethod
    def read(cls, text: str) -> Mapping[str, Any]:
        page = cls()
        page.feed(text[:_HEAD])
        page.close()
        for tag in ("title", "h1"):
            if (title := "".join(page._texts.get(tag, []))).strip():
                page.said.setdefault(cls.HEADING, title)
        return page.said

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("title", "h1") and tag not in self._texts:
            self._texts[tag] = []
            self._inside = tag
        elif tag == "meta":
            given = dict(attrs)
            name, content = given.get("name"), given.get("content")
            if name and content is not None:
                self.said.setdefault(name.strip().lower(), _storable(content))

    def handle_endtag(self, tag: str) -> None:
        if tag == self._inside:
            self._inside = None

    def handle_data(self, data: str) -> None:
        if self._inside is not None:
            self._texts[self._inside].append(_storable(data))


def _storable(text: str) -> str:
    """Character references can name what PostgreSQL does not store."""
    return text.replace("\0", "").encode("utf-8", "replace").decode()
