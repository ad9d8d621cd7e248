"""The embedded server's settings: what a machine of this size is given."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

_MB = 1 << 20


def server_settings(memory_bytes: int, *, lz4: bool, cores: int = 2) -> dict[str, str]:
    """Settings for a server on a machine, or in a container, with this much memory and so many cores."""
    return {
        # One PostgreSQL holds log, index and the sources' slots in tests and small set-ups.
        "wal_level": "logical",
        "max_replication_slots": "20",
        "max_wal_senders": "20",
        "shared_buffers": f"{max(16, min(memory_bytes // 4, 1024 * _MB) // _MB)}MB",
        "maintenance_work_mem": f"{max(16, min(memory_bytes // 16, 512 * _MB) // _MB)}MB",
        # Beside the one that leads them, which works too.
        "max_parallel_maintenance_workers": str(max(1, cores - 1)),
        # A generation is a handful of tables; promoting and dropping several touches all of them at once.
        "max_locks_per_transaction": "256",
        "wal_compression": "lz4" if lz4 else "pglz",
        "max_wal_size": "2GB",
        "checkpoint_timeout": "15min",
        "jit": "off",
        "password_encryption": "scram-sha-256",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "log_line_prefix": "%m [%p] ",
        # The log file must never hold a document's text, which statements and the DETAIL of errors would carry.
        "log_min_error_statement": "panic",
        "log_error_verbosity": "terse",
        "unix_socket_permissions": "0700",
    }


def configuration_file(settings: Mapping[str, str]) -> str:
    """The settings in the syntax of postgresql.conf."""
    lines = [f"{name} = '{_quoted(value)}'\n" for name, value in settings.items()]
    return "# Written at every start of livedex. Your own settings: ALTER SYSTEM SET ...\n" + "".join(lines)


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "''")


def memory_limit() -> int:
    """Bytes of memory that this process may use: the machine's, or what its control groups leave of it."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([physical, *_group_limits(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))])


def _group_limits(membership: Path, root: Path) -> Iterator[int]:
    """Limits of our control groups and of all above them; version 2 counts from the line `0::`, version 1 from the
    line of its memory controller. In a container the path may not exist below `root`: then `root` is our group."""
    if not membership.is_file():
        return
    for line in membership.read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            mount, name = root, "memory.max"
        elif "memory" in controllers.split(","):
            mount, name = root / "memory", "memory.limit_in_bytes"
        else:
            continue
        group = mount / path.lstrip("/")
        for folder in (group, *group.parents):
            limit = folder / name
            if limit.is_file() and (text := limit.read_text().strip()).isdigit():
                yield int(text)
            if folder == mount:
                break
