"""What of a folder is a document, what its row says, and when a file may be taken: without a watcher."""

from __future__ import annotations

import codecs
import os
from pathlib import Path
from typing import Any

import pytest

from livedex.adapters.sources.files.folder import Folder, Stat
from livedex.adapters.sources.files.holdings import Holdings, Vanished
from livedex.adapters.sources.files.positions import Identity, Position, as_time
from livedex.adapters.sources.files.reading import Print, Reading, read
from livedex.adapters.sources.files.rows import LONGEST_TITLE, columns
from livedex.adapters.sources.files.selection import Selection, media_type
from livedex.adapters.sources.files.settling import PATIENCE_SECONDS, Settling
from livedex.config import load
from livedex.errors import ConfigError, PositionLost, SourceMisconfigured, SourceUnavailable
from livedex.model import Change, Op, TableMapping
from livedex.rules.folding import fold
from livedex.store.entries import Entry, Resolved, SourceRow, key_hash, resolve

INCLUDE = ("**/*.md", "**/*.txt", "**/*.html")


def folder_at(path: Path, include: tuple[str, ...] = INCLUDE, exclude: tuple[str, ...] = ()) -> Folder:
    return Folder(path, Selection(include, exclude), "docs")


def stat(size: int = 10, modified_ns: int = 0, inode: int = 1) -> Stat:
    return Stat(size, modified_ns, modified_ns, 1, inode, False)


def reading(content: str, inode: int = 1) -> Reading:
    return Reading(stat(len(content), inode=inode), Print.of(content.encode()), content)


def row(path: str, content: str, *metadata: str) -> dict[str, Any]:
    return columns(path, reading(content), metadata)


@pytest.mark.parametrize(
    ("pattern", "path", "is_matched"),
    [
        ("**/*.md", "a.md", True),
        ("**/*.md", "a/b/c.md", True),
        ("**/*.md", "a/b/C.MD", True),
        ("**/*.md", "a/b.mdx", False),
        ("*.md", "a/b.md", False),
        ("guides/*.md", "guides/a.md", True),
        ("guides/**/a.md", "guides/a.md", True),
        ("guides/**/a.md", "guides/x/y/a.md", True),
        ("guides/**", "guides/x/y.md", True),
        ("./guides/**", "guides/x/y.md", True),
        ("**/v?.md", "v1.md", True),
        ("**/v?.md", "v/.md", False),
        ("**/[!a-c].md", "d.md", True),
        ("**/[!a-c].md", "b.md", False),
        ("**/a+b (1).md", "x/a+b (1).md", True),
    ],
)
def test_patterns_match_paths_within_the_folder(pattern: str, path: str, is_matched: bool) -> None:
    assert Selection([pattern]).takes(path) is is_matched


@pytest.mark.parametrize("exclude", ["drafts", "drafts/", "drafts/**", "**/*old*"])
def test_an_excluded_folder_goes_with_everything_in_it(exclude: str) -> None:
    assert not Selection(["**/*.md"], [exclude]).takes("drafts/old/a.md")


@pytest.mark.parametrize(
    "name",
    [".a.md", ".git/a.md", "x/.obsidian/a.md", "a.md~", ".a.md.swp", "a.md.swp", ".#a.md", "#a.md#", "4913", "~$a.md",
     "a.tmp", "a.md.part", "node_modules/x/readme.md", "a.md___jb_tmp___"],
)  # fmt: skip
def test_what_is_hidden_or_temporary_is_no_document(name: str) -> None:
    assert not Selection(["**/*"]).takes(name)


def test_media_types_follow_the_extension() -> None:
    names = ("a.md", "A.MARKDOWN", "a.html", "a.htm", "a.txt", "a", "a.md.rst")
    assert [media_type(name) for name in names] == [
        "text/markdown", "text/markdown", "text/html", "text/html", "text/plain", "text/plain", "text/plain"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "content", "title"),
    [
        ("a.md", "---\ntitle: From above\n---\n# Heading\n", "From above"),
        ("a.md", "---\nowner: Ada\n---\n\ntext\n\n## The *first* `heading` ##\n", "The first heading"),
        ("a.md", "```\n# code\n```\n# Real\n", "Real"),
        ("a.md", "~~~~\n# code\n~~~\n# code too\n~~~~\n# Real\n", "Real"),
        ("a.md", "Under\r\nlined\r\n=====\r\n", "lined"),
        ("a.md", "#\n\n# See [the guide](https://x.example/a_b)\n", "See the guide"),
        ("a.md", "no heading", "A"),
        ("guides/expense_policy-2024.md", "", "Expense policy 2024"),
        ("a.txt", "# No heading in plain text", "A"),
        ("a.html", "<html><head><title> A\n page </title></head><h1>Heading</h1>", "A page"),
        ("a.html", "<p>x</p><h1>Only <em>one</em> &amp; all</h1>", "Only one & all"),
        ("a.html", "<meta name='Title' content='Given'><title>Page</title>", "Given"),
        ("a.html", "<p>nothing", "A"),
    ],
)
def test_titles(path: str, content: str, title: str) -> None:
    assert row(path, content)["title"] == title


def test_a_title_is_one_line_of_bearable_length() -> None:
    assert len(row("a.md", "# " + "long " * 1000)["title"]) == LONGEST_TITLE


def test_metadata_comes_from_front_matter_and_from_the_path() -> None:
    content = "---\nowner: Ada\ntags: [a, b]\npath: elsewhere\n---\ntext"
    found = row("people/hr/leave.MD", content, "owner", "tags", "folder", "path", "extension", "missing")
    wanted = {
        "owner": "Ada", "tags": ["a", "b"], "folder": "people", "path": "people/hr/leave.MD", "extension": "md",
        "missing": None,
    }  # fmt: skip
    assert {name: found[name] for name in wanted} == wanted


def test_metadata_of_a_page_comes_from_its_meta_elements() -> None:
    found = row("a.html", '<meta name="Owner" content="Ada &amp; Bob"><meta charset="utf-8">', "owner", "Owner")
    assert (found["owner"], found["Owner"]) == ("Ada & Bob", "Ada & Bob")


def test_what_postgresql_cannot_store_is_in_no_column() -> None:
    page = row("a.html", "<meta name=owner content='a&#0;b&#xD800;'><title>x&#xDFFF;</title>", "owner")
    name = row("caf\udce9.md", "x", "path")
    for value in (page["owner"], page["title"], name["path"], name["title"]):
        assert "\0" not in value.encode().decode()


def test_a_row_has_exactly_the_columns_that_are_mapped() -> None:
    names = {"path", "content", "title", "updated_at", "media_type", "owner"}
    assert set(row("a.md", "x", "owner")) == names


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"plain", "plain"),
        (b"", ""),
        (codecs.BOM_UTF8 + "é\r\nx\r".encode(), "é\r\nx\r"),
        (codecs.BOM_UTF16_LE + "é".encode("utf-16-le"), "é"),
        (codecs.BOM_UTF16_BE + "é".encode("utf-16-be"), "é"),
    ],
)
def test_text_is_read_as_it_stands(tmp_path: Path, content: bytes, text: str) -> None:
    (tmp_path / "a.md").write_bytes(content)
    found = read(folder_at(tmp_path), "a.md", 1000)
    assert found is not None
    assert (found.text, found.refusal) == (text, None)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"caf\xe9 au lait", "not UTF-8: what stands at byte 3 (0xe9)"),
        (codecs.BOM_UTF8 + b"caf\xe9", "not UTF-8: what stands at byte 6 (0xe9)"),
        (b"ab\0c", "binary: it holds a NUL at byte 2"),
        (codecs.BOM_UTF16_LE + b"a\0\0\0", "binary: it holds a NUL at byte 4"),
        (codecs.BOM_UTF16_LE + b"a\0b", "not UTF-16: what stands at byte 4"),
        (b"x" * 1001, "The file has 1,001 bytes, more than the 1,000 of `max_bytes`"),
    ],
)
def test_what_is_no_text_is_refused_with_the_place_and_what_to_do(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "a.md").write_bytes(content)
    found = read(folder_at(tmp_path), "a.md", 1000)
    assert found is not None
    assert found.text is None
    assert reason in (found.refusal or "")
    assert "leave it out with `exclude`" in (found.refusal or "")


def test_a_pipe_is_no_document(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.md")
    assert folder_at(tmp_path).scan() == {}


def test_links_are_followed_to_files_inside_only(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    for place in (inside, outside):
        place.mkdir()
        (place / "real.md").write_text("x")
    (inside / "link.md").symlink_to("real.md")
    (inside / "leads-out.md").symlink_to(outside / "real.md")
    (inside / "dangling.md").symlink_to("nothing.md")
    (inside / "itself.md").symlink_to("itself.md")
    (inside / "again").symlink_to(inside)
    (inside / "folder.md").symlink_to(outside)
    assert sorted(folder_at(inside).scan()) == ["link.md", "real.md"]


def test_a_missing_folder_names_itself_and_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailable, match=r"absent is not there: .* sources\.docs\.path .* Nothing was deleted"):
        folder_at(tmp_path / "absent")


def test_a_file_instead_of_a_folder_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SourceMisconfigured, match=r"file is no folder. Correct sources\.docs\.path"):
        folder_at(tmp_path / "file")


def test_a_folder_that_was_replaced_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    folder = folder_at(tmp_path / "a")
    (tmp_path / "a").rename(tmp_path / "b")
    (tmp_path / "a").mkdir()
    with pytest.raises(SourceUnavailable, match="Another folder stands at"):
        folder.check()


def test_positions_order_and_survive_being_written() -> None:
    positions = [Position(9, 5), Position(10), Position(10, 3, Identity(1, 2), 7), Position(1 << 60)]
    assert [Position.parse(str(position)) for position in positions] == positions
    assert sorted(positions, key=lambda position: position.order) == positions
    assert sorted(map(str, positions)) == list(map(str, positions))


def test_a_position_of_something_else_is_lost() -> None:
    with pytest.raises(PositionLost, match="resync"):
        Position.parse("0/16B3748")


def test_times_that_no_calendar_has_are_bounded() -> None:
    assert (as_time(2**63).year, as_time(-(2**80)).year) == (2262, 1)


def settled_at(looks: list[tuple[float, Stat | None]]) -> float | None:
    """When a file that was noted at 0 and looks so at those times was first taken."""
    settling = Settling()
    settling.note(["a"], after=7, now=0.0)
    return next((now for now, seen in looks if settling.is_settled("a", seen, now, now_ns=int(now * 1e9))), None)


def test_a_file_is_taken_when_it_has_been_quiet() -> None:
    fresh = stat(modified_ns=0)
    assert settled_at([(0.0, fresh), (0.03, fresh), (0.05, fresh)]) == 0.05


def test_a_file_that_was_quiet_before_is_taken_at_once() -> None:
    assert settled_at([(0.0, stat(modified_ns=-(10**9)))]) == 0.0


def test_a_file_whose_clock_runs_ahead_is_taken_when_it_looks_the_same() -> None:
    ahead = stat(modified_ns=10**12)
    assert settled_at([(0.0, ahead), (0.05, ahead)]) == 0.05


def test_a_file_that_grows_has_to_be_quiet_for_longer() -> None:
    looks: list[tuple[float, Stat | None]] = [(n * 0.04, stat(n + 1, int(n * 0.04e9))) for n in range(4)]
    last = looks[-1][1]
    assert settled_at([*looks, (0.17, last), (0.3, last), (0.53, last)]) == 0.53


def test_an_emptied_file_is_given_time_to_be_written() -> None:
    empty = stat(size=0)
    assert settled_at([(0.0, empty), (0.2, empty), (0.21, stat(5, 200_000_000)), (0.32, stat(5, 200_000_000))]) == 0.32


def test_a_file_that_comes_back_was_not_deleted() -> None:
    back = stat(modified_ns=-(10**9))
    assert settled_at([(0.0, None), (0.05, None), (0.06, back)]) == 0.06


def test_a_file_that_never_rests_is_taken_some_time() -> None:
    looks: list[tuple[float, Stat | None]] = [(n * 0.04, stat(n + 1, int(n * 0.04e9))) for n in range(300)]
    assert settled_at(looks) == pytest.approx(PATIENCE_SECONDS)


def test_what_waits_holds_back_the_moment_up_to_which_all_is_known() -> None:
    settling = Settling()
    settling.note(["a"], after=3, now=0.0)
    settling.note(["b", "a"], after=5, now=1.0)
    settling.done("b")
    assert settling.oldest == 3


def test_a_moved_file_is_known_by_its_content() -> None:
    holdings = Holdings()
    holdings.put("old/a.md", reading("the text", inode=1))
    holdings.put("old/b.md", reading("the text", inode=2))
    vanished = Vanished(holdings, ["old/a.md", "old/b.md"])
    assert vanished.take("new/b.md", reading("the text", inode=9)) == "old/b.md"
    assert vanished.take("new/c.md", reading("the text", inode=9)) == "old/a.md"
    assert vanished.take("new/d.md", reading("the text", inode=9)) is None


def test_among_equal_files_the_inode_decides() -> None:
    holdings = Holdings()
    holdings.put("a.md", reading("the text", inode=1))
    holdings.put("b.md", reading("the text", inode=2))
    assert Vanished(holdings, ["a.md", "b.md"]).take("a2.md", reading("the text", inode=2)) == "b.md"


def test_a_file_that_was_moved_and_edited_is_known_by_inode_and_half_of_its_lines() -> None:
    holdings = Holdings()
    holdings.put("a.md", reading("one\ntwo\nthree\nfour", inode=1))
    assert Vanished(holdings, ["a.md"]).take("b.md", reading("one\ntwo\nthree\nfive", inode=1)) == "a.md"


def test_an_inode_that_was_given_out_again_moves_nothing() -> None:
    holdings = Holdings()
    holdings.put("a.md", reading("one\ntwo\nthree\nfour", inode=1))
    assert Vanished(holdings, ["a.md"]).take("b.md", reading("of something else", inode=1)) is None


def test_empty_files_are_not_taken_for_one_another() -> None:
    holdings = Holdings()
    holdings.put("a.md", reading("", inode=1))
    assert Vanished(holdings, ["a.md"]).take("b.md", reading("", inode=2)) is None


def log_of(change: Change, entry: Entry | None) -> Resolved:
    mapping = TableMapping(("path",), "content", "title")
    return resolve(fold([change]), SourceRow(1, "docs", {"files": mapping}), [] if entry is None else [entry])


KNOWN = {"path": "a.md", "content": "The text.", "title": "A"}


def known_entry(*, refused: bool = False) -> Entry:
    return Entry(5, key_hash(("files", ("a.md",))), False, 1, b"", refused, KNOWN)


def test_what_cannot_be_read_is_refused_and_keeps_what_the_log_knows() -> None:
    change = Change(
        Op.UPDATE, "files", ("a.md",), {"path": "a.md"}, unchanged=frozenset({"content", "title"}), refused="no right"
    )
    resolved = log_of(change, known_entry())
    assert [(row["raw"], row["acl"]) for row in resolved.rows] == [(KNOWN, ["*"])]
    assert resolved.refusals == {0: "no right"}


def test_what_is_refused_without_more_is_shown_to_nobody() -> None:
    change = Change(Op.UPDATE, "files", ("a.md",), {"path": "a.md"}, refused="binary")
    resolved = log_of(change, known_entry())
    assert [(row["raw"], row["acl"], row["title"]) for row in resolved.rows] == [({"path": "a.md"}, [], "")]
    assert resolved.refusals == {0: "binary"}


def test_a_refused_document_that_is_deleted_leaves_quarantine() -> None:
    assert log_of(Change(Op.DELETE, "files", ("a.md",)), known_entry(refused=True)).mended == [5]


def test_a_refusal_holds_for_the_last_change_of_a_batch_only() -> None:
    refused = Change(Op.UPDATE, "files", ("a.md",), {"path": "a.md"}, refused="binary")
    mended = Change(Op.UPDATE, "files", ("a.md",), KNOWN)
    effects = [fold(changes).effects[0] for changes in ([refused, mended], [mended, refused])]
    assert [(effect.refused, effect.columns) for effect in effects] == [(None, KNOWN), ("binary", {"path": "a.md"})]


SETTINGS = "sources:\n  docs: {{kind: files, path: ./handbook{more}}}\nviews:\n  handbook: {{from: docs}}\n"


def test_settings_of_a_folder_make_its_mapping(tmp_path: Path) -> None:
    file = tmp_path / "livedex.yaml"
    file.write_text(SETTINGS.format(more=", metadata: [owner, folder]"))
    source = load(file, {}).sources["docs"]
    assert source.kind == "files"
    assert source.path == tmp_path / "handbook"
    assert source.tables == {
        "files": TableMapping(
            ("path",), "content", "title", "updated_at", ("owner", "folder"), media_type="media_type"
        )
    }  # fmt: skip


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        (", metadata: [content]", "sources.docs.metadata: names content, which is the file's text"),
        (", include: [../*.md]", "sources.docs.include[0]: must be a pattern of paths within the folder"),
        (", exclude: /tmp", "sources.docs.exclude[0]: must be a pattern of paths within the folder"),
        (", max_bytes: 0", "sources.docs.max_bytes: must be at least 1"),
        (", inclue: x", 'sources.docs.inclue: unknown key. Did you mean "include"?'),
    ],
)
def test_mistakes_in_settings_are_named_with_their_place(tmp_path: Path, more: str, problem: str) -> None:
    file = tmp_path / "livedex.yaml"
    file.write_text(SETTINGS.format(more=more))
    with pytest.raises(ConfigError) as caught:
        load(file, {})
    assert problem in str(caught.value)
