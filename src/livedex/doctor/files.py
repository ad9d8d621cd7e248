"""A folder as a source: whether it can be read and watched."""

from __future__ import annotations

import os
from pathlib import Path

from livedex.doctor.report import Check, failed, ok, warning

WATCH_LIMIT = Path("/proc/sys/fs/inotify/max_user_watches")
_FOLDERS_COUNTED = 200_000


def check_folder(path: Path, *, polling: bool) -> list[Check]:
    """Reads names, not files."""
    if not path.is_dir():
        said = "is no folder" if path.exists() else "does not exist"
        return [failed("folder", f"{path} {said}. Correct its path in livedex.yaml, or mount it")]
    if not os.access(path, os.R_OK | os.X_OK):
        return [failed("folder", f"{path} may not be read by this user", f"chmod u+rx '{path}'")]
    folders, files, closed = 0, 0, list[str]()
    for _, _, names in os.walk(path, onerror=lambda error: closed.append(error.filename)):
        folders, files = folders + 1, files + len(names)
        if folders > _FOLDERS_COUNTED:
            break
    found = [ok("folder", f"{path}: {files:,} file{'s'[: files != 1]} in {folders:,} folder{'s'[: folders != 1]}")]
    if closed:
        found.append(warning("folder", f"{len(closed)} folders in it may not be read, such as {closed[0]}"))
    return found if polling else [*found, *_check_watches(folders)]


def _check_watches(folders: int) -> list[Check]:
    """On Linux every watched folder takes a watch from what the user has."""
    try:
        limit = int(WATCH_LIMIT.read_text())
    except (OSError, ValueError):
        return []  # another operating system, whose watches have no such limit
    remedy = f"sudo sysctl fs.inotify.max_user_watches={4 * folders}"
    if folders > limit:
        says = f"{folders:,} folders, but this user may watch {limit:,}. Raise that, or set `polling: true`"
        return [failed("watches", says, remedy)]
    if 2 * folders > limit:
        says = f"{folders:,} folders of {limit:,} that this user may watch, all programs together"
        return [warning("watches", says, remedy)]
    return [ok("watches", f"{folders:,} of {limit:,} needed")]
