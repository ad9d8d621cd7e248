"""The demonstration's documents are what the tour and its readers rely on; its small pure parts."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest

from livedex.cli.demo_screen import _excerpt
from livedex.demo.application import Page, handbook
from livedex.demo.edits import DELETE, EDITS, INSERT, METADATA, NO_OP, PARAGRAPH, RENAME, SETTING, Edit
from livedex.demo.watch import Moved, Shelved, differences

PAGES = handbook()
CATEGORIES = {"engineering", "faq", "finance", "people", "policy", "product", "runbook", "security"}
each_page = pytest.mark.parametrize("page", PAGES, ids=[page.doc_id for page in PAGES])

MORNING = datetime(2026, 3, 2, 9, tzinfo=UTC)
NOW = MORNING + timedelta(milliseconds=80)
MOLES = Shelved("g1-1", "v1", MORNING, MORNING)
BEES = Shelved("g1-2", "v1", MORNING, MORNING)


def page_of(doc_id: str) -> Page:
    (page,) = [page for page in PAGES if page.doc_id == doc_id]
    return page


def test_there_are_enough_documents_for_a_handbook() -> None:
    assert len(PAGES) >= 38


def test_ids_and_titles_are_unique() -> None:
    assert len({page.doc_id for page in PAGES}) == len(PAGES)
    assert len({page.title for page in PAGES}) == len(PAGES)


def test_the_categories_are_those_that_the_handbook_names() -> None:
    assert {page.category for page in PAGES} == CATEGORIES


@each_page
def test_a_document_begins_with_its_title(page: Page) -> None:
    assert re.match(rf"# {re.escape(page.title)}\n\n", page.content)


@each_page
def test_a_document_has_the_length_of_real_ones(page: Page) -> None:
    assert 120 <= len(page.content.split()) <= 900


@each_page
def test_the_rows_of_a_table_have_as_many_columns_as_its_head(page: Page) -> None:
    tables = re.findall(r"(?:^\|.*\|\n?)+", page.content, re.MULTILINE)
    widths = [{row.count("|") for row in table.splitlines()} for table in tables]
    assert [width for width in widths if len(width) != 1] == []


def test_no_paragraph_stands_in_two_documents() -> None:
    paragraphs = [paragraph for page in PAGES for paragraph in page.content.split("\n\n") if len(paragraph) > 60]
    assert len(set(paragraphs)) == len(paragraphs)


def test_an_error_code_means_one_thing() -> None:
    """Its digit says the area, and the page on codes leaves out none that another page shows to customers."""
    used = {code for page in PAGES for code in re.findall(r"LF-[12]\d{3}", page.content)}
    listed = set(re.findall(r"^\| (LF-\d{4})", page_of("error-codes").content, re.MULTILINE))
    assert used - listed == {"LF-2209"}  # blocked vouchers are for staff to recognise


@pytest.mark.parametrize("edit", [PARAGRAPH, SETTING], ids=lambda edit: edit.document_ids[0])
def test_what_an_update_replaces_stands_once_in_its_document(edit: Edit) -> None:
    old, new = re.findall(r"'([^']+)'(?=,\n|\)\n)", edit.statement)
    content = page_of(edit.document_ids[0]).content
    assert (content.count(old), content.count(new)) == (1, 0)
    assert edit.said == (old, new)


@pytest.mark.parametrize("edit", [DELETE, NO_OP, METADATA, RENAME], ids=lambda edit: edit.kind)
def test_the_words_that_answer_a_question_stand_in_the_document(edit: Edit) -> None:
    assert edit.said[0] in page_of(edit.document_ids[0]).content


def test_what_is_inserted_or_renamed_to_is_new() -> None:
    assert {INSERT.document_ids[0], RENAME.document_ids[1]} & {page.doc_id for page in PAGES} == set()


def test_the_tour_has_every_kind_of_edit() -> None:
    assert {edit.kind for edit in EDITS} == {"update", "insert", "delete", "no-op", "metadata", "rename"}


def test_an_excerpt_is_the_sentence_that_holds_the_words() -> None:
    assert _excerpt("## Food\n\nMoles dig. Moles eat worms. Voles do not.", ["worms"]) == "Moles eat worms."


def test_an_excerpt_of_a_table_is_the_row_that_holds_the_words() -> None:
    assert _excerpt("Settings.\n\n| A | 1 |\n| B | 2 |", ["| 2"]) == "| B | 2 |"


def test_an_excerpt_without_the_words_is_the_first_sentence() -> None:
    assert _excerpt("# Moles\n\nMoles dig. Voles do not.", ["bees"]) == "Moles dig."


def test_what_came_and_went_is_added_and_deleted() -> None:
    assert differences({"moles": MOLES}, {"bees": BEES}, NOW) == (
        Moved("added", "bees", None, 80.0),
        Moved("deleted", "moles"),
    )


def test_a_document_that_came_with_the_chunks_of_one_that_went_was_renamed() -> None:
    assert differences({"moles": MOLES}, {"tunnels": MOLES}, NOW) == (Moved("renamed", "tunnels", "moles", 80.0),)


def test_another_version_is_a_change() -> None:
    changed = Shelved("g1-1", "v2", MORNING, None)
    assert differences({"moles": MOLES}, {"moles": changed}, NOW) == (Moved("changed", "moles"),)


def test_nothing_is_told_of_what_stayed() -> None:
    assert differences({"moles": MOLES}, {"moles": MOLES}, NOW) == ()
