"""The folder itself: which files stand in it, and as of when. Everything here blocks; it is called in threads."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from livedex.adapters.sources.files.positions import Identity
from livedex.adapters.sources.files.selection import Selection
from livedex.errors import SourceMisconfigured, SourceUnavailable

_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ESTALE})
_REFUSED = frozenset({errno.EACCES, errno.EPERM})
MOST_PATHS = 2000
"""When the watcher names more than this at once it may have lost some: everything is looked at."""


class Stat(NamedTuple):
    """What tells a file's states apart without reading it; of a symbolic link, that of its target."""

    size: int
    modified_ns: int
    changed_ns: int
    device: int
    inode: int
    is_link: bool

    @classmethod
    def of(cls, found: os.stat_result, *, is_link: bool) -> Stat:
        return cls(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_dev, found.st_ino, is_link)


@dataclass(frozen=True, slots=True)
class Survey:
    """`dirty` are files that may differ from what is known; `folders` were named and are followed from now on."""

    dirty: frozenset[str]
    folders: frozenset[str]


class Folder:
    """One directory as `path` leads to it now. Paths within it are relative, with `/`.

    Symbolic links to files are followed while the target is in the folder; links to folders are not, so there are no
    cycles and no document stands outside.
    """

    def __init__(self, path: Path, selection: Selection, name: str) -> None:
        self.path = path
        self._selection = selection
        self.name = name
        self.real = os.path.realpath(path)
        self.identity = self.identify()
        self._folds_case = _folds_case(self.real)

    def identify(self) -> Identity:
        """Which directory stands at the path. Raises SourceUnavailable and SourceMisconfigured."""
        try:
            found = self.path.stat()
        except OSError as error:
            raise self._trouble(error) from error
        if not stat.S_ISDIR(found.st_mode):
            raise SourceMisconfigured(
                f"{self.path} is no folder. Correct sources.{self.name}.path in livedex.yaml; nothing was deleted."
            )
        return Identity(found.st_dev, found.st_ino)

    def check(self) -> None:
        """Raises when the folder is not the one that was opened: what is missing in it then says nothing."""
        if self.identify() != self.identity or os.path.realpath(self.path) != self.real:
            raise SourceUnavailable(
                f"Another folder stands at {self.path} now: it was unmounted, mounted or replaced. It is read again; "
                "nothing was deleted."
            )

    def absolute(self, relative: str) -> str:
        return os.path.join(self.real, relative) if relative else self.real  # noqa: PTH118  # Path costs much here

    def relative(self, absolute: str) -> str | None:
        """None for what stands outside."""
        if absolute == self.real:
            return ""
        inside = absolute.removeprefix(self.real.rstrip(os.sep) + os.sep)
        return None if inside == absolute else inside.replace(os.sep, "/")

    def scan(self, below: str = "") -> dict[str, Stat]:
        """Every document at or below a folder. Raises SourceMisconfigured for a folder that may not be read: what
        stands in it cannot be told from what was deleted."""
        found: dict[str, Stat] = {}
        waiting = [below]
        while waiting:
            folder = waiting.pop()
            try:
                with os.scandir(self.absolute(folder)) as entries:
                    for entry in entries:
                        relative = f"{folder}/{entry.name}" if folder else entry.name
                        if entry.is_dir(follow_symlinks=False):
                            if self._selection.reaches(relative):
                                waiting.append(relative)
                        elif self._selection.takes(relative) and (seen := self.look(relative)):
                            found[relative] = seen
            except OSError as error:
                if not folder or error.errno not in _GONE:
                    raise self._trouble(error, folder) from error
        return found

    def look(self, relative: str) -> Stat | None:
        """None where no document stands. Raises SourceUnavailable and SourceMisconfigured."""
        path = self.absolute(relative)
        try:
            found = os.lstat(path)
            is_link = stat.S_ISLNK(found.st_mode)
            if is_link:
                found = Path(self.resolve(relative)).stat()
            elif self._folds_case and not _is_listed(path):
                return None
        except OSError as error:
            if error.errno in _GONE:
                return None
            raise self._trouble(error, relative.rpartition("/")[0]) from error
        return Stat.of(found, is_link=is_link) if stat.S_ISREG(found.st_mode) else None

    def look_at(self, relatives: Iterable[str]) -> dict[str, Stat | None]:
        return {relative: self.look(relative) for relative in relatives}

    def resolve(self, relative: str) -> str:
        """Where a link leads. Raises FileNotFoundError for what is outside of the folder."""
        target = os.path.realpath(self.absolute(relative))
        if self.relative(target) is None:
            raise FileNotFoundError(errno.ENOENT, "leads out of the folder", target)
        return target

    def survey(self, paths: Collection[str], known: Mapping[str, Stat], links: Collection[str]) -> Survey:
        """Which files have to be looked at, given that something happened at some paths. `links` is known ones."""
        if "" in paths or len(paths) > MOST_PATHS:
            return Survey(_differences(self.scan(), known, ""), frozenset())
        dirty = {link for link in links if self.look(link) != known[link]}
        folders: set[str] = set()
        emptied: set[str] = set()
        for path in paths:
            if not self._selection.reaches(path):
                continue
            if _is_folder(self.absolute(path)):
                folders.add(path)
                dirty |= _differences(self.scan(path), known, path)
            elif self._selection.takes(path) and (path in known or self.look(path)):
                dirty.add(path)
            else:
                emptied.add(path)
        if emptied:
            dirty |= {path for path in known if any(path.startswith(f"{folder}/") for folder in emptied)}
        return Survey(frozenset(dirty), frozenset(folders))

    def vanished_at(self, relative: str) -> int | None:
        """When the file's folder last lost or gained a name, in nanoseconds; None where that is gone too."""
        try:
            return Path(self.absolute(relative.rpartition("/")[0])).stat().st_mtime_ns
        except OSError:
            return None

    def _trouble(self, error: OSError, relative: str = "") -> SourceUnavailable | SourceMisconfigured:
        place = self.path / relative if relative else self.path
        said = error.strerror or str(error)
        if error.errno in _REFUSED:
            otherwise = ", or leave it out with `exclude`" if relative else ""
            return SourceMisconfigured(
                f"The folder {place} cannot be read: {said}. Give livedex's user the right to list and enter it"
                f"{otherwise}. Nothing was deleted."
            )
        if error.errno in _GONE:
            return SourceUnavailable(
                f"The folder {place} is not there: {said}. Bring it back or mount it, or correct "
                f"sources.{self.name}.path in livedex.yaml. Nothing was deleted."
            )
        return SourceUnavailable(f"The folder {place} cannot be read: {said}. Nothing was deleted.")


def _differences(found: Mapping[str, Stat], known: Mapping[str, Stat], below: str) -> frozenset[str]:
    prefix = f"{below}/" if below else ""
    changed = {path for path, seen in found.items() if known.get(path) != seen}
    return frozenset(changed | {path for path in known if path not in found and path.startswith(prefix)})


def _is_folder(path: str) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False


def _folds_case(path: str) -> bool:
    """Whether the file system takes `Notes.md` and `notes.md` for one: a name that it answers to need not be there."""
    here = Path(path)
    swapped = here.with_name(here.name.swapcase()) if here.name else here
    try:
        return swapped != here and swapped.samefile(here)
    except OSError:
        return False


def _is_listed(path: str) -> bool:
    head, name = os.path.split(path)
    with os.scandir(head) as entries:
        return any(entry.name == name for entry in entries)
