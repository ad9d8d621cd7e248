"""The section `sources`: where documents come from, and what their columns mean."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, GetCoreSchemaHandler, model_validator
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from livedex.config.expectations import Brake, Braked, Expects
from livedex.config.values import (
    DatabaseURL,
    Duration,
    Location,
    Section,
    Text,
    Texts,
    described,
    distinct,
    one_or_more,
)
from livedex.model import TableMapping

# As templates are filled in; a column's name may hold anything but braces.
_TEMPLATE_PART = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|([{}])")


def _column(column: str) -> str:
    if not column.strip():
        raise PydanticCustomError("column", "must name a column, but is empty")
    if "{" in column or "}" in column:
        raise PydanticCustomError("column", "must name one column; templates are for title and content")
    return column


def _template(template: str) -> str:
    if not template.strip():
        raise PydanticCustomError("template", "must name a column or be a template, but is empty")
    if r"\n" in template:
        raise PydanticCustomError(
            "template",
            r'holds a backslash and an n; for a line break put the template in double quotes: "{a}\n{b}"',
        )
    for part in _TEMPLATE_PART.finditer(template):
        column, lone_brace = part.groups()
        if lone_brace is not None or (column is not None and not column.strip()):
            raise PydanticCustomError(
                "template", "is no complete template; write {column} for a column's value, {{ and }} for braces"
            )
    return template


def _slot_name(name: str) -> str:
    if not re.fullmatch(r"[a-z0-9_]{1,63}", name):
        raise PydanticCustomError("slot", "must be lower-case letters, digits and _, 63 characters at most")
    return name


def _pattern(pattern: str) -> str:
    if not pattern.strip() or pattern.startswith("/") or "\\" in pattern or ".." in pattern.split("/"):
        raise PydanticCustomError(
            "pattern", "must be a pattern of paths within the folder, with /, such as **/*.md or drafts"
        )
    return pattern


def _not_content(names: tuple[str, ...]) -> tuple[str, ...]:
    if "content" in names:
        raise PydanticCustomError("not_content", "names content, which is the file's text and no metadata")
    return names


Column = Annotated[str, AfterValidator(_column)]
Columns = Annotated[tuple[Column, ...], BeforeValidator(one_or_more), AfterValidator(distinct)]
Template = Annotated[str, AfterValidator(_template), described("string", "column or template")]
Pattern = Annotated[str, AfterValidator(_pattern)]
Patterns = Annotated[tuple[Pattern, ...], BeforeValidator(one_or_more), Field(min_length=1), AfterValidator(distinct)]


class Table(Section):
    """Which columns of a source's table mean what."""

    key: Annotated[Columns, Field(min_length=1)]
    """The column, or list of columns, that tells rows apart: usually the primary key."""
    content: Template
    """The column that holds the text, or a template of columns: `"{summary}\\n\\n{body}"`."""
    title: Template | None = None
    """The column that holds the title, or a template of columns."""
    updated_at: Column | None = None
    """The column that says when the row last changed. It is shown with hits; livedex does not rely on it to find
    changes."""
    metadata: Columns = ()
    """Columns to filter by and to return with each hit."""
    tenant: Column | None = None
    """The column that names the tenant a row belongs to. Only queries of that tenant see the row."""
    acl: Column | None = None
    """The column that lists the principals who may see a row."""
    version: Column | None = None
    """The column that holds the row's version. Without it the version is a checksum of what the row says."""
    media_type: Column | None = None
    """The column that says what a row's content is: `text/markdown`, `text/html`, `text/plain`. Without it, and where
    it is NULL, content is taken for Markdown."""
    front_matter: Texts = ()
    """Names to read from the content's own front matter, the YAML between two lines of `---` above a document. They
    are metadata like columns."""

    @model_validator(mode="after")
    def _named_once(self) -> Self:
        for name in self.front_matter:
            if name in self.metadata:
                raise PydanticCustomError(
                    "named_once", "names {name} under metadata and under front_matter; keep one", {"name": name}
                )
        return self

    def mapping(self) -> TableMapping:
        return TableMapping(**dict(self))


class _ReadAsTable:
    """Validates as `Table`, so that errors and reference know its fields, and keeps the value livedex works with."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(Table.mapping, handler.generate_schema(Table))


class PostgresSource(Section):
    """Tables of a PostgreSQL database, followed through logical replication."""

    kind: Literal["postgres"]
    """What the source is."""
    url: DatabaseURL
    """Where the database is: `postgresql://user:password@host:5432/database`. Take it from the environment."""
    tables: Annotated[Mapping[Text, Annotated[TableMapping, _ReadAsTable()]], Field(min_length=1)]
    """The tables to follow, by name; `schema.table` outside the schema `public`."""
    slot: Annotated[str, AfterValidator(_slot_name)] | None = None
    """The replication slot. Without it livedex makes one named after the source."""
    publication: Annotated[str, Field(min_length=1, max_length=63)] | None = None
    """The publication. Without it livedex makes one named after the source."""
    heartbeat: Duration = timedelta(seconds=1)
    """How often an idle source is asked how far it is, so that freshness advances and it can free its log."""
    expects: Expects = Expects()
    """What the rows are expected to be. One that is not is set aside."""
    brake: Braked = Brake()
    """When so much would be deleted or emptied at once that a person has to agree; or `off`."""

    @model_validator(mode="after")
    def _expects_what_there_is(self) -> Self:
        _check_expects(self.expects, self.tables)
        return self

    ttl: Duration | None = None
    """How old a document may become, by its `updated_at` where that is mapped, else by its commit. What is older is
    taken out of the index, and stays out until the row changes."""


class FilesSource(Section):
    """The files of a folder, followed as they change."""

    kind: Literal["files"]
    """What the source is."""
    path: Location
    """The folder. Everything in it is read, at any depth, but hidden files and what editors leave behind."""
    include: Patterns = ("**/*.md", "**/*.markdown", "**/*.txt", "**/*.html", "**/*.htm")
    """Which files are documents: patterns of paths within the folder, in which `**/` is any number of folders."""
    exclude: Annotated[tuple[Pattern, ...], BeforeValidator(one_or_more), AfterValidator(distinct)] = ()
    """Which of them are not. A folder that is matched goes with everything in it."""
    metadata: Annotated[Columns, AfterValidator(_not_content)] = ()
    """Names to filter by and to return with each hit: from a file's front matter or an HTML page's `<meta name=…>`, and
    `folder` (the first folder of the path), `path`, `extension`, `title`, `updated_at` and `media_type`."""
    max_bytes: Annotated[int, Field(ge=1, le=100_000_000)] = 10_000_000
    """A larger file is set aside in quarantine."""
    polling: bool = False
    """Whether to look at every file with every heartbeat, for folders whose changes the operating system does not tell,
    such as network mounts."""
    rescan: Duration = timedelta(minutes=5)
    """How often all files are looked at in any case, to find what the operating system did not tell."""
    heartbeat: Duration = timedelta(seconds=1)
    """How often it is made sure that everything up to now was seen, so that freshness advances."""
    expects: Expects = Expects()
    """What the files are expected to be, its columns being those of `metadata`, `content`, `title` and `path`. One that
    is not is set aside."""
    brake: Braked = Brake()
    """When so much would be deleted or emptied at once that a person has to agree; or `off`."""

    @model_validator(mode="after")
    def _expects_what_there_is(self) -> Self:
        _check_expects(self.expects, self.tables)
        return self

    ttl: Duration | None = None
    """How old a document may become, by its `updated_at` where that is mapped, else by its commit. What is older is
    taken out of the index, and stays out until the row changes."""

    @property
    def tables(self) -> Mapping[str, TableMapping]:
        """A folder is one table with a row for each file."""
        mapping = TableMapping(
            ("path",),
            "content",
            title="title",
            updated_at="updated_at",
            metadata=self.metadata,
            media_type="media_type",
        )
        return {"files": mapping}


def _check_expects(expects: Expects, tables: Mapping[str, TableMapping]) -> None:
    for table in expects.tables:
        if table not in tables:
            raise PydanticCustomError(
                "expects", "expects something of table {table}, which it does not map", {"table": table}
            )
    for table, mapping in tables.items():
        columns = _columns(mapping)
        for name in expects.of(table).named:
            if name not in columns:
                raise PydanticCustomError(
                    "expects",
                    "expects something of column {column}, which table {table} does not map; it maps {mapped}",
                    {"column": name, "table": table, "mapped": ", ".join(sorted(columns))},
                )


def _columns(mapping: TableMapping) -> set[str]:
    templates = [template for template in (mapping.content, mapping.title) if template is not None]
    filled = {
        column
        for template in templates
        for column in ([part[1] for part in _TEMPLATE_PART.finditer(template)] if "{" in template else [template])
    }
    single = {mapping.updated_at, mapping.tenant, mapping.acl, mapping.version, mapping.media_type}
    return {name for name in {*filled, *single, *mapping.key, *mapping.metadata_names} if name is not None}


Source = Annotated[PostgresSource | FilesSource, Field(discriminator="kind")]
