"""All checks in order, each group for itself: one that fails or hangs takes nothing with it but what needs it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pydantic import BaseModel, SecretStr

from livedex import config
from livedex.app import Index
from livedex.clock import SystemClock
from livedex.doctor.embedders import check_embedder
from livedex.doctor.files import check_folder
from livedex.doctor.machine import check_doors, check_machine
from livedex.doctor.postgres import check_postgres
from livedex.doctor.report import Check, Group, Report, failed, guarded, not_checked, ok
from livedex.doctor.store import check_store
from livedex.doctor.views import check_followed, check_view
from livedex.errors import ConfigError
from livedex.faults import NoFaults
from livedex.status import Status
from livedex.store.catalog import Catalog
from livedex.store.database import Database

SECONDS = 30.0
STAND_IN = "host=not-set.invalid"
"""For a variable that is not set, so that the rest of the file can be read: passes for the url of a database."""
STORE_SECONDS = 90.0
"""The embedded server may have to recover from a crash first."""

_UNSET = re.compile(r"the environment variable (\w+) is not set")
_UNSET_VARIABLE = "an environment variable that it needs is not set"


async def examine(path: Path | None, environ: Mapping[str, str]) -> Report:
    """Every requirement and how it stands. Changes nothing, raises nothing, and reports no secret."""
    settings, problems = _load(path, environ)
    machine = Group("This machine", (*check_machine(), *([] if settings is None else check_doors(settings.serve))))
    configuration = Group("Configuration", tuple(problems))
    if settings is None:
        rest = not_checked("store, sources, embedders, views", "the configuration is not valid")
        return Report((machine, configuration, Group("Everything else", (rest,))))
    async with AsyncExitStack() as resources:
        return Report((machine, configuration, *await _running_parts(settings, resources)))


def _load(path: Path | None, environ: Mapping[str, str]) -> tuple[config.Settings | None, list[Check]]:
    """The settings, and what is wrong with them. Where only variables are missing, what does not need them can be
    checked all the same: something stands in for each, and `_lacks_variable` tells where."""
    try:
        return (settings := config.load(path, environ)), [_loaded(settings)]
    except ConfigError as error:
        problems = _problems(error)
        unset = _UNSET.findall(str(error))
    if not unset:
        return None, problems
    try:
        return config.load(path, {**environ, **dict.fromkeys(unset, STAND_IN)}), problems
    except ConfigError:
        return None, problems


async def _running_parts(settings: config.Settings, resources: AsyncExitStack) -> list[Group]:
    store, index = await _check_store(settings, resources)
    groups = [Group("Store", tuple(store))]
    for name, source in settings.sources.items():
        groups.append(Group(f"Source {name}", tuple(await _check_source(name, source, index))))
    for name, embedder in settings.embedders.items():
        groups.append(Group(f"Embedder {name}", tuple(await _check_embedder(embedder, settings.cache_directory))))
    views = [Group(f"View {name}", tuple(await _check_view(name, index))) for name in settings.views]
    return [*groups, *views]


@dataclass(frozen=True, slots=True)
class _Opened:
    """The index on sessions that can change nothing, and how it stands."""

    index: Index
    status: Status


async def _check_store(settings: config.Settings, resources: AsyncExitStack) -> tuple[list[Check], _Opened | str]:
    """With the checks, the index that is in the store, or why it cannot be looked at."""
    opened: _Opened | str = "the store cannot be read"

    async def look() -> list[Check]:
        nonlocal opened
        found, database, why = await check_store(settings, resources)
        opened = why or opened
        return found if database is None else [*found, *await guarded("index", SECONDS, partial(read, database))]

    async def read(database: Database) -> list[Check]:
        nonlocal opened
        catalog = Catalog(database)
        index = Index(settings, database, catalog, await catalog.identity(), "", NoFaults(), SystemClock(), {})
        resources.push_async_callback(index.close)
        opened = _Opened(index, await index.status())
        return []

    if settings.database_url is not None and STAND_IN in settings.database_url.get_secret_value():
        return [not_checked("connection", _UNSET_VARIABLE)], opened
    return await guarded("store", STORE_SECONDS, look), opened


async def _check_embedder(embedder: config.Embedder, cache: Path) -> list[Check]:
    if _lacks_variable(embedder):
        return [not_checked("model", _UNSET_VARIABLE)]
    return await guarded("model", SECONDS, lambda: check_embedder(embedder, cache))


async def _check_source(
    name: str, source: config.PostgresSource | config.FilesSource, opened: _Opened | str
) -> list[Check]:
    if _lacks_variable(source):
        return [not_checked("connection", _UNSET_VARIABLE)]

    async def look() -> list[Check]:
        if isinstance(source, config.PostgresSource):
            return await check_postgres(name, source, None if isinstance(opened, str) else opened.index.store_id)
        return await asyncio.to_thread(check_folder, source.path, polling=source.polling)

    found = await guarded("source", 2 * SECONDS, look)
    return found if isinstance(opened, str) else [*found, *check_followed(name, opened.status, found)]


async def _check_view(name: str, opened: _Opened | str) -> list[Check]:
    if isinstance(opened, str):
        return [not_checked("built", opened)]
    return await guarded("view", SECONDS, lambda: check_view(opened.index, name, opened.status))


def _lacks_variable(section: BaseModel) -> bool:
    values = (value for _, value in section)
    return any(STAND_IN in (v.get_secret_value() if isinstance(v, SecretStr) else str(v)) for v in values)


def _loaded(settings: config.Settings) -> Check:
    parts = f"sources: {', '.join(settings.sources)}; views: {', '.join(settings.views)}"
    return ok("livedex.yaml", f"{settings.file} is valid, and its variables are set ({parts})")


def _problems(error: ConfigError) -> list[Check]:
    """One finding a line of the error; a variable that is missing has a remedy of its own."""
    if "\n\n" in str(error):
        return [failed("livedex.yaml", str(error).partition(" The smallest is:")[0], "livedex init")]
    found = []
    for line in str(error).splitlines():
        variable = _UNSET.search(line)
        name = "environment" if variable else "livedex.yaml"
        found.append(failed(name, line, f"export {variable[1]}=..." if variable else None))
    return found
