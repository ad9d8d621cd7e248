"""One file's bytes → its text, or why there is none. Blocks; called in threads."""

from __future__ import annotations

import codecs
import os
import stat
from dataclasses import dataclass
from hashlib import blake2b

from livedex.adapters.sources.files.folder import Folder, Stat

_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_SKETCH = 32
_ALIKE = 0.5


@dataclass(frozen=True, slots=True)
class Print:
    """What a file's content is recognised by. `digest` is empty where it was not read.

    `sketch` is a sample of its lines' hashes, the smallest ones, which estimates how much two files have in common
    (Broder: On the resemblance and containment of documents, 1997).
    """

    digest: bytes
    sketch: frozenset[int]

    @classmethod
    def of(cls, content: bytes) -> Print:
        lines = {hash(line) for line in content.splitlines() if line.strip()}
        return cls(blake2b(content, digest_size=16).digest(), frozenset(sorted(lines)[:_SKETCH]))

    def is_like(self, other: Print) -> bool:
        """Whether at least about half of the lines are the same."""
        smallest = sorted(self.sketch | other.sketch)[:_SKETCH]
        common = self.sketch & other.sketch
        return bool(smallest) and sum(line in common for line in smallest) / len(smallest) >= _ALIKE


NOTHING = Print(b"", frozenset())


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read of a file that stayed as it was meanwhile.

    `text` is None when there is a `refusal`: why the file cannot be a document as it is. `is_unreadable` says that only
    reading failed, so that what is known of the document may still hold.
    """

    stat: Stat
    print: Print
    text: str | None = None
    refusal: str | None = None
    is_unreadable: bool = False


def read(folder: Folder, relative: str, most_bytes: int) -> Reading | None:
    """None for a file that is gone or changed while it was read."""
    seen = folder.look(relative)
    if seen is None:
        return None
    if seen.size > most_bytes:
        return Reading(seen, NOTHING, refusal=_too_large(seen.size, most_bytes))
    try:
        path = folder.resolve(relative) if seen.is_link else folder.absolute(relative)
        content, after = _content(path, most_bytes)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if folder.look(relative) != seen:
            return None
        return Reading(seen, NOTHING, refusal=_unreadable(error), is_unreadable=True)
    if content is None or len(content) != after.st_size or Stat.of(after, is_link=seen.is_link) != seen:
        return None
    text, refusal = _decode(content)
    return Reading(seen, Print.of(content), text, refusal)


def _content(path: str, most_bytes: int) -> tuple[bytes | None, os.stat_result]:
    """The bytes, and the file's state after they were read; None for what is no file any more."""
    # A name may have come to stand for a link or a pipe since it was looked at: neither is followed or waited for.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None, os.fstat(descriptor)
        pieces = []
        left = most_bytes + 1
        while left and (piece := file.read(min(left, 2**20))):
            pieces.append(piece)
            left -= len(piece)
        return b"".join(pieces), os.fstat(descriptor)


def _decode(content: bytes) -> tuple[str | None, str | None]:
    """The text without its byte order mark, line ends as they are; or why it is none."""
    encoding, name = ("utf-16", "UTF-16") if content.startswith(_UTF_16) else ("utf-8-sig", "UTF-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        place = error.start + (len(codecs.BOM_UTF8) if content.startswith(codecs.BOM_UTF8) else 0)
        wrong = f"0x{content[place]:02x} " if place < len(content) else ""
        return None, (
            f"The file is not {name}: what stands at byte {place} {wrong and f'({wrong.strip()}) '}is no character. "
            "Save it as UTF-8, or leave it out with `exclude`."
        )
    if "\0" in text:
        place = content.index(b"\0") if name == "UTF-8" else 2 * text.index("\0") + 2
        return None, (
            f"The file is binary: it holds a NUL at byte {place}. Save it as text in UTF-8, or leave it out with "
            "`exclude`."
        )
    return text, None


def _too_large(size: int, most_bytes: int) -> str:
    return (
        f"The file has {size:,} bytes, more than the {most_bytes:,} of `max_bytes`. Split it, raise max_bytes in "
        "livedex.yaml, or leave it out with `exclude`."
    )


def _unreadable(error: OSError) -> str:
    return (
        f"The file cannot be read: {error.strerror or error}. Give livedex's user the right to read it, or leave it "
        "out with `exclude`. Until then it is searched as it was when last read, if ever."
    )
