"""The logical replication protocol of `pgoutput`, version 1: bytes in, frozen messages out. No I/O.

Formats: https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html (messages) and
https://www.postgresql.org/docs/current/protocol-replication.html (the frames around them).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Final, Literal

from livedex.errors import SourceError

EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
"""PostgreSQL counts microseconds from here."""


class Unchanged(Enum):
    """A TOASTed value that the server left out because the update did not touch it."""

    UNCHANGED = "u"


UNCHANGED: Final = Unchanged.UNCHANGED

Values = tuple[bytes | Unchanged | None, ...]
"""A row in the relation's column order: text output, `None` for NULL, or UNCHANGED."""

OldKind = Literal["K", "O"]
"""What an old row holds: `K` only the columns of the replica identity, `O` all of them."""


@dataclass(frozen=True, slots=True)
class Begin:
    """`commit_lsn` is where the transaction's commit record starts; its end is known with `Commit` only."""

    commit_lsn: int
    time: datetime
    xid: int


@dataclass(frozen=True, slots=True)
class Commit:
    """`end_lsn` is the first byte after the commit record."""

    commit_lsn: int
    end_lsn: int
    time: datetime


@dataclass(frozen=True, slots=True)
class RelationColumn:
    name: str
    type_oid: int
    in_identity: bool


@dataclass(frozen=True, slots=True)
class Relation:
    """Sent before the first row of a table and again after its definition changed. `identity` is
    pg_class.relreplident."""

    oid: int
    schema: str
    name: str
    identity: str
    columns: tuple[RelationColumn, ...]


@dataclass(frozen=True, slots=True)
class Insert:
    relation: int
    new: Values


@dataclass(frozen=True, slots=True)
class Update:
    """`old` is present when the replica identity changed, or always when it is FULL."""

    relation: int
    new: Values
    old: Values | None = None
    old_kind: OldKind | None = None


@dataclass(frozen=True, slots=True)
class Delete:
    relation: int
    old: Values
    old_kind: OldKind


@dataclass(frozen=True, slots=True)
class Truncate:
    relations: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Skipped:
    """A message that says nothing about documents: `O` origin, `Y` type, `M` message of an application."""

    kind: str


Message = Begin | Commit | Relation | Insert | Update | Delete | Truncate | Skipped


@dataclass(frozen=True, slots=True)
class Payload:
    """A frame with one message. `sent` is what the server's clock showed then."""

    message: bytes
    sent: datetime


@dataclass(frozen=True, slots=True)
class Keepalive:
    """`wal_end` is how far the server has decoded: every transaction whose commit record ends there or before was
    sent before this frame. It can be lower than in an earlier frame, right after streaming starts."""

    wal_end: int
    time: datetime
    reply_requested: bool


Frame = Payload | Keepalive

_INT16 = struct.Struct(">h")
_INT32 = struct.Struct(">I")
_BEGIN = struct.Struct(">QqI")
_COMMIT = struct.Struct(">BQQq")
_KEEPALIVE = struct.Struct(">QqB")
_SENT = struct.Struct(">q")
_STATUS = struct.Struct(">cQQQqB")
_PAYLOAD_HEADER_BYTES = 25  # tag, start, end and send time


def decode_frame(data: bytes) -> Frame:
    """One CopyData of a replication stream. Raises SourceError when it is none."""
    if data[:1] == b"w" and len(data) > _PAYLOAD_HEADER_BYTES:
        (microseconds,) = _SENT.unpack_from(data, _PAYLOAD_HEADER_BYTES - _SENT.size)
        return Payload(data[_PAYLOAD_HEADER_BYTES:], _time(microseconds))
    if data[:1] == b"k" and len(data) == 1 + _KEEPALIVE.size:
        wal_end, microseconds, reply = _KEEPALIVE.unpack_from(data, 1)
        return Keepalive(wal_end, _time(microseconds), bool(reply))
    raise SourceError(f"PostgreSQL sent a replication frame that is not understood: {data[:32]!r}.")


def encode_status(received: int, durable: int, time: datetime, *, reply_requested: bool) -> bytes:
    """A standby status update. The server may forget what led to `durable`."""
    microseconds = (time - EPOCH) // timedelta(microseconds=1)
    return _STATUS.pack(b"r", received, durable, durable, microseconds, reply_requested)


def decode(data: bytes) -> Message:
    """One message. Raises SourceError for an unknown kind or a message that ends early or late."""
    reader = _Reader(data)
    try:
        decoder = _DECODERS.get(kind := reader.letter())
        if decoder is None:
            raise SourceError(f"PostgreSQL sent a pgoutput message of unknown kind {kind!r}.")
        message = decoder(reader)
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise SourceError(f"PostgreSQL sent a pgoutput message that cannot be read: {data[:32]!r}.") from error
    if reader.offset != len(data) and not isinstance(message, Skipped):
        raise SourceError(f"PostgreSQL sent a pgoutput message of another length than it says: {data[:32]!r}.")
    return message


class _Reader:
    """A cursor over one message."""

    __slots__ = ("data", "offset")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.offset = 0

    def letter(self) -> str:
        letter = chr(self.data[self.offset])
        self.offset += 1
        return letter

    def unpack(self, layout: struct.Struct) -> tuple[int, ...]:
        fields = layout.unpack_from(self.data, self.offset)
        self.offset += layout.size
        return fields

    def int16(self) -> int:
        return self.unpack(_INT16)[0]

    def int32(self) -> int:
        return self.unpack(_INT32)[0]

    def take(self, length: int) -> bytes:
        start = self.offset
        self.offset += length
        if self.offset > len(self.data):
            raise IndexError("the message ends within a value")
        return self.data[start : self.offset]

    def string(self) -> str:
        end = self.data.find(b"\0", self.offset)
        if end < 0:
            raise IndexError("the message ends within a name")
        text = self.data[self.offset : end].decode()
        self.offset = end + 1
        return text

    def row(self) -> Values:
        return tuple(self.value() for _ in range(self.int16()))

    def value(self) -> bytes | Unchanged | None:
        kind = self.letter()
        if kind == "t":
            return self.take(self.int32())
        if kind == "n":
            return None
        if kind == "u":
            return UNCHANGED
        raise SourceError(f"PostgreSQL sent a value of unknown kind {kind!r}.")


def _time(microseconds: int) -> datetime:
    return EPOCH + timedelta(microseconds=microseconds)


def _begin(reader: _Reader) -> Begin:
    commit_lsn, microseconds, xid = reader.unpack(_BEGIN)
    return Begin(commit_lsn, _time(microseconds), xid)


def _commit(reader: _Reader) -> Commit:
    _, commit_lsn, end_lsn, microseconds = reader.unpack(_COMMIT)
    return Commit(commit_lsn, end_lsn, _time(microseconds))


def _relation(reader: _Reader) -> Relation:
    oid, schema, name, identity = reader.int32(), reader.string(), reader.string(), reader.letter()
    return Relation(oid, schema, name, identity, tuple(_column(reader) for _ in range(reader.int16())))


def _column(reader: _Reader) -> RelationColumn:
    flags, name, type_oid = ord(reader.letter()), reader.string(), reader.int32()
    reader.int32()  # the type modifier: varchar(10) or varchar(20) is the same to us
    return RelationColumn(name, type_oid, bool(flags & 1))


def _insert(reader: _Reader) -> Insert:
    relation = reader.int32()
    _expect(reader, "N")
    return Insert(relation, reader.row())


def _update(reader: _Reader) -> Update:
    relation = reader.int32()
    old_kind = _expect(reader, "KON")
    if old_kind == "N":
        return Update(relation, reader.row())
    old = reader.row()
    _expect(reader, "N")
    return Update(relation, reader.row(), old, "K" if old_kind == "K" else "O")


def _delete(reader: _Reader) -> Delete:
    relation = reader.int32()
    old_kind = _expect(reader, "KO")
    return Delete(relation, reader.row(), "K" if old_kind == "K" else "O")


def _truncate(reader: _Reader) -> Truncate:
    count = reader.int32()
    reader.letter()  # CASCADE and RESTART IDENTITY: the tables reached by cascade are listed too
    return Truncate(tuple(reader.int32() for _ in range(count)))


def _expect(reader: _Reader, letters: str) -> str:
    letter = reader.letter()
    if letter not in letters:
        raise SourceError(f"PostgreSQL sent a row of unknown kind {letter!r}.")
    return letter


_DECODERS: dict[str, Callable[[_Reader], Message]] = {
    "B": _begin,
    "C": _commit,
    "R": _relation,
    "I": _insert,
    "U": _update,
    "D": _delete,
    "T": _truncate,
    "O": lambda reader: Skipped("O"),
    "Y": lambda reader: Skipped("Y"),
    "M": lambda reader: Skipped("M"),
}
