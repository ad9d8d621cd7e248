"""What doctor makes of what it finds: remedies, isolation, clocks, folders."""

from __future__ import annotations

import asyncio
import os
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from livedex.doctor import State, examine, files, machine
from livedex.doctor.clocks import check_clock
from livedex.doctor.report import Check, guarded, remedy_in
from livedex.errors import SourceUnavailable

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("message", "remedy"),
    [
        ("x. Run: ALTER SYSTEM SET a = 'b'; and restart the server.", "ALTER SYSTEM SET a = 'b';"),
        ('x. Run as a superuser: ALTER ROLE "a;b" REPLICATION;', 'ALTER ROLE "a;b" REPLICATION;'),
        ("x. Create one and use that: CREATE DATABASE l ENCODING 'UTF8';", "CREATE DATABASE l ENCODING 'UTF8';"),
        ("x: CREATE SCHEMA a; ALTER SCHEMA a OWNER TO b;", "CREATE SCHEMA a; ALTER SCHEMA a OWNER TO b;"),
        ("Lost. Run: livedex source resync kb", "livedex source resync kb"),
        ("Missing. Run: livedex models fetch", "livedex models fetch"),
        ("Missing. Run: pip install 'livedex[local]'", "pip install 'livedex[local]'"),
        ("Upgrade the server.", None),
    ],
)  # fmt: skip
def test_remedy_is_what_the_message_says_to_run(message: str, remedy: str | None) -> None:
    assert remedy_in(message) == remedy


async def test_a_check_that_hangs_is_reported_as_one() -> None:
    async def hang() -> list[Check]:
        await asyncio.sleep(3600)
        return []

    (found,) = await guarded("source", 0.01, hang)
    assert (found.state, found.message) == (State.FAILED, "no answer within 0.01 s")


@pytest.mark.parametrize(
    "error", [SourceUnavailable("gone from postgresql://me:pw1@h/d"), ValueError("x password=pw1")]
)
async def test_a_check_that_breaks_is_reported_without_secrets(error: Exception) -> None:
    async def broken() -> list[Check]:
        raise error

    (found,) = await guarded("source", 1, broken)
    assert found.state is State.FAILED
    assert "pw1" not in found.message


@pytest.mark.parametrize(
    ("offset_seconds", "state"), [(0, State.OK), (0.9, State.OK), (5, State.WARNING), (-5, State.WARNING)]
)
def test_clocks_may_differ_by_a_second(offset_seconds: float, state: State) -> None:
    theirs = NOW + timedelta(seconds=offset_seconds)
    assert check_clock(theirs, NOW, NOW + timedelta(milliseconds=10), "the source").state is state


def test_a_slow_answer_is_not_taken_for_a_wrong_clock() -> None:
    answered = NOW + timedelta(seconds=20)
    assert check_clock(NOW + timedelta(seconds=10), NOW, answered, "the source").state is State.OK


def test_folder_that_is_missing_fails(tmp_path: Path) -> None:
    (found,) = files.check_folder(tmp_path / "gone", polling=False)
    assert found.state is State.FAILED


def test_folder_is_counted_without_being_read(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.md").write_text("x")
    (found,) = files.check_folder(tmp_path, polling=True)
    assert (found.state, found.message) == (State.OK, f"{tmp_path}: 1 file in 2 folders")


@pytest.mark.parametrize(("limit", "state"), [(1, State.FAILED), (3, State.WARNING), (1000, State.OK)])
def test_watches_are_compared_with_the_limit(
    limit: int, state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "docs" / "a").mkdir(parents=True)
    (tmp_path / "limit").write_text(f"{limit}\n")
    monkeypatch.setattr(files, "WATCH_LIMIT", tmp_path / "limit")
    *_, found = files.check_folder(tmp_path / "docs", polling=False)
    assert (found.name, found.state) == ("watches", state)


def test_packages_that_are_looked_for_are_the_projects() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {
        "".join(c for c in line.split("[")[0].split(">")[0] if not c.isspace()) for line in project["dependencies"]
    }
    assert set(machine.PACKAGES) - needed == set()


def test_the_oldest_python_is_the_projects() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == ">=" + ".".join(map(str, machine.OLDEST_PYTHON))


async def test_missing_configuration_points_to_init(tmp_path: Path) -> None:
    report = await examine(tmp_path / "livedex.yaml", {"HOME": str(tmp_path)})
    (found,) = report.groups[1].checks
    assert (found.state, found.remedy) == (State.FAILED, "livedex init")


async def test_missing_variable_leaves_the_rest_to_be_checked(tmp_path: Path) -> None:
    file = tmp_path / "livedex.yaml"
    file.write_text(
        "sources:\n  kb: {kind: postgres, url: '${KB_URL}', tables: {t: {key: id, content: c}}}\n"
        "views:\n  v: {from: kb, embedder: hashing}\n"
    )
    report = await examine(file, {"HOME": str(tmp_path)})
    states = {group.title: [check.state for check in group.checks] for group in report.groups}
    assert report.groups[1].checks[0].remedy == "export KB_URL=..."
    assert states["Source kb"] == [State.NOT_CHECKED]
    assert states["Store"] == [State.OK, State.OK]
    assert not (tmp_path / ".livedex").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
async def test_folder_that_may_not_be_written_to_fails(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    file = tmp_path / "livedex.yaml"
    file.write_text(
        "sources:\n  kb: {kind: postgres, url: postgresql://h/d, tables: {t: {key: id, content: c}}}\n"
        f"views:\n  v: {{from: kb, embedder: hashing}}\nstore: {{directory: {closed}/index}}\n"
    )
    report = await examine(file, {"HOME": str(tmp_path)})
    store = next(group for group in report.groups if group.title == "Store")
    assert store.checks[-1].state is State.FAILED
