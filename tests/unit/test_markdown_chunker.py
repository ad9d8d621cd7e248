"""What MarkdownChunker makes of Markdown."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence

import pytest

from livedex.adapters.chunkers.markdown import MarkdownChunker
from livedex.adapters.chunkers.packing import pack
from livedex.adapters.chunkers.tokens import count_units, estimate_tokens
from livedex.errors import ConfigError
from livedex.model import Chunk
from livedex.testing.chunkers import check_chunks

APART = MarkdownChunker(min_tokens=0)
SENTENCE = "The cursor moves with its effect, in the same transaction. "


def _texts(content: str, chunker: MarkdownChunker = APART) -> list[str]:
    return [chunk.text for chunk in chunker.chunk(content, "")]


def _paths(content: str, chunker: MarkdownChunker = APART) -> list[tuple[str, ...]]:
    return [chunk.heading_path for chunk in chunker.chunk(content, "")]


def _types(content: str, chunker: MarkdownChunker = APART) -> list[str]:
    return [chunk.section_type for chunk in chunker.chunk(content, "")]


def _paragraphs(count: int) -> list[str]:
    """Paragraphs of 30 tokens each, no two alike."""
    return [f"Paragraph {number} says this. {SENTENCE * 2}".strip() for number in range(count)]


def _new(before: Sequence[Chunk], after: Sequence[Chunk]) -> int:
    return len({chunk.embedded_text for chunk in after} - {chunk.embedded_text for chunk in before})


def test_a_section_is_a_heading_and_its_text() -> None:
    assert _texts("# A\n\none\n\n## B\n\ntwo\n\n\n# C\nthree\n") == ["# A\n\none", "## B\n\ntwo", "# C\nthree"]


def test_text_before_the_first_heading_is_a_section_without_a_path() -> None:
    assert _paths("hello\n\n# A\n\none\n") == [(), ("A",)]


def test_heading_paths_lead_from_the_outermost_heading_inwards() -> None:
    content = "# A\n\nx\n\n## B\n\nx\n\n### C\n\nx\n\n## D\n\nx\n\n# E\n\nx\n"

    assert _paths(content) == [("A",), ("A", "B"), ("A", "B", "C"), ("A", "D"), ("E",)]


def test_a_heading_without_text_stands_with_the_first_section_below_it() -> None:
    chunks = APART.chunk("# A\n\n## B\n\ntext\n\n## C\n\nmore\n", "")

    assert [(chunk.text, chunk.heading_path) for chunk in chunks] == [
        ("# A\n\n## B\n\ntext", ("A", "B")),
        ("## C\n\nmore", ("A", "C")),
    ]


def test_a_heading_with_nothing_below_it_stands_alone() -> None:
    assert _texts("## A\n\n## B\n\ntext\n") == ["## A", "## B\n\ntext"]


@pytest.mark.parametrize(
    ("heading", "title"),
    [
        ("# Plain", "Plain"),
        ("#   Spaced   out   ", "Spaced out"),
        ("## Closed ##", "Closed"),
        ("# C#", "C#"),
        ("# [Set *up*](https://example.org/a_(b)) now", "Set up now"),
        ("# [text][ref] and ![image](x.png)", "text and image"),
        ("# [![badge](a.svg)](b) Name", "badge Name"),
        ("# **Bold** and _italic_ and ~~gone~~", "Bold and italic and gone"),
        ("# Use `snake_case_name` and `*args`", "Use snake_case_name and *args"),
        ("# snake_case_name", "snake_case_name"),
        ("# 2 * 3 * 4", "2 * 3 * 4"),
        (r"# \*not emphasis\*", "*not emphasis*"),
        ("# Q&amp;A <a id='x'></a>", "Q&A"),
        ("# Configure {#configure}", "Configure"),
        ("# <https://example.org>", "https://example.org"),
        ("Title\n=====", "Title"),
        ("Two\nlines\n---", "Two lines"),
        ("   ### Indented", "Indented"),
    ],
)
def test_a_heading_path_holds_plain_text(heading: str, title: str) -> None:
    assert _paths(f"{heading}\n\ntext\n") == [(title,)]


def test_a_very_long_heading_is_shortened_in_the_path() -> None:
    assert {len(title) for path in _paths(f"# {'x' * 5_000}\n\ntext\n") for title in path} == {200}


@pytest.mark.parametrize(
    "content",
    [
        "a\n\n```\n# no\n```\n\nb\n",
        "a\n\n~~~ python\n# no\n```\n# no\n~~~\n",
        "a\n\n````\n```\n# no\n````\n",
        "a\n\n```\n# never closed\n",
        "- a\n  ```\n# less indented than the list\n  ```\n- b\n",
        "a\n\n    # indented code\n",
        "<!--\n\n# no\n\n-->\n",
        "<pre>\n\n# no\n\n</pre>\n",
        "<div>\n# no\n</div>\n",
        "> # quoted\n",
        "- a\n\n  # in the item\n",
        "#hashtag\n",
        "####### seven\n",
        "a\n\n***\n\nb\n",
        "- a\n---\n- b\n",
        "| a |\n|---|\n| # |\n",
    ],
)
def test_what_is_not_a_heading_opens_no_section(content: str) -> None:
    assert _paths(content) == [()]


@pytest.mark.parametrize(
    ("content", "section_type"),
    [
        ("text\n", "text"),
        ("# A\n\ntext\n", "text"),
        ("# A\n", "heading"),
        ("# A\n\n```\ncode\n```\n", "code"),
        ("    indented code\n", "code"),
        ("- a\n- b\n", "list"),
        ("1. a\n2. b\n", "list"),
        ("> quoted\nlazily\n", "quote"),
        ("| a | b |\n|---|---|\n| 1 | 2 |\n", "table"),
        ("a | b\n--- | ---\n1 | 2\n", "table"),
        ("<div>\nx\n</div>\n", "html"),
        ("<!-- a comment -->\n", "html"),
        ("Look:\n\n```\nmuch more code than text\n```\n", "code"),
        ("A long sentence explains what the code below does.\n\n```\nx\n```\n", "text"),
    ],
)
def test_the_section_type_is_that_of_the_main_block(content: str, section_type: str) -> None:
    assert _types(content) == [section_type]


def test_front_matter_is_in_no_chunk() -> None:
    assert _texts("---\ntitle: A\ntags: [b]\n---\n\n# A\n\ntext\n") == ["# A\n\ntext"]


def test_front_matter_is_recognised_after_a_byte_order_mark_and_with_windows_line_ends() -> None:
    assert _texts("\ufeff---\r\ntitle: A\r\n---\r\ntext\r\n") == ["text"]


@pytest.mark.parametrize(
    "content", ["---\n\nnot metadata\n\n---\n", "---\ntitle: never closed\n", "text\n\n---\na: b\n---"]
)
def test_rules_are_not_front_matter(content: str) -> None:
    check_chunks(content, APART.chunk(content, ""))


def test_short_sections_share_a_chunk_and_the_path_that_they_share() -> None:
    chunks = MarkdownChunker().chunk("# A\n\n## B\n\nx\n\n## C\n\ny\n\n### D\n\nz\n", "")

    assert [(chunk.heading_path, chunk.text[-1]) for chunk in chunks] == [(("A",), "z")]


def test_a_short_section_does_not_join_one_under_another_heading() -> None:
    assert _paths("## A\n\nx\n\n# B\n\ny\n", MarkdownChunker()) == [("A",), ("B",)]


def test_a_fence_that_fits_stays_whole() -> None:
    fence = "```\n" + "line of code\n" * 40 + "```"
    content = f"# A\n\n{SENTENCE * 8}\n\n{fence}\n\n{SENTENCE * 8}\n"

    assert [text for text in _texts(content) if fence in text] != []


def test_a_table_that_does_not_fit_is_cut_between_rows() -> None:
    content = "| name | number |\n|---|---|\n" + "".join(f"| row {number} | {number} |\n" for number in range(200))

    assert {text[0] + text[-1] for text in _texts(content)} == {"||"}


def test_a_list_that_does_not_fit_is_cut_between_its_items() -> None:
    content = "".join(f"- item {number} {SENTENCE}\n  - below it {SENTENCE}\n" for number in range(30))

    assert {text[:6] for text in _texts(content)} == {"- item"}


def test_a_paragraph_that_does_not_fit_is_cut_at_sentence_ends() -> None:
    content = "".join(f"Sentence {number} is here. {SENTENCE}" for number in range(60))

    assert {text[-1] for text in _texts(content)} == {"."}


def test_a_sentence_that_does_not_fit_is_cut_between_words() -> None:
    words = " ".join(f"word{number}" for number in range(1_000))

    assert " ".join(_texts(words)) == words


def test_a_cut_parts_no_letter_from_its_accent() -> None:
    assert {text[0] for text in _texts("e\u0301" * 2_000)} == {"e"}


def test_a_heading_stays_with_the_first_part_of_its_text() -> None:
    content = "# Heading of it\n\n" + "\n\n".join(_paragraphs(40))

    assert _texts(content)[0].startswith("# Heading of it\n\nParagraph 0")


def test_link_targets_are_not_embedded_but_stay_in_the_text() -> None:
    (chunk,) = APART.chunk("See [the guide](../guide.md 'Title') and  ![x](y.png).\n", "")

    assert (chunk.text, chunk.embedded_text) == (
        "See [the guide](../guide.md 'Title') and  ![x](y.png).",
        "See [the guide] and ![x] .",
    )


def test_link_targets_are_embedded_where_that_is_asked_for() -> None:
    (chunk,) = MarkdownChunker(link_targets=True).chunk("See [the guide](../guide.md).\n", "")

    assert chunk.embedded_text == "See [the guide](../guide.md)."


def test_code_is_embedded_as_it_stands() -> None:
    (chunk,) = APART.chunk("```\nhandlers[name](arguments)\n    indented\n```\n", "")

    assert chunk.embedded_text == chunk.text


def test_reformatting_changes_nothing_that_is_embedded() -> None:
    before = APART.chunk("# A\n\n* one\n* two\n\n| a | b |\n|---|---|\n", "")
    after = APART.chunk("#  A\n\n\n*   one\n\n*   two\n\n|  a  |  b  |\n|---|---|\n", "")

    assert [chunk.embedded_text for chunk in after] == [chunk.embedded_text for chunk in before]


def test_offsets_count_code_points_and_survive_windows_line_ends() -> None:
    content = "\ufeff# 🚀 A\r\n\r\ntext\r\n\r\n# B\r\n"

    assert [(chunk.start, chunk.end) for chunk in APART.chunk(content, "")] == [(1, 14), (18, 21)]


def test_a_changed_paragraph_changes_one_chunk_of_a_long_section() -> None:
    paragraphs = _paragraphs(60)
    edited = [*paragraphs[:30], paragraphs[30].replace("says this", "said that"), *paragraphs[31:]]

    assert _new(APART.chunk("\n\n".join(paragraphs), ""), APART.chunk("\n\n".join(edited), "")) == 1


def test_an_inserted_paragraph_moves_no_distant_cut() -> None:
    paragraphs = _paragraphs(60)
    before = APART.chunk("\n\n".join(paragraphs), "")
    changed = [
        _new(before, APART.chunk("\n\n".join([*paragraphs[:place], "An added one.", *paragraphs[place:]]), ""))
        for place in range(61)
    ]

    assert (len(before) > 10, max(changed) <= 3, sum(changed) / len(changed) < 1.5) == (True, True, True)


def test_the_title_changes_nothing() -> None:
    assert APART.chunk("# A\n\ntext", "one") == APART.chunk("# A\n\ntext", "two")


def test_the_recipe_names_every_setting() -> None:
    assert MarkdownChunker(max_tokens=120, min_tokens=30).recipe == {
        "kind": "markdown",
        "version": 1,
        "max_tokens": 120,
        "min_tokens": 30,
        "link_targets": False,
    }


@pytest.mark.parametrize(("max_tokens", "min_tokens"), [(15, 0), (0, 0), (-1, 0), (100, 51), (100, -1)])
def test_settings_that_cannot_work_are_refused(max_tokens: int, min_tokens: int) -> None:
    with pytest.raises(ConfigError, match=r"max_tokens|min_tokens"):
        MarkdownChunker(max_tokens=max_tokens, min_tokens=min_tokens)


def test_the_weight_of_parts_adds_up_to_that_of_the_whole() -> None:
    text = f"{SENTENCE}naïve 東京 🚀 x=1\t(2)\r\n"

    assert sum(count_units(letter) for letter in text) == count_units(text)


def test_five_letters_or_one_other_character_are_a_token() -> None:
    assert [estimate_tokens(text) for text in ("", " \n", "a", "abcde", "abcdef", "7", "!?", "é")] == [
        0,
        0,
        1,
        1,
        2,
        1,
        2,
        1,
    ]


def test_a_piece_above_the_limit_is_a_run_by_itself() -> None:
    assert pack([5, 50, 5], [0, 0, 0], limit=10, floor=0) == [0, 1, 2]


def test_packing_nothing_gives_no_run() -> None:
    assert pack([], [], limit=10, floor=0) == []


def test_keys_that_grow_without_end_do_not_make_the_tree_deep() -> None:
    firsts = pack([1] * 20_000, list(range(20_000)), limit=10, floor=0)

    assert max(end - first for first, end in zip(firsts, [*firsts[1:], 20_000], strict=True)) <= 10


MEGABYTES = {
    "100,000 headings": "#\n" * 100_000,
    "100,000 titled headings": "# x\n" * 100_000,
    "a line": "word " * 1_000_000,
    "a word": "a" * 5_000_000,
    "an unclosed fence": "```\n" + "value = 1 # of many\n" * 250_000,
    "a nested quote": ">" * 5_000_000,
    "many nested quotes": ("> " * 500 + "x\n") * 2_000,
    "opening brackets": "[" * 2_000_000,
    "unclosed targets": "](x" * 500_000,
    "unclosed comments": "<!-- \n" * 300_000,
    "fences of every length": "".join("`" * (3 + number % 500) + "x\n" for number in range(10_000)),
    "almost a rule": "- " * 1_000_000 + "x",
    "emphasis in a heading": "# " + "*_" * 1_000_000,
    "setext headings": "a\n=\n" * 100_000,
    "a gap": "a" + " " * 5_000_000 + "b",
}


@pytest.mark.parametrize("name", MEGABYTES)
def test_megabytes_of_nothing_sensible_are_cut_like_anything_else(name: str) -> None:
    check_chunks(MEGABYTES[name], MarkdownChunker().chunk(MEGABYTES[name], ""))


def test_ten_megabytes_are_cut_in_memory_of_less_than_ten_times_that() -> None:
    page = "\n\n".join(f"## Section {number}\n\n" + "\n\n".join(_paragraphs(number % 9)) for number in range(500))
    content = (page * (10_000_000 // len(page) + 1))[:10_000_000]
    tracemalloc.start()
    chunks = MarkdownChunker().chunk(content, "")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    check_chunks(content, chunks)
    assert peak < 10 * len(content)
