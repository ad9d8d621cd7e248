"""Bytes of the replication protocol → messages → changes, without a server."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livedex.adapters.sources.postgres.catalog import WrittenPosition
from livedex.adapters.sources.postgres.heartbeats import Heartbeats
from livedex.adapters.sources.postgres.lsn import Position, end_of_written, format_lsn, parse_lsn
from livedex.adapters.sources.postgres.pgoutput import (
    EPOCH,
    UNCHANGED,
    Begin,
    Commit,
    Delete,
    Insert,
    Keepalive,
    Message,
    Payload,
    Relation,
    RelationColumn,
    Skipped,
    Truncate,
    Update,
    decode,
    decode_frame,
    encode_status,
)
from livedex.adapters.sources.postgres.slots import default_name
from livedex.adapters.sources.postgres.tables import MappedTable, Tables
from livedex.adapters.sources.postgres.transactions import Transactions
from livedex.adapters.sources.postgres.values import parse_array, parse_value
from livedex.errors import SchemaChanged, SourceError
from livedex.model import Change, Op
from livedex.ports import Changes, Heartbeat

TIME = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
MICROSECONDS = (TIME - EPOCH) // timedelta(microseconds=1)
ORIGIN = Position("7391406215", 1, 0)
BOOL, INT4, TEXT, JSONB, FLOAT8, TEXT_ARRAY = 16, 23, 25, 3802, 701, 1009
RELATION = Relation(7, "public", "docs", "d", (RelationColumn("id", INT4, True), RelationColumn("body", TEXT, False)))


def row(*values: bytes | str | None) -> bytes:
    parts = [struct.pack(">h", len(values))]
    for value in values:
        if value is None:
            parts.append(b"n")
        elif isinstance(value, str):
            parts.append(value.encode())
        else:
            parts.append(b"t" + struct.pack(">I", len(value)) + value)
    return b"".join(parts)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"B" + struct.pack(">QqI", 0x16B3748, MICROSECONDS, 755), Begin(0x16B3748, TIME, 755)),
        (b"C" + struct.pack(">BQQq", 0, 5, 9, MICROSECONDS), Commit(5, 9, TIME)),
        (
            b"R"
            + struct.pack(">I", 7)
            + b"public\0docs\0d"
            + struct.pack(">h", 2)
            + b"\x01id\0"
            + struct.pack(">Ii", INT4, -1)
            + b"\x00body\0"
            + struct.pack(">Ii", TEXT, -1),
            RELATION,
        ),
        (b"I" + struct.pack(">I", 7) + b"N" + row(b"1", None), Insert(7, (b"1", None))),
        (b"U" + struct.pack(">I", 7) + b"N" + row(b"1", "u"), Update(7, (b"1", UNCHANGED))),
        (
            b"U" + struct.pack(">I", 7) + b"K" + row(b"1", None) + b"N" + row(b"2", b""),
            Update(7, (b"2", b""), (b"1", None), "K"),
        ),
        (
            b"U" + struct.pack(">I", 7) + b"O" + row(b"1", b"a") + b"N" + row(b"1", "u"),
            Update(7, (b"1", UNCHANGED), (b"1", b"a"), "O"),
        ),
        (b"D" + struct.pack(">I", 7) + b"K" + row(b"1", None), Delete(7, (b"1", None), "K")),
        (b"D" + struct.pack(">I", 7) + b"O" + row(b"1", b"a"), Delete(7, (b"1", b"a"), "O")),
        (b"T" + struct.pack(">IBII", 2, 1, 7, 8), Truncate((7, 8))),
        (b"O" + struct.pack(">Q", 5) + b"elsewhere\0", Skipped("O")),
        (b"Y" + struct.pack(">I", 9) + b"public\0mood\0", Skipped("Y")),
        (b"M" + struct.pack(">BQ", 0, 5) + b"prefix\0" + struct.pack(">I", 2) + b"hi", Skipped("M")),
    ],
)
def test_every_kind_of_message_is_read(data: bytes, message: Message) -> None:
    assert decode(data) == message


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"Z",
        b"B\0",
        b"I" + struct.pack(">I", 7) + b"N" + struct.pack(">h", 1) + b"t" + struct.pack(">I", 10) + b"short",
        b"I" + struct.pack(">I", 7) + b"X" + row(b"1"),
        b"I" + struct.pack(">I", 7) + b"N" + row("x"),
        b"R" + struct.pack(">I", 7) + b"public",
        b"D" + struct.pack(">I", 7) + b"K" + row(b"1") + b"surplus",
    ],
)
def test_a_damaged_message_is_an_error_of_the_source(data: bytes) -> None:
    with pytest.raises(SourceError):
        decode(data)


@given(st.binary(max_size=60))
def test_no_bytes_raise_anything_but_an_error_of_the_source(data: bytes) -> None:
    with suppress(SourceError):
        decode(data)


def test_frames_carry_messages_and_keepalives() -> None:
    payload = b"w" + struct.pack(">QQq", 1, 2, MICROSECONDS) + b"message"
    keepalive = b"k" + struct.pack(">QqB", 0x10, MICROSECONDS, 1)
    assert [decode_frame(payload), decode_frame(keepalive)] == [Payload(b"message", TIME), Keepalive(0x10, TIME, True)]


def test_an_unknown_frame_is_an_error_of_the_source() -> None:
    with pytest.raises(SourceError):
        decode_frame(b"x")


def test_a_status_update_confirms_what_is_durable_only() -> None:
    status = encode_status(30, 20, TIME, reply_requested=True)
    assert status == b"r" + struct.pack(">QQQqB", 30, 20, 20, MICROSECONDS, 1)


@given(st.integers(0, 2**64 - 1))
def test_an_lsn_survives_being_written(lsn: int) -> None:
    assert parse_lsn(format_lsn(lsn)) == lsn


def test_a_position_survives_being_written() -> None:
    position = Position("7391406215", 3, 0x16B374D848)
    assert (str(position), Position.parse(str(position))) == ("7391406215:3:16/B374D848", position)


@pytest.mark.parametrize("text", ["", "fake:1", "1:x:0/0", "1:1:00", "1:1:0/0:1"])
def test_a_position_of_something_else_is_refused(text: str) -> None:
    with pytest.raises(SourceError):
        Position.parse(text)


@pytest.mark.parametrize(
    ("insert_lsn", "end"),
    [(0x2000100, 0x2000100), (0x2002018, 0x2002000), (0x2000028, 0x2000000), (0x2002028, 0x2002028)],
)
def test_the_end_of_the_log_is_before_the_header_of_an_empty_page(insert_lsn: int, end: int) -> None:
    assert end_of_written(insert_lsn, 8192, 16 * 1024 * 1024) == end


@pytest.mark.parametrize(
    ("type_oid", "text", "value"),
    [
        (BOOL, "t", True),
        (BOOL, "f", False),
        (INT4, "-5", -5),
        (20, "9223372036854775807", 9223372036854775807),
        (FLOAT8, "0.1", 0.1),
        (FLOAT8, "NaN", "NaN"),
        (FLOAT8, "-Infinity", "-Infinity"),
        (JSONB, '{"a": [1, 2.5, null]}', {"a": [1, 2.5, None]}),
        (114, '"half \\ud83d"', '"half \\ud83d"'),
        (114, '"nul \\u0000"', '"nul \\u0000"'),
        (114, '"\\u00fc"', "ü"),
        (114, "[" * 100_000 + "]" * 100_000, "[" * 100_000 + "]" * 100_000),
        (TEXT_ARRAY, "{a,NULL}", ["a", None]),
        (TEXT, "{a}", "{a}"),
        (1700, "1.50", "1.50"),
        (INT4, None, None),
    ],
)
def test_values_become_what_they_plainly_are(type_oid: int, text: str | None, value: Any) -> None:
    assert parse_value(type_oid, text) == value


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("{}", []),
        ("{a,b}", ["a", "b"]),
        ('{"a,b","c\\"d","e\\\\f","{g}",""}', ["a,b", 'c"d', "e\\f", "{g}", ""]),
        ('{NULL,"NULL",null_x}', [None, "NULL", "null_x"]),
        ("{{a,b},{c,NULL}}", [["a", "b"], ["c", None]]),
        ("[0:1]={a,b}", ["a", "b"]),
        ("{two words,ü\n}", ["two words", "ü\n"]),
    ],
)
def test_arrays_are_read(text: str, items: list[Any]) -> None:
    assert parse_array(text) == items


@pytest.mark.parametrize("text", ["", "a", "{a", '{"a}', "[0:1]="])
def test_text_that_is_no_array_is_an_error_of_the_source(text: str) -> None:
    with pytest.raises(SourceError):
        parse_array(text)


@given(st.lists(st.none() | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))))
def test_quoted_arrays_come_back_as_they_were(items: list[str | None]) -> None:
    quoted = ["NULL" if item is None else '"' + item.replace("\\", "\\\\").replace('"', '\\"') + '"' for item in items]
    assert parse_array("{" + ",".join(quoted) + "}") == items


@pytest.mark.parametrize(
    ("store", "source", "name"),
    [
        ("0123456789ab", "kb", "livedex_01234567_kb"),
        ("AB-CD", "kb", "livedex_ab_cd_kb"),
    ],
)
def test_the_default_name_says_store_and_source(store: str, source: str, name: str) -> None:
    assert default_name(store, source) == name


def test_default_names_fit_and_stay_apart() -> None:
    names = [default_name("s" * 36, source) for source in ("kb.a", "kb-a", "KB_a", "kb_a", "x" * 80, "x" * 81)]
    assert (len(set(names)), max(map(len, names))) == (6, 63)


class Stream:
    """Transactions over one mapped table, fed with messages."""

    def __init__(self, *, batch_changes: int = 100, batch_bytes: int = 10_000) -> None:
        table = MappedTable("docs", ("id",), ("body", "id"), RELATION.oid)
        tables = Tables([table], {}, {}, "kb")
        self.transactions = Transactions(tables, ORIGIN, batch_changes=batch_changes, batch_bytes=batch_bytes)
        self.events: list[Changes] = []
        self.feed(RELATION)

    def feed(self, *messages: Message, size: int = 10) -> Stream:
        for message in messages:
            self.events += self.transactions.add(message, size)
        return self

    def flush(self) -> list[Changes]:
        self.events += self.transactions.flush()
        return self.events


def transaction(start: int, *ids: int) -> list[Message]:
    rows = [Insert(7, (str(each).encode(), b"x")) for each in ids]
    return [Begin(start, TIME, 1), *rows, Commit(start, start + 5, TIME)]


def keys(changes: Sequence[Change]) -> list[str]:
    return [change.key[0] for change in changes]


def lsns(events: Sequence[Changes]) -> list[int]:
    return [Position.parse(event.position).lsn for event in events]


def test_whole_transactions_that_are_here_make_one_event() -> None:
    (event,) = Stream().feed(*transaction(10, 1, 2), *transaction(20, 3)).flush()
    assert (keys(event.changes), event.position, event.complete) == (["1", "2", "3"], str(ORIGIN.at(25)), True)


def test_each_change_carries_the_end_of_its_own_transaction() -> None:
    (event,) = Stream().feed(*transaction(10, 1), *transaction(20, 2)).flush()
    assert [change.position for change in event.changes] == [str(ORIGIN.at(15)), str(ORIGIN.at(25))]


def test_an_unfinished_transaction_waits_while_finished_ones_go_on() -> None:
    (event,) = Stream().feed(*transaction(10, 1), *transaction(20, 2)[:-1]).flush()
    assert keys(event.changes) == ["1"]


def test_a_large_transaction_comes_in_parts_of_which_the_last_is_complete() -> None:
    events = Stream(batch_changes=2).feed(*transaction(10, 1, 2, 3, 4, 5)).flush()
    assert [(keys(event.changes), event.complete) for event in events] == [
        (["1", "2"], False),
        (["3", "4"], False),
        (["5"], True),
    ]


def test_parts_carry_a_position_before_the_end_of_their_transaction() -> None:
    events = Stream(batch_changes=2).feed(*transaction(10, 1, 2, 3)).flush()
    assert lsns(events) == [10, 15]
    assert {change.position for event in events for change in event.changes} == {str(ORIGIN.at(10))}


def test_a_transaction_that_fills_its_parts_exactly_still_ends() -> None:
    events = Stream(batch_changes=2).feed(*transaction(10, 1, 2)).flush()
    assert [(keys(event.changes), event.complete) for event in events] == [(["1", "2"], False), ([], True)]


def test_parts_are_cut_by_bytes_too() -> None:
    events = Stream(batch_bytes=1000).feed(*transaction(10, 1, 2, 3), size=600).flush()
    assert [keys(event.changes) for event in events] == [["1", "2"], ["3"]]


def test_finished_transactions_go_before_the_parts_of_a_large_one() -> None:
    events = Stream(batch_changes=2).feed(*transaction(10, 1), *transaction(20, 2, 3, 4)).flush()
    assert [(keys(event.changes), event.complete) for event in events] == [
        (["1"], True),
        (["2", "3"], False),
        (["4"], True),
    ]


def test_a_group_is_bounded() -> None:
    small = [message for start in range(10, 60, 10) for message in transaction(start, start)]
    events = Stream(batch_changes=3).feed(*small).flush()
    assert [len(event.changes) for event in events] == [3, 2]


def test_a_transaction_without_mapped_changes_is_no_event() -> None:
    assert Stream().feed(Begin(10, TIME, 1), Insert(99, (b"1",)), Commit(10, 15, TIME)).flush() == []


def one_change(message: Message) -> Change:
    (event,) = Stream().feed(Begin(10, TIME, 1), message, Commit(10, 15, TIME)).flush()
    (change,) = event.changes
    return change


def test_an_update_of_the_key_names_both_keys() -> None:
    change = one_change(Update(7, (b"2", b"x"), (b"1", None), "K"))
    assert (change.key, change.old_key) == (("2",), ("1",))


def test_an_update_that_keeps_its_key_has_no_old_one() -> None:
    assert one_change(Update(7, (b"1", b"x"), (b"1", b"y"), "O")).old_key is None


def test_unchanged_values_are_named() -> None:
    change = one_change(Update(7, (b"1", UNCHANGED)))
    assert (change.columns, change.unchanged) == ({"id": 1}, frozenset({"body"}))


def test_a_full_old_row_fills_unchanged_values() -> None:
    change = one_change(Update(7, (b"1", UNCHANGED), (b"1", b"kept"), "O"))
    assert (change.columns, change.unchanged) == ({"id": 1, "body": "kept"}, frozenset())


def test_an_unchanged_key_is_taken_from_the_old_row() -> None:
    assert one_change(Update(7, (UNCHANGED, b"x"), (b"1", None), "K")).key == ("1",)


def test_a_delete_has_a_key_and_no_columns() -> None:
    change = one_change(Delete(7, (b"1", b"x"), "O"))
    assert (change.op, change.key, change.columns) == (Op.DELETE, ("1",), {})


def test_a_truncate_names_mapped_tables_only() -> None:
    change = one_change(Truncate((99, 7)))
    assert (change.op, change.table, change.key) == (Op.TRUNCATE, "docs", ())


def changed(*columns: RelationColumn, name: str = "docs") -> Relation:
    return Relation(7, "public", name, "d", columns)


@pytest.mark.parametrize(
    ("relation", "named"),
    [
        (changed(RelationColumn("id", INT4, True)), 'Column "body" of table "docs" is gone'),
        (
            changed(RelationColumn("id", INT4, True), RelationColumn("body", JSONB, False)),
            'Column "body" of table "docs" has another type',
        ),
        (
            changed(RelationColumn("id", INT4, False), RelationColumn("body", TEXT, False)),
            'Key column "id" of table "docs" is no longer in its replica identity',
        ),
        (changed(*RELATION.columns, name="papers"), 'Table "docs" was renamed to "public.papers"'),
    ],
)
def test_a_change_of_what_is_mapped_is_named(relation: Relation, named: str) -> None:
    with pytest.raises(SchemaChanged, match=named):
        Stream().feed(relation)


def test_a_change_of_what_is_not_mapped_is_nothing() -> None:
    wider = changed(RelationColumn("new", JSONB, False), *RELATION.columns)
    stream = Stream().feed(wider, Begin(10, TIME, 1), Insert(7, (b"{}", b"1", b"x")), Commit(10, 15, TIME))
    (event,) = stream.flush()
    assert event.changes[0].columns == {"id": 1, "body": "x"}


def test_a_key_that_is_null_is_refused() -> None:
    with pytest.raises(SchemaChanged, match='Key column "id"'):
        Stream().feed(Begin(10, TIME, 1), Insert(7, (None, b"x")))


class Beats:
    def __init__(self) -> None:
        self.now = 0.0
        self.heartbeats = Heartbeats(ORIGIN.at(100), 1.0, lambda: self.now)

    def probe(self, lsn: int, seconds: int) -> None:
        self.heartbeats.expect(WrittenPosition(ORIGIN.at(lsn), lsn, TIME + timedelta(seconds=seconds)))

    def keepalive(self, lsn: int, *, reply_requested: bool = False) -> Heartbeat | None:
        self.now += 0.5
        return self.heartbeats.observe(Keepalive(lsn, TIME + timedelta(days=1), reply_requested))


def beat(lsn: int, seconds: int, clock_seconds: int) -> Heartbeat:
    """`clock_seconds` is what the server's clock shows by then."""
    return Heartbeat(str(ORIGIN.at(lsn)), TIME + timedelta(seconds=seconds), TIME + timedelta(seconds=clock_seconds))


def test_the_time_of_a_heartbeat_is_that_of_the_end_of_the_log_which_it_reached() -> None:
    beats = Beats()
    beats.probe(200, 7)
    assert [beats.keepalive(150), beats.keepalive(200)] == [None, beat(200, 7, 8)]


def test_a_server_that_is_behind_moves_the_position_but_not_the_time() -> None:
    beats = Beats()
    beats.probe(200, 7)
    beats.keepalive(200)
    beats.probe(900, 60)
    assert [beats.keepalive(300), beats.keepalive(400)] == [None, beat(400, 7, 61)]


def test_heartbeats_come_once_an_interval() -> None:
    beats = Beats()
    beats.probe(200, 7)
    assert [beats.keepalive(200) is not None for _ in range(4)] == [True, False, True, False]


def test_a_clock_that_is_set_ahead_is_noticed_with_the_next_frame_and_one_set_back_with_the_next_probe() -> None:
    beats = Beats()
    beats.probe(200, 7)
    beats.now = 1.0
    beats.heartbeats.heard((TIME + timedelta(seconds=30), beats.now))
    beats.now = 2.0
    assert beats.heartbeats.clock == TIME + timedelta(seconds=31)
    beats.probe(300, 4)
    beats.heartbeats.heard((TIME + timedelta(seconds=4), beats.now))
    assert beats.heartbeats.clock == TIME + timedelta(seconds=4)


def test_a_server_that_waits_for_an_answer_gets_a_heartbeat_at_once() -> None:
    beats = Beats()
    beats.probe(200, 7)
    beats.keepalive(200)
    assert beats.keepalive(210, reply_requested=True) == beat(210, 7, 8)


def test_a_keepalive_from_before_our_position_is_no_heartbeat() -> None:
    beats = Beats()
    beats.probe(90, 7)
    assert beats.keepalive(95) is None
