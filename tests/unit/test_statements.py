"""SQL by name."""

from __future__ import annotations

from importlib import resources

import pytest

from livedex.store.statements import Statements, fill, load, parse

FILES = sorted(
    file.name.removesuffix(".sql")
    for file in (resources.files("livedex.store") / "queries").iterdir()
    if file.name.endswith(".sql")
)


def test_a_statement_comes_without_its_description_and_semicolon() -> None:
    text = "-- name: one\n-- What it does,\n-- in two lines.\nSELECT 1\nFROM t;\n"
    assert parse(text, "x.sql") == {"one": "SELECT 1\nFROM t"}


def test_a_statement_ends_where_the_next_is_introduced() -> None:
    text = "-- name: one\n-- First.\nSELECT 1;\n\n-- name: two\n-- Second.\nSELECT 2;\n"
    assert parse(text, "x.sql") == {"one": "SELECT 1", "two": "SELECT 2"}


def test_comments_inside_a_statement_stay() -> None:
    text = "-- name: one\n-- Described.\nSELECT 1,\n    -- why\n    2;\n"
    assert parse(text, "x.sql")["one"] == "SELECT 1,\n    -- why\n    2"


def test_a_file_may_open_with_remarks() -> None:
    assert parse("-- About this file.\n\n-- name: one\nSELECT 1", "x.sql") == {"one": "SELECT 1"}


def test_two_statements_of_one_name_are_an_error() -> None:
    text = "-- name: one\nSELECT 1;\n-- name: one\nSELECT 2;"
    with pytest.raises(ValueError, match=r'^x.sql:3: a statement "one" stands further up already'):
        parse(text, "x.sql")


def test_sql_outside_a_statement_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"^x.sql:2: SQL before the first"):
        parse("-- About.\nSELECT 1;\n-- name: one\nSELECT 2;", "x.sql")


def test_a_name_without_sql_is_an_error() -> None:
    with pytest.raises(ValueError, match=r'^x.sql:1: statement "one" has no SQL'):
        parse("-- name: one\n-- Nothing follows.\n", "x.sql")


def test_a_name_that_python_could_not_write_is_an_error() -> None:
    with pytest.raises(ValueError, match=r'^x.sql:1: "one two" is not a name'):
        parse("-- name: one two\nSELECT 1", "x.sql")


def test_a_schema_is_filled_in_as_a_quoted_identifier() -> None:
    assert fill("SELECT * FROM {g}.chunks", {"g": 'od"d'}) == 'SELECT * FROM "od""d".chunks'


def test_a_number_is_filled_in_as_digits() -> None:
    assert fill("halfvec({dimensions})", {"dimensions": 384}) == "halfvec(384)"


def test_other_braces_stay() -> None:
    text = "SELECT '{}'::jsonb, '{a,b}'::text[], '{\"g\": 1}', {other}, %(g)s"
    assert fill(text, {"g": "livedex_g7"}) == text


def test_filling_does_not_fill_what_was_filled_in() -> None:
    assert fill("{a}{b}", {"a": "{b}", "b": "x"}) == '"{b}""x"'


def test_a_generations_statements_are_filled_once() -> None:
    statements = Statements("generation")
    assert statements.for_schema("livedex_g7", dimensions=3) is statements.for_schema("livedex_g7", dimensions=3)


def test_two_generations_have_statements_of_their_own() -> None:
    statements = Statements("generation")
    seventh, eighth = (statements.for_schema(f"livedex_g{number}", dimensions=3) for number in (7, 8))
    assert seventh == {name: text.replace("livedex_g8", "livedex_g7") for name, text in eighth.items()}


def test_a_statement_is_had_by_its_name() -> None:
    assert Statements("server")["create_database"] == "CREATE DATABASE livedex"


@pytest.mark.parametrize("file", FILES)
def test_every_file_that_ships_can_be_read(file: str) -> None:
    assert load(file)
