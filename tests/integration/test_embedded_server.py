"""The embedded server's life: started once, shared, left, killed, found again."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest

from livedex.errors import DataDirectoryError, StoreFull, StoreUnavailable, StoreUnsupported
from livedex.store import cluster, installation
from livedex.store.embedded import EmbeddedServer
from livedex.store.os_user import run, server_user, spawn

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server under another user")
SETTINGS = {"fsync": "off", "shared_buffers": "32MB"}

CHILD = """
import asyncio, sys
from pathlib import Path
from livedex.store.embedded import EmbeddedServer

async def main():
    server = await EmbeddedServer.start(Path(sys.argv[1]), settings={"fsync": "off", "shared_buffers": "32MB"})
    print(server.data, flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    await server.stop()

asyncio.run(main())
"""


@pytest.fixture
def new_home() -> Iterator[Path]:
    """A directory, not made yet, that every user can get into; what runs in it is stopped, and it is removed."""
    root = Path(tempfile.mkdtemp(prefix="livedex-home-"))
    root.chmod(0o711)
    yield from _cleared(root)


@pytest.fixture(scope="module")
def started_once() -> Iterator[Path]:
    """A directory whose server was started and stopped."""
    root = Path(tempfile.mkdtemp(prefix="livedex-home-"))
    root.chmod(0o711)
    child = start_child(root / ".livedex")
    child.communicate("leave\n")
    yield root / ".livedex"
    shutil.rmtree(root)


@pytest.fixture
def home(new_home: Path, started_once: Path) -> Path:
    """A directory with a server that has had its first start."""
    subprocess.run(["/bin/cp", "-a", started_once, new_home], check=True)
    return new_home


@pytest.fixture
def closed_home() -> Iterator[Path]:
    """A directory below /root, where the server's user cannot get."""
    yield from _cleared(Path(tempfile.mkdtemp(prefix="livedex-home-", dir="/root")))


def _cleared(root: Path) -> Iterator[Path]:
    directory = root / ".livedex"
    yield directory
    data = (directory / "data").resolve()
    if running := cluster.running(data):
        os.kill(running.pid, signal.SIGQUIT)
        until(lambda: cluster.running(data) is None)
    shutil.rmtree(data, ignore_errors=True)
    shutil.rmtree(cluster.socket_directory(directory, server_user(None)))
    shutil.rmtree(root)


def start_child(directory: Path, **environment: str) -> subprocess.Popen[str]:
    """Another process that takes a share, says so, and leaves at a line of input."""
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


def half_made(folder: Path) -> None:
    folder.parent.parent.mkdir(mode=0o711)
    folder.mkdir(parents=True)


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def mode_of(path: Path) -> int | None:
    """Its permissions; None where nothing is."""
    return stat.S_IMODE(path.stat().st_mode) if path.exists() else None


def program_of(pid: int | None) -> Path:
    return Path(f"/proc/{pid}/exe").readlink()


def seen_by(pid: int | None) -> str:
    """The environment of a process."""
    return Path(f"/proc/{pid}/environ").read_text()


def heard(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


async def killed(directory: Path, victim: int) -> None:
    """`kill -9` the server, and wait until it is gone."""
    os.kill(victim, signal.SIGKILL)
    for _ in range(1000):
        if pid_on(directory) is None:
            return
        await asyncio.sleep(0.01)
    pytest.fail(f"process {victim} does not end")


async def ask(dsn: str, statement: str) -> object:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        row = await (await connection.execute(statement)).fetchone()
        assert row is not None
        return row[0]


async def tell(dsn: str, statement: str) -> None:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        await connection.execute(statement)


def until(reached: Callable[[], bool]) -> None:
    for _ in range(60_000):
        if reached():
            return
        time.sleep(0.001)
    pytest.fail("waited for a minute in vain")


def pid_on(directory: Path) -> int | None:
    running = cluster.running((directory / "data").resolve())
    return None if running is None else running.pid


async def start(directory: Path, **settings: str) -> EmbeddedServer:
    return await EmbeddedServer.start(directory, settings={**SETTINGS, **settings})


async def test_what_was_stored_is_there_after_a_restart(new_home: Path) -> None:
    first = await start(new_home)
    await tell(first.dsn, "CREATE TABLE kept AS SELECT 7 AS value")
    await first.stop()
    second = await start(new_home)
    assert await ask(second.dsn, "SELECT value FROM kept") == 7
    await second.stop()


async def test_a_stopped_server_is_gone(home: Path) -> None:
    server = await start(home)
    await server.stop()
    assert pid_on(home) is None


async def test_stopping_twice_is_stopping_once(home: Path) -> None:
    first, second = await start(home), await start(home)
    await first.stop()
    await first.stop()
    assert await ask(second.dsn, "SELECT 1") == 1
    await second.stop()


async def test_several_that_start_at_once_share_one_server(new_home: Path) -> None:
    servers = await asyncio.gather(*(start(new_home) for _ in range(3)))
    assert len({server.dsn for server in servers}) == 1
    for server in servers:
        await server.stop()
    assert pid_on(new_home) is None


async def test_the_last_process_out_stops_the_server(home: Path) -> None:
    child = start_child(home)
    heard(child)
    server = await start(home)
    before = pid_on(home)
    child.communicate("leave\n")
    assert (before, pid_on(home)) == (before, before)
    await server.stop()
    assert pid_on(home) is None


async def test_a_server_whose_process_was_killed_serves_the_next_one(home: Path) -> None:
    child = start_child(home)
    heard(child)
    left_behind = pid_on(home)
    child.kill()
    child.communicate()
    server = await start(home)
    assert pid_on(home) == left_behind
    await server.stop()
    assert pid_on(home) is None


async def test_a_server_that_was_killed_recovers_what_it_had_committed(home: Path) -> None:
    first = await start(home)
    await tell(first.dsn, "CREATE TABLE kept AS SELECT 7 AS value")
    pid = pid_on(home)
    assert pid is not None
    await killed(home, pid)
    second = await start(home)
    assert await ask(second.dsn, "SELECT value FROM kept") == 7
    await second.stop()
    await first.stop()


async def test_a_process_killed_in_its_first_start_leaves_nothing_to_repair(new_home: Path) -> None:
    child = start_child(new_home)
    until(lambda: any(new_home.glob("data.new-*/data/base")))
    child.kill()
    child.communicate()
    server = await start(new_home)
    assert await ask(server.dsn, "SELECT current_database()") == "livedex"
    await server.stop()


async def test_a_half_made_data_directory_is_cleared_away(new_home: Path, started_once: Path) -> None:
    half_made(new_home / "data.new-1234" / "data")
    await (await start(new_home)).stop()
    assert names_in(new_home) == names_in(started_once)


async def test_a_pid_file_whose_pid_went_to_another_program_does_not_block_a_start(home: Path) -> None:
    server = await start(home)
    pid_file = server.data / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    owner = server_user(server.data.stat().st_uid)
    await server.stop()
    other = spawn(["sleep", "600"], owner, subprocess.DEVNULL)
    try:
        pid_file.write_text("\n".join([str(other.pid), *lines[1:]]) + "\n")
        again = await start(home)
        assert await ask(again.dsn, "SELECT 1") == 1
        await again.stop()
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


async def test_an_empty_pid_file_does_not_block_a_start(home: Path) -> None:
    server = await start(home)
    await server.stop()
    (server.data / "postmaster.pid").touch()
    again = await start(home)
    assert await ask(again.dsn, "SELECT 1") == 1
    await again.stop()


async def test_the_port_stays_the_same_between_starts(home: Path) -> None:
    first = await start(home)
    await first.stop()
    second = await start(home)
    assert second.public_dsn == first.public_dsn
    await second.stop()


async def test_another_port_is_taken_when_ours_is_in_use(home: Path) -> None:
    first = await start(home)
    await first.stop()
    async with await asyncio.start_server(lambda _, __: None, "127.0.0.1", int((home / "port").read_text())):
        second = await start(home)
        assert await ask(second.public_dsn, "SELECT 1") == 1
        assert second.public_dsn != first.public_dsn
        await second.stop()


async def test_any_client_can_connect_over_tcp(home: Path) -> None:
    server = await start(home)
    assert await ask(server.public_dsn, "SELECT host(inet_server_addr())") == "127.0.0.1"
    await server.stop()


async def test_livedex_itself_connects_over_the_socket(home: Path) -> None:
    server = await start(home)
    assert await ask(server.dsn, "SELECT inet_server_addr() IS NULL") is True
    await server.stop()


@pytest.mark.parametrize("way", ["dsn", "public_dsn"])
async def test_nobody_gets_in_without_the_password(home: Path, way: str) -> None:
    server = await start(home)
    password = (home / "password").read_text().strip()
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        await ask(getattr(server, way).replace(password, "guessed"), "SELECT 1")
    await server.stop()


async def test_the_password_is_in_a_file_of_its_owner_only(home: Path) -> None:
    await (await start(home)).stop()
    assert mode_of(home / "password") == 0o600


async def test_the_socket_folder_is_private_and_goes_with_the_server(home: Path) -> None:
    server = await start(home)
    running = cluster.running(server.data)
    assert running is not None
    folder = Path(running.socket_directory)
    assert mode_of(folder) == 0o700
    await server.stop()
    assert mode_of(folder) is None


async def test_the_server_sees_nothing_of_our_environment(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIVEDEX_TEST_KEY", "secret")
    server = await start(home)
    assert "LIVEDEX_TEST_KEY" not in seen_by(pid_on(home))
    await server.stop()


async def test_ctrl_c_in_our_terminal_does_not_reach_the_server(home: Path) -> None:
    server = await start(home)
    pid = pid_on(home)
    assert pid is not None
    assert os.getsid(pid) != os.getsid(0)
    await server.stop()


async def test_logical_replication_is_on_from_the_first_start(home: Path) -> None:
    server = await start(home)
    assert await ask(server.dsn, "SHOW wal_level") == "logical"
    await server.stop()


async def test_order_and_letters_do_not_depend_on_the_operating_system(home: Path) -> None:
    server = await start(home)
    assert await ask(server.dsn, "SELECT datlocale FROM pg_database WHERE datname = current_database()") == "C.UTF-8"
    assert await ask(server.dsn, "SELECT lower('ÄÉ')") == "äé"
    await server.stop()


async def test_pages_are_checksummed(home: Path) -> None:
    server = await start(home)
    assert await ask(server.dsn, "SHOW data_checksums") == "on"
    await server.stop()


async def test_a_failed_statement_leaves_no_text_in_the_log(home: Path) -> None:
    server = await start(home)
    with pytest.raises(psycopg.errors.UniqueViolation):
        await tell(server.dsn, "CREATE TABLE t (a text UNIQUE); INSERT INTO t VALUES ('private'), ('private')")
    await server.stop()
    assert "private" not in (home / "server.log").read_text()


async def test_a_start_that_fails_tells_the_end_of_the_log(home: Path) -> None:
    with pytest.raises(StoreUnavailable, match='invalid value for parameter "work_mem"'):
        await start(home, work_mem="plenty")


async def test_a_start_that_failed_can_be_tried_again(home: Path) -> None:
    with pytest.raises(StoreUnavailable):
        await start(home, work_mem="plenty")
    server = await start(home)
    assert await ask(server.dsn, "SELECT 1") == 1
    await server.stop()


@pytest.mark.parametrize("seconds", [0.0, 0.02, 0.04, 0.06, 0.08, 0.1])
async def test_a_start_that_is_cancelled_is_in_nobodys_way(home: Path, seconds: float) -> None:
    with suppress(TimeoutError):
        await (await asyncio.wait_for(start(home), seconds)).stop()
    server = await start(home)
    assert await ask(server.dsn, "SELECT 1") == 1
    await server.stop()
    assert pid_on(home) is None


async def test_data_of_another_major_version_is_refused(new_home: Path) -> None:
    await (await EmbeddedServer.start(new_home, version=16, settings=SETTINGS)).stop()
    with pytest.raises(DataDirectoryError, match="made by PostgreSQL 16; this livedex runs PostgreSQL 18"):
        await start(new_home)


async def test_a_version_that_the_wheel_does_not_carry_is_refused(home: Path) -> None:
    with pytest.raises(StoreUnsupported, match="LIVEDEX_DATABASE_URL"):
        await EmbeddedServer.start(home, version=14)


async def test_a_server_with_another_password_is_refused_and_left_alone(home: Path) -> None:
    first = await start(home)
    await tell(first.dsn, "ALTER ROLE livedex PASSWORD 'changed'")
    with pytest.raises(DataDirectoryError, match="not ours"):
        await start(home)
    assert pid_on(home) is not None
    await first.stop()


async def test_a_missing_password_is_named(home: Path) -> None:
    await (await start(home)).stop()
    (home / "password").unlink()
    with pytest.raises(DataDirectoryError, match="Restore the file"):
        await start(home)


async def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataDirectoryError, match=str(tmp_path / "file" / "below")):
        await start(tmp_path / "file" / "below")


async def test_a_server_in_use_from_another_container_is_refused(home: Path) -> None:
    first = await start(home)
    (home / "namespace").write_text("pid:[1]")
    with pytest.raises(DataDirectoryError, match="another container"):
        await start(home)
    assert await ask(first.dsn, "SELECT 1") == 1
    await first.stop()


async def test_a_socket_path_too_long_for_the_system_is_avoided(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = home.parent / ("t" * 90)
    temporary.mkdir(mode=0o711)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    server = await start(home)
    assert await ask(server.dsn, "SELECT inet_server_addr() IS NULL") is True
    await server.stop()


@as_root
async def test_a_full_disk_at_the_first_start_is_told_as_such(new_home: Path) -> None:
    with small_disk(new_home, "20m"), pytest.raises(StoreFull):
        await start(new_home)


@as_root
async def test_a_full_disk_at_a_later_start_is_told_as_such(new_home: Path) -> None:
    with small_disk(new_home, "120m"):
        server = await start(new_home)
        pid = pid_on(new_home)
        assert pid is not None
        await killed(new_home, pid)  # recovery writes
        filler = new_home / "filler"
        fill_up(filler)
        with pytest.raises(StoreFull):
            await start(new_home)
        filler.unlink()
        again = await start(new_home)
        assert await ask(again.dsn, "SELECT 1") == 1
        await again.stop()
        await server.stop()


@contextmanager
def small_disk(directory: Path, size: str) -> Iterator[None]:
    """A file system of a given size at a directory."""
    directory.mkdir()
    status, said = run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=0711", "tmpfs", directory], None)
    if status != 0:
        pytest.skip(f"no file system can be mounted here: {said}")
    try:
        yield
    finally:
        run(["umount", "-l", directory], None)


def fill_up(file: Path) -> None:
    with pytest.raises(OSError, match="No space left"):
        file.write_bytes(bytes(200 << 20))


@as_root
async def test_root_keeps_data_elsewhere_when_the_server_cannot_reach_the_directory(closed_home: Path) -> None:
    server = await start(closed_home)
    await tell(server.dsn, "CREATE TABLE kept AS SELECT 7 AS value")
    assert server.data.parent == installation.ROOT_HOME
    assert (closed_home / "data").readlink() == server.data
    await server.stop()
    again = await start(closed_home)
    assert await ask(again.dsn, "SELECT value FROM kept") == 7
    await again.stop()


@as_root
async def test_permissions_on_the_way_stay_as_they_are(closed_home: Path) -> None:
    before = [(path, path.stat().st_mode) for path in closed_home.parents]
    await (await start(closed_home)).stop()
    assert [(path, path.stat().st_mode) for path in closed_home.parents] == before


@as_root
async def test_a_temporary_directory_that_the_server_cannot_reach_is_avoided(closed_home: Path) -> None:
    child = start_child(closed_home, TMPDIR=str(closed_home.parent))
    assert heard(child)
    running = cluster.running((closed_home / "data").resolve())
    assert running is not None
    assert Path(running.socket_directory).parent == Path("/tmp")  # noqa: S108  # the place that is promised
    child.communicate("leave\n")


@as_root
async def test_programs_that_the_server_cannot_reach_are_copied_once(closed_home: Path) -> None:
    site = closed_home.parent / "site"
    tree = installation.binaries(18, None).parent
    shutil.copytree(tree, site / tree.parent.name / tree.name, symlinks=True)
    (site / tree.parent.name / "__init__.py").touch()
    libraries = tree.parent.with_name(f"{tree.parent.name}.libs")
    shutil.copytree(libraries, site / libraries.name)
    child = start_child(closed_home, PYTHONPATH=os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")]))
    heard(child)
    program = program_of(pid_on(closed_home))
    child.communicate("leave\n")
    copy = program.parents[3]
    assert copy.parent == installation.ROOT_HOME / "runtime"
    made_at = copy.stat().st_ctime_ns
    child = start_child(closed_home, PYTHONPATH=os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")]))
    heard(child)
    child.communicate("leave\n")
    assert copy.stat().st_ctime_ns == made_at
    shutil.rmtree(copy)


PACKAGES = {"PATH": os.defpath, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
"""The environment in which another user's Python finds our packages."""


@pytest.fixture
def ordinary_user() -> Iterator[pwd.struct_passwd]:
    name = "livedex-test-user"
    status, said = run(["useradd", "--system", "--no-create-home", name], None)
    if status != 0:
        pytest.skip(f"no user can be made here: {said}")
    yield pwd.getpwnam(name)
    run(["userdel", name], None)


def _interpreter_for(user: pwd.struct_passwd) -> str:
    """A Python of our version that the user can run with our packages; both may be in a closed home."""
    for candidate in (sys.executable, "/usr/bin/python3"):
        command = [candidate, "-c", "import sys, psycopg, livedex; print(sys.version_info[:2])"]
        try:
            ran = subprocess.run(
                command, user=user.pw_uid, cwd="/", env=PACKAGES, capture_output=True, text=True, check=False
            )
        except PermissionError:
            continue
        if ran.stdout.strip() == str(sys.version_info[:2]):
            return candidate
    pytest.skip("an ordinary user cannot run a Python of this version with these packages here")


@as_root
def test_an_ordinary_user_keeps_everything_in_the_directory(new_home: Path, ordinary_user: pwd.struct_passwd) -> None:
    python = _interpreter_for(ordinary_user)
    os.chown(new_home.parent, ordinary_user.pw_uid, ordinary_user.pw_gid)
    ran = subprocess.run(
        [python, "-c", CHILD, str(new_home)],
        user=ordinary_user.pw_uid,
        group=ordinary_user.pw_gid,
        extra_groups=[],
        cwd="/",
        env=PACKAGES,
        input="leave\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ran.stdout.strip(), ran.stderr) == (str(new_home / "data"), "")
    assert {path.stat().st_uid for path in [new_home, *new_home.iterdir()]} == {ordinary_user.pw_uid}


@as_root
async def test_data_of_another_user_is_refused(home: Path, ordinary_user: pwd.struct_passwd) -> None:
    await (await start(home)).stop()
    data = home / "data"
    os.chown(data, ordinary_user.pw_uid, ordinary_user.pw_gid)
    with pytest.raises(DataDirectoryError, match=f"belongs to the user with uid {ordinary_user.pw_uid}"):
        await start(home)


def test_a_dev_mode_interpreter_has_nothing_to_complain_about(home: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", CHILD, str(home)],
        input="leave\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.stderr == ""
