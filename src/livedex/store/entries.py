"""Rows of the log as the statement `write` takes them: pure, from what changed and what the log held before."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import blake2b
from typing import Any

from livedex.errors import DocumentError
from livedex.model import Change, Op, TableMapping
from livedex.rules.brake import Limits, has_shrunk
from livedex.rules.expectations import Expectations, Likely, unmet
from livedex.rules.folding import Effect, Folded, Passing, Place
from livedex.rules.mapping import Rendered, render

SLOTS = 1024
"""Documents are spread over this many slots by key; a generation's shards share the slots out."""

EVERYONE = "*"
NO_TENANT = ""


@dataclass(frozen=True, slots=True)
class SourceRow:
    """A source as the catalog knows it; for who follows it, with what is expected of its tables, and from when on its
    losses need a person's word. `likely` tells languages, where one is expected."""

    source_id: int
    name: str
    mapping: Mapping[str, TableMapping]
    expects: Mapping[str, Expectations] = field(default_factory=dict)
    likely: Likely | None = None
    brake: Limits | None = None

    @property
    def expected(self) -> str:
        """Names what is expected; empty when nothing is."""
        return _digest(repr(sorted(self.expects.items()))).hex() if self.expects else ""

    def unmet(self, table: str, raw: Mapping[str, Any], rendered: Rendered) -> str | None:
        """Why a row is not as expected."""
        expected = self.expects.get(table)
        return None if expected is None else unmet(expected, table, raw, rendered, self.likely)

    def document_id(self, place: Place) -> str:
        """What a user would write: the key, with the table in front only where the source has several."""
        table, key = place
        return "/".join(key if len(self.mapping) == 1 else (table, *key))


@dataclass(frozen=True, slots=True)
class Entry:
    """What the log holds for one key. `raw` is read only where a change left columns out; `refused`: it could not be
    mapped; `expired`: a tombstone whose row still stands in the source, as `raw_hash` says, and is too old."""

    document: int
    key_hash: bytes
    deleted: bool
    seq: int
    raw_hash: bytes
    refused: bool
    raw: Mapping[str, Any] | None
    expired: bool = False
    content_bytes: int = 0


@dataclass(slots=True)
class Resolved:
    """What a batch does to the log.

    `rows` are written; `refusals` says of some of them, by index, why they could not be mapped; `mended` are documents
    that could not be mapped before; `seen` are documents that stay as they are; `survivors` are those that a truncate
    of their table in the same batch leaves alive; `released` had expired, and are now gone from the source too.
    `unexpected` are those refusals that are a matter of expectations. `gone`, `shrunk` and `revived` are documents that
    are lost, that lose most of what they say, and that come back. `fingerprints` are those of rows, by index, `settled`
    those of documents that stay as they are.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    refusals: dict[int, str] = field(default_factory=dict)
    mended: list[int] = field(default_factory=list)
    seen: list[int] = field(default_factory=list)
    survivors: list[int] = field(default_factory=list)
    released: list[int] = field(default_factory=list)
    unexpected: set[int] = field(default_factory=set)
    gone: list[int] = field(default_factory=list)
    shrunk: list[int] = field(default_factory=list)
    revived: list[int] = field(default_factory=list)
    fingerprints: dict[int, int] = field(default_factory=dict)
    settled: dict[int, int] = field(default_factory=dict)

    def refuse(self, index: int, reason: str) -> None:
        """Find a row other than expected, after all."""
        row = self.rows[index]
        self.rows[index] = {**row, **_shown(HIDDEN), "raw_hash": _hex(_digest([row["raw_hash"], reason]))}
        self.refusals[index] = reason
        self.unexpected.add(index)
        if row["document"] in self.mended:
            self.mended.remove(row["document"])


def key_text(place: Place) -> str:
    table, key = place
    return json.dumps([table, *key], ensure_ascii=False, separators=(",", ":"))


def key_hash(place: Place) -> bytes:
    return _digest(key_text(place))


def hashes(folded: Folded) -> tuple[list[bytes], list[bytes]]:
    """Keys to look up, and those of them whose stored columns are needed too."""
    places = {place for effect in folded.effects for place in (effect.origin, effect.place) if place is not None}
    partial = {
        effect.origin
        for effect in folded.effects
        if effect.origin is not None and (effect.unchanged or any(state.unchanged for state in effect.passed))
    }
    return [key_hash(place) for place in places], [key_hash(place) for place in partial]


def resolve(folded: Folded, source: SourceRow, entries: Sequence[Entry]) -> Resolved:
    """Compare what changed with what the log holds; what alters nothing is not written."""
    resolved = Resolved()
    finder = _Finder(entries)
    # Rows that are still there choose their documents first: what is left over is what went away.
    standing = [(effect, finder.claim(effect)) for effect in folded.effects if effect.place is not None]
    going = [(effect, finder.claim(effect)) for effect in folded.effects if effect.place is None]
    order = {id(effect): number for number, effect in enumerate(folded.effects)}
    for effect, entry in sorted(standing + going, key=lambda pair: order[id(pair[0])]):
        _resolve_one(resolved, effect, entry, source)
    left = {effect.origin for effect in folded.effects if effect.origin is not None and effect.origin != effect.place}
    resolved.released += [entry.document for place in left if (entry := finder.expired_at(place)) is not None]
    _number(resolved.rows)
    return resolved


def _resolve_one(resolved: Resolved, effect: Effect, entry: Entry | None, source: SourceRow) -> None:
    if effect.place is None:
        if entry is not None and not entry.deleted:
            assert effect.origin is not None
            resolved.rows.append(_tombstone(effect, effect.origin, entry, source))
            resolved.gone.append(entry.document)
            if entry.refused:
                resolved.mended.append(entry.document)
        return
    row, refusal, is_unexpected = _live(effect, effect.place, entry, source)
    if entry is not None and (entry.expired or not entry.deleted):
        resolved.survivors.append(entry.document)
        if entry.raw_hash.hex() == row["raw_hash"][2:] and entry.key_hash.hex() == row["key_hash"][2:]:
            resolved.seen.append(entry.document)
            return
    if entry is not None and entry.deleted:
        resolved.revived.append(entry.document)
    elif entry is not None and has_shrunk(entry.content_bytes, row["content_bytes"]):
        resolved.shrunk.append(entry.document)
    if is_unexpected:
        resolved.unexpected.add(len(resolved.rows))
    if refusal is not None:
        resolved.refusals[len(resolved.rows)] = refusal
    elif entry is not None and entry.refused:
        resolved.mended.append(entry.document)
    resolved.rows.append(row)


class _Finder:
    """Which document a row belongs to; each document is given out once."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._live = {entry.key_hash: entry for entry in entries if not entry.deleted}
        # The newest tombstone of a key last, so that it is the one that comes back to life.
        self._dead = {entry.key_hash: entry for entry in sorted(entries, key=lambda e: e.seq) if entry.deleted}

    def claim(self, effect: Effect) -> Entry | None:
        """The document it was; failing that the live one or the tombstone at its key: a change sent again after a
        crash finds its row already moved."""
        if effect.origin is not None and (entry := self._live.pop(key_hash(effect.origin), None)):
            return entry
        if effect.place is None:
            return None
        wanted = key_hash(effect.place)
        return self._live.pop(wanted, None) or self._dead.pop(wanted, None)

    def expired_at(self, place: Place) -> Entry | None:
        """What is left of a row that grew too old, unless another has come back in its place."""
        entry = self._dead.get(key_hash(place))
        return entry if entry is not None and entry.expired else None


HIDDEN = Rendered(title="", content="", metadata={}, tenant=None, acl=(), version=None, updated_at=None)
"""What a document says that was refused: nothing, to nobody."""


def _live(
    effect: Effect, place: Place, entry: Entry | None, source: SourceRow
) -> tuple[dict[str, Any], str | None, bool]:
    """A row, why it is refused, and whether that is because something else is expected."""
    mapping = source.mapping[place[0]]
    raw = dict(effect.columns)
    if effect.unchanged and entry is not None and entry.raw is not None:
        raw |= {name: entry.raw.get(name) for name in effect.unchanged}
    refusal = effect.refused
    unexpected = None
    try:
        rendered = render(mapping, raw)
        unexpected = source.unmet(place[0], raw, rendered)
    except DocumentError as error:
        refusal = refusal or str(error)
        rendered = HIDDEN
    refusals = list(filter(None, [effect.refused, unexpected]))
    row = _row(effect, place, entry, source) | {
        "deleted": False,
        **_shown(HIDDEN if unexpected else rendered),
        "version": version_of(rendered),
        "raw_hash": _hex(_digest([raw, _mapping_json(mapping), place, source.document_id(place), *refusals])),
        "raw": raw,
    }
    return row, refusal or unexpected, refusal is None and unexpected is not None


def _shown(rendered: Rendered) -> dict[str, Any]:
    # Whatever a chunker sees. What has no media type is hashed as it was before there were any.
    content_hash = _digest([rendered.title, rendered.content, *filter(None, [rendered.media_type])])
    return {
        "tenant": rendered.tenant or NO_TENANT,
        "acl": [EVERYONE] if rendered.acl is None else list(rendered.acl),
        "title": rendered.title,
        "metadata": dict(rendered.metadata),
        "updated_at": None if rendered.updated_at is None else rendered.updated_at.isoformat(),
        "content_hash": _hex(content_hash),
        "content_bytes": len(rendered.content.encode("utf-8", "surrogatepass")),
    }


def _tombstone(effect: Effect, place: Place, entry: Entry, source: SourceRow) -> dict[str, Any]:
    return _row(effect, place, entry, source) | {
        "deleted": True,
        "tenant": NO_TENANT,
        "acl": [],
        "title": "",
        "metadata": {},
        "updated_at": None,
        "version": "",
        "raw_hash": _hex(b""),
        "content_hash": _hex(b""),
        "content_bytes": 0,
        "raw": None,
    }


def _passed(effect: Effect, entry: Entry | None, source: SourceRow) -> list[dict[str, Any]]:
    """For the history: states that later ones of the same changes replaced. One that altered nothing is none."""
    known = {} if entry is None or entry.raw is None else entry.raw
    states: list[tuple[Passing, dict[str, Any]]] = []
    for state in effect.passed:
        raw = {**state.columns, **{name: known.get(name) for name in state.unchanged}}
        if not states or (state.op, state.place, raw) != (states[-1][0].op, states[-1][0].place, states[-1][1]):
            states.append((state, raw))
    return [
        {
            "before": before,
            "op": state.op.value,
            "key_hash": _hex(key_hash(state.place)),
            "version": "" if state.op is Op.DELETE else _version(source.mapping[state.place[0]], raw),
            "source_position": state.position,
            "source_time": None if state.time is None else state.time.isoformat(),
        }
        for before, (state, raw) in zip(range(len(states), 0, -1), states, strict=True)
    ]


def _version(mapping: TableMapping, raw: Mapping[str, Any]) -> str:
    """What `_live` would call it; empty where it could not be read."""
    try:
        return version_of(render(mapping, raw))
    except DocumentError:
        return ""


def version_of(rendered: Rendered) -> str:
    return rendered.version or _digest([rendered.title, rendered.content, dict(rendered.metadata)]).hex()


def _row(effect: Effect, place: Place, entry: Entry | None, source: SourceRow) -> dict[str, Any]:
    hashed = key_hash(place)
    op = Op.CREATE if entry is None and effect.op is Op.UPDATE else effect.op
    return {
        "document": None if entry is None else entry.document,
        "op": op.value,
        "key": key_text(place),
        "key_hash": _hex(hashed),
        "collection": place[0],
        "document_id": source.document_id(place),
        "slot": int.from_bytes(hashed[:4], "big") % SLOTS,
        "source_position": effect.position,
        "source_time": None if effect.time is None else effect.time.isoformat(),
        "transaction": effect.transaction,
        **({"passed": _passed(effect, entry, source)} if effect.passed else {}),
    }


def _number(rows: Sequence[dict[str, Any]]) -> None:
    """Each row's place in the batch, and that of the last row of its source transaction. A snapshot's rows have no
    common transaction."""
    last: dict[int, int] = {}
    for ordinal, row in enumerate(rows, 1):
        row["ordinal"] = ordinal
        last[row["transaction"]] = ordinal
    for row in rows:
        transaction = row.pop("transaction")
        row["last_ordinal"] = row["ordinal"] if row["source_time"] is None else last[transaction]


def change_to_json(change: Change) -> dict[str, Any]:
    return {
        "op": change.op.value,
        "table": change.table,
        "key": change.key,
        "columns": dict(change.columns),
        "old_key": change.old_key,
        "unchanged": sorted(change.unchanged),
        "position": change.position,
        "time": None if change.time is None else change.time.isoformat(),
        "refused": change.refused,
    }


def change_from_json(value: Mapping[str, Any]) -> Change:
    return Change(
        op=Op(value["op"]),
        table=value["table"],
        key=tuple(value["key"]),
        columns=value["columns"],
        old_key=None if value["old_key"] is None else tuple(value["old_key"]),
        unchanged=frozenset(value["unchanged"]),
        position=value["position"],
        time=None if value["time"] is None else datetime.fromisoformat(value["time"]),
        refused=value.get("refused"),
    )


def _mapping_json(mapping: TableMapping) -> list[Any]:
    return [mapping.content, mapping.title, mapping.updated_at, sorted(mapping.metadata), mapping.tenant, mapping.acl,
            mapping.version, *filter(None, [mapping.media_type, mapping.front_matter])]  # fmt: skip


def _digest(value: Any) -> bytes:
    canonical = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return blake2b(canonical.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _hex(value: bytes) -> str:
    return "\\x" + value.hex()
