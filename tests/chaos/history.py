"""What a source held when, as whoever writes to it knows: the model against which every answer is judged.

Each source has an axis on which its positions lie: log sequence numbers of a PostgreSQL server, nanoseconds of a
folder. A transaction cannot see where on it its own commit lies, only a mark before it and one after it, so every
statement here is about what was *surely* so at a mark.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class Commit:
    """A transaction's place on the axis: after `before`, and at or before `after`, which is None until it is known to
    have happened. `at` is when it was, in seconds since 1970 by the clock of this machine, at the latest."""

    before: int
    after: int | None = None
    at: float = 0.0

    def surely_by(self, mark: int) -> bool:
        return self.after is not None and self.after <= mark


@dataclass(slots=True, eq=False)
class Revision:
    """One state of one document. `number` is unique among all documents. `ended` took it away; `successor`, if any, is
    what the same document said next, after a deletion too when the key came back."""

    number: int
    key: str
    title: str
    content: str
    category: str
    tenant: str | None
    born: Commit
    ended: Commit | None = None
    successor: Revision | None = None

    def onwards(self) -> Iterator[Revision]:
        at: Revision | None = self
        while at is not None:
            yield at
            at = at.successor

    def is_over_by(self, mark: int) -> bool:
        return self.ended is not None and self.ended.surely_by(mark)


@dataclass(frozen=True, slots=True)
class Content:
    """What a document says: everything but its key."""

    title: str
    content: str
    category: str
    tenant: str | None = None


@dataclass(slots=True)
class History:
    """All states of all documents of one source."""

    live: dict[str, Revision] = field(default_factory=dict)
    dead: dict[str, Revision] = field(default_factory=dict)
    numbered: dict[int, Revision] = field(default_factory=dict)
    under: dict[str, list[Revision]] = field(default_factory=lambda: defaultdict(list))
    """Revisions by every key that their document has had since."""
    commits: list[Commit] = field(default_factory=list)
    """In the order in which they were known to have happened."""
    last: int = 0

    def next_number(self) -> int:
        self.last += 1
        return self.last


class Transaction:
    """What one transaction does to a history; told before it commits, because a reader may be faster than its writer.

    Nobody else may touch the same keys meanwhile.
    """

    def __init__(self, history: History) -> None:
        self._history = history
        self._commit = Commit(0)
        self._undo: list[Callable[[], object]] = []
        self.revisions: list[Revision] = []

    def begins_to_commit(self, before: int) -> None:
        self._commit.before = before

    def landed(self, after: int, at: float = 0.0) -> None:
        """`at`: when it was, in seconds since 1970, at the latest."""
        self._commit.after, self._commit.at = after, at
        self._history.commits.append(self._commit)

    def refused(self) -> None:
        """It was rolled back: nothing of it may be seen."""
        for undo in reversed(self._undo):
            undo()
        self._undo.clear()

    def put(self, number: int, key: str, content: Content) -> Revision:
        """A new document, or a new state of the one under this key."""
        history = self._history
        before = history.live.get(key)
        if before is not None:
            self._end(before)
        else:
            before = history.dead.get(key)
        return self._follow(before, number, key, content)

    def move(self, number: int, old: str, new: str, content: Content) -> Revision:
        """The document under `old` stands under `new`, which is free, from now on."""
        before = self._history.live[old]
        self._end(before)
        self._take(self._history.live, old)
        return self._follow(before, number, new, content)

    def delete(self, key: str) -> None:
        history = self._history
        gone = history.live[key]
        self._end(gone)
        self._take(history.live, key)
        self._set(history.dead, key, gone)

    def _end(self, revision: Revision) -> None:
        ended = revision.ended
        revision.ended = self._commit
        self._undo.append(lambda: setattr(revision, "ended", ended))

    def _follow(self, before: Revision | None, number: int, key: str, content: Content) -> Revision:
        history = self._history
        made = Revision(number, key, content.title, content.content, content.category, content.tenant, self._commit)
        self._set(history.live, key, made)
        if key in history.dead:
            self._take(history.dead, key)
        self._set(history.numbered, number, made)
        if before is not None:
            successor = before.successor
            before.successor = made
            self._undo.append(lambda: setattr(before, "successor", successor))
        known = history.under[key]
        added = [made]
        if before is not None and before.key != key:
            added = [*history.under[before.key], made]
        known += added
        # They were put last, and nobody else puts anything here meanwhile.
        self._undo.append(lambda: known.__delitem__(slice(len(known) - len(added), None)))
        self.revisions.append(made)
        return made

    def _set(self, rows: dict[str, Revision] | dict[int, Revision], key: str | int, value: Revision) -> None:
        held: dict[str | int, Revision] = rows  # type: ignore[assignment]  # both kinds of keys are kept apart
        before = held.get(key)
        held[key] = value
        self._undo.append(lambda: held.pop(key) if before is None else held.update({key: before}))

    def _take(self, rows: dict[str, Revision], key: str) -> None:
        taken = rows.pop(key)
        self._undo.append(lambda: rows.update({key: taken}))
