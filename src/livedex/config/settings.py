"""What livedex.yaml may say. The docstring under a field is its description in docs/reference/configuration.md."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    SecretStr,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from livedex.model import TableMapping

MOST_DIMENSIONS = 4000
"""pgvector's HNSW index takes no longer halfvec."""

# As templates are filled in; a column's name may hold anything but braces.
_TEMPLATE_PART = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|([{}])")

DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What relative paths in the file are relative to: its own directory, and for `~/` the user's."""

    directory: Path
    home: Path

    def locate(self, path: Path) -> Path:
        if path.parts[:1] == ("~",):
            return self.home.joinpath(*path.parts[1:])
        return self.directory / path


def check_database_url(url: SecretStr) -> SecretStr:
    """Refuse what cannot be a PostgreSQL connection string: neither a URL nor `host=... dbname=...`."""
    written = url.get_secret_value()
    if not re.match(r"postgres(ql)?://|\s*\w+\s*=", written):
        raise PydanticCustomError(
            "database_url", "must be a PostgreSQL URL such as postgresql://user@localhost:5432/database"
        )
    return url


def _name(name: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,47}", name):
        raise PydanticCustomError(
            "name", "must be a name: a lower-case letter, then lower-case letters, digits or _, 48 characters at most"
        )
    return name


def _sql_schema(name: str) -> str:
    if not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", name):
        raise PydanticCustomError("name", "must be a schema's name in lower case, 63 characters at most")
    if re.match(r"pg_|livedex($|_g\d)", name):
        raise PydanticCustomError("reserved", "is a schema that PostgreSQL or livedex keeps for itself")
    return name


def _slot_name(name: str) -> str:
    if not re.fullmatch(r"[a-z0-9_]{1,63}", name):
        raise PydanticCustomError("slot", "must be lower-case letters, digits and _, 63 characters at most")
    return name


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


def _duration(written: Any) -> Any:
    if not isinstance(written, str):
        return written
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,6})?)\s*(ms|s|m|h|d)", written.strip())
    if match is None:
        raise PydanticCustomError("duration", "must be a duration with its unit, such as 500ms, 2s, 5m, 1h or 7d")
    days_at_most = 36_500
    seconds = float(match[1]) * DURATION_UNITS[match[2]]
    if not 0 < seconds <= days_at_most * DURATION_UNITS["d"]:
        raise PydanticCustomError("duration", "must be longer than nothing and at most 36500d")
    return timedelta(seconds=seconds)


def _base_url(url: str) -> str:
    if not re.match(r"https?://[^/?#\s]+", url):
        raise PydanticCustomError("base_url", "must be a URL such as https://api.openai.com/v1")
    if "@" in url.split("/")[2]:
        raise PydanticCustomError("base_url", "must not hold a user or password; put the key under api_key")
    return url.rstrip("/")


def _loopback(host: str) -> str:
    try:
        reached_from_here_only = ipaddress.ip_address(host).is_loopback
    except ValueError:
        reached_from_here_only = host == "localhost"
    if not reached_from_here_only:
        raise PydanticCustomError(
            "loopback",
            "must be 127.0.0.1, ::1 or localhost: without keys, which livedex does not have yet, other machines must"
            " not reach it. To let them, put a proxy that asks for a password in front",
        )
    return host


def _switched(written: Any) -> Any:
    return written if written is None or isinstance(written, Mapping) else {"enabled": written}


def _one_or_more(written: Any) -> Any:
    return [written] if isinstance(written, str) else written


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        raise PydanticCustomError("distinct", "names something twice")
    return names


def _by_kind(written: Any) -> Any:
    return {"kind": written} if isinstance(written, str) else written


def _auto(written: Any) -> Any:
    return {"kind": "auto", **written} if isinstance(written, Mapping) else written


def _located(path: Path, info: ValidationInfo) -> Path:
    return info.context.locate(path) if isinstance(info.context, Surroundings) else path


def _described(json_type: Any, shape: str) -> WithJsonSchema:
    return WithJsonSchema({"type": json_type, "format": shape})


Language = Literal[
    "simple", "arabic", "armenian", "basque", "catalan", "danish", "dutch", "english", "finnish", "french", "german",
    "greek", "hindi", "hungarian", "indonesian", "irish", "italian", "lithuanian", "nepali", "norwegian", "portuguese",
    "romanian", "russian", "serbian", "spanish", "swedish", "tamil", "turkish", "yiddish",
]  # fmt: skip
Name = Annotated[str, AfterValidator(_name)]
Column = Annotated[str, AfterValidator(_column)]
Template = Annotated[str, AfterValidator(_template), _described("string", "column or template")]
Names = Annotated[tuple[str, ...], BeforeValidator(_one_or_more), Field(min_length=1), AfterValidator(_distinct)]
Columns = Annotated[tuple[Column, ...], BeforeValidator(_one_or_more), AfterValidator(_distinct)]
Pattern = Annotated[str, AfterValidator(_pattern)]
Patterns = Annotated[
    tuple[Pattern, ...], BeforeValidator(_one_or_more), Field(min_length=1), AfterValidator(_distinct)
]
Duration = Annotated[timedelta, BeforeValidator(_duration), _described("string", "duration")]
DatabaseURL = Annotated[SecretStr, AfterValidator(check_database_url)]
Location = Annotated[Path, AfterValidator(_located)]
Dimensions = Annotated[int, Field(ge=1, le=MOST_DIMENSIONS)]
Count = Annotated[int, Field(ge=1)]
Text = Annotated[str, Field(min_length=1)]


_Settings = TypeVar("_Settings")


def _at_most_half(settings: _Settings, name: str, part: int, whole: int) -> _Settings:
    if part > whole // 2:
        raise PydanticCustomError(
            "room_to_pack",
            "has {name} {part}, more than half of max_tokens {whole}; lower the one or raise the other",
            {"name": name, "part": part, "whole": whole},
        )
    return settings


class Section(BaseModel):
    """A mapping in the file. Unknown keys are refused; values never show in errors."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, use_attribute_docstrings=True, validate_default=False
    )


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
    front_matter: Annotated[tuple[Text, ...], BeforeValidator(_one_or_more), AfterValidator(_distinct)] = ()
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


class FilesSource(Section):
    """The files of a folder, followed as they change."""

    kind: Literal["files"]
    """What the source is."""
    path: Location
    """The folder. Everything in it is read, at any depth, but hidden files and what editors leave behind."""
    include: Patterns = ("**/*.md", "**/*.markdown", "**/*.txt", "**/*.html", "**/*.htm")
    """Which files are documents: patterns of paths within the folder, in which `**/` is any number of folders."""
    exclude: Annotated[tuple[Pattern, ...], BeforeValidator(_one_or_more), AfterValidator(_distinct)] = ()
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


Source = Annotated[PostgresSource | FilesSource, Field(discriminator="kind")]


class LocalEmbedder(Section):
    """A model that runs in this process on ONNX Runtime. Needs the extra `local`."""

    kind: Literal["local"]
    """Where the model runs."""
    model: Text = "all-MiniLM-L6-v2"
    """The model's name."""
    precision: Literal["fp32", "int8"] = "fp32"
    """`int8` is about 1.7 times as fast and loses a little quality. Part of the model's identity."""
    path: Location | None = None
    """The directory that holds the model's files. Without it they are fetched into the cache directory."""
    threads: Count | None = None
    """How many threads compute. Without it ONNX Runtime decides."""


class ApiEmbedder(Section):
    """A model behind an HTTP endpoint that speaks OpenAI's embeddings API."""

    kind: Literal["api"]
    """Where the model runs."""
    base_url: Annotated[str, AfterValidator(_base_url)]
    """The endpoint up to, not including, `/embeddings`. Moving the same model to another URL rebuilds nothing."""
    model: Text
    """The model's name at the endpoint."""
    dimensions: Dimensions
    """The length of the vectors. Others are refused."""
    send_dimensions: bool = False
    """Whether to ask the endpoint for vectors of that length. Only for models that can shorten their vectors."""
    api_key: Annotated[SecretStr, Field(min_length=1)] | None = None
    """The key that is sent as a bearer token. Take it from the environment."""
    batch_size: Annotated[int, Field(ge=1, le=2048)] = 128
    """Most texts in one request."""
    concurrency: Annotated[int, Field(ge=1, le=256)] = 4
    """Most requests at the same time, for documents and for queries apart."""
    timeout: Duration = timedelta(seconds=30)
    """How long a request may take."""
    requests_per_minute: Count | None = None
    """The provider's limit on requests; documents keep to it."""
    tokens_per_minute: Count | None = None
    """The provider's limit on tokens; documents keep to it."""
    query_prefix: str = ""
    """What the model wants in front of a query. Part of the model's identity."""
    document_prefix: str = ""
    """What the model wants in front of a document. Part of the model's identity."""


class HashingEmbedder(Section):
    """No model: words hashed into a vector, for tests and first steps. It knows no synonyms."""

    kind: Literal["hashing"]
    """Where the model runs."""
    dimensions: Dimensions = 384
    """The length of the vectors."""


Embedder = Annotated[LocalEmbedder | ApiEmbedder | HashingEmbedder, Field(discriminator="kind")]


class _Packing(Section):
    """Settings of the chunkers that pack what is short."""

    kind: str
    max_tokens: Annotated[int, Field(ge=16, le=8192)] = 200
    """Most tokens in a chunk."""
    min_tokens: Annotated[int, Field(ge=0)] = 50
    """What is shorter shares a chunk with its neighbour. At most half of `max_tokens`."""

    @model_validator(mode="after")
    def _room_to_pack(self) -> Self:
        return _at_most_half(self, "min_tokens", self.min_tokens, self.max_tokens)


class AutoChunker(_Packing):
    """Cuts each document the way of its media type: pages as `html`, plain text as `text`, all else as `markdown`."""

    kind: Literal["auto"] = "auto"
    """What the documents are."""


class MarkdownChunker(_Packing):
    """Cuts at headings, then at paragraphs, so that an edit moves no cut outside its section."""

    kind: Literal["markdown"] = "markdown"
    """What the documents are."""


class TextChunker(_Packing):
    """Cuts plain text at paragraphs, then at sentences, so that an edit moves few other cuts. Nothing is markup."""

    kind: Literal["text"] = "text"
    """What the documents are."""


class HtmlChunker(_Packing):
    """Takes every document for a page: reads its main content as Markdown and cuts that."""

    kind: Literal["html"] = "html"
    """What the documents are."""


class FixedChunker(Section):
    """Cuts windows of equal size that overlap. An edit moves all cuts behind it."""

    kind: Literal["fixed"] = "fixed"
    """What the documents are."""
    max_tokens: Annotated[int, Field(ge=16, le=8192)] = 200
    """Tokens in a chunk."""
    overlap_tokens: Annotated[int, Field(ge=0)] = 20
    """How many of them stand in the next chunk too. At most half of `max_tokens`."""

    @model_validator(mode="after")
    def _room_to_move(self) -> Self:
        return _at_most_half(self, "overlap_tokens", self.overlap_tokens, self.max_tokens)


Chunker = AutoChunker | MarkdownChunker | TextChunker | HtmlChunker | FixedChunker


class View(Section):
    """A search index that livedex keeps up to date."""

    sources: Annotated[Names, Field(alias="from")]
    """The source, or list of sources, whose documents it holds."""
    description: Text | None = None
    """What it holds, in a sentence: for people and models who choose where to search."""
    chunker: Annotated[
        Annotated[Chunker, Field(discriminator="kind")], BeforeValidator(_by_kind), BeforeValidator(_auto)
    ] = AutoChunker()
    """How documents are cut: a mapping with `kind` and its settings, or the kind alone. Without a kind, `auto`."""
    language: Language = "english"
    """The language that words are stemmed in, so that `refunded` finds `refunds`; `simple` stems nothing."""
    fusion: Literal["zscore", "rrf"] = "zscore"
    """How the scores of vectors and words become one: by standard deviations from the mean of a query's candidates, or by
    reciprocal ranks."""
    embedder: str = "local"
    """The name of an embedder. `local` and `hashing` need no declaration."""
    target_lag: Duration = timedelta(seconds=2)
    """How long after its commit a change should be searchable. `livedex status` says when a view is later than that;
    nothing is dropped."""
    shards: Annotated[int, Field(ge=1, le=64)] = 1
    """How many workers can build it side by side."""
    sql_schema: Annotated[str, AfterValidator(_sql_schema), Field(alias="schema")] = "public"
    """The schema of the store's database in which the SQL view stands."""


class McpDoor(Section):
    """On whose behalf models search over MCP. A model cannot choose: what it may see is not for it to say."""

    tenant: Text | None = None
    """The tenant whose documents are found, besides those of no tenant."""
    principals: Annotated[tuple[Text, ...], BeforeValidator(_one_or_more), AfterValidator(_distinct)] = ()
    """The users and groups whose documents are found, besides those that everybody may see."""


class Serve(Section):
    """The doors: HTTP, with the extra `serve`, and on the same port MCP, with the extra `mcp`. `serve: false` closes
    them. There are no keys yet, so they are open to every program on this machine and to nothing else."""

    enabled: bool = True
    """Whether `livedex up` opens them. Without a word about `serve` it does so when the extra is installed."""
    host: Annotated[str, AfterValidator(_loopback)] = "127.0.0.1"
    """The address to listen on: `127.0.0.1`, `::1` or `localhost`."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8484
    """The port to listen on; 0 for any that is free."""
    mcp: McpDoor = McpDoor()
    """On whose behalf models search over MCP."""


class Store(Section):
    """Where the index is kept. Without it: a PostgreSQL server of livedex's own, in `.livedex/` beside the file."""

    url: DatabaseURL | None = None
    """A PostgreSQL 15 or newer with pgvector 0.8.4 or newer. `LIVEDEX_DATABASE_URL` comes before it."""
    directory: Location | None = None
    """The directory of livedex's own server, relative to the file."""

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if self.url is not None and self.directory is not None:
            raise PydanticCustomError("one_place", "has both url and directory; keep the one that is meant")
        return self


class Configuration(Section):
    """The whole of livedex.yaml."""

    sources: Annotated[Mapping[Name, Source], Field(min_length=1)]
    """Where documents come from, by a name of your choice."""
    embedders: Mapping[Name, Embedder] = Field(default_factory=dict)
    """What turns text into vectors, by a name of your choice."""
    views: Annotated[Mapping[Name, View], Field(min_length=1)]
    """The search indexes, by a name of your choice."""
    store: Store = Store()
    """Where the index is kept."""
    serve: Annotated[Serve, BeforeValidator(_switched)] = Serve()
    """The doors through which others search, or `false`."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that livedex.yaml and the environment decide, checked and complete.

    `embedders` holds every embedder that a view names, declared or implied. `database_url` is None when the embedded
    server in `store_directory` holds the index. `serve` is None when the file says nothing of it. Paths are absolute.
    """

    file: Path
    sources: Mapping[str, PostgresSource | FilesSource]
    embedders: Mapping[str, LocalEmbedder | ApiEmbedder | HashingEmbedder]
    views: Mapping[str, View]
    database_url: SecretStr | None
    store_directory: Path
    cache_directory: Path
    serve: Serve | None = None
