"""A folder, or something in it, that cannot be read for a while: nothing of it is deleted."""

from __future__ import annotations

import importlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.integration.folder_consumer import following

from livedex.errors import SourceMisconfigured, SourceUnavailable
from livedex.model import Op


@contextmanager
def ordinary_user() -> Iterator[Path]:
    """A folder of a user whom rights bind, and this process as that user while the block runs."""
    directory = Path(tempfile.mkdtemp(prefix="livedex-rights-"))
    if os.geteuid() != 0:
        try:
            yield directory
        finally:
            shutil.rmtree(directory)
        return
    for needed in ("watchfiles", "encodings.utf_8_sig"):  # the other user may be unable to read our packages
        importlib.import_module(needed)
    os.chown(directory, 65534, 65534)
    os.seteuid(65534)
    try:
        yield directory
    finally:
        os.seteuid(0)
        shutil.rmtree(directory)


async def test_a_file_that_may_not_be_read_keeps_what_is_known_of_it() -> None:
    with ordinary_user() as folder:
        path = folder / "a.md"
        path.write_text("text")
        async with following(folder) as consumer:
            path.chmod(0)
            await consumer.catch_up()
            path.chmod(0o600)
            await consumer.catch_up()
            assert [(change.op, bool(change.refused)) for change in consumer.changes] == [
                (Op.UPDATE, True), (Op.UPDATE, False)
            ]  # fmt: skip
            assert consumer.changes[0].unchanged == {"content", "title", "updated_at", "media_type"}
            assert "The file cannot be read: Permission denied." in (consumer.changes[0].refused or "")


async def test_a_folder_that_may_not_be_read_deletes_nothing() -> None:
    with ordinary_user() as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "a.md").write_text("text")
        (folder / "sub").chmod(0)
        try:
            with pytest.raises(SourceMisconfigured, match=r"sub cannot be read: .* `exclude`\. Nothing was deleted"):
                async with following(folder):
                    pass
        finally:
            (folder / "sub").chmod(0o700)


@pytest.mark.parametrize("polling", [False, True])
async def test_a_folder_that_vanishes_deletes_nothing_and_goes_on_when_it_is_back(
    tmp_path: Path, polling: bool
) -> None:
    folder, away = tmp_path / "docs", tmp_path / "away"
    folder.mkdir()
    (folder / "a.md").write_text("text")
    async with following(folder, polling=polling) as consumer:
        folder.rename(away)
        with pytest.raises(SourceUnavailable, match="Nothing was deleted"):
            await consumer.until(lambda: False)
        assert consumer.texts == {"a.md": "text"}
    with pytest.raises(SourceUnavailable, match="is not there"):
        async with following(folder, consumer.position):
            pass
    away.rename(folder)
    async with following(folder, consumer.position) as consumer:
        assert consumer.texts == {"a.md": "text"}


async def test_an_empty_folder_in_the_place_of_another_is_taken_for_a_missing_mount(tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "a.md").write_text("text")
    async with following(folder) as consumer:
        pass
    folder.rename(tmp_path / "away")
    folder.mkdir()
    with pytest.raises(SourceUnavailable, match=r"held 1: it is probably not mounted.*livedex source resync"):
        async with following(folder, consumer.position):
            pass
    (folder / "b.md").write_text("of the new folder")
    async with following(folder, consumer.position) as consumer:
        assert consumer.texts == {"b.md": "of the new folder"}


async def test_a_folder_that_was_emptied_has_no_documents(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("text")
    async with following(tmp_path) as consumer:
        (tmp_path / "a.md").unlink()
        await consumer.catch_up()
        assert consumer.texts == {}
    async with following(tmp_path, consumer.position) as consumer:
        assert consumer.texts == {}
