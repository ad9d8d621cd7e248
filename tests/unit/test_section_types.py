"""What a chunk is good for, from its headings and its text."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from livedex.rules.section_types import TYPES, classify

GUIDE = Path(__file__).parents[2] / "docs" / "how-to" / "chunking.md"


@pytest.mark.parametrize(
    ("heading", "section_type"),
    [
        ("Definitions", "definitions"),
        ("2.1 Definitions and abbreviations", "definitions"),
        ("**Glossary** of terms", "definitions"),
        ("Key terms", "definitions"),
        ("Scope", "scope"),
        ("Purpose & Scope:", "scope"),
        ("Applies to", "scope"),
        ("Who this policy applies to", "scope"),
        ("Who this covers", "scope"),
        ("Exceptions", "exceptions"),
        ("c) Exclusions", "exceptions"),
        ("Exceptions to this policy", "exceptions"),
        ("Known limitations of managed instances", "exceptions"),
        ("Effective date", "effective_dates"),
        ("Version history", "effective_dates"),
        ("Validity (all regions)", "effective_dates"),
        ("Steps", "steps"),
        ("Procedure", "steps"),
        ("Runbook steps", "steps"),
        ("Installation instructions", "steps"),
        ("Step 3: post the job", "steps"),
        ("FAQ", "faq"),
        ("Candidate FAQs", "faq"),
        ("Frequently asked questions", "faq"),
        ("Questions & answers", "faq"),
        ("Q: When do I get it?", "faq"),
        ("How do I reset my password?", "faq"),
    ],
)
def test_a_heading_names_the_type_of_its_section(heading: str, section_type: str) -> None:
    assert classify(("Refunds", heading), "Some text.", "text") == section_type


@pytest.mark.parametrize(
    "heading",
    [
        "Overview",
        "Contact",
        "Next steps",
        "Defining revenue",
        "Terminal",
        "Exceptional people",
        "Validate the deployment",
        "Reference call questions",
        "How we work",
        "What we do",
        "Effective communication",
        "How to get a licence",
        "x" * 5_000,
        "",
    ],
)
def test_a_heading_that_only_resembles_one_says_nothing(heading: str) -> None:
    assert classify((heading,), "Some text.", "text") == "text"


def test_the_innermost_heading_that_says_something_decides() -> None:
    assert [classify(path, "Some text.", "text") for path in (("Scope", "Exceptions"), ("Glossary", "Indexer"))] == [
        "exceptions",
        "definitions",
    ]


def test_headings_decide_for_tables_and_code_too_but_their_text_does_not() -> None:
    code = "1. open\n2. close\n3. run"
    assert [classify((heading,), code, "code") for heading in ("Steps", "Example")] == ["steps", "code"]


def test_how_to_is_about_steps_only_where_there_are_some() -> None:
    listed = "## How to deploy\n\n1. Open the console.\n2. Click *Deploy*.\n"
    assert [classify(("How to deploy",), text, "list") for text in (listed, "We deploy daily.")] == ["steps", "list"]


@pytest.mark.parametrize(
    ("text", "section_type"),
    [
        ("1. Open the page.\n2. **Click** Save.\n3. Wait.", "steps"),
        ("1. [ ] Create a branch\n2. [ ] Run `make`\n3. [ ] Merge it", "steps"),
        ("1. Berlin\n2. Paris\n3. Rome", "text"),
        ("We sold 1. 2. 3. of them", "text"),
        ("**Q: Is it free?**\n\n**A:** Yes.", "faq"),
        ("- Q. Why?\n- A. Because.", "faq"),
        ("Q: What did you like?", "text"),
        ('"Business day" means a day on which banks are open.', "definitions"),
        ("Customer is defined as a person who buys.", "definitions"),
        ("Indexer\n: Writes the index.\n\nReader\n: Reads it.", "definitions"),
        ("This means that you have to wait.", "text"),
        ("It means a lot to us. " * 20, "text"),
        ("This policy is effective from 1 March 2026.", "effective_dates"),
        ("**Effective Date:** Feb 1, 2022", "effective_dates"),
        ("It takes effect on 2026-03-01.", "effective_dates"),
        ("An effective team since 2020.", "text"),
        ("This policy does not apply to contractors.", "exceptions"),
        ("All staff, with the exception of interns, may ask.", "exceptions"),
        ("Exceptional people may apply.", "text"),
        ("Something. " * 100 + "It does not apply to them.", "text"),
    ],
)
def test_where_headings_say_nothing_clear_text_does(text: str, section_type: str) -> None:
    assert classify(("Page",), text, "text") == section_type


@pytest.mark.parametrize(
    "text", ["", "\0", "\ud800", "1. " * 20_000, "q:\na:" * 20_000, '"' * 50_000, " means" * 9_000]
)
def test_no_text_stops_it(text: str) -> None:
    assert classify((text,), text, "quote") in {*TYPES, "quote"}


def test_the_guide_names_every_type_and_no_other() -> None:
    section = GUIDE.read_text(encoding="utf-8").partition("## Section types")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    assert tuple(rows[: len(TYPES)]) == TYPES
