"""The two PostgreSQL servers of a run, which are stopped, crashed, killed, cut off, filled up and put out of time, and
started again as a process manager would."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import psycopg

from livedex.errors import StoreError
from livedex.store import cluster, installation
from livedex.store.embedded import EmbeddedServer
from livedex.store.os_user import server_user

VERSION = 18
WATCH_SECONDS = 0.2
SIGNALS = {"restarts": signal.SIGINT, "crashes": signal.SIGQUIT, "is killed": signal.SIGKILL}
# What is written reaches the operating system all the same, which no fault here takes away; only a power cut would.
SETTINGS = {"fsync": "off", "shared_buffers": "64MB", "wal_compression": "off"}
FIRST_PORT = 21000
"""Ports of outgoing connections begin above: nothing may take a server's port while it is down."""


class Server:
    """A server that comes back, under the same address, whatever ends it. `outages` holds when it was not to be
    reached, by the monotonic clock; the last is open while it is down."""

    def __init__(self, name: str, directory: Path, settings: Mapping[str, str], binaries: Path | None = None) -> None:
        self.name = name
        self.outages: list[tuple[float, float | None]] = []
        self.ended_by_itself = 0
        self._directory = directory
        self._settings = {**SETTINGS, **settings, "port": str(_free_port())}
        self._binaries = binaries
        self._server: EmbeddedServer | None = None
        self._turn = asyncio.Lock()

    @property
    def dsn(self) -> str:
        assert self._server is not None
        return self._server.dsn

    async def start(self) -> None:
        fresh = await EmbeddedServer.start(
            self._directory, version=VERSION, settings=self._settings, binaries=self._binaries
        )
        before, self._server = self._server, fresh
        if before is not None:
            await before.stop()  # gives up its share of what runs

    async def close(self) -> None:
        if self._server is not None:
            await self._server.stop()

    def processes(self) -> list[int]:
        """All processes that work in its data directory."""
        assert self._server is not None
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if (folder / "cwd").samefile(self._server.data):
                    found.append(int(folder.name))
        return found

    async def strike(self, how: str) -> None:
        """End it, one way or another, and start it again."""
        async with self._turn:
            self._note_down()
            assert self._server is not None
            running = cluster.running(self._server.data)
            if running is not None:
                with suppress(ProcessLookupError):
                    os.kill(running.pid, SIGNALS[how])
            while cluster.running(self._server.data) is not None:  # noqa: ASYNC110  # a process sets no event of ours
                await asyncio.sleep(0.02)
            await self._come_back()

    async def watch(self) -> None:
        """Start it again whenever it has ended by itself."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            async with self._turn:
                assert self._server is not None
                if cluster.running(self._server.data) is None:
                    self.ended_by_itself += 1
                    self._note_down()
                    await self._come_back()

    def was_up(self, since: float, until: float) -> bool:
        """Whether it was to be reached, without a break, all that time."""
        return all((end is not None and end < since) or start > until for start, end in self.outages)

    @property
    def is_up(self) -> bool:
        return not self.outages or self.outages[-1][1] is not None

    def _note_down(self) -> None:
        if self.is_up:
            self.outages.append((time.monotonic(), None))

    async def _come_back(self) -> None:
        while True:
            try:
                await self.start()
            except StoreError:  # no space yet, or processes that were killed are still ending
                await asyncio.sleep(WATCH_SECONDS)
            else:
                break
        self.outages[-1] = (self.outages[-1][0], time.monotonic())

    async def ask(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Raises psycopg.OperationalError where it cannot be asked."""
        async with await psycopg.AsyncConnection.connect(
            self.dsn, autocommit=True, application_name="chaos", connect_timeout=5
        ) as connection:
            return await (await connection.execute(query, values)).fetchall()


_ports = count(FIRST_PORT + os.getpid() % 5000)


def _free_port() -> int:
    for port in _ports:
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError("no port is free")


class Disk:
    """A small file system of its own for a server's data; None of it where mounting is not allowed."""

    def __init__(self, directory: Path, megabytes: int) -> None:
        self.directory = directory
        directory.mkdir(mode=0o711)
        command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0711", "tmpfs", str(directory)]
        self.is_mounted = (
            os.geteuid() == 0
            and shutil.which("mount") is not None
            and subprocess.run(command, check=False, capture_output=True).returncode == 0
        )
        self._ballast = directory / "ballast"

    def fill(self) -> None:
        """Leave a page or none."""
        free = os.statvfs(self.directory)
        with self._ballast.open("wb") as file, suppress(OSError):
            os.posix_fallocate(file.fileno(), 0, max(1, (free.f_bavail - 1) * free.f_frsize))

    def free(self) -> None:
        self._ballast.unlink(missing_ok=True)

    def remove(self) -> None:
        if self.is_mounted:
            subprocess.run(["umount", "-l", str(self.directory)], check=True, capture_output=True)  # noqa: S607  # as mounted


_SHIM = """
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
static volatile double *skew;
__attribute__((constructor)) static void start(void) {
    int file = open("CLOCK", O_RDONLY);
    void *map = file < 0 ? MAP_FAILED : mmap(NULL, sizeof(double), PROT_READ, MAP_SHARED, file, 0);
    skew = map == MAP_FAILED ? NULL : map;
}
int clock_gettime(clockid_t id, struct timespec *ts) {
    int failed = syscall(SYS_clock_gettime, id, ts);
    if (!failed && skew && id == CLOCK_REALTIME) ts->tv_sec += (time_t)*skew;
    return failed;
}
int gettimeofday(struct timeval *restrict tv, void *restrict zone) {
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    tv->tv_sec = ts.tv_sec;
    tv->tv_usec = ts.tv_nsec / 1000;
    return 0;
}
time_t time(time_t *at) {
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    if (at) *at = ts.tv_sec;
    return ts.tv_sec;
}
"""


class Clock:
    """The time of day as one server sees it: a library is loaded before its own that adds whole seconds to it.
    `binaries` is None where there is no C compiler to make one."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o755)
        self._skew = directory / "skew"
        self.jumps: list[float] = []
        self.set(0.0)
        self._skew.chmod(0o644)
        self.binaries = self._made(directory)

    def jumped_before(self, moment: float, seconds: float) -> bool:
        """Whether it was set within so many seconds before a moment, in seconds since 1970."""
        return any(jump - 1 <= moment <= jump + seconds for jump in self.jumps[1:])

    def set(self, seconds: float) -> None:
        self.jumps.append(time.time())
        with self._skew.open("r+b" if self._skew.exists() else "wb") as file:
            file.write(struct.pack("d", seconds))

    def _made(self, directory: Path) -> Path | None:
        compiler = shutil.which("cc")
        if compiler is None:
            return None
        library, code = directory / "skew.so", directory / "skew.c"
        code.write_text(_SHIM.replace('"CLOCK"', f'"{self._skew}"'))
        built = subprocess.run(
            [compiler, "-shared", "-fPIC", "-O1", "-o", library, code], check=False, capture_output=True
        )
        if built.returncode != 0:
            return None
        real = installation.binaries(VERSION, server_user(None))
        binaries = directory / "bin"
        binaries.mkdir(mode=0o755)
        for program in real.iterdir():
            if program.name != "pg_ctl":
                (binaries / program.name).symlink_to(program)
        script = binaries / "pg_ctl"
        script.write_text(f'#!/bin/sh\nLD_PRELOAD={library} exec {real / "pg_ctl"} "$@"\n')
        for made in (script, library):
            made.chmod(0o755)
        return binaries
