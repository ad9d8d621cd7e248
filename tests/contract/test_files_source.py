"""A folder keeps the promises of a source, but one that it cannot: it has no history, so it begins with a snapshot
every time it is opened."""

from __future__ import annotations

from pathlib import Path

import pytest

from livedex.adapters.sources.files import FilesSource
from livedex.model import Change
from livedex.ports import Heartbeat, SnapshotFinished, SnapshotStarted
from livedex.testing import sources
from livedex.testing.sources import Replica


class FolderActions:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def put(self, **documents: str) -> None:
        for name, text in documents.items():
            (self._folder / name).write_text(text)

    async def delete(self, *keys: str) -> None:
        for key in keys:
            (self._folder / key).unlink()

    def text(self, change: Change) -> str:
        return str(change.columns["content"])


@pytest.fixture(params=[False, True], ids=["watching", "polling"])
def make_source(request: pytest.FixtureRequest, tmp_path: Path) -> sources.MakeSource:
    return lambda: FilesSource(
        tmp_path, name="docs", include=["**/*"], polling=request.param, heartbeat_seconds=0.05, batch_changes=1
    )


async def test_its_partitions_are_stable(make_source: sources.MakeSource) -> None:
    await sources.check_partitions(make_source)


async def test_a_snapshot_and_the_changes_after_it_are_what_is_there(
    make_source: sources.MakeSource, tmp_path: Path
) -> None:
    await sources.check_snapshot_then_changes(make_source, FolderActions(tmp_path))


async def test_a_broken_off_snapshot_is_started_over(make_source: sources.MakeSource, tmp_path: Path) -> None:
    actions = FolderActions(tmp_path)
    await actions.put(birch="brown", gorse="yellow")
    await sources.check_second_snapshot(make_source, actions)


async def test_a_look_shows_what_is_there(make_source: sources.MakeSource, tmp_path: Path) -> None:
    await sources.check_look(make_source, FolderActions(tmp_path))


async def test_it_can_be_opened_again_at_once(make_source: sources.MakeSource, tmp_path: Path) -> None:
    await sources.check_reopen(make_source, Replica(FolderActions(tmp_path)))


async def test_with_a_position_it_begins_with_a_snapshot_too(make_source: sources.MakeSource, tmp_path: Path) -> None:
    actions = FolderActions(tmp_path)
    await actions.put(apple="red", birch="green")
    stored = await sources.check_snapshot_then_changes(make_source, actions)
    await actions.put(daisy="white")
    await actions.delete("cedar")
    replica = stored.restarted()
    async with sources._opened(make_source, stored.position) as (source, events):
        await sources._follow_past_snapshot(source, events, replica)
    assert isinstance(replica.events[0], SnapshotStarted)
    assert replica.documents == {"birch": "brown", "daisy": "white"}
    assert source.reached(replica.position, stored.position or "")


async def test_while_nothing_happens_its_heartbeats_move_on(make_source: sources.MakeSource, tmp_path: Path) -> None:
    replica = Replica(FolderActions(tmp_path))
    async with sources._opened(make_source, None) as (source, events):
        await sources._follow_past_snapshot(source, events, replica)
        beats = [await anext(events) for _ in range(3)]
    assert [type(beat) for beat in beats] == [Heartbeat] * 3
    times = [beat.time for beat in [replica.events[-1], *beats] if isinstance(beat, Heartbeat | SnapshotFinished)]
    assert times == sorted(set(times))


async def test_positions_rise_though_the_clock_is_set_back(tmp_path: Path) -> None:
    clock = iter(range(2 * 10**18, 0, -(10**9)))
    source = FilesSource(
        tmp_path, name="docs", include=["**/*"], heartbeat_seconds=0.01, now_ns=lambda: next(clock)
    )  # fmt: skip
    replica = Replica(FolderActions(tmp_path))
    events = source.open("main", None)
    await sources._follow_past_snapshot(source, events, replica)
    await sources._follow_to_head(source, events, replica)
    sources._check_positions_rise(source, replica)
    await events.aclose()
