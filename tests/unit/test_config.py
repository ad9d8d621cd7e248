"""What livedex.yaml and the environment may say, and the settings that they give."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from livedex.config import (
    ApiEmbedder,
    AutoChunker,
    Chunker,
    FixedChunker,
    HashingEmbedder,
    HtmlChunker,
    LocalEmbedder,
    MarkdownChunker,
    PostgresSource,
    Settings,
    TextChunker,
    load,
)
from livedex.model import TableMapping

SECRET = "hunter2-and-more"
ENVIRON = {"HOME": "/home/reader", "KB_DATABASE_URL": f"postgresql://reader:{SECRET}@db/kb", "OPENAI_API_KEY": SECRET}

SOURCES = """\
sources:
  kb:
    kind: postgres
    url: ${KB_DATABASE_URL}
    tables:
      documents: {key: id, content: body}
"""
VIEWS = """\
views:
  handbook: {from: [kb], embedder: hashing}
"""
FULL = """\
sources:
  kb:
    kind: postgres
    url: ${KB_DATABASE_URL}
    tables:
      documents: {key: doc_id, title: title, content: content, updated_at: updated_at, metadata: [category]}
embedders:
  local: {kind: local, model: all-MiniLM-L6-v2}
  openai: {kind: api, base_url: https://api.openai.com/v1, model: m, dimensions: 1536, api_key: ${OPENAI_API_KEY}}
views:
  handbook: {from: [kb], chunker: {kind: markdown, max_tokens: 150}, embedder: local, target_lag: 5s}
"""


class Directory:
    """A directory that holds one configuration."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = path / "livedex.yaml"

    def load(self, text: str | bytes, **environ: str) -> Settings:
        self.file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load(self.file, {**ENVIRON, **environ})


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    return Directory(tmp_path)


def test_table_becomes_a_table_mapping(directory: Directory) -> None:
    assert directory.load(FULL).sources["kb"].tables["documents"] == TableMapping(
        key=("doc_id",), content="content", title="title", updated_at="updated_at", metadata=("category",)
    )


def test_composite_key_keeps_its_order(directory: Directory) -> None:
    text = SOURCES.replace("key: id", "key: [region, id]") + VIEWS
    assert directory.load(text).sources["kb"].tables["documents"].key == ("region", "id")


def test_tenant_acl_and_version_columns_are_mapped(directory: Directory) -> None:
    text = SOURCES.replace("content: body", "content: body, tenant: org, acl: readers, version: rev") + VIEWS
    table = directory.load(text).sources["kb"].tables["documents"]
    assert (table.tenant, table.acl, table.version) == ("org", "readers", "rev")


def test_template_in_double_quotes_holds_its_line_breaks(directory: Directory) -> None:
    text = SOURCES.replace("content: body", r'content: "{title}\n\n{body}"') + VIEWS
    assert directory.load(text).sources["kb"].tables["documents"].content == "{title}\n\n{body}"


def test_template_may_hold_braces_and_any_column(directory: Directory) -> None:
    text = SOURCES.replace("content: body", 'content: "{{{Article title}}} {body:x}"') + VIEWS
    assert directory.load(text).sources["kb"].tables["documents"].content == "{{{Article title}}} {body:x}"


def test_variable_is_filled_in_inside_braces_without_quotes(directory: Directory) -> None:
    embedder = directory.load(FULL).embedders["openai"]
    assert isinstance(embedder, ApiEmbedder)
    assert embedder.api_key == SecretStr(SECRET)


def test_api_embedder_has_the_documented_defaults(directory: Directory) -> None:
    assert directory.load(FULL).embedders["openai"] == ApiEmbedder(
        kind="api",
        base_url="https://api.openai.com/v1",
        model="m",
        dimensions=1536,
        api_key=SecretStr(SECRET),
        send_dimensions=False,
        batch_size=128,
        concurrency=4,
        timeout=timedelta(seconds=30),
    )


def test_view_holds_what_the_file_says(directory: Directory) -> None:
    view = directory.load(FULL).views["handbook"]
    assert (view.sources, view.chunker, view.embedder, view.target_lag, view.shards, view.sql_schema) == (
        ("kb",),
        MarkdownChunker(max_tokens=150),
        "local",
        timedelta(seconds=5),
        1,
        "public",
    )


def test_view_needs_only_its_sources(directory: Directory) -> None:
    view = directory.load(SOURCES + "views: {handbook: {from: kb}}").views["handbook"]
    assert (view.sources, view.chunker, view.embedder, view.target_lag) == (
        ("kb",),
        AutoChunker(max_tokens=200, min_tokens=50),
        "local",
        timedelta(seconds=2),
    )


@pytest.mark.parametrize(
    ("written", "chunker"),
    [
        ("auto", AutoChunker()),
        ("markdown", MarkdownChunker()),
        ("html", HtmlChunker()),
        ("text", TextChunker()),
        ("fixed", FixedChunker()),
        ("{max_tokens: 100}", AutoChunker(max_tokens=100)),
        ("{kind: text, min_tokens: 0}", TextChunker(min_tokens=0)),
        ("{kind: fixed, max_tokens: 300, overlap_tokens: 150}", FixedChunker(max_tokens=300, overlap_tokens=150)),
    ],
)
def test_chunker_is_its_kind_alone_or_a_mapping_and_without_a_kind_auto(
    directory: Directory, written: str, chunker: Chunker
) -> None:
    settings = directory.load(SOURCES + f"views: {{handbook: {{from: kb, chunker: {written}}}}}")
    assert settings.views["handbook"].chunker == chunker


@pytest.mark.parametrize(
    ("name", "implied"), [("local", LocalEmbedder(kind="local")), ("hashing", HashingEmbedder(kind="hashing"))]
)
def test_embedder_that_is_named_but_not_declared_is_implied(
    directory: Directory, name: str, implied: LocalEmbedder | HashingEmbedder
) -> None:
    settings = directory.load(f"{SOURCES}views: {{handbook: {{from: kb, embedder: {name}}}}}")
    assert settings.embedders == {name: implied}


def test_declared_embedder_is_not_replaced_by_the_implied_one(directory: Directory) -> None:
    settings = directory.load(f"{SOURCES}embedders: {{hashing: {{kind: hashing, dimensions: 64}}}}\n{VIEWS}")
    assert settings.embedders == {"hashing": HashingEmbedder(kind="hashing", dimensions=64)}


@pytest.mark.parametrize(
    ("written", "duration"),
    [
        ("500ms", timedelta(milliseconds=500)),
        ("2s", timedelta(seconds=2)),
        ("1.5s", timedelta(seconds=1.5)),
        ("5m", timedelta(minutes=5)),
        ("1h", timedelta(hours=1)),
        ("7d", timedelta(days=7)),
    ],
)
def test_duration_carries_its_unit(directory: Directory, written: str, duration: timedelta) -> None:
    text = SOURCES + f"views: {{handbook: {{from: kb, target_lag: {written}}}}}"
    assert directory.load(text).views["handbook"].target_lag == duration


def test_numbers_are_text_where_text_is_wanted(directory: Directory) -> None:
    text = SOURCES.replace("content: body", "content: body, metadata: [2024, 007]") + VIEWS
    assert directory.load(text).sources["kb"].tables["documents"].metadata == ("2024", "007")


def test_alias_repeats_a_value(directory: Directory) -> None:
    text = SOURCES + "views:\n  a: &view {from: kb}\n  b: *view\n"
    views = directory.load(text).views
    assert views["a"] == views["b"]


def test_byte_order_mark_is_no_part_of_the_first_key(directory: Directory) -> None:
    assert list(directory.load(b"\xef\xbb\xbf" + (SOURCES + VIEWS).encode()).sources) == ["kb"]


def test_settings_cannot_be_changed(directory: Directory) -> None:
    settings = directory.load(FULL)
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.file = Path("other")  # type: ignore[misc]  # that it is refused is the point
    with pytest.raises(ValidationError, match="frozen"):
        settings.views["handbook"].shards = 2  # type: ignore[misc]  # that it is refused is the point


def test_name_may_have_48_characters(directory: Directory) -> None:
    assert list(directory.load(f"{SOURCES}views: {{{'k' * 48}: {{from: kb}}}}").views) == ["k" * 48]


def test_settings_show_no_secret(directory: Directory) -> None:
    assert SECRET not in repr(directory.load(FULL))


# Variables


def test_default_is_used_when_the_variable_is_not_set_or_empty(directory: Directory) -> None:
    text = SOURCES + "views: {handbook: {from: kb, target_lag: '${LAG:-7s}'}}"
    lags = [
        directory.load(text, **environ).views["handbook"].target_lag for environ in ({}, {"LAG": ""}, {"LAG": "3s"})
    ]
    assert lags == [timedelta(seconds=7), timedelta(seconds=7), timedelta(seconds=3)]


def test_default_may_hold_what_yaml_would_take_for_structure(directory: Directory) -> None:
    text = SOURCES.replace("content: body", "content: body, title: ${TITLE:-a, b: c #d}") + VIEWS
    assert directory.load(text).sources["kb"].tables["documents"].title == "a, b: c #d"


def source_url(settings: Settings) -> str:
    source = settings.sources["kb"]
    assert isinstance(source, PostgresSource)
    return source.url.get_secret_value()


def test_two_dollars_are_one_and_start_no_variable(directory: Directory) -> None:
    text = SOURCES.replace("url: ${KB_DATABASE_URL}", "url: postgresql://u:a$$b$c$${KB}@h/d") + VIEWS
    assert source_url(directory.load(text)) == "postgresql://u:a$b$c${KB}@h/d"


def test_variables_may_be_part_of_a_value(directory: Directory) -> None:
    text = SOURCES.replace("${KB_DATABASE_URL}", "postgresql://${U}:${P}@h/d") + VIEWS
    assert source_url(directory.load(text, U="me", P="it's: #1, {x}")) == "postgresql://me:it's: #1, {x}@h/d"


def test_value_of_a_variable_is_not_read_as_yaml(directory: Directory) -> None:
    text = SOURCES.replace("content: body", "content: body, title: ${TITLE}") + VIEWS
    table = directory.load(text, TITLE="x, tenant: evil # ${OPENAI_API_KEY}").sources["kb"].tables["documents"]
    assert (table.tenant, table.title) == (None, "x, tenant: evil # ${OPENAI_API_KEY}")


def test_variable_in_a_comment_is_left_alone(directory: Directory) -> None:
    assert directory.load(f"# ${{NOT_SET}}\n{SOURCES}{VIEWS}").views.keys() == {"handbook"}


def test_number_may_come_from_a_variable(directory: Directory) -> None:
    settings = directory.load(SOURCES + "views: {handbook: {from: kb, shards: ${SHARDS}}}", SHARDS="4")
    assert settings.views["handbook"].shards == 4


# Where things are


def test_index_is_kept_beside_the_file_by_default(directory: Directory) -> None:
    settings = directory.load(SOURCES + VIEWS)
    assert (settings.database_url, settings.store_directory) == (None, directory.path / ".livedex")


@pytest.mark.parametrize(
    ("written", "located"), [("index", "{here}/index"), ("/srv/index", "/srv/index"), ("~/index", "/home/reader/index")]
)
def test_store_directory_is_relative_to_the_file(directory: Directory, written: str, located: str) -> None:
    settings = directory.load(f"{SOURCES}{VIEWS}store: {{directory: {written}}}")
    assert settings.store_directory == Path(located.format(here=directory.path))


def test_model_path_is_relative_to_the_file(directory: Directory) -> None:
    text = f"{SOURCES}embedders: {{mine: {{kind: local, path: models/mini}}}}\n{VIEWS}"
    embedder = directory.load(text).embedders["mine"]
    assert isinstance(embedder, LocalEmbedder)
    assert embedder.path == directory.path / "models/mini"


def test_database_url_of_the_environment_comes_before_the_file(directory: Directory) -> None:
    text = f"{SOURCES}{VIEWS}store: {{url: postgresql://file/db}}"
    urls = [
        directory.load(text, **environ).database_url
        for environ in ({}, {"LIVEDEX_DATABASE_URL": ""}, {"LIVEDEX_DATABASE_URL": "postgresql://environment/db"})
    ]
    assert urls == [
        SecretStr("postgresql://file/db"),
        SecretStr("postgresql://file/db"),
        SecretStr("postgresql://environment/db"),
    ]


def test_database_url_may_be_keywords(directory: Directory) -> None:
    settings = directory.load(SOURCES + VIEWS, LIVEDEX_DATABASE_URL="host=db dbname=index")
    assert settings.database_url == SecretStr("host=db dbname=index")


@pytest.mark.parametrize(
    ("environ", "cache"),
    [
        ({}, "/home/reader/.cache/livedex"),
        ({"XDG_CACHE_HOME": "/var/cache"}, "/var/cache/livedex"),
        ({"XDG_CACHE_HOME": "not/absolute"}, "/home/reader/.cache/livedex"),
        ({"XDG_CACHE_HOME": "/var/cache", "LIVEDEX_CACHE": "/models"}, "/models"),
    ],
)
def test_cache_directory_follows_the_environment(directory: Directory, environ: dict[str, str], cache: str) -> None:
    assert directory.load(SOURCES + VIEWS, **environ).cache_directory == Path(cache)


def test_file_is_the_one_that_the_environment_names(directory: Directory) -> None:
    directory.load(SOURCES + VIEWS)
    assert load(None, {**ENVIRON, "LIVEDEX_CONFIG": str(directory.file)}).file == directory.file


def test_file_is_livedex_yaml_here_when_nothing_names_one(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory.load(SOURCES + VIEWS)
    monkeypatch.chdir(directory.path)
    assert load(None, ENVIRON).file == directory.file
