"""What a row says as a document."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from livedex.errors import ConfigError, DocumentError
from livedex.model import TableMapping
from livedex.rules.mapping import Rendered, mapped_columns, render, template_fields


def mapping(**fields: Any) -> TableMapping:
    return TableMapping(**{"key": ("id",), "content": "body", **fields})


def acl_of(value: Any) -> tuple[str, ...] | None:
    return render(mapping(acl="readers"), {"id": 1, "body": "", "readers": value}).acl


def updated_at_of(value: Any) -> datetime | None:
    return render(mapping(updated_at="changed"), {"id": 1, "body": "", "changed": value}).updated_at


@pytest.mark.parametrize(
    ("template", "fields"),
    [
        ("body", ("body",)),
        ("{title}\n\n{body}", ("title", "body")),
        ("{body} {title} {body}", ("body", "title")),
        ("{{literal}} {body}", ("body",)),
        ("{{only braces}}", ()),
        ("{two words}", ("two words",)),
    ],
)
def test_a_template_names_its_columns_once_in_order(template: str, fields: tuple[str, ...]) -> None:
    assert template_fields(template) == fields


@pytest.mark.parametrize("template", ["{title", "{}", "{title}}", "a { b", "{a{b}}"])
def test_an_incomplete_template_is_refused(template: str) -> None:
    with pytest.raises(ConfigError, match="is not complete"):
        template_fields(template)


def test_mapped_columns_are_all_that_the_mapping_mentions_sorted_and_once() -> None:
    full = TableMapping(
        key=("tenant", "id"),
        content="{title}: {body}",
        title="title",
        updated_at="changed",
        metadata=("lang", "body"),
        tenant="tenant",
        acl="readers",
        version="rev",
        media_type="mime",
        front_matter=("owner",),
    )
    assert mapped_columns(full) == ("body", "changed", "id", "lang", "mime", "readers", "rev", "tenant", "title")


def test_a_row_becomes_a_document() -> None:
    full = mapping(
        content="# {title}\n\n{body}",
        title="title",
        updated_at="changed",
        metadata=("lang",),
        tenant="org",
        acl="readers",
        version="rev",
    )
    columns = {
        "id": 1,
        "title": "Refunds",
        "body": "Within 30 days.",
        "changed": "2026-01-02 03:04:05+00",
        "lang": "en",
        "org": 7,
        "readers": ["ann", "bob"],
        "rev": 12,
    }
    assert render(full, columns) == Rendered(
        title="Refunds",
        content="# Refunds\n\nWithin 30 days.",
        metadata={"lang": "en"},
        tenant="7",
        acl=("ann", "bob"),
        version="12",
        updated_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (True, "true"),
        (False, "false"),
        (3, "3"),
        (2.5, "2.5"),
        ("{not a field}", "{not a field}"),
        (["a", None, "ü"], '["a",null,"ü"]'),
        ({"b": 1, "a": [True]}, '{"b":1,"a":[true]}'),
    ],
)
def test_values_are_written_as_text(value: Any, text: str) -> None:
    assert render(mapping(), {"id": 1, "body": value}).content == text


def test_a_value_that_looks_like_a_template_is_not_filled() -> None:
    assert render(mapping(content="<{body}>"), {"id": 1, "body": "{id} }}"}).content == "<{id} }}>"


def test_double_braces_are_braces() -> None:
    assert render(mapping(content="{{{body}}}"), {"id": 1, "body": "x"}).content == "{x}"


def test_without_a_title_the_title_is_empty() -> None:
    assert render(mapping(), {"id": 1, "body": "x"}).title == ""


def test_a_row_without_a_mapped_column_is_refused() -> None:
    with pytest.raises(DocumentError, match='no column "body"'):
        render(mapping(), {"id": 1})


@pytest.mark.parametrize(
    ("value", "acl"),
    [
        (["ann", "bob"], ("ann", "bob")),
        ('["ann", "bob"]', ("ann", "bob")),
        ("ann, bob", ("ann", "bob")),
        ("ann", ("ann",)),
        (None, ()),
        ("", ()),
        (" , ", ()),
        ([], ()),
        ("[]", ()),
    ],
)
def test_an_access_list_is_a_list_or_text_and_when_empty_lets_nobody_in(value: Any, acl: tuple[str, ...]) -> None:
    assert acl_of(value) == acl


@pytest.mark.parametrize("value", [{"ann": True}, ["ann", None], ["ann", 3], 5, True, '["ann"', "[1]"])
def test_an_unreadable_access_list_is_an_error_of_the_document(value: Any) -> None:
    with pytest.raises(DocumentError, match='Column "readers"'):
        acl_of(value)


def test_a_source_that_maps_no_access_list_restricts_nobody() -> None:
    assert render(mapping(), {"id": 1, "body": ""}).acl is None


@pytest.mark.parametrize(
    ("value", "time"),
    [
        ("2026-01-02 03:04:05+00", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2026-01-02 03:04:05.678+02", datetime(2026, 1, 2, 1, 4, 5, 678000, tzinfo=UTC)),
        ("2026-01-02 03:04:05+05:30", datetime(2026, 1, 1, 21, 34, 5, tzinfo=UTC)),
        ("2026-01-02T03:04:05Z", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2026-01-02 03:04:05", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2026-01-02", datetime(2026, 1, 2, tzinfo=UTC)),
        ("infinity", None),
        ("yesterday", None),
        ("0001-01-01 00:00:00+14", None),
        (17, None),
        (None, None),
    ],
)
def test_the_time_of_an_update_is_read_as_utc_or_not_at_all(value: Any, time: datetime | None) -> None:
    assert updated_at_of(value) == time


@pytest.mark.parametrize(
    ("value", "media_type"),
    [("text/html", "text/html"), (" Text/HTML; charset=utf-8", "text/html"), ("", ""), (None, ""), (3, "")],
)
def test_the_media_type_is_read_without_case_and_parameters(value: Any, media_type: str) -> None:
    assert render(mapping(media_type="mime"), {"id": 1, "body": "", "mime": value}).media_type == media_type


def test_names_of_front_matter_are_metadata_and_absent_ones_are_none() -> None:
    described = mapping(metadata=("lang",), front_matter=("owner", "tags", "reviewed"))
    columns = {"id": 1, "lang": "en", "body": "---\nowner: ann\ntags: [a]\nlang: de\n---\ntext"}
    wanted = {"lang": "en", "owner": "ann", "tags": ["a"], "reviewed": None}
    assert render(described, columns).metadata == wanted


def test_broken_front_matter_leaves_a_document_without_it() -> None:
    rendered = render(mapping(front_matter=("owner",)), {"id": 1, "body": "---\nowner: [ann\n---\ntext"})
    assert (rendered.metadata, rendered.content) == ({"owner": None}, "---\nowner: [ann\n---\ntext")
