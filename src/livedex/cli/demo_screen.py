"""What `livedex demo` shows, in as many columns as there are."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from statistics import median
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

from livedex.cli import terminal
from livedex.cli.terminal import counted, note, one_line, say, seconds

if TYPE_CHECKING:
    from livedex.demo.following import FirstLoad, Loading, Surroundings
    from livedex.demo.tour import Outcome
    from livedex.demo.watch import Moved, News
    from livedex.errors import LivedexError
    from livedex.model import Hit, Retrieval
    from livedex.serve.listen import Address

_SAY_AGAIN_SECONDS = 2.0
_MOST_TOLD = 20
_EXCERPT_CHARACTERS = 200

EXAMPLES = ("PAYMENT_RETRY_LIMIT", "my parcel arrived broken", "who may approve 10,000 euros?")


class Waiting:
    """What is being waited for: a line that is redrawn where stderr is a terminal, else a line for each thing."""

    def __init__(self, console: Console) -> None:
        self._bars: Progress | None = None
        self._task: TaskID | None = None
        self._said = ""
        self._said_at = float("-inf")
        if console.is_terminal:
            columns = (SpinnerColumn("line"), TextColumn("{task.description}"), BarColumn(20))
            self._bars = Progress(*columns, TextColumn("{task.fields[state]}"), console=console, transient=True)

    def __enter__(self) -> Self:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def step(self, text: str) -> None:
        """Something begins whose end cannot be foreseen."""
        self._draw(text, "", None)

    def download(self, stage: str, done: int, total: int | None) -> None:
        if total is None:
            self._draw("Checking the local model", "", None)
        else:
            self._draw("Fetching the local model", f"{done / 1e6:.0f} of {total / 1e6:.0f} MB", done / total)

    def loading(self, load: Loading) -> None:
        documents = f"{load.documents}/{load.of_documents} documents"
        speed = f"{counted(load.texts_embedded, 'text')} ({load.texts_per_second:.0f}/s)"
        share = load.share
        if share is None and load.of_documents:
            share = load.documents / load.of_documents
        if self._bars is not None:
            self._draw("Loading", f"{documents}, {speed}", share)
        elif load.seconds - self._said_at > _SAY_AGAIN_SECONDS and load.seconds > _SAY_AGAIN_SECONDS:
            self._said_at = load.seconds
            note(f"Loading: {documents}, {speed}")

    def _draw(self, text: str, state: str, share: float | None) -> None:
        if self._bars is None:
            if text != self._said:
                note(f"{text} ...")
            self._said = text
            return
        if text != self._said and self._task is not None:
            self._bars.remove_task(self._task)
            self._task = None
        if self._task is None:
            self._task = self._bars.add_task(text, total=None, state=state)
        self._said = text
        total = None if share is None else 1.0
        self._bars.update(self._task, total=total, completed=share or 0.0, state=state)


def failure(worker: str, error: LivedexError) -> None:
    """A worker failed, and tries again."""
    note((f"{worker}: ", "red"), str(error))


def place(where: Surroundings) -> None:
    """Where everything stands, and how to be rid of it."""
    say(("livedex demo", "bold"), f" in {where.folder}")
    if where.documents is None:
        _row("application/", "a PostgreSQL, as your application has one")
    else:
        _row("reads", f"{where.documents}, and changes nothing there")
    _row("livedex.yaml", "what to follow, and what to build from it")
    _row(".livedex/", "the index, in a PostgreSQL of its own")
    _row("remove with", where.removal)
    say()
    indented(0, Text(one_line(where.why)))


def loaded(load: FirstLoad) -> None:
    """What the first load came to."""
    text = (
        f"First load: {counted(load.documents, 'document')} in {counted(load.chunks, 'chunk')}, "
        f"{counted(load.texts_embedded, 'text')} embedded, searchable after {seconds(load.seconds)}."
    )
    indented(0, Text(text))


def quarantine(documents: int) -> None:
    if documents:
        text = f"{counted(documents, 'document')} could not be read. See: livedex quarantine list"
        indented(0, Text(text, "yellow"))


def outcome(number: int, result: Outcome) -> None:
    """One edit: what was done, how soon it showed, what it cost, and a search before and after."""
    edit = result.edit
    say()
    say((f"{number}. {edit.what}", "bold"))
    for line in edit.statement.splitlines():
        indented(3, Text(line, "dim"))
    arrived = Text(f"{edit.arrived} {milliseconds(result.searchable_ms)} after the commit", "green")
    indented(3, arrived.append(f", {_embedded(result.texts_embedded)}", "default"))
    filters = "".join(f" [{name}={value}]" for name, value in edit.filters.items())
    indented(3, Text(f"search: {edit.question}{filters}"))
    _answer("before", edit.hit(result.before), result.before, edit.said)
    _answer("after", edit.hit(result.after), result.after, edit.said)


def summary(outcomes: Sequence[Outcome], texts: int) -> None:
    """All edits in a table; `texts` is how many the first load embedded."""
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0), expand=False)
    table.add_column("edit")
    table.add_column("searchable", justify="right")
    table.add_column("embedded", justify="right")
    for result in outcomes:
        table.add_row(result.edit.what, milliseconds(result.searchable_ms), str(result.texts_embedded))
    typical = median(result.searchable_ms for result in outcomes)
    embedded = sum(result.texts_embedded for result in outcomes)
    table.add_row(Text("median, and sum", "bold"), Text(milliseconds(typical), "bold"), Text(str(embedded), "bold"))
    say()
    terminal.out.print(table)
    indented(0, Text(f"An index that is built anew would have embedded all {texts} texts after each edit.", "dim"))


def news(found: News) -> list[Text]:
    """A line for each change that has become searchable."""
    lines = [_moved(change) for change in found.changes[:_MOST_TOLD]]
    if (left := len(found.changes) - _MOST_TOLD) > 0:
        lines.append(Text(f"... and {counted(left, 'more change')}"))
    lines[-1].append(f", {_embedded(found.texts_embedded)}")
    return lines


def your_turn(where: Surroundings, view: str, address: Address | None, *, shadowed: bool) -> None:
    """What can be done now. `shadowed`: the environment leads other commands to another index."""
    say()
    if where.documents is None:
        _turn("Type a search; Ctrl-D or quit ends. For example:")
        for example in EXAMPLES:
            say("  ", (example, "cyan"))
    else:
        _turn("Type any words of your documents; Ctrl-D or quit ends.")
        indented(0, Text("Edit, add, rename or delete one of them, and a line tells when that is searchable."))
    say()
    say("Meanwhile, in another terminal:")
    if where.application_url is not None:
        _command(f"psql '{where.application_url}'", "edit the table")
    _command(f"cd {shlex.quote(str(where.folder))}", "")
    if shadowed:
        _command("unset LIVEDEX_DATABASE_URL", "it names another index")
    _command("livedex status", "how fresh everything is")
    _command(f'livedex search {view} "..."', "from any process")
    if address is not None:
        _command(f"curl {address.http}/v1/views", "HTTP: see /openapi.json")
        if address.mcp is not None:
            _command(address.mcp, "MCP: for your agent")
    say()


def milliseconds(value: float) -> str:
    return f"{value:.0f} ms"


def indented(columns: int, text: Text) -> None:
    """Wrapped at the terminal's width, every line indented, without spaces at the ends."""
    for line in text.wrap(terminal.out, max(20, terminal.out.width - columns)):
        line.rstrip()
        say(" " * columns, line)


def _row(name: str, text: str) -> None:
    """A name and what it is; where that is too long for one line it may run on, so that paths can be copied."""
    say(f"  {name:14}{text}")


def _turn(text: str) -> None:
    indented(0, Text("Your turn. ", "bold").append(text, "default"))


def _command(command: str, what: str) -> None:
    """To be copied: never broken into lines. What it is for stands beside it where there is room."""
    remark = f"{'':{max(2, 38 - len(command))}}{what}" if what else ""
    fits = len(command) + len(remark) + 3 <= terminal.out.width
    say("  ", (command, "cyan"), (remark if fits else "", "dim"))


def _moved(change: Moved) -> Text:
    line = Text(f"{change.what} ", "green").append(one_line(change.document_id), "bold")
    if change.was is not None:
        line.append(f" (was {one_line(change.was)})", "default")
    if change.searchable_ms is not None:
        line.append(f": searchable after {milliseconds(change.searchable_ms)}", "default")
    return line


def _embedded(texts: int) -> str:
    return f"{counted(texts, 'text')} embedded" if texts else "nothing embedded"


def _answer(when: str, hit: Hit | None, retrieval: Retrieval, said: Sequence[str]) -> None:
    """The edit's own document if it was found, else the best that was."""
    shown = hit or next(iter(retrieval.hits), None)
    if shown is None:
        indented(5, Text(f"{when + ':':8}nothing", "italic"))
        return
    line = Text(f"{when + ':':8}").append(shown.document_id, "bold").append(f": {_excerpt(shown.text, said)}", "italic")
    indented(5, line)


def _excerpt(text: str, said: Sequence[str]) -> str:
    """The row of a table or the sentence that holds one of the words, else the first sentence."""
    rows = [line for line in text.splitlines() if line.startswith("|")]
    prose = " ".join(line for line in text.splitlines() if not line.startswith(("|", "#")))
    for words in said:
        for row in rows:
            if words in row:
                return _shortened(row)
        if words in prose:
            return _shortened(_sentence(prose, prose.index(words)))
    return _shortened(_sentence(prose, 0) if prose else text)


def _sentence(prose: str, at: int) -> str:
    """The sentence that stands at a place."""
    start = prose.rfind(". ", 0, at) + 2 if ". " in prose[:at] else 0
    end = prose.find(". ", at)
    return prose[start:] if end < 0 else prose[start : end + 1]


def _shortened(text: str) -> str:
    text = one_line(text)
    return text if len(text) <= _EXCERPT_CHARACTERS else text[:_EXCERPT_CHARACTERS].rsplit(" ", 1)[0] + " ..."
