"""The folder of the demonstration: made afresh for each run, and removed only if an earlier run made it."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

from livedex.errors import ConfigError, DataDirectoryError
from livedex.store.embedded import EmbeddedServer

FOLDER = "livedex-demo"
CONFIGURATION = "livedex.yaml"
APPLICATION = "application"
INDEX = ".livedex"
FILES_VIEW = "docs"

_FIRST_LINE = "# Written by livedex demo, which replaces this folder when it runs again."

_HANDBOOK = """\
# Where documents come from: here the table of an ordinary application.
sources:
  app:
    kind: postgres
    # Secrets come from the environment. What follows :- holds without it: the demo's own server, gone when it ends.
    url: ${{DEMO_DATABASE_URL:-{url}}}
    tables:
      documents:
        key: doc_id
        title: title
        content: content
        updated_at: updated_at
        metadata: [category]     # to filter by: livedex search handbook "..." --filter category=policy

# What is kept up to date from them.
views:
  handbook:
    from: app
"""

_FILES = """\
# Where documents come from: a folder of yours. It is only read.
sources:
  files:
    kind: files
    path: {path}
    exclude: ["{folder}/**"]

# What is kept up to date from it.
views:
  docs:
    from: files
"""

_REST = """\
    embedder: {embedder}          # local: all-MiniLM-L6-v2 on this machine; hashing: no model, matches words only
    target_lag: 2s

# The index stands in {index}/ beside this file. With LIVEDEX_DATABASE_URL it is kept in a PostgreSQL of yours.
"""


async def clear(folder: Path) -> None:
    """Remove what an earlier run left, with its servers' data; nothing happens if there is nothing.

    Raises ConfigError when the folder is not one of ours and DataDirectoryError while somebody uses it.
    """
    for directory in _server_directories(folder):
        # Taking a share and giving it back ends a server that a killed process left; one in use goes on.
        server = await EmbeddedServer.start(directory)
        await server.stop()
        _remove_data(server.data, directory)
    await asyncio.to_thread(_remove, folder)


def _server_directories(folder: Path) -> list[Path]:
    if not folder.exists():
        return []
    configuration = folder / CONFIGURATION
    ours = configuration.is_file() and configuration.read_text(encoding="utf-8").startswith(_FIRST_LINE)
    if not ours and any(folder.iterdir()):
        raise ConfigError(f"{folder} exists and was not made by livedex demo. Run it in another directory.")
    return [folder / name for name in (APPLICATION, INDEX) if (folder / name).is_dir()]


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def _remove_data(data: Path, directory: Path) -> None:
    if (data / "postmaster.pid").exists():
        raise DataDirectoryError(f"{directory} is in use, perhaps by another livedex demo. End it, then start again.")
    shutil.rmtree(data)


def configure_application(folder: Path, url: str, embedder: str) -> Path:
    """Write a livedex.yaml that follows an application's database, and return its path."""
    return _write(folder, _HANDBOOK.format(url=url), embedder)


def configure_files(folder: Path, documents: Path, embedder: str) -> Path:
    """Write a livedex.yaml that follows a folder of documents, and return its path."""
    # JSON is YAML, whatever characters the path has; a dollar would begin a variable.
    path = json.dumps(str(documents), ensure_ascii=False).replace("$", "$$")
    return _write(folder, _FILES.format(path=path, folder=FOLDER), embedder)


def _write(folder: Path, sources: str, embedder: str) -> Path:
    """Readable by its owner only, since it may hold a password."""
    file = folder / CONFIGURATION
    file.touch(mode=0o600)
    rest = _REST.format(embedder=embedder, index=INDEX)
    file.write_text(f"{_FIRST_LINE}\n\n{sources}{rest}", encoding="utf-8")
    return file


def removal(folder: Path) -> str:
    """The command that removes everything a run made. A root's servers may keep their data elsewhere."""
    made = [folder.name]
    elsewhere = [(folder / name / "data").resolve() for name in (APPLICATION, INDEX)]
    made += [str(data) for data in elsewhere if data.exists() and not data.is_relative_to(folder.resolve())]
    return "rm -r " + " ".join(made)
