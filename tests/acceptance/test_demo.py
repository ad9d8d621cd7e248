"""`livedex demo` as people start it: the real command in an empty folder, without a way to fetch a model."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from livedex.demo.application import handbook
from livedex.demo.edits import EDITS

PATIENCE_SECONDS = 120.0
FOLDER = "livedex-demo"


class Demo:
    """`livedex demo` in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.environ = os.environ | {
            "LIVEDEX_CACHE": str(directory.parent / f"{directory.name}-cache"),
            "PIP_NO_INDEX": "1",
            "HF_HUB_OFFLINE": "1",
            "COLUMNS": "80",
        }
        self.environ.pop("LIVEDEX_DATABASE_URL", None)

    @contextmanager
    def started(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """The running command, its two outputs in one; killed if it takes too long or the block ends without it."""
        with subprocess.Popen(
            [sys.executable, "-m", "livedex", "demo", *arguments],
            cwd=self.directory,
            env=self.environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
        ) as process:
            ending = threading.Timer(PATIENCE_SECONDS, process.kill)
            ending.start()
            try:
                yield process
            finally:
                ending.cancel()
                process.kill()

    def run(self, *arguments: str, typed: str = "", exits: int = 0) -> subprocess.CompletedProcess[str]:
        """Run to the end, and insist on the exit code."""
        done = subprocess.run(
            [sys.executable, "-m", "livedex", "demo", *arguments],
            cwd=self.directory,
            env=self.environ,
            input=typed,
            capture_output=True,
            encoding="utf-8",
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        assert done.returncode == exits, f"{arguments}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def json(self, *arguments: str) -> Any:
        return json.loads(self.run("--json", *arguments).stdout)

    @property
    def data_directories(self) -> list[Path]:
        """Where the servers keep their data; elsewhere, where their user cannot get into the folder."""
        return [data.resolve() for data in (self.directory / FOLDER).glob("*/data")]


@contextmanager
def in_empty_folder(parent: Path) -> Iterator[Demo]:
    directory = parent / "empty"
    directory.mkdir()
    demo = Demo(directory)
    yield demo
    for data in demo.data_directories:
        shutil.rmtree(data)


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    with in_empty_folder(tmp_path) as demo:
        yield demo


@pytest.fixture(scope="module")
def tour(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What `--json` prints."""
    with in_empty_folder(tmp_path_factory.mktemp("tour")) as demo:
        return demo.json()


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What `--exit` shows on a terminal of 60 columns."""
    with in_empty_folder(tmp_path_factory.mktemp("shown")) as demo:
        demo.environ["COLUMNS"] = "60"
        return demo.run("--exit").stdout


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    """A folder of the user's."""
    folder = tmp_path / "notes"
    (folder / "sub").mkdir(parents=True)
    (folder / "moles.md").write_text("# Moles\n\nMoles dig at night.\n", encoding="utf-8")
    (folder / "sub" / "bees.md").write_text("# Bees\n\nBees like lime trees.\n", encoding="utf-8")
    (folder / "picture.png").write_bytes(b"\x89PNG")
    return folder


def lines_until(wanted: str, process: subprocess.Popen[str]) -> list[str]:
    """What the program says up to a line that holds the wanted text."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if wanted in line:
            return lines
    raise AssertionError(f"{wanted!r} was not said in:\n{''.join(lines)}")


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file below a folder with the time of its last change."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def test_every_shipped_document_is_loaded(tour: Any) -> None:
    load = tour["first_load"]
    assert load["documents"] == len(handbook())
    assert load["texts_embedded"] == load["chunks"]


def test_the_tour_makes_every_kind_of_edit_and_embeds_only_what_changed(tour: Any) -> None:
    assert tour["embedder"] == "hashing"
    assert [(edit["edit"], edit["texts_embedded"]) for edit in tour["edits"]] == [
        ("update", 1),
        ("update", 1),
        ("insert", 1),
        ("delete", 0),
        ("no-op", 0),
        ("metadata", 0),
        ("rename", 0),
    ]
    assert all(edit["searchable_ms"] > 0 for edit in tour["edits"])


def test_searches_show_the_handbook_before_and_after_each_edit(tour: Any) -> None:
    refund, setting, added, deleted, same, moved, renamed = tour["edits"]
    assert "fourteen days" in refund["before"]["text"]
    assert "three working days" in refund["after"]["text"]
    assert "`PAYMENT_RETRY_LIMIT` | 3" in setting["before"]["text"]
    assert "`PAYMENT_RETRY_LIMIT` | 2" in setting["after"]["text"]
    assert (added["before"], added["after"]["document_id"]) == (None, "parental-leave")
    assert (deleted["before"]["document_id"], deleted["after"]) == ("gift-wrapping", None)
    assert same["before"]["text"] == same["after"]["text"]
    assert (moved["before"], moved["after"]["metadata"]) == (None, {"category": "people"})
    assert (renamed["before"]["document_id"], renamed["after"]["document_id"]) == ("oncall-handover", "pager-handover")
    assert renamed["before"]["created_at"] == renamed["after"]["created_at"]


def test_it_fits_a_narrow_terminal(shown: str) -> None:
    """All but paths, which are never broken, since they are there to be copied."""
    assert [line for line in shown.splitlines() if len(line) > 60 and FOLDER not in line] == []


def test_lines_end_without_spaces(shown: str) -> None:
    """All but the table's, which is padded."""
    before_table = shown[: shown.index("\nedit ")]
    assert [line for line in before_table.splitlines() if line != line.rstrip()] == []


def test_it_ends_with_a_table_of_what_every_edit_took(shown: str) -> None:
    table = shown[shown.index("searchable  embedded") :]
    rows = re.findall(r"^(.+?) +\d+ ms +(\d)$", table, re.MULTILINE)
    texts = ["1", "1", "1", "0", "0", "0", "0"]
    assert rows == [*zip((edit.what for edit in EDITS), texts, strict=True), ("median, and sum", "3")]


def test_the_readme_shows_what_it_prints(demo: Demo) -> None:
    """But for numbers, their units, and where lines break."""
    shown = flat(demo.run("--exit").stdout)
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```text\n(.*?)^```$", readme, re.DOTALL | re.MULTILINE)
    parts = [flat(part) for part in block.split("\n...\n")]
    assert [part for part in parts if part not in shown] == []


def flat(text: str) -> str:
    return re.sub(r"\d+(\.\d+)?( m?s\b)?", "#", " ".join(text.split()))


def test_it_answers_searches_until_the_input_ends(demo: Demo) -> None:
    shown = demo.run(typed="PAYMENT_RETRY_LIMIT\n").stdout.partition("Your turn.")[2]
    assert re.search(r"^ 1 .+  payment-settings  \(dense .+, lexical .+\)$", shown, re.MULTILINE)


def test_on_an_ascii_terminal_everything_is_ascii(demo: Demo) -> None:
    demo.environ["PYTHONIOENCODING"] = "ascii"
    shown = demo.run(typed="potting soils\nquit\n").stdout
    assert shown.isascii()
    assert "Product notes: soils > " in shown


def test_it_replaces_only_its_own_folder(demo: Demo) -> None:
    mine = demo.directory / FOLDER
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    refused = demo.run("--exit", exits=2).stderr
    assert refused.replace("\n", " ").startswith(f"Error: {mine} exists and was not made by livedex demo.")
    assert (mine / "thesis.txt").read_text() == "years of work"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_where_nothing_may_be_written_it_says_so(demo: Demo) -> None:
    demo.directory.chmod(0o555)
    assert "livedex-demo cannot be made: Permission denied." in demo.run("--exit", exits=2).stderr.replace("\n", " ")


def test_it_runs_again_where_it_ran_before(demo: Demo) -> None:
    first, second = demo.json(), demo.json()
    assert second["first_load"]["texts_embedded"] == first["first_load"]["texts_embedded"]
    assert [path.name for path in demo.directory.iterdir()] == [FOLDER]


@pytest.mark.parametrize(
    ("number", "moment"),
    [
        (signal.SIGINT, "Starting a PostgreSQL for the application"),
        (signal.SIGINT, "Starting a PostgreSQL for the index"),
        (signal.SIGINT, "remove with"),
        (signal.SIGINT, "1. One paragraph changes"),
        (signal.SIGINT, "Your turn."),
        (signal.SIGTERM, "remove with"),
    ],
)
def test_a_signal_stops_the_servers_and_leaves_only_the_folder(demo: Demo, number: signal.Signals, moment: str) -> None:
    with demo.started() as process:
        lines_until(moment, process)
        process.send_signal(number)
        said = process.communicate(timeout=PATIENCE_SECONDS)[0]
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert [data for data in demo.data_directories if (data / "postmaster.pid").exists()] == []
    assert [path.name for path in demo.directory.iterdir()] == [FOLDER]


def test_it_runs_again_where_it_was_interrupted_at_its_start(demo: Demo) -> None:
    with demo.started() as process:
        lines_until("Starting a PostgreSQL for the application", process)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE_SECONDS)
    assert demo.json()["first_load"]["documents"] == len(handbook())


def test_signals_while_it_stops_change_nothing(demo: Demo) -> None:
    with demo.started() as process:
        lines_until("Your turn.", process)
        process.send_signal(signal.SIGINT)
        lines_until("Stopping the servers", process)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 130
    assert [data for data in demo.data_directories if (data / "postmaster.pid").exists()] == []


def test_a_folder_of_the_users_is_loaded_and_left_as_it_is(demo: Demo, notes: Path) -> None:
    before = contents(notes)
    loaded = demo.json("--docs", str(notes))
    assert loaded["first_load"]["documents"] == 2
    assert loaded["documents"] == str(notes)
    assert contents(notes) == before


def test_a_folder_of_the_users_may_hold_the_demo_itself(demo: Demo, notes: Path) -> None:
    demo.directory = notes
    assert demo.json("--docs", ".")["first_load"]["documents"] == 2
    assert demo.json("--docs", ".")["first_load"]["documents"] == 2


def test_a_missing_folder_is_one_line_and_starts_nothing(demo: Demo) -> None:
    said = demo.run("--docs", "nowhere", exits=2).stderr
    assert said.startswith(f"Error: There is no folder {demo.directory / 'nowhere'}.")
    assert said.count("\n") == 1
    assert list(demo.directory.iterdir()) == []


def _edit(notes: Path) -> None:
    with (notes / "moles.md").open("a", encoding="utf-8") as file:
        file.write("\n## Food\n\nMoles eat worms.\n")


def _add(notes: Path) -> None:
    (notes / "voles.md").write_text("# Voles\n\nVoles eat bulbs.\n", encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_edit, "changed moles.md: searchable after "),
        (_add, "added voles.md: searchable after "),
        (lambda notes: (notes / "moles.md").rename(notes / "tunnels.md"), "renamed tunnels.md (was moles.md)"),
        (lambda notes: (notes / "moles.md").unlink(), "deleted moles.md"),
    ],
    ids=["edit", "add", "rename", "delete"],
)
def test_a_change_in_the_users_folder_is_told_once_it_is_searchable(
    demo: Demo, notes: Path, change: Callable[[Path], Any], told: str
) -> None:
    with demo.started("--docs", str(notes)) as process:
        lines_until("livedex search docs", process)
        change(notes)
        lines_until(told, process)
        process.communicate("quit\n", timeout=PATIENCE_SECONDS)
    assert process.returncode == 0
