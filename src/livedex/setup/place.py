"""Where documents may be, from what was said and what the environment holds, and how a configuration refers to it
without holding a secret."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from livedex.errors import ConfigError
from livedex.store.database import masked

STORE_VARIABLE = "LIVEDEX_DATABASE_URL"
"""The index's own database, which is never where documents come from."""
FOLDERS = ("docs", "handbook", "documentation", "wiki", "content", "knowledge", "notes")
DOCUMENTS = ("*.md", "*.markdown", "*.html", "*.htm", "*.txt")
_FILES_LOOKED_AT = 10_000
_OBVIOUS = ("DATABASE_URL", "POSTGRES_URL", "POSTGRESQL_URL", "PG_URL")
_LIBPQ = (("PGSERVICE", "service"), ("PGDATABASE", "dbname"), ("PGHOST", "host"))
_NAMELESS = frozenset({"", "postgres", "template1", "livedex", "defaultdb"})


@dataclass(frozen=True, slots=True)
class Database:
    """A database to look into. `url` may hold a secret; `reference` is what stands for it in the file, and `exports`
    what has to be set for that (variable, and value with the password masked) where it is not set yet."""

    url: str
    reference: str
    found: str
    exports: Mapping[str, str]
    environ: Mapping[str, str]
    name: str


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder of documents; `written` is how the file names it."""

    path: Path
    written: str
    found: str
    name: str


def find(given: str | None, directory: Path, environ: Mapping[str, str]) -> tuple[Database | None, Folder | None]:
    """What `livedex init` should look at: what was given, else a database the environment names and a folder with a
    usual name. Raises ConfigError for something given that is neither."""
    if given is None:
        return _database_of(environ), _usual_folder(directory)
    if re.match(r"postgres(ql)?://|\s*\w+\s*=", given):
        return _given_database(given, environ), None
    if scheme := re.match(r"(\w[\w+.-]*)://", given):
        raise ConfigError(f"{scheme[1]} is no kind of source. Give a postgresql:// URL or a folder.")
    path = Path(given)
    if not path.is_dir():
        raise ConfigError(f"{path} is neither a postgresql:// URL nor a folder that exists.")
    located = path if path.is_absolute() else Path.cwd() / path
    return None, Folder(located, _written(located, directory, given), "as given", source_name(located.resolve().name))


def source_name(text: str, otherwise: str = "app") -> str:
    """A name for a source or view made of any text."""
    plain = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")[:40]
    if plain in _NAMELESS or not plain.strip("_"):
        return otherwise
    return plain if plain[0].isalpha() else f"{otherwise}_{plain}"


def _given_database(url: str, environ: Mapping[str, str]) -> Database:
    name = source_name(str(_parts(url, "The URL").get("dbname") or ""))
    known = sorted(variable for variable, value in environ.items() if value == url and variable != STORE_VARIABLE)
    if known:
        variable = next((obvious for obvious in _OBVIOUS if obvious in known), known[0])
        return Database(url, f"${{{variable}}}", f"as given, which is ${variable}", {}, {}, name)
    variable = f"{name.upper()}_DATABASE_URL"
    if environ.get(variable, url) != url:
        variable = f"{name.upper()}_SOURCE_URL"
    return Database(url, f"${{{variable}}}", "as given", {variable: masked(url)}, {variable: url}, name)


def _database_of(environ: Mapping[str, str]) -> Database | None:
    for variable in _OBVIOUS:
        url = environ.get(variable, "")
        if re.match(r"postgres(ql)?://", url):
            name = source_name(str(_parts(url, f"${variable}").get("dbname") or ""))
            return Database(url, f"${{{variable}}}", f"${variable}", {}, {}, name)
    for variable, keyword in _LIBPQ:
        if environ.get(variable):
            # libpq reads the other PG variables, the password's too, by itself.
            name = source_name(environ.get("PGDATABASE") or environ.get("PGUSER", ""))
            value = environ[variable].replace("\\", "\\\\").replace("'", "\\'")
            reference = f"{keyword}='${{{variable}}}'"
            return Database(f"{keyword}='{value}'", reference, f"${variable} and what else is set of PG*", {}, {}, name)
    return None


def _parts(url: str, what: str) -> dict[str, Any]:
    try:
        return conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        # The parser's message quotes the text, password and all.
        raise ConfigError(
            f"{what} is not a PostgreSQL connection string. It should look like "
            "postgresql://user:password@host:5432/database, with special characters of the password as %XX."
        ) from None


def _usual_folder(directory: Path) -> Folder | None:
    for name in FOLDERS:
        path = directory / name
        if path.is_dir() and count_documents(path):
            return Folder(path, f"./{name}", f"./{name} holds documents", name)
    return None


def count_documents(path: Path) -> int:
    """Files that look like documents, hidden ones aside; stops counting where it would take long."""
    found = 0
    for looked_at, file in enumerate(path.rglob("*")):
        if looked_at > _FILES_LOOKED_AT:
            break
        inside = file.relative_to(path).parts
        found += any(file.match(pattern) for pattern in DOCUMENTS) and not any(p.startswith(".") for p in inside)
    return found


def _written(located: Path, directory: Path, given: str) -> str:
    """Relative to the file where the folder stands below it, so that both can move together."""
    resolved, around = located.resolve(), directory.resolve()
    if resolved == around:
        return "."
    if resolved.is_relative_to(around):
        return f"./{resolved.relative_to(around).as_posix()}"
    return str(resolved)
