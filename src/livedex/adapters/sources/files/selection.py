"""Which files of a folder are documents. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

_LEFT_OUT = re.compile(
    r"""
      \..*                # hidden, and with it what editors and systems hide: .x.md.swp, .#x.md, .git, .DS_Store
    | .*~                 # backups
    | ~\$.*               # lock files of office programs
    | \#.*\#              # what Emacs saves by itself
    | 4913                # what Vim tries a folder with
    | ___jb_(?:tmp|old)___.* | .*___jb_(?:tmp|old)___    # safe write of JetBrains' editors
    | .*\.(?:tmp|temp|sw[a-z]|bak|part|crdownload|download)
    | node_modules | __pycache__
    """,
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)

_MEDIA_TYPES = {"md": "text/markdown", "markdown": "text/markdown", "mdx": "text/markdown"}
_MEDIA_TYPES |= {"html": "text/html", "htm": "text/html", "xhtml": "text/html"}


class Selection:
    """Takes what `include` matches and `exclude` does not. Patterns are matched with the path relative to the folder,
    with `/`, whatever the case: `*` and `?` stay within one name, `**/` is any number of folders, `[...]` a set of
    characters. An excluded folder goes with everything in it."""

    def __init__(self, include: Sequence[str], exclude: Sequence[str] = ()) -> None:
        self._include = _any_of(include)
        self._exclude = _any_of(exclude)

    def takes(self, relative: str) -> bool:
        """Whether the file at this path is a document."""
        return self._include.fullmatch(relative) is not None and self.reaches(relative)

    def reaches(self, relative: str) -> bool:
        """Whether documents could be at or below this path."""
        name_left_out = any(_LEFT_OUT.fullmatch(name) for name in relative.split("/"))
        return not name_left_out and not any(self._exclude.fullmatch(path) for path in _with_parents(relative))


def media_type(relative: str) -> str:
    """By the extension; what is neither Markdown nor HTML is plain text."""
    return _MEDIA_TYPES.get(extension(relative), "text/plain")


def extension(relative: str) -> str:
    """In lower case, without the dot; empty for none."""
    return relative.rpartition("/")[2].rpartition(".")[2].lower() if "." in relative.rpartition("/")[2] else ""


def _with_parents(relative: str) -> Iterator[str]:
    yield relative
    while relative := relative.rpartition("/")[0]:
        yield relative


def _any_of(patterns: Sequence[str]) -> re.Pattern[str]:
    if not patterns:
        return re.compile(r"(?!)")
    return re.compile("|".join(_as_expression(pattern) for pattern in patterns), re.IGNORECASE | re.DOTALL)


_TOKEN = re.compile(
    r"(?P<folders>(?:(?<=/)|\A)\*\*/)|(?P<all>\*\*)|(?P<some>\*)|(?P<one>\?)|(?P<set>\[!?[^\]]+\])|(?s:.)"
)


def _as_expression(pattern: str) -> str:
    written = pattern.removeprefix("./").rstrip("/")
    return "(?:" + "".join(_piece(token) for token in _TOKEN.finditer(written)) + ")"


def _piece(token: re.Match[str]) -> str:
    if token["folders"]:
        return r"(?:[^/]+/)*"
    if token["all"]:
        return r".*"
    if token["some"]:
        return r"[^/]*"
    if token["one"]:
        return r"[^/]"
    if token["set"]:
        negated = token["set"][1] == "!"
        inner = re.sub(r"([\\\[\]^&~|])", r"\\\1", token["set"][2 if negated else 1 : -1])
        return f"(?!/)[{'^' if negated else ''}{inner}]"
    return re.escape(token[0])
