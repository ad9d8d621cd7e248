"""A real folder, edited as people and their programs do, and what the source makes of it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.integration.folder_consumer import PATIENCE_SECONDS, following

from livedex.model import Op


async def test_files_are_created_edited_and_deleted(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("one")
    (tmp_path / "b.md").write_text("two")
    async with following(tmp_path) as consumer:
        assert consumer.texts == {"a.md": "one", "b.md": "two"}
        (tmp_path / "a.md").write_text("one, edited")
        (tmp_path / "b.md").unlink()
        (tmp_path / "c.md").write_text("three")
        await consumer.catch_up()
        assert consumer.texts == {"a.md": "one, edited", "c.md": "three"}
        assert sorted(consumer.said()) == [
            (Op.CREATE, "c.md", None), (Op.DELETE, "b.md", None), (Op.UPDATE, "a.md", None)
        ]  # fmt: skip


async def test_files_in_new_folders_are_found(tmp_path: Path) -> None:
    async with following(tmp_path) as consumer:
        for number in range(20):
            folder = tmp_path / f"n{number}" / "deep" / "er"
            folder.mkdir(parents=True)
            (folder / "a.md").write_text(str(number))
        await consumer.catch_up()
        assert consumer.texts == {f"n{number}/deep/er/a.md": str(number) for number in range(20)}


async def test_a_renamed_file_stays_the_same_document(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("text")
    async with following(tmp_path) as consumer:
        (tmp_path / "a.md").rename(tmp_path / "b.md")
        await consumer.catch_up()
        assert consumer.said() == [(Op.UPDATE, "b.md", "a.md")]


async def test_a_rename_that_changes_only_the_case_is_a_rename(tmp_path: Path) -> None:
    (tmp_path / "Notes.md").write_text("text")
    async with following(tmp_path) as consumer:
        (tmp_path / "Notes.md").rename(tmp_path / "notes.md")
        await consumer.catch_up()
        assert consumer.said() == [(Op.UPDATE, "notes.md", "Notes.md")]


async def test_a_moved_folder_takes_its_documents_along(tmp_path: Path) -> None:
    (tmp_path / "old" / "deep").mkdir(parents=True)
    for number in range(30):
        (tmp_path / "old" / "deep" / f"{number}.md").write_text("the same text" if number < 5 else f"text {number}")
    async with following(tmp_path, batch_changes=7) as consumer:
        (tmp_path / "old").rename(tmp_path / "new")
        await consumer.catch_up()
        assert sorted(consumer.said()) == sorted(
            (Op.UPDATE, f"new/deep/{number}.md", f"old/deep/{number}.md") for number in range(30)
        )
        (tmp_path / "new" / "deep" / "7.md").write_text("edited after the move")
        await consumer.catch_up()
        assert consumer.texts["new/deep/7.md"] == "edited after the move"


async def test_a_folder_that_is_moved_out_is_deleted_and_one_that_is_moved_in_is_new(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    (inside / "a").mkdir(parents=True)
    (inside / "a" / "x.md").write_text("x")
    (outside / "b").mkdir(parents=True)
    (outside / "b" / "y.md").write_text("y")
    async with following(inside) as consumer:
        (inside / "a").rename(outside / "a")
        (outside / "b").rename(inside / "b")
        await consumer.catch_up()
        assert consumer.texts == {"b/y.md": "y"}


def replace_by_rename(path: Path, text: str) -> None:
    """As many editors save."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text)
    temporary.replace(path)


def save_with_backup(path: Path, text: str) -> None:
    """As Vim saves: the file is put aside, a new one is written, the backup goes."""
    backup = path.with_name(f"{path.name}~")
    path.rename(backup)
    path.write_text(text)
    backup.unlink()


def delete_and_write(path: Path, text: str) -> None:
    path.unlink()
    path.write_text(text)


@pytest.mark.parametrize("save", [replace_by_rename, save_with_backup, delete_and_write])
async def test_a_save_is_one_update_however_the_editor_does_it(
    tmp_path: Path, save: Callable[[Path, str], None]
) -> None:
    (tmp_path / "a.md").write_text("before")
    async with following(tmp_path) as consumer:
        save(tmp_path / "a.md", "after")
        await consumer.catch_up()
        assert consumer.said() == [(Op.UPDATE, "a.md", None)]
        assert consumer.texts == {"a.md": "after"}


SLOW_WRITER = """
import sys, time
with open(sys.argv[1], "w") as file:
    for _ in range(40):
        file.write("piece\\n")
        file.flush()
        time.sleep(0.01)
"""


async def test_a_file_that_is_written_piece_by_piece_ends_whole_and_is_never_empty(tmp_path: Path) -> None:
    path = tmp_path / "a.md"
    path.write_text("before")
    async with following(tmp_path) as consumer:
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", SLOW_WRITER, str(path))
        async with asyncio.timeout(PATIENCE_SECONDS):
            while process.returncode is None:
                await consumer.step()
        await consumer.catch_up()
        assert consumer.texts == {"a.md": "piece\n" * 40}
        assert [change.columns["content"] for change in consumer.changes if not change.columns["content"]] == []


async def test_a_file_that_is_touched_says_so_and_one_with_new_rights_nothing(tmp_path: Path) -> None:
    for name in ("touched.md", "rights.md"):
        (tmp_path / name).write_text("text")
        os.utime(tmp_path / name, (1000, 1000))
    async with following(tmp_path) as consumer:
        os.utime(tmp_path / "touched.md", (2000, 2000))
        (tmp_path / "rights.md").chmod(0o600)
        await consumer.catch_up()
        assert [(c.key[0], c.columns["updated_at"]) for c in consumer.changes] == [
            ("touched.md", "1970-01-01T00:33:20+00:00")
        ]


async def test_a_link_follows_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "real.md").write_text("before")
    (tmp_path / "link.md").symlink_to("real.md")
    async with following(tmp_path) as consumer:
        (tmp_path / "real.md").write_text("after")
        await consumer.catch_up()
        assert consumer.texts == {"real.md": "after", "link.md": "after"}
        (tmp_path / "real.md").unlink()
        await consumer.catch_up()
        assert consumer.texts == {}


async def test_a_name_that_is_not_utf_8_is_shown_with_its_bytes(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.md")).write_text("text")
    async with following(tmp_path) as consumer:
        assert consumer.texts == {"caf\\xe9.md": "text"}


async def test_a_file_that_becomes_binary_is_refused_and_mended(tmp_path: Path) -> None:
    path = tmp_path / "a.md"
    path.write_text("text")
    async with following(tmp_path, max_bytes=100) as consumer:
        for content in (b"a\0b", b"x" * 101, b"text again"):
            path.write_bytes(content)
            await consumer.catch_up()
        assert [(change.refused or "")[:11] for change in consumer.changes] == ["The file is", "The file ha", ""]
        assert [sorted(change.columns) for change in consumer.changes[:2]] == [["path"], ["path"]]


async def test_what_the_watcher_cannot_know_is_found_by_looking(tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "a.md").write_text("before")
    # Writing through another name of the file is not told to those who watch the folder.
    os.link(folder / "a.md", tmp_path / "other-name.md")
    async with following(folder, rescan_seconds=0.2) as consumer:
        (tmp_path / "other-name.md").write_text("after")
        await consumer.until(lambda: consumer.texts == {"a.md": "after"})


async def test_a_folder_that_is_polled_is_followed_too(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("one")
    (tmp_path / "b.md").write_text("two")
    async with following(tmp_path, polling=True) as consumer:
        (tmp_path / "a.md").rename(tmp_path / "c.md")
        (tmp_path / "b.md").write_text("two, edited")
        await consumer.catch_up()
        assert sorted(consumer.said()) == [(Op.UPDATE, "b.md", None), (Op.UPDATE, "c.md", "a.md")]


async def test_closing_leaves_no_thread_and_no_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary, folder = tmp_path / "tmp", tmp_path / "docs"
    temporary.mkdir()
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    async with following(folder):
        assert len(list(temporary.iterdir())) == 1
    assert list(temporary.iterdir()) == []
    assert [thread.name for thread in threading.enumerate() if thread.name == "livedex files watcher"] == []


def contents(folder: Path) -> dict[str, str | None]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*.md")}


EDITOR = Path(__file__).parent / "folder_editor.py"


@pytest.mark.parametrize("polling", [False, True], ids=["watching", "polling"])
async def test_three_hundred_random_operations_end_in_what_the_folder_holds(tmp_path: Path, polling: bool) -> None:
    async with following(tmp_path, polling=polling) as consumer:
        process = await asyncio.create_subprocess_exec(sys.executable, str(EDITOR), str(tmp_path), "300", "7")
        async with asyncio.timeout(2 * PATIENCE_SECONDS):
            while process.returncode is None:
                await consumer.step()
        assert process.returncode == 0
        await consumer.catch_up()
        assert consumer.texts == contents(tmp_path)
        assert len(consumer.changes) > 100


def test_the_editor_of_the_stress_does_what_it_is_told(tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(EDITOR), str(tmp_path), "100", "1"], check=True, timeout=60)
    assert len(list(tmp_path.rglob("*.md"))) > 5
