"""The embedded server's files: data directory, configuration, password, port, socket, and who runs on them."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from livedex.errors import DataDirectoryError, StoreFull
from livedex.store.installation import ROOT_HOME, open_to_all
from livedex.store.os_user import OsUser, can_enter, give_to, run
from livedex.store.server_settings import configuration_file

ROLE = "livedex"
NO_SPACE = "No space left on device"
_SETTINGS_FILE = "livedex.conf"
_SHORT_PARENT = "/tmp"  # noqa: S108  # a private folder is made in it, and checked to be ours
_LONGEST_SOCKET_PATH = 103  # bytes; 107 on Linux, 103 on macOS
_READY = "ready"
_ANY_PORT = 0
_PROCESSES = Path("/proc")


@dataclass(frozen=True, slots=True)
class Postmaster:
    """A live server on a data directory, as its postmaster.pid describes it. `ready`: it takes connections."""

    pid: int
    port: int
    socket_directory: str
    ready: bool


def place(directory: Path, user: OsUser | None) -> Path:
    """Where the data of `directory` is or will be: `directory/data`, or what that links to.

    Where the server's user cannot get into `directory`, a folder in /var/lib/livedex is chosen and linked.
    """
    data = directory / "data"
    if data.is_symlink() or data.exists() or can_enter(user, directory):
        return data.resolve()
    open_to_all(ROOT_HOME)
    # The random part keeps data that an earlier, removed directory of this name left behind out of reach.
    home = ROOT_HOME / f"{_fingerprint(directory)}-{secrets.token_hex(3)}"
    data.symlink_to(home)
    return home


def check(data: Path, version: int, owner: int) -> None:
    """Raise DataDirectoryError unless `data` is of this major version and of the user with uid `owner`."""
    found = data.stat().st_uid
    if found != owner:
        raise DataDirectoryError(
            f"The data directory {data} belongs to the user with uid {found}, not to uid {owner}. "
            "Start livedex as the user who made it, or choose another directory."
        )
    marker = data / "PG_VERSION"
    if not marker.is_file():
        raise DataDirectoryError(
            f"{data} holds no PostgreSQL data. Choose another directory, or remove it if nothing in it is needed."
        )
    if (made_by := marker.read_text().strip()) != str(version):
        raise DataDirectoryError(
            f"The data directory {data} was made by PostgreSQL {made_by}; this livedex runs PostgreSQL {version}. "
            "Export it with the livedex that made it, or remove it and build the index again."
        )


def create(data: Path, binaries: Path, user: OsUser | None, version: int, password: str, *, durable: bool) -> None:
    """Make a new data directory in a folder beside `data`, which takes its name only when it is complete."""
    for leftover in data.parent.glob(f"{data.name}.new-*"):
        # Of a start that was killed. An initdb that outlived it may still write there; then the next start removes it.
        shutil.rmtree(leftover, ignore_errors=True)
    workshop = data.with_name(f"{data.name}.new-{secrets.token_hex(4)}")
    workshop.mkdir(mode=0o700)
    password_file = workshop / "password"
    write_private(password_file, password)
    give_to(user, password_file)
    give_to(user, workshop)
    made = workshop / "data"
    # PostgreSQL's own locale: the same order and the same letters whatever the operating system has installed.
    locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"] if version >= 17 else []
    command: list[str | Path] = [binaries / "initdb", "-D", made, "-U", ROLE, "--pwfile", password_file]
    command += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", *locale, "--data-checksums"]
    command += ["--no-instructions"] if durable else ["--no-instructions", "--no-sync"]
    status, said = run(command, user)
    if status != 0:
        shutil.rmtree(workshop)
        failure = StoreFull if NO_SPACE in said else DataDirectoryError
        raise failure(f"No database could be made in {data}: {_tail(said)}")
    with (made / "postgresql.conf").open("a") as configuration:
        configuration.write(f"\ninclude '{_SETTINGS_FILE}'\n")
        configuration.flush()
        os.fsync(configuration.fileno())
    made.rename(data)
    _sync(data.parent)
    shutil.rmtree(workshop)


def configure(data: Path, user: OsUser | None, settings: Mapping[str, str]) -> None:
    """Write the settings that the next start of the server reads."""
    fresh = data / f"{_SETTINGS_FILE}.new"
    write_private(fresh, configuration_file(settings))
    give_to(user, fresh)
    fresh.rename(data / _SETTINGS_FILE)


def running(data: Path) -> Postmaster | None:
    """The server that runs on `data`, if any.

    Its pid file alone proves nothing: after a crash of the machine another program may have got the same pid.
    """
    lines = _pid_file(data)
    if len(lines) < 5 or not _is_postmaster(int(lines[0]), data):
        return None  # shorter after a crash of the machine, or in the instant in which a server writes it
    ready = len(lines) > 7 and lines[7].strip() == _READY
    return Postmaster(pid=int(lines[0]), port=int(lines[3]), socket_directory=lines[4].strip(), ready=ready)


def clear_remains(data: Path, sockets: Path) -> None:
    """Remove the pid file and the sockets of a server that did not stop in order.

    PostgreSQL would refuse to start over a pid file that is empty or whose pid looks alive: it may belong to another
    program now, or to the dead server itself while nobody has reaped it, as in a container without an init process.
    Data is safe: a server looks for processes that still hold this directory's shared memory, pid file or not.
    """
    if running(data) is None:
        for remains in (data / "postmaster.pid", *sockets.glob(".s.PGSQL.*")):
            remains.unlink(missing_ok=True)


def _pid_file(data: Path) -> list[str]:
    try:
        return (data / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return []


def _is_postmaster(pid: int, data: Path) -> bool:
    """Whether the process is a PostgreSQL server working in `data`; False for one that has ended, reaped or not."""
    if (_PROCESSES / "self").exists():
        try:
            return (_PROCESSES / str(pid) / "cwd").samefile(data)
        except (FileNotFoundError, PermissionError, ProcessLookupError):
            return False  # gone, or of another user, who could not have opened `data`
    _, listed = run(["ps", "-o", "command=", "-p", str(pid)], None)
    return "postgres" in listed and str(data) in listed


def socket_directory(directory: Path, user: OsUser | None) -> Path:
    """A private folder for the server's socket, with a path short enough for one; the same at every start."""
    name = f"livedex-{os.geteuid()}-{_fingerprint(directory)}"
    owner = os.geteuid() if user is None else user.uid
    for parent in dict.fromkeys((tempfile.gettempdir(), _SHORT_PARENT)):
        folder = Path(parent) / name
        if len(os.fsencode(folder / ".s.PGSQL.65535.lock")) > _LONGEST_SOCKET_PATH or not can_enter(user, Path(parent)):
            continue
        try:
            folder.mkdir(mode=0o700)
            give_to(user, folder)
        except FileExistsError:
            pass
        entry = folder.lstat()
        if folder.is_dir() and not folder.is_symlink() and entry.st_uid == owner and entry.st_mode & 0o077 == 0:
            return folder
    taken = Path(tempfile.mkdtemp(prefix="livedex-", dir=_SHORT_PARENT))  # someone else owns our usual name
    give_to(user, taken)
    return taken


def remove_socket_directory(stopped: Postmaster) -> None:
    """Remove the folder that `socket_directory` made; a server that stopped in order has emptied it."""
    folder = Path(stopped.socket_directory)
    if folder.name.startswith("livedex-") and folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def choose_port(kept: Path) -> int:
    """The port of the last start if it is still free on 127.0.0.1, else a new one, which is kept."""
    text = kept.read_text().strip() if kept.exists() else ""
    wanted = int(text) if text.isdigit() else _ANY_PORT
    try:
        port = _bindable(wanted)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        port = _bindable(_ANY_PORT)
    if port != wanted:
        kept.write_text(f"{port}\n")
    return port


def _bindable(port: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
        return int(probe.getsockname()[1])


def password_of(file: Path, data: Path) -> str:
    """The server's password from its file; a new one where there is no data yet."""
    if file.exists():
        return file.read_text().strip()
    if data.exists():
        raise DataDirectoryError(
            f"The password of the data directory {data} should be in {file}, which is missing. Restore the file, "
            "or remove the data directory and build the index again."
        )
    password = secrets.token_urlsafe(24)
    fresh = file.with_name(f"{file.name}.new")
    write_private(fresh, password)
    fresh.rename(file)
    _sync(file.parent)
    return password


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, from its first byte on."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(descriptor)


def _sync(directory: Path) -> None:
    """Make what was renamed in a directory last through a power cut."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _fingerprint(directory: Path) -> str:
    return hashlib.blake2b(os.fsencode(directory), digest_size=6).hexdigest()


def _tail(text: str, lines: int = 12) -> str:
    return "\n".join(text.splitlines()[-lines:])
