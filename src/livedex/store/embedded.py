"""The embedded server: PostgreSQL with pgvector beside the configuration, for whoever brings no server of their own.

Every process that uses it holds a shared lock on one file. A process that leaves tries to get that lock for itself
alone, and whoever gets it stops the server. Locks vanish with their process, so nothing has to be repaired after a
`kill -9`: the server that was left running is found by its pid file and used by the next process that comes.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Self
from urllib.parse import quote

import psycopg

from livedex.errors import DataDirectoryError, StoreFull, StoreUnavailable
from livedex.store import cluster, installation, statements
from livedex.store.cluster import NO_SPACE, ROLE, Postmaster
from livedex.store.os_user import OsUser, run, server_user, spawn
from livedex.store.server_settings import memory_limit, server_settings

_DATABASE = "livedex"
_POLL_SECONDS = 0.01
_FAST_STOP_SECONDS = 60.0
_LOG_BYTES = 10 << 20
_LOG_TAIL_BYTES = 1 << 16
_WAL_SEGMENT_BYTES = 16 << 20
_START_ATTEMPTS = 20
_RETRY_SECONDS = 0.5
_STILL_ENDING = "pre-existing shared memory block"
_PORT_TAKEN = "could not create any TCP/IP sockets"
_NO_SETTINGS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class _Home:
    """One directory's server, running or not."""

    directory: Path
    data: Path
    user: OsUser | None
    version: int
    binaries: Path
    password: str
    settings: Mapping[str, str]

    @property
    def log(self) -> Path:
        return self.directory / "server.log"


class EmbeddedServer:
    """This process's share in the server of one directory.

    `dsn` is the way in for livedex itself, over a Unix socket; `public_dsn` is for any PostgreSQL client on this
    machine, over TCP on 127.0.0.1. Both hold the password.
    """

    def __init__(self, home: _Home, postmaster: Postmaster, share: _FileLock) -> None:
        self._home = home
        self._share: _FileLock | None = share
        self.public_dsn = _uri(home.password, postmaster, _DATABASE, socket=False)
        self.dsn = _own_dsn(home.password, postmaster, _DATABASE)

    @classmethod
    async def start(
        cls,
        directory: Path,
        *,
        version: int = 18,
        settings: Mapping[str, str] = _NO_SETTINGS,
        binaries: Path | None = None,
    ) -> Self:
        """Take a share in the server of `directory`, making its database and starting it where needed.

        Everything is kept in `directory`; only root's server keeps data in /var/lib/livedex where its user cannot
        reach `directory`. `settings` override livedex's own at the next start of the server. `binaries` is the `bin`
        folder of another installation than the wheel's. Waits for crash recovery as long as it takes.

        Raises DataDirectoryError, StoreFull, StoreUnsupported, or StoreUnavailable with the end of the server's log.
        """
        with _file_errors(directory):
            directory = await asyncio.to_thread(_opened, directory)
            async with _alone(directory):
                home = await asyncio.to_thread(_prepare, directory, version, settings, binaries)
                share = _FileLock(directory / "users.lock")
                try:
                    shared = not share.try_exclusive()
                    share.take_shared()
                    _refuse_other_container(directory, shared)
                    postmaster = await _ensure_running(home)
                    await _ensure_database(home, postmaster)
                except DataDirectoryError:
                    share.close()  # and no more: a server that is not ours is not for us to stop
                    raise
                except BaseException:
                    await _leave(home, share)
                    raise
        return cls(home, postmaster, share)

    @property
    def data(self) -> Path:
        """PostgreSQL's data directory."""
        return self._home.data

    def why_gone(self, error: StoreUnavailable) -> StoreUnavailable | StoreFull:
        """What to tell a user whose connection failed: a full disk ends a server, and only its log says so."""
        log = self._home.log
        with suppress(OSError), log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _LOG_TAIL_BYTES))
            if NO_SPACE.encode() in file.read() and shutil.disk_usage(self._home.data).free < 4 * _WAL_SEGMENT_BYTES:
                return StoreFull(
                    f"The disk that holds the index ({self._home.data}) is full, and its server has ended. Free space, "
                    "then start again: what was not stored is read from the source again."
                )
        return error

    async def stop(self) -> None:
        """Give up this share; the last one stops the server. A second call does nothing."""
        share, self._share = self._share, None
        if share is not None:
            async with _alone(self._home.directory):
                await _leave(self._home, share)


class _FileLock:
    """A lock on a file among processes; the operating system releases it when its holder ends, however that is."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)

    def take_shared(self) -> None:
        fcntl.flock(self._descriptor, fcntl.LOCK_SH)

    def try_exclusive(self) -> bool:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        os.close(self._descriptor)


@asynccontextmanager
async def _alone(directory: Path) -> AsyncIterator[None]:
    """Starting and stopping one directory's server is done by one process at a time."""
    lock = _FileLock(directory / "start.lock")
    try:
        # Asked for again and again rather than waited for: a thread in a blocking flock() could not be cancelled.
        while not lock.try_exclusive():  # noqa: ASYNC110  # other processes set no event of ours
            await asyncio.sleep(_POLL_SECONDS)
        yield
    finally:
        lock.close()


def _opened(directory: Path) -> Path:
    """Create the directory if need be; its absolute path without links."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o711 if os.geteuid() == 0 else 0o700)
    return directory.resolve()


def _prepare(directory: Path, version: int, settings: Mapping[str, str], binaries: Path | None) -> _Home:
    """A complete data directory, and all that it takes to start a server on it."""
    existing = directory / "data"
    user = server_user(existing.stat().st_uid if existing.exists() else None)
    programs = binaries or installation.binaries(version, user)
    data = cluster.place(directory, user)
    password = cluster.password_of(directory / "password", data)
    if not data.exists():
        durable = settings.get("fsync") != "off"
        cluster.create(data, programs, user, version, password, durable=durable)
    cluster.check(data, version, os.geteuid() if user is None else user.uid)
    return _Home(directory, data, user, version, programs, password, settings)


def _refuse_other_container(directory: Path, shared: bool) -> None:
    """Raise DataDirectoryError if a process that we cannot see uses the server; ours would be the second on its data.

    A lock on a shared volume reaches across containers, the list of processes does not.
    """
    namespace = Path("/proc/self/ns/pid")
    here = str(namespace.readlink()) if namespace.is_symlink() else ""
    mark = directory / "namespace"
    if shared and mark.exists() and mark.read_text() != here:
        raise DataDirectoryError(
            f"The server in {directory} is in use from another container. Give each container a directory of its own, "
            "or let them share a server with LIVEDEX_DATABASE_URL."
        )
    mark.write_text(here)


async def _ensure_running(home: _Home) -> Postmaster:
    """The server on this directory once it takes connections: the one that runs already, or a new one."""
    found = await asyncio.to_thread(cluster.running, home.data)
    if found is None:
        return await _start(home)
    while not found.ready:
        await asyncio.sleep(_POLL_SECONDS)
        found = await asyncio.to_thread(cluster.running, home.data)
        if found is None:  # it did not get through its start
            return await _start(home)
    return found


async def _start(home: _Home) -> Postmaster:
    """Start the server; again if its port is taken in the same moment, or if one that was killed is not gone yet."""
    said = ""
    for _ in range(_START_ATTEMPTS):
        log_start = await asyncio.to_thread(_configure, home)
        if postmaster := await _launch(home):
            return postmaster
        said = await asyncio.to_thread(_log_since, home.log, log_start)
        if _STILL_ENDING in said:
            await asyncio.sleep(_RETRY_SECONDS)
        elif _PORT_TAKEN not in said:
            break
    last = "\n".join(said.splitlines()[-12:])
    if NO_SPACE in said or shutil.disk_usage(home.data).free < _WAL_SEGMENT_BYTES:
        raise StoreFull(f"The embedded server on {home.data} cannot start, its disk is full. Its log:\n{last}")
    raise StoreUnavailable(
        f"The embedded server on {home.data} ended while it was starting. The end of its log, {home.log}:\n{last}"
    )


def _configure(home: _Home) -> int:
    """Write settings for the next start; the length of the log before it."""
    sockets = cluster.socket_directory(home.directory, home.user)
    cluster.clear_remains(home.data, sockets)
    _, built_with = run([home.binaries / "pg_config", "--configure"], None)
    network = {
        "listen_addresses": "127.0.0.1",
        "port": str(cluster.choose_port(home.directory / "port")),
        "unix_socket_directories": str(sockets),
    }
    cluster.configure(
        home.data,
        home.user,
        {
            **server_settings(memory_limit(), lz4="--with-lz4" in built_with, cores=os.cpu_count() or 1),
            **network,
            **home.settings,
        },
    )
    if home.log.exists() and home.log.stat().st_size > _LOG_BYTES:
        home.log.replace(home.log.with_name("server.log.1"))
    home.log.touch(mode=0o600)
    return home.log.stat().st_size


async def _launch(home: _Home) -> Postmaster | None:
    """Start the server and wait until it takes connections, which may be long when it recovers from a crash.

    None when it ended instead. `pg_ctl` takes it out of our process group and tells whether it lives; that it is
    ready is seen sooner in its pid file.
    """
    never = str(10**8)
    command: list[str | Path] = [home.binaries / "pg_ctl", "start", "-s", "-w", "-t", never, "-D", home.data]
    pg_ctl = await asyncio.to_thread(_spawn_logged, command, home)
    try:
        while True:
            ended = pg_ctl.poll()
            postmaster = await asyncio.to_thread(cluster.running, home.data)
            if postmaster is not None and postmaster.ready:
                return postmaster
            if ended is not None and postmaster is None:
                return None
            await asyncio.sleep(_POLL_SECONDS)
    finally:
        # Also when we are cancelled: a server that nobody has seen yet could not be stopped.
        while pg_ctl.poll() is None:
            if await asyncio.to_thread(cluster.running, home.data) is not None:
                break
            await asyncio.sleep(_POLL_SECONDS)
        pg_ctl.kill()  # the server is not its child and goes on
        pg_ctl.wait()


def _spawn_logged(command: Sequence[str | Path], home: _Home) -> subprocess.Popen[bytes]:
    with home.log.open("ab") as log:
        return spawn(command, home.user, log)


def _log_since(log: Path, start: int) -> str:
    with log.open("rb") as file:
        file.seek(start)
        return file.read().decode(errors="replace")


async def _ensure_database(home: _Home, postmaster: Postmaster) -> None:
    """Connect, which proves that the server is ours, and make the store's database in a new one."""
    sql = statements.load("server")
    try:
        connection = await psycopg.AsyncConnection.connect(
            _own_dsn(home.password, postmaster, "postgres"), autocommit=True
        )
    except psycopg.OperationalError as error:
        if "password authentication failed" not in str(error):
            raise StoreUnavailable(f"The embedded server on {home.data} does not take connections: {error}") from error
        raise DataDirectoryError(
            f"The server that runs on {home.data} (process {postmaster.pid}) does not accept the password in "
            f"{home.directory / 'password'}: it is not ours. Stop it, or restore that file."
        ) from error
    async with connection:
        row = await (await connection.execute(sql["database_exists"])).fetchone()
        if row == (False,):
            await connection.execute(sql["create_database"])


async def _leave(home: _Home, share: _FileLock) -> None:
    """Release a share, and stop the server if nobody else holds one. Called by one process at a time."""
    try:
        if share.try_exclusive():
            await _stop(home)
    finally:
        share.close()


async def _stop(home: _Home) -> None:
    """A fast shutdown; when it takes too long an immediate one, which the next start recovers from."""
    loop = asyncio.get_running_loop()
    for request, patience in ((signal.SIGINT, _FAST_STOP_SECONDS), (signal.SIGQUIT, float("inf"))):
        deadline = loop.time() + patience
        postmaster = await asyncio.to_thread(cluster.running, home.data)
        if postmaster is None:
            return
        with suppress(ProcessLookupError):  # it ended in this instant
            os.kill(postmaster.pid, request)
        while await asyncio.to_thread(cluster.running, home.data):
            if loop.time() > deadline:
                break
            await asyncio.sleep(_POLL_SECONDS)
        else:
            cluster.remove_socket_directory(postmaster)


@contextmanager
def _file_errors(directory: Path) -> Iterator[None]:
    """Tells what an operating system's error in `directory` means for the store."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreFull(f"No space is left for the embedded server in {directory}: {error}") from error
        raise DataDirectoryError(
            f"The directory of the embedded server, {directory}, cannot be used: {error}. Let its owner start "
            "livedex, or choose another directory, or set LIVEDEX_DATABASE_URL."
        ) from error


def _own_dsn(password: str, postmaster: Postmaster, database: str) -> str:
    """By socket, which is faster, unless its folder was cleaned away under a server that still runs."""
    reachable = (Path(postmaster.socket_directory) / f".s.PGSQL.{postmaster.port}").exists()
    return _uri(password, postmaster, database, socket=bool(postmaster.socket_directory) and reachable)


def _uri(password: str, postmaster: Postmaster, database: str, *, socket: bool) -> str:
    credentials = f"{ROLE}:{quote(password, safe='')}"
    if socket:
        place = quote(postmaster.socket_directory, safe="")
        return f"postgresql://{credentials}@/{database}?host={place}&port={postmaster.port}"
    return f"postgresql://{credentials}@127.0.0.1:{postmaster.port}/{database}"
