"""livedex.yaml and the environment, read once, into settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import SecretStr, ValidationError
from pydantic_core import PydanticCustomError

from livedex.config.contracts import unkept
from livedex.config.problems import IMPLIED_EMBEDDERS, explain, unknown_names
from livedex.config.settings import Configuration, Settings
from livedex.config.values import Surroundings, check_database_url
from livedex.config.yaml_file import Parsed, Place, Problem, parse
from livedex.errors import ConfigError

FILE_NAME = "livedex.yaml"

_SMALLEST = """\
sources:
  kb:
    kind: postgres
    url: ${KB_DATABASE_URL}
    tables:
      documents: {key: id, title: title, content: body}
views:
  handbook: {from: kb}"""


def load(path: Path | None, environ: Mapping[str, str]) -> Settings:
    """Read the configuration: `path`, else the file that LIVEDEX_CONFIG names, else livedex.yaml in this directory.

    Other variables that are read: those the file refers to, LIVEDEX_DATABASE_URL (comes before `store`),
    LIVEDEX_CACHE, XDG_CACHE_HOME and HOME. An empty LIVEDEX_ variable counts as not set.

    Raises ConfigError that says everything that is wrong, in the order of the file; its `file`, `line` and `key` are
    those of the first. No error shows a secret.
    """
    file = path or Path(environ.get("LIVEDEX_CONFIG") or FILE_NAME)
    parsed = parse(_read(file), file, environ)
    surroundings = Surroundings(file.absolute().parent, _home(environ))
    configuration, problems = _validated(parsed, surroundings)
    problems = [*parsed.problems, *problems, *unknown_names(parsed)]
    if configuration is not None:
        problems += unkept(configuration, parsed)
    if problems or configuration is None:
        raise _combined(file, problems)
    return _settings(file, configuration, surroundings, environ)


def cache_directory(environ: Mapping[str, str]) -> Path:
    """Where what was downloaded rests: LIVEDEX_CACHE, else `livedex` in XDG_CACHE_HOME, else in ~/.cache."""
    given = environ.get("LIVEDEX_CACHE")
    if given:
        return Path(given).absolute()
    shared = Path(environ.get("XDG_CACHE_HOME", ""))
    # The XDG specification has relative paths ignored.
    return (shared if shared.is_absolute() else _home(environ) / ".cache") / "livedex"


def _read(file: Path) -> str:
    try:
        written = file.read_bytes()
    except FileNotFoundError:
        raise ConfigError(
            f"No {file.name} in {file.absolute().parent}. Run: livedex init, which writes one from your database or"
            " folder; or write one as docs/quickstart.md shows, or name it with LIVEDEX_CONFIG. The smallest is:"
            f"\n\n{_SMALLEST}\n"
        ) from None
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", file=file) from error
    try:
        return written.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = written.count(b"\n", 0, error.start) + 1
        raise ConfigError("is not UTF-8; save the file in that encoding", file=file, line=line) from None


def _validated(parsed: Parsed, surroundings: Surroundings) -> tuple[Configuration | None, list[Problem]]:
    try:
        return Configuration.model_validate(_with_implied(parsed.values), context=surroundings), []
    except ValidationError as error:
        return None, list(explain(error, parsed))


def _with_implied(values: dict[str, Any]) -> dict[str, Any]:
    """Declare `local` and `hashing` where the file does not; wrong shapes are left for validation to name."""
    declared = values.get("embedders", {})
    if not isinstance(declared, dict):
        return values
    return {**values, "embedders": {**{name: {"kind": name} for name in IMPLIED_EMBEDDERS}, **declared}}


def _combined(file: Path, problems: Sequence[Problem]) -> ConfigError:
    """One error for all: the first per place, by line. A value with a missing variable is not also called empty."""
    by_place: dict[Place, Problem] = {}
    for problem in problems:
        by_place.setdefault(problem.place, problem)
    first, *others = sorted(by_place.values(), key=lambda problem: problem.line or 0)
    lines = [
        first.message,
        *(str(ConfigError(other.message, file=file, line=other.line, key=other.key)) for other in others),
    ]
    return ConfigError("\n".join(lines), file=file, line=first.line, key=first.key)


def _settings(
    file: Path, configuration: Configuration, surroundings: Surroundings, environ: Mapping[str, str]
) -> Settings:
    named = {view.embedder for view in configuration.views.values()}
    return Settings(
        file=file.absolute(),
        sources=configuration.sources,
        embedders={
            name: embedder
            for name, embedder in configuration.embedders.items()
            if name in named or name not in IMPLIED_EMBEDDERS
        },
        views=configuration.views,
        database_url=_database_url(environ) or configuration.store.url,
        store_directory=configuration.store.directory or surroundings.directory / ".livedex",
        cache_directory=cache_directory(environ),
        serve=configuration.serve if "serve" in configuration.model_fields_set else None,
        record=configuration.record,
        upkeep=configuration.upkeep,
        audit=configuration.audit,
    )


def _database_url(environ: Mapping[str, str]) -> SecretStr | None:
    url = environ.get("LIVEDEX_DATABASE_URL")
    if not url:
        return None
    try:
        return check_database_url(SecretStr(url))
    except PydanticCustomError as error:
        raise ConfigError(error.message(), key="LIVEDEX_DATABASE_URL") from None


def _home(environ: Mapping[str, str]) -> Path:
    return Path(environ["HOME"]) if environ.get("HOME") else Path.home()
