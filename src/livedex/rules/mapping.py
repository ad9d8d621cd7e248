"""Columns of a row → what the document says. Pure.

`title` and `content` of a mapping are a column's name, or a template such as `{title}\\n\\n{body}`; text with a brace
is a template, and `{{` and `}}` stand for braces.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from livedex import front_matter
from livedex.errors import ConfigError, DocumentError
from livedex.model import TableMapping

_PART = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|([{}])")
_SHORT_OFFSET = re.compile(r"[+-]\d\d$")


@dataclass(frozen=True, slots=True)
class Rendered:
    """`acl` is None when everybody may read the document, and empty when nobody may. `updated_at` is in UTC."""

    title: str
    content: str
    metadata: dict[str, Any]
    tenant: str | None
    acl: tuple[str, ...] | None
    version: str | None
    updated_at: datetime | None
    media_type: str = ""


def template_fields(template_or_column: str) -> tuple[str, ...]:
    """The columns that a template names, in order of first use; of a column's name, the column.

    Raises ConfigError for a brace without its partner and for an empty name.
    """
    if "{" not in template_or_column:
        return (template_or_column,)
    fields: dict[str, None] = {}
    for part in _PART.finditer(template_or_column):
        field, lone_brace = part.groups()
        if lone_brace is not None or field == "":
            raise ConfigError(
                f"The template {template_or_column!r} is not complete at character {part.start() + 1}. "
                "Write {column} for a column's value, {{ and }} for braces."
            )
        if field is not None:
            fields[field] = None
    return tuple(fields)


def mapped_columns(mapping: TableMapping) -> tuple[str, ...]:
    """Every column that the mapping mentions, sorted."""
    single = (mapping.updated_at, mapping.tenant, mapping.acl, mapping.version, mapping.media_type)
    templates = (mapping.content, mapping.title)
    named = {column for column in single if column is not None}
    named.update(mapping.key, mapping.metadata)
    named.update(field for template in templates if template is not None for field in template_fields(template))
    return tuple(sorted(named))


def render(mapping: TableMapping, columns: Mapping[str, Any], *, with_front_matter: bool = True) -> Rendered:
    """`columns` holds every mapped column. Raises DocumentError when one is missing or the access list is unclear.

    A name of `mapping.front_matter` that the content does not give is None, as a NULL column is. `with_front_matter`:
    False leaves these names out, for who needs no metadata: reading YAML is the slowest part.
    """
    missing = [name for name in mapped_columns(mapping) if name not in columns]
    if missing:
        raise DocumentError(f'The row has no column "{missing[0]}", which livedex.yaml maps.')
    version = None if mapping.version is None else columns[mapping.version]
    tenant = None if mapping.tenant is None else columns[mapping.tenant]
    content = _fill(mapping.content, columns)
    metadata = {name: columns[name] for name in mapping.metadata}
    if mapping.front_matter and with_front_matter:
        written = front_matter.read(content)
        metadata |= {name: written.get(name) for name in mapping.front_matter}
    return Rendered(
        title="" if mapping.title is None else _fill(mapping.title, columns),
        content=content,
        metadata=metadata,
        tenant=None if tenant is None else as_text(tenant),
        acl=None if mapping.acl is None else _read_acl(mapping.acl, columns[mapping.acl]),
        version=None if version is None else as_text(version),
        updated_at=None if mapping.updated_at is None else _read_time(columns[mapping.updated_at]),
        media_type="" if mapping.media_type is None else _read_media_type(columns[mapping.media_type]),
    )


def as_text(value: Any) -> str:
    """NULL is empty, true and false are written so, lists and objects become compact JSON."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return str(value)


def _fill(template_or_column: str, columns: Mapping[str, Any]) -> str:
    if "{" not in template_or_column:
        return as_text(columns[template_or_column])

    def fill(part: re.Match[str]) -> str:
        return part[0][0] if part[1] is None else as_text(columns[part[1]])

    return _PART.sub(fill, template_or_column)


def _read_acl(name: str, value: Any) -> tuple[str, ...]:
    """A list of names, a JSON array of names, or names with commas between. NULL and empty let nobody in."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except ValueError:
            raise DocumentError(f'Column "{name}" holds an access list that begins as JSON and is none.') from None
    if value is None:
        return ()
    if isinstance(value, str):
        value = value.split(",")
    if not isinstance(value, list) or not all(isinstance(principal, str) for principal in value):
        raise DocumentError(
            f'Column "{name}" holds an access list that cannot be read: it should be a list of names, '
            "or text with commas between names."
        )
    return tuple(principal.strip() for principal in value if principal.strip())


def _read_media_type(value: Any) -> str:
    """`Text/HTML; charset=utf-8` is `text/html`; empty for what is no text."""
    return value.partition(";")[0].strip().lower() if isinstance(value, str) else ""


def _read_time(value: Any) -> datetime | None:
    """ISO text, as of UTC where it names no zone; None for anything else, such as `infinity`."""
    if not isinstance(value, str):
        return None
    text = value.strip()
    try:
        # Python reads `+00` with minutes only after a time of day, PostgreSQL writes it without.
        time = datetime.fromisoformat(f"{text}:00" if _SHORT_OFFSET.search(text[10:]) else text)
    except ValueError:
        return None
    try:
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except OverflowError:
        return None
