"""Under which operating system user the embedded server runs: PostgreSQL refuses to run as root."""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from livedex.errors import StoreUnsupported

_NAMES = ("livedex", "postgres", "nobody")


@dataclass(frozen=True, slots=True)
class OsUser:
    """An operating system user that root runs the server under."""

    name: str
    uid: int
    gid: int


def server_user(data_owner: int | None) -> OsUser | None:
    """The user to run the server under, or None to run it as ourselves (we are not root).

    A data directory that exists already decides by its owner's uid; otherwise the user `livedex` is created, and where
    that cannot be, an existing `postgres` or `nobody` serves.
    """
    if os.geteuid() != 0:
        return None
    known = [user for name in _NAMES if (user := _look_up(name))]
    for user in known:
        if user.uid == data_owner:
            return user
    if not any(user.name == _NAMES[0] for user in known) and (created := _create()):
        return created
    if known:
        return known[0]
    raise StoreUnsupported(
        "PostgreSQL does not run as root, and no other user could be made. Run: useradd --system livedex, "
        "or start livedex as an ordinary user, or set LIVEDEX_DATABASE_URL."
    )


def _look_up(name: str) -> OsUser | None:
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    return OsUser(name, entry.pw_uid, entry.pw_gid)


def _create() -> OsUser | None:
    """The new user `livedex`, or None where useradd is missing or fails; the caller has other users to try."""
    with suppress(FileNotFoundError):
        run(["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", _NAMES[0]], None)
    return _look_up(_NAMES[0])  # also there when another process made it at the same moment


def spawn(command: Sequence[str | Path], user: OsUser | None, output: IO[bytes] | int) -> subprocess.Popen[bytes]:
    """Start a program under `user`, out of reach of the terminal's Ctrl-C.

    It gets no environment of ours: keys and passwords in it are none of the server's business, and PG* variables would
    change what it does. Its working directory is `/`, because ours may be closed to `user`.
    """
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
    if libraries := os.environ.get("LD_LIBRARY_PATH"):
        environment["LD_LIBRARY_PATH"] = libraries
    return subprocess.Popen(  # noqa: S603  # commands of this package; nothing in them comes from outside
        [os.fspath(part) for part in command],
        user=None if user is None else user.uid,
        group=None if user is None else user.gid,
        extra_groups=None if user is None else [],
        env=environment,
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def run(command: Sequence[str | Path], user: OsUser | None) -> tuple[int, str]:
    """Exit status and output of a program that ends by itself; see `spawn`."""
    process = spawn(command, user, subprocess.PIPE)
    output, _ = process.communicate()
    return process.returncode, output.decode(errors="replace").strip()


def can_enter(user: OsUser | None, directory: Path) -> bool:
    """Whether the server's user may go through every folder on the way into `directory`."""
    return user is None or run(["/bin/sh", "-c", 'cd -- "$1"', "sh", directory], user)[0] == 0


def can_run(user: OsUser | None, program: Path) -> bool:
    """Whether the server's user reaches `program` and the libraries that it needs."""
    try:
        return user is None or run([program, "--version"], user)[0] == 0
    except PermissionError:
        return False


def give_to(user: OsUser | None, path: Path) -> None:
    """Make `path`, which we created, the server user's."""
    if user is not None:
        os.chown(path, user.uid, user.gid, follow_symlinks=False)
