"""What a document says about itself before it begins."""

from __future__ import annotations

from typing import Any

import pytest

from livedex.front_matter import LONGEST, body_start, read


def described(value: str) -> Any:
    return read(f"---\nname: {value}\n---\ntext")["name"]


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("billing", "billing"),
        ('"a: b"', "a: b"),
        ("3", 3),
        ("-2.5", -2.5),
        ("true", True),
        ("~", None),
        ("", None),
        ("yes", "yes"),
        ("[a, 1, [b]]", ["a", 1, ["b"]]),
        ("{a: {b: 1}}", {"a": {"b": 1}}),
        ("2026-03-01", "2026-03-01"),
        ("2026-03-01 10:00:00 +02", "2026-03-01T10:00:00+02:00"),
        ("2026-02-30 10:00:00", "2026-02-30 10:00:00"),
        ("007", "007"),
        ("0x10", "0x10"),
        (".inf", ".inf"),
        ("9" * 30, "9" * 30),
        ("!!python/object:os.system x", "x"),
        ("!!int many", "many"),
        (r'"zero\0 and half \ud800"', "zero and half ?"),
    ],
)
def test_values_are_those_of_json_and_dates_are_iso_texts(written: str, value: Any) -> None:
    assert described(written) == value


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_front_matter_is_read_and_skipped_whatever_ends_its_lines(line_end: str, mark: str) -> None:
    matter = mark + line_end.join(["---", "title: Refunds", "tags:", "- a", "- b", "---", ""])
    content = matter + "# Refunds"
    assert (read(content), content[body_start(content) :]) == ({"title": "Refunds", "tags": ["a", "b"]}, "# Refunds")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "text",
        "---",
        "---\n\ntext\n\n---\n",
        "text\n---\na: 1\n---\n",
        " ---\na: 1\n---\n",
        "---\na: 1\nno end",
        "---\n---\ntext",
        "---\n- a: 1\n---\n",
    ],
)
def test_text_without_front_matter_says_nothing_about_itself(content: str) -> None:
    assert read(content) == {}


@pytest.mark.parametrize(
    "matter",
    [
        "a: b: c",
        "a: [1",
        "a: &x [*x]",
        "a: *nowhere",
        "a: \x01",
        "a: " + "[" * 500 + "]" * 500,
        "a: " + "[" * 10_000,
        "a: " + "- " * 7_000,
        "\n".join("  " * depth + "a:" for depth in range(90)),
        "a0: &a0 [x, x]\n" + "\n".join(f"a{n + 1}: &a{n + 1} [*a{n}, *a{n}]" for n in range(40)),
        "a: " + "x" * LONGEST,
    ],
    ids=[
        "two colons",
        "open list",
        "itself",
        "no anchor",
        "control",
        "deep",
        "open",
        "dashes",
        "indented",
        "bomb",
        "long",
    ],
)
def test_broken_front_matter_is_skipped_and_read_as_nothing(matter: str) -> None:
    content = f"---\n{matter}\n---\ntext"
    assert (read(content), content[body_start(content) :]) == ({}, "text")
