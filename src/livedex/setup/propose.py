"""Which tables are documents, and which of their columns mean what. Pure: profiles in, proposals with reasons out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from livedex.adapters.sources.postgres.inspect import ColumnProfile, ColumnSample, TableProfile
from livedex.errors import NotFound

FEWEST_CHARACTERS = 60
"""Of a document's text, on average; shorter ones are labels."""
LONGEST_TITLE = 200
LONGEST_LABEL = 60
MOST_VALUES = 25
"""Different values of a column that is worth filtering by."""
MOST_METADATA = 8

_MACHINERY = re.compile(
    r"(^|_)(logs?|audits?|auditlogs?|migrations?|sessions?|tokens?|jobs?|queues?|cache|caches|histor(y|ies)|events?"
    r"|outbox|inbox|webhooks?|deliver(y|ies)|locks?|metrics?|oauth\w*|password\w*|credentials?|secrets?|versions?)$"
    r"|^(alembic|django|auth|flyway|knex|prisma|_prisma|oban|sidekiq|delayed|celery|sequelize|schema|ar_internal"
    r"|good_job|solid_queue|spatial_ref|active_storage|hdb)_?|^sequelizemeta$|_(log|audit)(_|$)|^log_",
    re.IGNORECASE,
)
_PEOPLE = re.compile(
    r"(^|_)(users?|accounts?|customers?|people|persons?|members?|contacts?|employees?|patients?|profiles?)$",
    re.IGNORECASE,
)
_SENSITIVE = re.compile(
    r"passw|secret|token|hash|digest|api_?key|e_?mail|phone|(^|_)ssn|iban|(^|_)ip(_|$)|card|salt|signature|checksum",
    re.IGNORECASE,
)
_TEXTS = ("content", "body", "text", "description", "markdown", "article", "answer", "details", "message", "notes",
          "summary", "comment", "html")  # fmt: skip
_TITLES = ("title", "headline", "subject", "heading", "name", "question", "label", "display_name", "topic", "slug")
_LEADS = (
    "summary",
    "abstract",
    "excerpt",
    "lead",
    "intro",
    "introduction",
    "teaser",
    "subtitle",
    "synopsis",
    "question",
)
_CHANGED = ("updated_at", "modified_at", "last_modified", "last_modified_at", "updated_on", "modified_on", "updated",
            "modified", "changed_at", "edited_at", "last_updated", "mtime", "updatedat", "modifiedat")  # fmt: skip
_TENANTS = ("tenant_id", "tenant", "tenantid", "org_id", "organization_id", "organisation_id", "workspace_id",
            "account_id", "company_id", "customer_id", "team_id", "orgid", "workspaceid")  # fmt: skip
_CERTAIN_TENANTS = ("tenant_id", "tenant", "tenantid")
_LISTS = ("acl", "readers", "principals", "allowed_principals", "allowed_groups", "allowed_users", "visible_to",
          "viewers", "access_list")  # fmt: skip
_VERSIONS = ("version", "revision", "rev", "lock_version", "version_number")
_LABELS = ("category", "status", "state", "type", "kind", "language", "lang", "locale", "priority", "section",
           "topic", "product", "department", "visibility", "folder")  # fmt: skip
_GONE = re.compile(r"^(is_?)?(deleted|archived|discarded|removed|hidden)(_?at|_?on)?$", re.IGNORECASE)
_DRAFT = re.compile(r"^(is_?)?(published|draft)(_?at|_?on)?$", re.IGNORECASE)
_COPY_ENDINGS = ("_html", "_rendered", "_cached", "_cooked", "_search")


@dataclass(frozen=True, slots=True)
class Choice:
    """A column, or a template of columns, and why it is it."""

    value: str
    reason: str


@dataclass(frozen=True, slots=True)
class Proposal:
    """A table as documents. With `doubt` it is written commented out. `tenant` and `acl` are settled by a person
    unless `tenant_certain`."""

    table: TableProfile
    content: Choice
    title: Choice | None = None
    updated_at: Choice | None = None
    metadata: tuple[Choice, ...] = ()
    tenant: Choice | None = None
    tenant_certain: bool = False
    acl: Choice | None = None
    version: Choice | None = None
    remarks: tuple[str, ...] = ()
    doubt: str | None = None


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A table that is not proposed, and why."""

    table: str
    reason: str


def worth_reading(tables: Iterable[TableProfile]) -> tuple[list[TableProfile], list[LeftOut]]:
    """Tables that could be documents by their shape, whose rows are worth a look; and the others."""
    kept, left_out = [], []
    for table in tables:
        if reason := _unfit(table):
            left_out.append(LeftOut(table.name, reason))
        elif _MACHINERY.search(table.relation):
            left_out.append(LeftOut(table.name, "its name says that a program writes it for itself"))
        else:
            kept.append(table)
    return kept, left_out


def propose(tables: Iterable[TableProfile]) -> tuple[list[Proposal], list[LeftOut]]:
    """Of sampled tables, which are documents."""
    proposals, left_out = [], []
    for table in tables:
        if content := _content(table, _is_prose):
            doubt = (
                "it seems to hold people; follow it only if that is meant" if _PEOPLE.search(table.relation) else None
            )
            proposals.append(_proposal(table, content, doubt))
        else:
            left_out.append(LeftOut(table.name, "no column holds prose"))
    return proposals, left_out


def propose_chosen(tables: Sequence[TableProfile], names: Sequence[str]) -> list[Proposal]:
    """The tables that a person named, whatever they look like. Raises NotFound for one that cannot be followed."""
    by_name = {table.name: table for table in tables} | {f"{table.schema}.{table.relation}": table for table in tables}
    proposals = []
    for name in names:
        table = by_name.get(name)
        if table is None:
            raise NotFound(f'There is no table "{name}". Found: {", ".join(t.name for t in tables) or "none"}.')
        if reason := _unfit(table):
            raise NotFound(f'Table "{name}" cannot be followed: {reason}')
        content = _content(table, _is_prose) or _content(table, lambda column: True)
        if content is None:
            raise NotFound(f'Table "{name}" has no text column that could be the content of a document.')
        proposals.append(_proposal(table, content, None))
    return proposals


def _unfit(table: TableProfile) -> str | None:
    """Why livedex could not follow it, or could not name it in a configuration."""
    if table.kind not in "rp":
        kind = {"v": "a view", "m": "a materialized view", "f": "a foreign table"}[table.kind]
        return f"it is {kind}, whose changes PostgreSQL does not send; follow the tables behind it"
    if not any(column.readable for column in table.columns):
        return f"it may not be read. Run: GRANT SELECT ON {_quoted(table)} TO the role of this source;"
    if not table.logged:
        return f"it is unlogged, so its changes cannot be sent. Run: ALTER TABLE {_quoted(table)} SET LOGGED;"
    if not any(column.category == "S" for column in table.columns if column.readable):
        return "it has no column of text"
    if not table.key:
        return (
            "it has no primary key, so its deletes could not be followed. Run: "
            f"ALTER TABLE {_quoted(table)} ADD PRIMARY KEY (...);"
        )
    if table.identity == "n":
        return (
            "it has REPLICA IDENTITY NOTHING, so its deletes could not be followed. Run: "
            f"ALTER TABLE {_quoted(table)} REPLICA IDENTITY DEFAULT;"
        )
    if "." in table.schema or not all(map(_writable, (table.name, *table.key))):
        return "its name, or its key's, cannot be written in livedex.yaml ({, }, $ or a dot in the schema)"
    return None


def _proposal(table: TableProfile, content: Choice, doubt: str | None) -> Proposal:
    taken = set(re.findall(r"\{([^{}]+)\}", content.value)) or {content.value}
    title = _title(table, taken)
    tenant = _named(table, _TENANTS, "SNU", "by its name")
    acl = _named(table, _LISTS, "SAU", "by its name, it lists who may read the row")
    updated_at = _named(table, _CHANGED, "D", "by its name")
    version = _named(table, _VERSIONS, "NS", "by its name")
    special = {choice.value for choice in (title, tenant, acl, updated_at, version) if choice} | taken | set(table.key)
    return Proposal(
        table,
        content,
        title,
        updated_at,
        _metadata(table, special),
        tenant,
        tenant is not None and tenant.value.lower() in _CERTAIN_TENANTS and table.column(tenant.value).not_null,
        acl,
        version,
        tuple(_remarks(table, taken)),
        doubt,
    )


def _content(table: TableProfile, fits: Callable[[ColumnProfile], bool]) -> Choice | None:
    texts = [c for c in table.columns if _usable(c) and c.category == "S" and c.name not in table.key and fits(c)]
    if not texts:
        return None
    best = max(texts, key=lambda column: (_characters(column), -_place(column.name, _TEXTS)))
    plain = [c for c in texts if c.name != best.name and any(best.name == c.name + end for end in _COPY_ENDINGS)]
    best = plain[0] if plain else best  # of a text and a copy that was made from it, the text
    lead = next((c for c in texts if c.name.lower() in _LEADS and c.name not in (best.name, "question")), None)
    reason = _why_text(best)
    if lead is not None and 2 * _characters(lead) <= _characters(best):
        return Choice(f"{{{lead.name}}}\n\n{{{best.name}}}", f"{lead.name}, then {best.name}, {reason}")
    return Choice(best.name, reason)


def _why_text(column: ColumnProfile) -> str:
    sample = column.sample
    if sample is None or not sample.filled:
        return "by its name and type; there was no row to look at"
    return f"the longest prose: {sample.characters:,.0f} characters on average in {sample.filled} rows"


def _title(table: TableProfile, taken: set[str]) -> Choice | None:
    fitting = [
        column
        for column in table.columns
        if _usable(column)
        and column.category == "S"
        and column.name not in taken
        and column.name.lower() in _TITLES
        and (column.sample is None or column.sample.characters <= LONGEST_TITLE)
    ]
    if fitting:
        return Choice(min(fitting, key=lambda column: _place(column.name, _TITLES)).name, "by its name")
    return None


def _metadata(table: TableProfile, special: set[str]) -> tuple[Choice, ...]:
    found = []
    for column in table.columns:
        fits = column.name not in special and _usable(column) and not _SENSITIVE.search(column.name)
        if fits and (reason := _why_metadata(column)):
            found.append(Choice(column.name, reason))
    found.sort(key=lambda choice: _place(choice.value, _LABELS))
    return tuple(found[:MOST_METADATA])


def _values(sample: ColumnSample) -> str:
    return f"{sample.distinct} value{'s'[: sample.distinct != 1]}"


def _why_metadata(column: ColumnProfile) -> str | None:
    sample = column.sample
    if column.category in "EB":
        return "an enum" if column.category == "E" else "a boolean"
    if sample is None or not sample.filled:
        return "by its name" if column.category == "S" and column.name.lower() in _LABELS else None
    few = sample.distinct <= MOST_VALUES and (2 * sample.distinct <= sample.filled or sample.filled < 10)
    if column.references is not None and column.category in "NSU":
        return f"refers to {column.references}, {_values(sample)}" if few else None
    if column.category == "S" and few and sample.characters <= LONGEST_LABEL:
        by_name = column.name.lower() in _LABELS
        return _values(sample) if by_name or sample.filled >= 10 else None
    return None


def _named(table: TableProfile, names: Sequence[str], categories: str, reason: str) -> Choice | None:
    fitting = [
        column
        for column in table.columns
        if column.name.lower() in names and column.category in categories and _usable(column)
    ]
    return Choice(min(fitting, key=lambda column: _place(column.name, names)).name, reason) if fitting else None


def _remarks(table: TableProfile, texts: set[str]) -> Iterable[str]:
    for column in table.columns:
        if _GONE.match(column.name) or _DRAFT.match(column.name):
            yield (
                f'"{column.name}" seems to say which rows are not for everybody. livedex follows all rows; to leave '
                f"some out, name a publication above that was made with a row filter: "
                f"CREATE PUBLICATION ... FOR TABLE {_quoted(table)} WHERE (...)"
            )
        if column.name in texts and column.sample is not None and column.sample.html > 0.5:
            yield f'"{column.name}" holds HTML'


def _is_prose(column: ColumnProfile) -> bool:
    """Sentences rather than labels, codes, addresses or encoded bytes; by its name alone when there are no rows."""
    sample = column.sample
    if sample is None or not sample.filled:
        return column.name.lower() in _TEXTS and column.type in ("text", "character varying", "citext")
    if sample.characters < FEWEST_CHARACTERS or _SENSITIVE.search(column.name):
        return False
    unspaced_script = sample.bytes_per_character > 2
    return unspaced_script or 2 <= sample.characters / max(sample.words, 1) <= 14


def _usable(column: ColumnProfile) -> bool:
    return column.readable and not column.generated and _writable(column.name)


def _writable(name: str) -> bool:
    """Whether livedex.yaml can name it: braces are for templates, `${...}` for variables, and blanks are no name."""
    return bool(name.strip()) and not re.search(r"[{}$\ue000\ue001]", name)


def _characters(column: ColumnProfile) -> float:
    return 0.0 if column.sample is None else column.sample.characters


def _place(name: str, names: Sequence[str]) -> int:
    return names.index(name.lower()) if name.lower() in names else len(names)


def _quoted(table: TableProfile) -> str:
    return ".".join('"' + part.replace('"', '""') + '"' for part in (table.schema, table.relation))
