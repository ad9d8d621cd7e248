"""SQL by name: statements live in `queries/*.sql`, Python calls them.

A file is a list of statements, each introduced by its name and a description in comments:

    -- name: read_after
    -- Documents behind a cursor, in log order.
    SELECT ...

A statement of a generation's own tables writes `{g}` for their schema.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache, cached_property, lru_cache
from importlib import resources
from types import MappingProxyType

from psycopg import sql

_NAME = re.compile(r"--\s*name:\s*(\S.*?)\s*$")


@cache
def load(file: str) -> Mapping[str, str]:
    """Name → SQL of `queries/<file>.sql`, without the description and the closing semicolon.

    Raises ValueError naming the line for two statements of one name, SQL outside a statement, or a name without SQL.
    """
    source = resources.files(__package__) / "queries" / f"{file}.sql"
    return parse(source.read_text(encoding="utf-8"), f"queries/{file}.sql")


def parse(text: str, origin: str) -> Mapping[str, str]:
    """Name → SQL of one file's text. `origin` names the file in errors."""
    statements: dict[str, str] = {}
    for line, name, body in _sections(text, origin):
        if not name.isidentifier():
            raise ValueError(f'{origin}:{line}: "{name}" is not a name. Use letters, digits and underscores.')
        if name in statements:
            raise ValueError(f'{origin}:{line}: a statement "{name}" stands further up already. Rename one of them.')
        if not body:
            raise ValueError(f'{origin}:{line}: statement "{name}" has no SQL.')
        statements[name] = body
    return MappingProxyType(statements)


def _sections(text: str, origin: str) -> Iterator[tuple[int, str, str]]:
    """Line of the introduction, name and SQL of each statement."""
    name, started, body = "", 0, list[str]()
    for number, line in enumerate(text.splitlines(), start=1):
        if introduction := _NAME.match(line):
            if name:
                yield started, name, _trimmed(body)
            name, started, body = introduction[1], number, []
        elif name and (body or not _is_remark(line)):
            body.append(line)
        elif not _is_remark(line):
            raise ValueError(f"{origin}:{number}: SQL before the first `-- name:` line.")
    if name:
        yield started, name, _trimmed(body)


def _is_remark(line: str) -> bool:
    return not line.strip() or line.lstrip().startswith("--")


def _trimmed(body: list[str]) -> str:
    while body and _is_remark(body[-1]):
        body.pop()
    return "\n".join(body).strip().removesuffix(";").rstrip()


class Statements:
    """One file's statements, by name; `for_schema` fills in which generation's tables they speak of."""

    def __init__(self, file: str) -> None:
        self._file = file

    @cached_property
    def _by_name(self) -> Mapping[str, str]:
        return load(self._file)

    def __getitem__(self, name: str) -> str:
        return self._by_name[name]

    def for_schema(self, schema: str, **others: str | int) -> Mapping[str, str]:
        """All statements with `{g}` replaced by the schema, and each `{other}` that is given by its value: a name as
        a quoted identifier, a number in digits. Every other brace stays as it is.
        """
        return _filled(self._file, (("g", schema), *sorted(others.items())))


@lru_cache(maxsize=256)
def _filled(file: str, values: tuple[tuple[str, str | int], ...]) -> Mapping[str, str]:
    return MappingProxyType({name: fill(text, dict(values)) for name, text in load(file).items()})


def array_literal(numbers: Iterable[float]) -> str:
    """Numbers as PostgreSQL writes an array. For long ones: psycopg dumps a list element by element."""
    return "{" + ",".join(map(str, numbers)) + "}"


def fill(text: str, values: Mapping[str, str | int]) -> str:
    """Replace `{placeholder}` for the placeholders given and no others: names are quoted, numbers written out."""
    placeholders = re.compile(r"\{(" + "|".join(map(re.escape, values)) + r")\}")
    return placeholders.sub(lambda found: _rendered(values[found[1]]), text)


def _rendered(value: str | int) -> str:
    return str(value) if isinstance(value, int) else sql.Identifier(value).as_string(None)
