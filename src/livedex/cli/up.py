"""`livedex up`: capture and materialize until it is stopped."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import typer

from livedex.cli import terminal
from livedex.cli.doors import doors_beside
from livedex.cli.running import Json, opened, run
from livedex.errors import LivedexError

if TYPE_CHECKING:
    from livedex.app import Index
    from livedex.status import Status

LOOK_SECONDS = 1.0

_STYLES = {
    "error": "red",
    "recovered": "green",
    "quarantined": "yellow",
    "quarantine": "yellow",
    "not_serving": "yellow",
}


def up(context: typer.Context, as_json: Json = False) -> None:
    """Keep the index up to date until stopped.

    Ctrl-C or SIGTERM finishes what was captured and ends; a second one ends at once. Errors are reported and tried
    again; what needs a person says so. With the extra `serve` searches are answered over HTTP meanwhile, with `mcp`
    over MCP too.
    """

    async def command() -> None:
        stop = asyncio.Event()
        events = Events(as_json)
        stop_on_signals(stop, events, "finishing what was captured; a second signal ends at once")
        async with opened(context) as index, doors_beside(index, events):
            events.started(index)
            watching = asyncio.create_task(_watch(index, events))
            watching.add_done_callback(lambda _: stop.set())  # it ends only by an error, which is raised below
            try:
                await index.up(stop, events.failed)
            finally:
                watching.cancel()
                with suppress(asyncio.CancelledError):
                    await watching
            waiting = sum(view.waiting for view in await index.progress())
        rest = f"{terminal.counted(waiting, 'document')} wait for the next start" if waiting else "nothing waits"
        events.tell("stopped", f"stopped; {rest}", waiting=waiting)

    run(context, command)


class Events:
    """One line for each thing worth knowing; as JSON with `time` and `event`. A failure that repeats is said once."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._failing: dict[str, str] = {}
        self._quarantined: set[int] | None = None

    @property
    def failing(self) -> frozenset[str]:
        """The workers whose last word was a failure."""
        return frozenset(self._failing)

    def tell(self, event: str, text: str, **fields: Any) -> None:
        now = datetime.now(UTC)
        if self._as_json:
            terminal.emit({"time": now, "event": event, **fields}, compact=True)
            return
        line = terminal.note if event == "error" else terminal.say
        line((f"{now.astimezone():%H:%M:%S}  ", "dim"), (text, _STYLES.get(event, "")))

    def started(self, index: Index) -> None:
        settings = index.settings
        for name, source in settings.sources.items():
            what = str(source.path) if source.kind == "files" else ", ".join(source.tables)
            views = [view for view, wanted in settings.views.items() if name in wanted.sources]
            self.tell("started", f"following {name} ({what}) for {', '.join(views) or 'no view'}",
                      source=name, tables=list(source.tables), views=views)  # fmt: skip

    def serving(self, http: str, mcp: str | None) -> None:
        beside = "" if mcp is None else f", MCP at {mcp}"
        self.tell("serving", f"HTTP at {http}{beside}", http=http, mcp=mcp)

    def not_serving(self, error: LivedexError) -> None:
        self.tell("not_serving", f"not serving: {error}", error=type(error).__name__, message=str(error))

    def failed(self, worker: str, error: LivedexError) -> None:
        message = str(error)
        if self._failing.get(worker) != message:
            self._failing[worker] = message
            self.tell("error", f"{worker}: {message}", worker=worker, error=type(error).__name__, message=message)

    def recovered(self, worker: str) -> None:
        del self._failing[worker]
        self.tell("recovered", f"{worker}: works again", worker=worker)

    def quarantined(self, rows: list[dict[str, Any]]) -> None:
        """Of what is in quarantine at the start, only how much it is."""
        if self._quarantined is None:
            self._quarantined = {row["quarantine_id"] for row in rows}
            if rows:
                text = f"{terminal.counted(len(rows), 'document')} in quarantine. See: livedex quarantine list"
                self.tell("quarantine", text, documents=len(rows))
        for row in rows:
            number = row["quarantine_id"]
            if number not in self._quarantined:
                self._quarantined.add(number)
                what = {name: row[name] for name in ("quarantine_id", "source", "document_id", "reason")}
                text = f"{row['source']}: {row['document_id']} is set aside. See: livedex quarantine show {number}"
                self.tell("quarantined", text, **what)


def stop_on_signals(stop: asyncio.Event, events: Events, saying: str) -> None:
    """Set `stop` with the first signal to end, and cancel this task with the second."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None

    def finish(cancel: Callable[[], Any]) -> None:
        if stop.is_set():
            cancel()
            return
        stop.set()
        events.tell("stopping", saying)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, finish, task.cancel)


async def _watch(index: Index, events: Events) -> None:
    """Notice what no worker reports: that a load is done, that a failure is over, that a document was set aside."""

    waiting = set(index.settings.views)
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        try:
            if waiting:
                waiting -= await _say_loaded(index, events, waiting)
            if events.failing:
                _say_recovered(await index.status(), events)
            events.quarantined(await index.quarantined())
        except LivedexError:
            continue  # the workers meet the same store, and report it


async def _say_loaded(index: Index, events: Events, views: set[str]) -> set[str]:
    loaded = {view.view: view for view in await index.progress() if view.view in views and view.loaded}
    done = {name: view for name, view in loaded.items() if not view.waiting}
    for name, view in done.items():
        text = f"{name}: loaded, {terminal.counted(view.documents, 'document')} searchable"
        events.tell("loaded", text, view=name, documents=view.documents)
    return set(done)


def _say_recovered(status: Status, events: Events) -> None:
    """A worker writes its failure down in the store, and takes it back with its next success."""
    still = {f"source {source.source}" for source in status.sources if source.error}
    still |= {f"view {view.view}" for view in status.views if view.errors}
    for worker in events.failing:
        if worker.partition(",")[0] not in still:
            events.recovered(worker)
