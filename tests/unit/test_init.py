"""What `livedex init` concludes from profiles, addresses and names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from livedex.adapters.sources.postgres.inspect import ColumnProfile, ColumnSample, TableProfile
from livedex.errors import ConfigError, NotFound
from livedex.setup import place, write
from livedex.setup.propose import propose, propose_chosen, worth_reading

SECRET = "hunter2"


def column(name: str, type_: str = "text", category: str = "S", **changes: object) -> ColumnProfile:
    plain = ColumnProfile(name, type_, category, not_null=False, generated=False, readable=True, references=None)
    return replace(plain, **changes)  # type: ignore[arg-type]  # fields by name, from a test's literals


def text(
    name: str, characters: float, *, distinct: int = 50, words: float | None = None, html: float = 0
) -> ColumnProfile:
    found = ColumnSample(50, 50, characters, characters / 6 if words is None else words, 1, distinct, html)
    return column(name, sample=found)


def table(*columns: ColumnProfile, name: str = "articles", key: tuple[str, ...] = ("id",)) -> TableProfile:
    number = column("id", "integer", "N", not_null=True)
    return TableProfile("public", name, "r", 50, 8192, key, True, "d", (number, *columns))


# Which tables are documents


@pytest.mark.parametrize(
    "name", ["audit_log", "schema_migrations", "sessions", "django_session", "page_history", "jobs"]
)
def test_what_a_program_writes_for_itself_is_left_out(name: str) -> None:
    kept, left_out = worth_reading([table(text("message", 500), name=name)])
    assert (kept, [each.table for each in left_out]) == ([], [name])


@pytest.mark.parametrize("name", ["articles", "blog_posts", "catalog", "dialogs", "tickets", "faq"])
def test_names_that_merely_resemble_machinery_are_kept(name: str) -> None:
    kept, _ = worth_reading([table(text("body", 500), name=name)])
    assert [each.name for each in kept] == [name]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"key": ()}, "no primary key"),
        ({"kind": "v"}, "a view"),
        ({"logged": False}, "SET LOGGED"),
        ({"identity": "n"}, "REPLICA IDENTITY DEFAULT"),
        ({"schema": "a.b"}, "cannot be written"),
        ({"relation": "a{b}"}, "cannot be written"),
    ],
)
def test_table_that_cannot_be_followed_is_left_out_with_its_reason(changes: dict[str, object], reason: str) -> None:
    _, (left_out,) = worth_reading([replace(table(text("body", 500)), **changes)])  # type: ignore[arg-type]  # as above
    assert reason in left_out.reason


def test_labels_are_no_documents() -> None:
    proposals, (left_out,) = propose([table(text("name", 12), text("code", 200, words=1))])
    assert (proposals, left_out.reason) == ([], "no column holds prose")


def test_text_without_spaces_between_words_is_prose() -> None:
    chinese = column("body", sample=ColumnSample(50, 50, 300, 1, 2.9, 50, 0))
    ((proposal,), _) = propose([table(chinese)])
    assert proposal.content.value == "body"


def test_people_are_proposed_with_a_doubt() -> None:
    ((proposal,), _) = propose([table(text("bio", 300), name="users")])
    assert "people" in (proposal.doubt or "")


def test_an_empty_table_is_judged_by_the_names_of_its_columns() -> None:
    ((proposal,), _) = propose([table(column("body"), column("title"), column("remark"))])
    assert (proposal.content.value, proposal.title and proposal.title.value) == ("body", "title")


# Which columns mean what


def test_the_longest_prose_is_the_content_and_a_lead_goes_before_it() -> None:
    ((proposal,), _) = propose([table(text("title", 40), text("excerpt", 150), text("body", 2000))])
    assert proposal.content.value == "{excerpt}\n\n{body}"


def test_a_rendered_copy_gives_way_to_its_text() -> None:
    ((proposal,), _) = propose([table(text("body", 1000), text("body_html", 1400, html=1))])
    assert proposal.content.value == "body"


def test_secrets_are_neither_content_nor_metadata() -> None:
    columns = (text("body", 300), text("api_token", 900), column("password_hint", "boolean", "B"))
    ((proposal,), _) = propose([table(*columns)])
    assert (proposal.content.value, proposal.metadata) == ("body", ())


def test_metadata_are_columns_of_few_values() -> None:
    columns = (
        text("body", 300),
        text("status", 6, distinct=3),
        text("reference", 8, distinct=50),
        column("kind", "mood", "E"),
        column("public", "boolean", "B"),
        replace(text("author_id", 2, distinct=4), category="N", references="authors"),
    )
    ((proposal,), _) = propose([table(*columns)])
    assert [choice.value for choice in proposal.metadata] == ["status", "kind", "public", "author_id"]


@pytest.mark.parametrize(
    ("name", "not_null", "certain"),
    [("tenant_id", True, True), ("tenant_id", False, False), ("account_id", True, False)],
)
def test_a_tenant_is_certain_only_by_its_own_name_and_in_every_row(name: str, not_null: bool, certain: bool) -> None:
    ((proposal,), _) = propose([table(text("body", 300), column(name, "uuid", "U", not_null=not_null))])
    assert (proposal.tenant and proposal.tenant.value, proposal.tenant_certain) == (name, certain)


def test_soft_deletes_are_remarked_upon() -> None:
    ((proposal,), _) = propose([table(text("body", 300), column("deleted_at", "timestamp", "D"))])
    assert "row filter" in proposal.remarks[0]


def test_chosen_table_is_taken_whatever_it_looks_like() -> None:
    (proposal,) = propose_chosen([table(text("name", 12), name="audit_log")], ["public.audit_log"])
    assert proposal.content.value == "name"


def test_chosen_table_that_is_not_there_is_an_error() -> None:
    with pytest.raises(NotFound, match='no table "artikles"'):
        propose_chosen([table(text("body", 300))], ["artikles"])


# Writing


@pytest.mark.parametrize(
    "name", ["posts", "a b", "No", "null", "1", "x: y", "#x", "a\nb", "a\u2028b", 'q"q', "ünï", "-x", "*"]
)
def test_any_name_survives_the_file(name: str, tmp_path: Path) -> None:
    from livedex.config import load

    file = tmp_path / "livedex.yaml"
    key = write.scalar(name)
    file.write_text(
        "sources:\n  s:\n    kind: postgres\n    url: postgresql://h/d\n    tables:\n"
        f"      {key}: {{key: {key}, content: b}}\n"
        "views:\n  v: {from: s, embedder: hashing}\n"
    )
    settings = load(file, {"HOME": str(tmp_path)})
    source = settings.sources["s"]
    assert dict(source.tables)[name].key == (name,)


def test_what_a_database_says_cannot_leave_its_comment() -> None:
    assert write.comment("a\nstore: {url: x}\u2028y\x85z", 2) == ["  # a store: {url: x} y z"]


# Where to look


def test_password_stands_neither_in_the_reference_nor_in_the_export() -> None:
    found, _ = place.find(f"postgresql://me:{SECRET}@host/shop", Path(), {})
    assert found is not None
    assert (found.reference, dict(found.exports)) == (
        "${SHOP_DATABASE_URL}",
        {"SHOP_DATABASE_URL": "postgresql://me:***@host/shop"},
    )


def test_url_that_a_variable_holds_is_referred_to_by_it() -> None:
    url = f"postgresql://me:{SECRET}@host/shop"
    found, _ = place.find(url, Path(), {"DATABASE_URL": url, "LIVEDEX_DATABASE_URL": url})
    assert found is not None
    assert (found.reference, found.exports) == ("${DATABASE_URL}", {})


@pytest.mark.parametrize(
    ("environ", "reference"),
    [
        ({"DATABASE_URL": "postgres://h/shop"}, "${DATABASE_URL}"),
        ({"DATABASE_URL": "mysql://h/shop", "PGDATABASE": "shop"}, "dbname='${PGDATABASE}'"),
        ({"PGSERVICE": "live", "PGDATABASE": "shop"}, "service='${PGSERVICE}'"),
        ({"PGHOST": "db.example"}, "host='${PGHOST}'"),
    ],
)
def test_environment_is_searched_for_a_database(environ: dict[str, str], reference: str, tmp_path: Path) -> None:
    found, _ = place.find(None, tmp_path, environ)
    assert found is not None
    assert found.reference == reference


def test_index_of_livedex_itself_is_no_source(tmp_path: Path) -> None:
    assert place.find(None, tmp_path, {"LIVEDEX_DATABASE_URL": "postgresql://h/index"}) == (None, None)


def test_folder_with_a_usual_name_is_found_when_it_holds_documents(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "wiki").mkdir()
    (tmp_path / "wiki" / "start.md").write_text("# Start")
    _, folder = place.find(None, tmp_path, {})
    assert folder is not None
    assert (folder.written, folder.name) == ("./wiki", "wiki")


def test_malformed_url_is_refused_without_being_quoted() -> None:
    with pytest.raises(ConfigError) as caught:
        place.find(f"postgresql://me:{SECRET}%zz@host/shop", Path(), {})
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("given", ["mysql://h/d", "/no/such/folder"])
def test_what_is_neither_database_nor_folder_is_refused(given: str) -> None:
    with pytest.raises(ConfigError):
        place.find(given, Path(), {})


@pytest.mark.parametrize(
    ("text_", "name"), [("Shop-DB", "shop_db"), ("postgres", "app"), ("2024", "app_2024"), ("__", "app"), ("ü", "app")]
)
def test_names_are_made_of_anything(text_: str, name: str) -> None:
    assert place.source_name(text_) == name
