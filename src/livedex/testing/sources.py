"""For those who write a source: the promises of `livedex.ports.Source` as a program.

`check_source` runs every check against a system that it may write to. Each check opens the source anew, as a process
does after a restart, and goes on from the position that a consumer would have stored.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Protocol

from livedex.digests import digest_of, key_text, range_of
from livedex.errors import TokenRefused
from livedex.model import Change, Op
from livedex.ports import (
    Auditable,
    Changes,
    Heartbeat,
    Look,
    SnapshotFinished,
    SnapshotRows,
    SnapshotStarted,
    Source,
    SourceEvent,
    TableSeen,
)

PATIENCE_SECONDS = 30.0
"""How long a source may take to deliver what it has promised."""


class SourceActions(Protocol):
    """What the kit does to the system behind the source, on one table that it has for itself, empty at first. Each call
    is one committed transaction. Keys and texts are plain words."""

    async def put(self, **documents: str) -> None:
        """Insert documents, or replace their text."""
        ...

    async def delete(self, *keys: str) -> None: ...

    def text(self, change: Change) -> str:
        """The document's text in a change that carries columns."""
        ...


MakeSource = Callable[[], Source]
"""A new source over the same system, as after a restart of the process."""


@dataclass(slots=True)
class Replica:
    """A consumer: the documents as the events tell them, and the position that it has stored with them."""

    actions: SourceActions
    documents: dict[str, str] = field(default_factory=dict)
    position: str | None = None
    events: list[SourceEvent] = field(default_factory=list)
    _in_snapshot: set[str] = field(default_factory=set)
    _staged: list[Change] = field(default_factory=list)

    @property
    def changes(self) -> list[Change]:
        """Every change of the stream, in the order in which it came."""
        return [change for event in self.events if isinstance(event, Changes) for change in event.changes]

    def apply(self, event: SourceEvent) -> None:
        self.events.append(event)
        match event:
            case SnapshotStarted():
                self._in_snapshot.clear()
            case SnapshotRows(changes):
                self._write(changes)
                self._in_snapshot.update(change.key[0] for change in changes)
            case SnapshotFinished():
                self.documents = {key: text for key, text in self.documents.items() if key in self._in_snapshot}
                self.position = event.position
            case Changes(changes):
                self._staged += changes
                if event.complete:
                    self._write(self._staged)
                    self._staged = []
                    self.position = event.position
            case Heartbeat():
                self.position = event.position

    def restarted(self) -> Replica:
        """What a crash leaves: what was stored."""
        return Replica(self.actions, dict(self.documents), self.position)

    def _write(self, changes: Sequence[Change]) -> None:
        for change in changes:
            if change.op is Op.TRUNCATE:
                self.documents.clear()
                continue
            if change.old_key is not None:
                self.documents.pop(change.old_key[0], None)
            if change.op is Op.DELETE:
                self.documents.pop(change.key[0], None)
            else:
                self.documents[change.key[0]] = self.actions.text(change)


async def check_source(make_source: MakeSource, actions: SourceActions) -> None:
    """Raise AssertionError naming the first promise of `livedex.ports.Source` that this one does not keep."""
    await check_partitions(make_source)
    stored = await check_snapshot_then_changes(make_source, actions)
    stored = await check_resume(make_source, actions, stored)
    stored = await check_redelivery(make_source, actions, stored)
    stored = await check_acknowledged_is_enough(make_source, actions, stored)
    stored = await check_idle_heartbeat(make_source, stored)
    stored = await check_tokens(make_source, actions, stored)
    await check_reopen(make_source, stored)
    await check_second_snapshot(make_source, actions)
    await check_look(make_source, actions)


async def check_partitions(make_source: MakeSource) -> None:
    """Partitions are at least one and the same in every run."""
    names = []
    for _ in range(2):
        source = make_source()
        names.append(tuple(await source.partitions()))
        await source.close()
    assert names[0], "a source has at least one partition"
    assert names[0] == names[1], "partitions are stable between runs"


async def check_snapshot_then_changes(make_source: MakeSource, actions: SourceActions) -> Replica:
    """What was there comes as a snapshot, what is committed later as changes, and together they are what is there."""
    await actions.put(apple="red", birch="green")
    replica = Replica(actions)
    async with _opened(make_source, None) as (source, events):
        await _follow_past_snapshot(source, events, replica)
        assert isinstance(replica.events[0], SnapshotStarted), "without a position a source begins with a snapshot"
        assert replica.documents == {"apple": "red", "birch": "green"}, "a snapshot holds what was committed"
        await actions.put(cedar="grey", birch="brown")
        await actions.delete("apple")
        await _follow_to_head(source, events, replica)
    assert replica.documents == {"birch": "brown", "cedar": "grey"}, "changes after the snapshot follow it"
    assert [change.time for change in replica.changes if change.time is None] == [], "a change has its commit time"
    _check_positions_rise(source, replica)
    return replica


async def check_resume(make_source: MakeSource, actions: SourceActions, stored: Replica) -> Replica:
    """What was committed while nobody followed is sent, what was stored before is not sent again."""
    await actions.put(daisy="white")
    await actions.delete("cedar")
    replica = stored.restarted()
    async with _opened(make_source, stored.position) as (source, events):
        await _follow_to_head(source, events, replica)
    assert replica.documents == {"birch": "brown", "daisy": "white"}, "changes from between two runs are delivered"
    assert [(change.op, change.key) for change in replica.changes] in (
        [(Op.CREATE, ("daisy",)), (Op.DELETE, ("cedar",))],
        [(Op.UPDATE, ("daisy",)), (Op.DELETE, ("cedar",))],
    ), "the first change after the position is the next one: none is missing, none comes twice"
    return replica


async def check_redelivery(make_source: MakeSource, actions: SourceActions, stored: Replica) -> Replica:
    """What was received and not acknowledged comes again."""
    await actions.put(elder="black")
    lost = stored.restarted()
    async with _opened(make_source, stored.position) as (source, events):
        await _follow_to_head(source, events, lost)
    again = stored.restarted()
    async with _opened(make_source, stored.position) as (source, events):
        await _follow_to_head(source, events, again)
    assert again.changes == lost.changes != [], "changes that were not acknowledged are sent again"
    return again


async def check_acknowledged_is_enough(make_source: MakeSource, actions: SourceActions, stored: Replica) -> Replica:
    """After an acknowledgement everything later is still there."""
    await actions.put(fern="green")
    replica = stored.restarted()
    async with _opened(make_source, stored.position) as (source, events):
        await _follow_to_head(source, events, replica)
        assert replica.position is not None
        await source.acknowledge(replica.position)
        await actions.put(gorse="yellow")
        await _follow_to_head(source, events, replica.restarted())
    later = replica.restarted()
    async with _opened(make_source, replica.position) as (source, events):
        await _follow_to_head(source, events, later)
    assert [change.key for change in later.changes] == [("gorse",)], "only what follows the acknowledged comes again"
    return later


async def check_idle_heartbeat(make_source: MakeSource, stored: Replica) -> Replica:
    """A source where nothing happens says so, again and again, with a time that moves on."""
    replica = stored.restarted()
    beats: list[Heartbeat] = []
    async with _opened(make_source, stored.position) as (source, events):
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(beats) < 3:
                event = await anext(events)
                replica.apply(event)
                if isinstance(event, TableSeen):
                    continue
                assert isinstance(event, Heartbeat), f"nothing happened, and the source sent {event}"
                beats.append(event)
                await source.acknowledge(event.position)
    assert beats[0].time < beats[-1].time, "the time of heartbeats moves on"
    _check_positions_rise(source, replica)
    return replica


async def check_tokens(make_source: MakeSource, actions: SourceActions, stored: Replica) -> Replica:
    """A position that was taken after a commit is a token for it: found where it was taken for, by another reader too,
    and not reached before the commit was delivered. What is no token is refused."""
    await actions.put(heath="purple")
    replica = stored.restarted()
    async with _opened(make_source, stored.position) as (source, events):
        token = await source.head((await source.partitions())[0])
        located = await source.locate(token, replica.position)
        assert located is not None, "what a position names is decided"
        assert not source.reached(replica.position, located), "nothing is reached before it is delivered"
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not source.reached(replica.position, located):
                replica.apply(await anext(events))
        assert replica.documents["heath"] == "purple", "whoever has reached a token has what was committed before it"
        try:
            await source.locate("no token", replica.position)
        except TokenRefused:
            pass
        else:
            raise AssertionError("what is no token is refused")
    return replica


async def check_look(make_source: MakeSource, actions: SourceActions) -> None:
    """A look, where the source offers any, shows what is there: rows as a snapshot would, with their digests."""
    await actions.put(hazel="brown", ivy="green")
    source = make_source()
    replica = Replica(actions)
    events = source.open((await source.partitions())[0], None)
    try:
        await _follow_past_snapshot(source, events, replica)
        if isinstance(source, Auditable):
            async with source.look(patience_seconds=PATIENCE_SECONDS) as look:
                await _check_shown(look, replica)
                delivered = replica.position or ""
                assert source.reached(await look.position(), delivered), "a look is after what was delivered"
    finally:
        await _close(events)
        await source.close()


async def _check_shown(look: Look, replica: Replica) -> None:
    table = next(e.changes[0].table for e in replica.events if isinstance(e, SnapshotRows) and e.changes)
    compared = await look.compare(table)
    digests = await look.digests(table, compared.ranges)
    rows = {key_text(table, row.key): row for row in await look.rows(table, digests)}
    made = {key: digest_of(key, row.columns, compared.columns) for key, row in rows.items()}
    together: dict[int, tuple[int, int]] = {}
    for key, digest in made.items():
        count, bits = together.get(range_of(key), (0, 0))
        together[range_of(key)] = (count + 1, bits ^ digest)
    assert look.settled, "nothing is under way, so a look is settled"
    shown = {row.key[0]: replica.actions.text(row) for row in rows.values()}
    assert shown == replica.documents, "a look shows every row"
    assert dict(digests) == made, "a digest is that of its row"
    assert dict(compared.ranges) == together, "a range has its number of rows and the exclusive or of their digests"
    assert await look.rows(table, [key_text(table, ("nowhere",))]) == [], "where no row is, none is shown"


async def check_reopen(make_source: MakeSource, stored: Replica) -> None:
    """A closed iterator holds nothing, so the same source can be opened again at once."""
    source = make_source()
    try:
        for _ in range(3):
            events = source.open((await source.partitions())[0], stored.position)
            async with asyncio.timeout(PATIENCE_SECONDS):
                await anext(events)
            await _close(events)
    finally:
        await source.close()


async def check_second_snapshot(make_source: MakeSource, actions: SourceActions) -> None:
    """A snapshot that was broken off is started over, and tells what is there by then."""
    async with _opened(make_source, None) as (source, events):
        assert isinstance(await anext(events), SnapshotStarted)
    await actions.delete("birch")
    replica = Replica(actions, {"birch": "brown"})
    async with _opened(make_source, None) as (source, events):
        await _follow_past_snapshot(source, events, replica)
    assert "birch" not in replica.documents, "a new snapshot leaves out what was deleted since an earlier one"
    assert replica.documents["gorse"] == "yellow", "a new snapshot holds everything that is there"


@asynccontextmanager
async def _opened(
    make_source: MakeSource, resume: str | None
) -> AsyncIterator[tuple[Source, AsyncIterator[SourceEvent]]]:
    source = make_source()
    events = source.open((await source.partitions())[0], resume)
    try:
        yield source, events
    finally:
        await _close(events)
        await source.close()


async def _close(events: AsyncIterator[SourceEvent]) -> None:
    closing = getattr(events, "aclose", None)
    assert closing is not None, "the iterator of a source can be closed"
    await closing()


async def _follow_past_snapshot(source: Source, events: AsyncIterator[SourceEvent], replica: Replica) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not (replica.events and isinstance(replica.events[-1], SnapshotFinished)):
            replica.apply(await anext(events))


async def _follow_to_head(source: Source, events: AsyncIterator[SourceEvent], replica: Replica) -> None:
    """Apply events until everything that is committed by now was seen."""
    head = await source.head((await source.partitions())[0])
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not source.reached(replica.position, head):
            replica.apply(await anext(events))


def _check_positions_rise(source: Source, replica: Replica) -> None:
    positions = [
        event.position
        for event in replica.events
        if isinstance(event, SnapshotFinished | Heartbeat) or (isinstance(event, Changes) and event.complete)
    ]
    for earlier, later in pairwise(positions):
        assert source.reached(later, earlier), f"positions rise: {earlier} came before {later}"
