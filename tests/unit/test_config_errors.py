"""Everything wrong with livedex.yaml is named with its line and key, all of it at once, and no secret is shown."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from livedex.config import load
from livedex.errors import ConfigError

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


class Directory:
    """A directory that holds one configuration with something wrong in it."""

    def __init__(self, path: Path) -> None:
        self.file = path / "livedex.yaml"

    def error(self, text: str | bytes, **environ: str) -> ConfigError:
        self.file.write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(ConfigError) as caught:
            load(self.file, {**ENVIRON, **environ})
        return caught.value

    def problems(self, text: str | bytes, **environ: str) -> list[str]:
        """Each problem without the path in front of its line: `7: sources.kb.url: is missing`."""
        return str(self.error(text, **environ)).replace(f"{self.file}:", "").split("\n")


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    return Directory(tmp_path)


# Variables


def test_variable_that_is_not_set_is_named_with_line_and_key(directory: Directory) -> None:
    error = directory.error(SOURCES.replace("KB_DATABASE_URL", "NOT_SET") + VIEWS)
    assert str(error) == (
        f"{directory.file}:4: sources.kb.url: the environment variable NOT_SET is not set; set it, or write"
        " ${NOT_SET:-default}"
    )
    assert (error.file, error.line, error.key) == (directory.file, 4, "sources.kb.url")


@pytest.mark.parametrize("written", ["${1BAD}", "${}", "${UNCLOSED", "${A-b}"])
def test_malformed_variable_is_refused(directory: Directory, written: str) -> None:
    assert directory.problems(SOURCES.replace("${KB_DATABASE_URL}", f'"{written}"') + VIEWS) == [
        "4: sources.kb.url: has a malformed variable; write ${NAME}, ${NAME:-default}, or $$ for a dollar"
    ]


def test_variable_in_a_key_is_refused(directory: Directory) -> None:
    problems = directory.problems(SOURCES + VIEWS + "${KB_DATABASE_URL}: x\n")
    assert problems == ["9: has a variable in a key; variables are filled into values only"]


# Where things are


def test_database_url_of_the_environment_is_checked(directory: Directory) -> None:
    assert str(directory.error(SOURCES + VIEWS, LIVEDEX_DATABASE_URL=f"mysql://u:{SECRET}@h/d")) == (
        "LIVEDEX_DATABASE_URL: must be a PostgreSQL URL such as postgresql://user@localhost:5432/database"
    )


# Files that cannot be read


def test_missing_file_says_where_and_shows_the_shape(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "livedex.yaml", ENVIRON)
    message = str(caught.value)
    assert message.startswith(f"No livedex.yaml in {tmp_path}. Run: livedex init")


def test_shape_that_is_shown_for_a_missing_file_loads(directory: Directory) -> None:
    with pytest.raises(ConfigError) as caught:
        load(directory.file, ENVIRON)
    shown = str(caught.value).partition("\n\n")[2]
    directory.file.write_text(shown)
    assert load(directory.file, ENVIRON).views["handbook"].sources == ("kb",)


def test_directory_in_place_of_a_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, ENVIRON)
    assert str(caught.value) == f"{tmp_path}: cannot be read: Is a directory"


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing yet\n", "---\n"])
def test_empty_file_is_named(directory: Directory, text: str) -> None:
    assert "is empty. It needs at least sources and views" in str(directory.error(text))


@pytest.mark.parametrize("text", ["- a\n- b\n", "just text\n", "42\n"])
def test_file_of_another_shape_is_refused(directory: Directory, text: str) -> None:
    assert directory.problems(text) == ["1: must be a mapping with the keys sources and views"]


def test_wrong_encoding_is_named_with_its_line(directory: Directory) -> None:
    text = (SOURCES + VIEWS).encode() + b"# caf\xe9\n"
    assert directory.problems(text) == ["9: is not UTF-8; save the file in that encoding"]


@pytest.mark.parametrize(
    ("added", "problem"),
    [
        ("\ta: 1\n", "9: a tab stands where YAML wants spaces; indent with spaces"),
        ("store: {\n", "10: is not valid YAML while parsing a flow node"),
        ("store: *secret\n", "9: a value begins with *, which means a YAML alias; put it in quotes"),
        ("---\na: 1\n", "9: a second YAML document begins here; keep one"),
        ("store: a: b\n", "9: a key stands where none can be; check the indentation"),
        ("store: \x07\n", "9: holds a control character; remove it"),
        ("store: \ue000\n", "9: holds a character from Unicode's private use area; remove it"),
    ],
)
def test_broken_yaml_is_named_with_its_line(directory: Directory, added: str, problem: str) -> None:
    assert directory.problems(SOURCES + VIEWS + added)[0].startswith(problem)


def test_broken_yaml_is_reported_without_quoting_it(directory: Directory) -> None:
    message = str(directory.error(f'{SOURCES}{VIEWS}store: {{url: "{SECRET}}}\n'))
    assert SECRET not in message


# What is wrong with the values, each with its line and key


def test_duplicate_key_names_both_lines(directory: Directory) -> None:
    assert directory.problems(SOURCES + VIEWS + "views: {}\n") == [
        "9: views: is given twice, first on line 7; keep one"
    ]


def test_unknown_key_suggests_the_nearest(directory: Directory) -> None:
    text = SOURCES.replace("{key: id, content: body}", "\n        key: id\n        content: body\n        metdata: [a]")
    assert directory.problems(text + VIEWS) == [
        '9: sources.kb.tables.documents.metdata: unknown key. Did you mean "metadata"?'
    ]


def test_unknown_key_with_nothing_near_lists_what_is_known(directory: Directory) -> None:
    assert directory.problems(SOURCES + VIEWS + "x: 1\n") == [
        "9: x: unknown key. Known here: audit, embedders, record, serve, sources, store, upkeep, views."
    ]


def test_unknown_key_of_an_embedder_is_judged_by_its_kind(directory: Directory) -> None:
    text = f"{SOURCES}embedders:\n  local:\n    kind: local\n    precison: int8\n{VIEWS}"
    assert directory.problems(text) == ['10: embedders.local.precison: unknown key. Did you mean "precision"?']


def test_missing_key_is_named_on_the_line_of_what_lacks_it(directory: Directory) -> None:
    assert directory.problems(SOURCES.replace(", content: body", "") + VIEWS) == [
        "6: sources.kb.tables.documents.content: is missing"
    ]


@pytest.mark.parametrize(
    ("embedder", "problem"),
    [
        ("{kind: apii}", 'kind: unknown kind "apii". Did you mean "api"?'),
        ("{kind: bert}", 'kind: unknown kind "bert". Known here: api, hashing, local.'),
        ("{dimensions: 3}", "kind: is missing. Known here: api, hashing, local."),
        ("{kind: hashing, dimensions: many}", 'dimensions: must be a whole number, not "many"'),
        ("{kind: hashing, dimensions: true}", 'dimensions: must be a whole number, not "true"'),
        ("{kind: hashing, dimensions: 0}", 'dimensions: must be at least 1, not "0"'),
        ("{kind: hashing, dimensions: 4001}", 'dimensions: must be at most 4000, not "4001"'),
        ("{kind: hashing, dimensions: }", "dimensions: has no value; it must be a whole number"),
        ("{kind: local, precision: fp16}", "precision: must be one of 'fp32' or 'int8', not \"fp16\""),
        ("{kind: local, model: ''}", "model: must not be empty"),
        (
            "{kind: api, base_url: 'https://h', model: m, dimensions: 3, send_dimensions: perhaps}",
            'send_dimensions: must be true or false, not "perhaps"',
        ),
        ("{kind: api, base_url: api.example, model: m, dimensions: 3}", "base_url: must be a URL such as"),
        ("{kind: api, base_url: 'https://u:p@h/v1', model: m, dimensions: 3}", "base_url: must not hold a user"),
        ("{kind: api, base_url: 'https://h', model: m, dimensions: 3, api_key: ''}", "api_key: must not be empty"),
    ],
)
def test_embedder_errors_have_line_and_key(directory: Directory, embedder: str, problem: str) -> None:
    problems = directory.problems(f"{SOURCES}embedders:\n  mine: {embedder}\n{VIEWS}")
    expected = f"8: embedders.mine.{problem}"
    assert [found[: len(expected)] for found in problems] == [expected]


@pytest.mark.parametrize(
    ("view", "problem"),
    [
        ("{}", "from: is missing"),
        ("{from: []}", "from: must not be empty"),
        ("{from: {kb: 1}}", "from: must be a list"),
        ("{from: [kb, kb]}", "from: names something twice"),
        ("{from: kbb}", 'from: no source is named "kbb". Did you mean "kb"?'),
        ("{from: [kb, crm]}", 'from[1]: no source is named "crm". Known here: kb.'),
        ("{from: kb, embedder: locl}", 'embedder: no embedder is named "locl". Did you mean "local"?'),
        ("{from: kb, chunker: htm}", 'chunker.kind: unknown kind "htm". Did you mean "html"?'),
        ("{from: kb, chunker: {kind: pdf}}", 'chunker.kind: unknown kind "pdf". Known here: auto, fixed, html, '),
        (
            "{from: kb, chunker: {kind: fixed, overlap_tokens: 101}}",
            "chunker: has overlap_tokens 101, more than half of max_tokens 200; lower the one or raise the other",
        ),
        ("{from: kb, chunker: {kind: fixed, min_tokens: 1}}", "chunker.min_tokens: unknown key. Did you mean"),
        ("{from: kb, chunker: {max_tokens: 1}}", 'chunker.max_tokens: must be at least 16, not "1"'),
        ("{from: kb, chunker: {max_token: 90}}", 'chunker.max_token: unknown key. Did you mean "max_tokens"?'),
        (
            "{from: kb, chunker: {max_tokens: 60}}",
            "chunker: has min_tokens 50, more than half of max_tokens 60; lower the one or raise the other",
        ),
        ("{from: kb, target_lag: 2}", "target_lag: must be a duration with its unit, such as"),
        ("{from: kb, target_lag: 0s}", 'target_lag: must be longer than nothing and at most 36500d, not "0s"'),
        ("{from: kb, target_lag: 99999d}", "target_lag: must be longer than nothing and at most 36500d"),
        ("{from: kb, target_lag: []}", "target_lag: must be a duration with its unit"),
        ("{from: kb, shards: 65}", 'shards: must be at most 64, not "65"'),
        ("{from: kb, schema: Public}", "schema: must be a schema's name in lower case"),
        ("{from: kb, schema: livedex}", "schema: is a schema that PostgreSQL or livedex keeps for itself"),
    ],
)
def test_view_errors_have_line_and_key(directory: Directory, view: str, problem: str) -> None:
    problems = directory.problems(f"{SOURCES}views:\n  handbook: {view}\n")
    expected = f"8: views.handbook.{problem}"
    assert [found[: len(expected)] for found in problems] == [expected]


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ("{key: [], content: body}", "key: must not be empty"),
        ("{key: '', content: body}", "key[0]: must name a column, but is empty"),
        ("{key: [id, id], content: body}", "key: names something twice"),
        ("{key: id, content: }", "content: has no value; it must be text"),
        ("{key: id, content: [a]}", "content: must be text"),
        ("{key: id, content: '{body'}", "content: is no complete template; write {column} for a column's value"),
        ("{key: id, content: 'body}'}", "content: is no complete template"),
        ("{key: id, content: '{}'}", "content: is no complete template"),
        (r"{key: id, content: '{a}\n{b}'}", "content: holds a backslash and an n; for a line break"),
        ("{key: id, content: body, tenant: '{org}'}", "tenant: must name one column"),
    ],
)
def test_table_errors_have_line_and_key(directory: Directory, table: str, problem: str) -> None:
    problems = directory.problems(SOURCES.replace("{key: id, content: body}", table) + VIEWS)
    expected = f"6: sources.kb.tables.documents.{problem}"
    assert [found[: len(expected)] for found in problems] == [expected]


@pytest.mark.parametrize(
    ("added", "problem"),
    [
        ("slot: Has-Capitals", "slot: must be lower-case letters"),
        ("publication: ''", "publication: must not be empty"),
        ("heartbeat: soon", 'heartbeat: must be a duration with its unit, such as 500ms, 2s, 5m, 1h or 7d, not "soon"'),
        ("schema: x", "schema: unknown key."),
        ("heartbeat: !!binary eA==", "heartbeat: has a YAML tag"),
        ("<<: {slot: a}", "<<: merge keys are not supported"),
    ],
)
def test_source_errors_have_line_and_key(directory: Directory, added: str, problem: str) -> None:
    problems = directory.problems(f"{SOURCES}    {added}\n{VIEWS}")
    expected = f"7: sources.kb.{problem}"
    assert [found[: len(expected)] for found in problems] == [expected]


@pytest.mark.parametrize("name", ["KB", "1kb", "k-b", "_kb", "k" * 49, "käse"])
def test_names_are_identifiers(directory: Directory, name: str) -> None:
    problems = directory.problems(f"{SOURCES}views:\n  {name}: {{from: kb}}\n")
    expected = f"8: views.{name}: must be a name: a lower-case letter"
    assert [found[: len(expected)] for found in problems] == [expected]


@pytest.mark.parametrize("section", ["sources", "views"])
def test_section_without_value_is_named(directory: Directory, section: str) -> None:
    other = VIEWS if section == "sources" else SOURCES
    assert directory.problems(f"{section}:\n{other}") == [
        f"1: {section}: has no value; it must be a mapping of keys to values"
    ]


def test_store_is_in_one_place(directory: Directory) -> None:
    assert directory.problems(f"{SOURCES}{VIEWS}store: {{url: postgresql://h/d, directory: x}}") == [
        "9: store: has both url and directory; keep the one that is meant"
    ]


def test_value_that_contains_itself_is_refused(directory: Directory) -> None:
    assert directory.problems(f"{SOURCES}{VIEWS}store: &loop {{url: *loop}}")[0] == "9: store.url: contains itself"


def test_key_that_is_not_text_is_refused(directory: Directory) -> None:
    assert directory.problems(f"{SOURCES}{VIEWS}? [a]\n: 1\n") == ["9: has a key that is not text"]


def test_everything_wrong_is_reported_at_once_in_the_order_of_the_file(directory: Directory) -> None:
    text = """\
sources:
  kb:
    kind: postgres
    url: ${NOT_SET}
    tables:
      documents: {key: id}
views:
  handbook:
    from: crm
    shards: 0
    shards: 1
stor: {}
"""
    error = directory.error(text)
    places = re.findall(rf"^{re.escape(str(directory.file))}:(\d+): (\S+): ", str(error), re.MULTILINE)
    assert places == [
        ("4", "sources.kb.url"),
        ("6", "sources.kb.tables.documents.content"),
        ("9", "views.handbook.from"),
        ("11", "views.handbook.shards"),
        ("12", "stor"),
    ]
    assert (error.line, error.key) == (4, "sources.kb.url")


# Secrets


@pytest.mark.parametrize(
    "text",
    [
        SOURCES.replace("${KB_DATABASE_URL}", f"mysql://u:{SECRET}@h/d") + VIEWS,
        SOURCES.replace("url: ${KB_DATABASE_URL}", f"uri: {SECRET}") + VIEWS,
        SOURCES.replace("kind: postgres", "kind: ${OPENAI_API_KEY}") + VIEWS,
        SOURCES + "views: {handbook: {from: '${OPENAI_API_KEY}'}}",
        SOURCES + "views: {handbook: {from: kb, target_lag: '${OPENAI_API_KEY}'}}",
        SOURCES + f"views: {{handbook: {{from: 'postgresql://u:{SECRET}@h/d'}}}}",
        SOURCES + VIEWS + f"embedders: {{a: {{kind: api, api_key: [{SECRET}]}}}}",
        SOURCES + VIEWS + f"store: {{url: *{SECRET}}}",
        SOURCES + VIEWS + f"store: {{url: !{SECRET}}}",
    ],
)
def test_errors_show_no_secret(directory: Directory, text: str) -> None:
    assert SECRET not in str(directory.error(text))
