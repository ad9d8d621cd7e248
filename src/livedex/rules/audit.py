"""What an audit makes of what it sees. Pure.

A source and the log are never looked at in one moment, so a key is judged by three looks, one after the other: at the
log, at the source, and at the log again once it has come as far as the source was. A look at the source shows all that
the log had shown before. So if the log's document did not move in between, no change to it lies between what the two
show, and they must agree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

MOST_EXAMPLES = 20


class Kind(StrEnum):
    """What is found, in the words of reports."""

    MISSING = "missing"
    GHOST = "ghost"
    DIFFERENT = "different"
    DAMAGED = "damaged"
    LOG_END = "log_end"
    UNAPPLIED = "unapplied"
    LEFT_OVER = "left_over"
    OUTDATED = "outdated"
    CHUNKS = "chunks"
    TEXT = "text"
    VECTOR = "vector"
    TERMS = "terms"
    ORPHAN = "orphan"
    STATISTICS = "statistics"
    CURSOR = "cursor"
    WATERMARK = "watermark"
    RESTING = "resting"


MEANINGS: Mapping[Kind, str] = {
    Kind.MISSING: "rows of the source that the log does not have",
    Kind.GHOST: "documents that the source does not have",
    Kind.DIFFERENT: "documents that are not what the source says",
    Kind.DAMAGED: "documents whose parts do not belong together",
    Kind.LOG_END: "documents behind the end of the log",
    Kind.UNAPPLIED: "documents that are not searchable",
    Kind.LEFT_OVER: "documents that are searchable and should not be",
    Kind.OUTDATED: "documents that are searchable in another version",
    Kind.CHUNKS: "documents whose chunks are not those that were made",
    Kind.TEXT: "documents with damaged text",
    Kind.VECTOR: "documents with missing or wrong vectors",
    Kind.TERMS: "documents with missing or wrong terms",
    Kind.ORPHAN: "rows that belong to no chunk or document",
    Kind.STATISTICS: "figures of word statistics that are wrong",
    Kind.CURSOR: "shards that are ahead of the log",
    Kind.WATERMARK: "watermarks that are ahead of their source",
    Kind.RESTING: "resting vectors that are none",
}


@dataclass(frozen=True, slots=True)
class Example:
    """One thing that was found. `document_id` is None where no document is known, `document` where no row is."""

    document_id: str | None
    document: int | None = None
    key_hash: bytes | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """Of one kind: how many were found, up to `MOST_EXAMPLES` of them, and how many are left after repairs. `note`
    says why some are left."""

    kind: Kind
    found: int
    examples: tuple[Example, ...] = ()
    left: int = 0
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """What an audit made of one subject: a source (against the log) or a view (against its generation), or the store.

    `compared` counts documents. `unjudged` ones moved while they were looked at, again and again. `skipped` says why
    nothing was compared. Bytes are those that the source sent, and those of the content that was compared with it.
    """

    subject: str
    name: str
    compared: int = 0
    findings: tuple[Finding, ...] = ()
    unjudged: int = 0
    skipped: str | None = None
    seconds: float = 0.0
    source_bytes: int = 0
    content_bytes: int = 0

    @property
    def left(self) -> int:
        return sum(finding.left for finding in self.findings)

    @property
    def figures(self) -> dict[str, Any]:
        """Without examples, for the record."""
        found = [{"kind": f.kind.value, "found": f.found, "left": f.left, "note": f.note} for f in self.findings]
        return {
            "subject": self.subject,
            "name": self.name,
            "compared": self.compared,
            "findings": found,
            "unjudged": self.unjudged,
            "skipped": self.skipped,
            "seconds": round(self.seconds, 3),
            "source_bytes": self.source_bytes,
            "content_bytes": self.content_bytes,
        }


@dataclass(frozen=True, slots=True)
class Report:
    """An audit that ended. `left` counts what it found and did not repair."""

    audit_id: int
    started_at: datetime
    finished_at: datetime
    repair: bool
    deep: bool
    parts: tuple[Part, ...]

    @property
    def found(self) -> int:
        return sum(finding.found for part in self.parts for finding in part.findings)

    @property
    def left(self) -> int:
        return sum(part.left for part in self.parts)


class Held(NamedTuple):
    """A live document of the log, as far as it takes to compare: where it stands, and its row's digest."""

    seq: int
    digest: int


class Suspects(NamedTuple):
    """Key texts. `moving` ones changed while they were looked at: nothing can be said of them this time."""

    missing: frozenset[str]
    ghosts: frozenset[str]
    different: frozenset[str]
    moving: frozenset[str]

    @property
    def all(self) -> frozenset[str]:
        return self.missing | self.ghosts | self.different


def differing_ranges(ours: Mapping[int, tuple[int, int]], theirs: Mapping[int, tuple[int, int]]) -> list[int]:
    """Ranges whose number of rows or whose digest differ. A range without rows is in neither."""
    return sorted(number for number in ours.keys() | theirs.keys() if ours.get(number) != theirs.get(number))


def judge(before: Mapping[str, Held], source: Mapping[str, int], after: Mapping[str, Held]) -> Suspects:
    """Compare three looks, by key text: at the log, at the source, and at the log again."""
    kinds: dict[str, set[str]] = {"missing": set(), "ghosts": set(), "different": set(), "moving": set()}
    for key in before.keys() | source.keys() | after.keys():
        then, now, digest = before.get(key), after.get(key), source.get(key)
        if (None if now is None else now.digest) == digest:
            continue
        if (then and then.seq) != (now and now.seq):
            kinds["moving"].add(key)
        elif now is None:
            kinds["missing"].add(key)
        elif digest is None:
            kinds["ghosts"].add(key)
        else:
            kinds["different"].add(key)
    return Suspects(**{name: frozenset(keys) for name, keys in kinds.items()})


def confirmed(earlier: Suspects, later: Suspects) -> Suspects:
    """What two rounds of looks agree on: a row that came and went within one of them misleads only that one."""
    missing, ghosts = earlier.missing & later.missing, earlier.ghosts & later.ghosts
    return Suspects(missing, ghosts, earlier.different & later.different, later.moving)


def unlike(wanted: Mapping[str, Any], stored: Mapping[str, Any]) -> Sequence[str]:
    """Names of columns in which a row is not as it should be."""
    return [name for name in stored if name in wanted and wanted[name] != stored[name]]
