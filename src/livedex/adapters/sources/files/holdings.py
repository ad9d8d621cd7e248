"""What was sent of the folder, and which of it a new file may be. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from livedex.adapters.sources.files.folder import Stat
from livedex.adapters.sources.files.reading import Print, Reading


@dataclass(frozen=True, slots=True)
class Held:
    """A document as it was sent last."""

    stat: Stat
    print: Print
    refusal: str | None
    is_unreadable: bool

    @classmethod
    def of(cls, reading: Reading) -> Held:
        return cls(reading.stat, reading.print, reading.refusal, reading.is_unreadable)

    def says_the_same(self, reading: Reading) -> bool:
        """Whether a row made from the reading would be the one that was sent."""
        return (
            self.print.digest == reading.print.digest
            and self.refusal == reading.refusal
            and (self.stat.modified_ns == reading.stat.modified_ns or reading.text is None)
        )


class Holdings:
    """Documents by path."""

    def __init__(self) -> None:
        self._held: dict[str, Held] = {}
        self.stats: dict[str, Stat] = {}
        self.links: set[str] = set()

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, path: str) -> bool:
        return path in self._held

    def get(self, path: str) -> Held | None:
        return self._held.get(path)

    def put(self, path: str, reading: Reading) -> None:
        self._held[path], self.stats[path] = Held.of(reading), reading.stat
        (self.links.add if reading.stat.is_link else self.links.discard)(path)

    def remove(self, path: str) -> None:
        del self._held[path], self.stats[path]
        self.links.discard(path)

    @property
    def unreadable(self) -> Iterator[str]:
        return (path for path, held in self._held.items() if held.is_unreadable)


class Vanished:
    """Documents whose files are gone, to be recognised in files that are new.

    A new file is the one that vanished if it is the same inode with at least half of the lines, or has the same
    content. The inode alone proves nothing: file systems give out those of deleted files again at once.
    """

    def __init__(self, holdings: Holdings, paths: Iterable[str]) -> None:
        self._held = {path: held for path in paths if (held := holdings.get(path)) is not None}
        self._by_inode: dict[tuple[int, int], list[str]] = {}
        self._by_digest: dict[bytes, list[str]] = {}
        for path, held in self._held.items():
            self._by_inode.setdefault((held.stat.device, held.stat.inode), []).append(path)
            if held.print.digest and held.print.sketch:
                self._by_digest.setdefault(held.print.digest, []).append(path)

    def take(self, path: str, reading: Reading) -> str | None:
        """Under which path the file was known; each is given out once."""
        same_inode = self._by_inode.get((reading.stat.device, reading.stat.inode), [])
        same_content = self._by_digest.get(reading.print.digest, [])
        name = path.rpartition("/")[2]
        chosen = [old for old in same_inode if old in self._held and self._is_moved(self._held[old], reading)]
        chosen += sorted((old for old in same_content if old in self._held), key=lambda old: not old.endswith(name))
        if not chosen:
            return None
        del self._held[chosen[0]]
        return chosen[0]

    def _is_moved(self, held: Held, reading: Reading) -> bool:
        if held.print.digest == reading.print.digest and held.print.digest:
            return True
        if not held.print.digest or not reading.print.digest:
            # It cannot be read, before or after: a moved file keeps its size and the time of its last write.
            return held.stat.size == reading.stat.size and held.stat.modified_ns == reading.stat.modified_ns
        return held.print.is_like(reading.print)
