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


def made_before(folder: Path) -> bool:
    """Whether an earlier run made the folder, however far it came; False where nothing is.

    Raises ConfigError when what stands there is not one of ours.
    """
    if not folder.exists():
        return False
    configuration = folder / CONFIGURATION
    ours = configuration.is_file() and configuration.read_bytes().startswith(_FIRST_LINE.encode())
    empty = folder.is_dir() and not any(folder.iterdir())
    if not ours and not empty:
        raise ConfigError(f"{folder} exists and was not made by livedex demo. Run it in another directory.")
    return True


async def clear(folder: Path) -> None:
    """Remove what an earlier run left, with its servers' data. Raises DataDirectoryError while somebody uses it."""
    for directory in (folder / name for name in (APPLICATION, INDEX) if (folder / name).is_dir()):
        # Taking a share and giving it back ends a server that a killed process left; one in use goes on.
        server = await EmbeddedServer.start(directory)
        await server.stop()
        _remove_data(server.data, directory)
        await asyncio.to_thread(shutil.rmtree, directory)
    await asyncio.to_thread(shutil.rmtree, folder)


def make(folder: Path) -> None:
    """Make the folder, marked as ours at once: a run that is interrupted leaves nothing that the next one refuses.

    Raises ConfigError where nothing may be made.
    """
    try:
        folder.mkdir(mode=0o755)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be made: {error.strerror}. Run it in another directory.") from error
    _write(folder, "")


def _remove_data(data: Path, directory: Path) -> None:
    if (data / "postmaster.pid").exists():
        raise DataDirectoryError(f"{directory} is in use, perhaps by another livedex demo. End it, then start again.")
    shutil.rmtree(data)


def configure_application(folder: Path, url: str, embedder: str) -> Path:
    """Write a livedex.yaml that follows an application's database, and return its path."""
    return _write(folder, _HANDBOOK.format(url=url) + _REST.format(embedder=embedder, index=INDEX))


def configure_files(folder: Path, documents: Path, embedder: str) -> Path:
    """Write a livedex.yaml that follows a folder of documents, and return its path."""
    # JSON is YAML, whatever characters the path has; a dollar would begin a variable.
    path = json.dumps(str(documents), ensure_ascii=False).replace("$", "$$")
    return _write(folder, _FILES.format(path=path, folder=FOLDER) + _REST.format(embedder=embedder, index=INDEX))


def _write(folder: Path, configuration: str) -> Path:
    """Readable by its owner only, since it may hold a password."""
    file = folder / CONFIGURATION
    file.touch(mode=0o600)
    file.write_text(f"{_FIRST_LINE}\n\n{configuration}", encoding="utf-8")
    return file


def removal(folder: Path) -> str:
    """The command that removes everything a run made. A root's servers may keep their data elsewhere."""
    made = [folder.name]
    elsewhere = [(folder / name / "data").resolve() for name in (APPLICATION, INDEX)]
    made += [str(data) for data in elsewhere if data.exists() and not data.is_relative_to(folder.resolve())]
    return "rm -r " + " ".join(made)
