"""From what is wrong with the values to sentences that say where it stands and what to do."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from livedex.config.settings import Configuration
from livedex.config.yaml_file import Parsed, Place, Problem

IMPLIED_EMBEDDERS = ("local", "hashing")
"""Embedders that a view may name without a declaration; each is also a kind."""

_SECRET_FIELDS = frozenset({"url", "api_key"})

_MESSAGES = {
    "missing": "is missing",
    "dict_type": "must be a mapping of keys to values",
    "mapping_type": "must be a mapping of keys to values",
    "model_type": "must be a mapping of keys to values",
    "model_attributes_type": "must be a mapping of keys to values",
    "tuple_type": "must be a list",
    "string_type": "must be text",
    "secret_type": "must be text",
    "path_type": "must be a path",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a whole number of reasonable size",
    "int_from_float": "must be a whole number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "time_delta_type": "must be a duration with its unit, such as 500ms, 2s, 5m, 1h or 7d",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "string_too_short": "must not be empty",
    "string_too_long": "must have at most {max_length} characters",
    "too_short": "must not be empty",
    "literal_error": "must be one of {expected}",
}

_WITH_VALUE = frozenset(
    {
        "bool_parsing",
        "int_parsing",
        "int_from_float",
        "greater_than_equal",
        "less_than_equal",
        "literal_error",
        "name",
        "duration",
    }
)
"""Errors whose sentence is clearer with the value that was found."""


def explain(error: ValidationError, parsed: Parsed) -> Iterator[Problem]:
    """One problem for each of pydantic's, at the place where it stands in the file."""
    schema = Configuration.model_json_schema()
    for details in error.errors(include_url=False, include_context=True):
        place = _place(details["loc"])
        kind = details["type"]
        if kind == "extra_forbidden":
            allowed = _keys(_at(schema, place[:-1], parsed.values))
            message = f"unknown key. {_suggestion(str(place[-1]), allowed)}"
        elif kind in ("union_tag_invalid", "union_tag_not_found") or (kind == "literal_error" and place[-1] == "kind"):
            place = place if place[-1] == "kind" else (*place, "kind")
            message = _unknown_kind(details, place, parsed, schema)
        else:
            message = _MESSAGES[kind].format_map(details.get("ctx", {})) if kind in _MESSAGES else details["msg"]
            if details["input"] is None and kind.endswith("_type"):
                message = f"has no value; it {message}"
            elif kind in _WITH_VALUE:
                message += _quoted(", not ", details["input"], place, parsed)
        yield Problem(place, parsed.line(place), message)


def unknown_names(parsed: Parsed) -> Iterator[Problem]:
    """Views that name a source or an embedder which the file does not declare. A file without sources has one problem,
    not one more for each view."""
    sources = list(_section(parsed.values, "sources"))
    embedders = [*_section(parsed.values, "embedders"), *IMPLIED_EMBEDDERS]
    for view, written in _section(parsed.values, "views").items():
        if not isinstance(written, Mapping):
            continue
        place: Place = ("views", view, "from")
        named = written.get("from")
        if isinstance(named, str):
            yield from _unknown(named, place, sources, "source", parsed)
        elif isinstance(named, list):
            for index, name in enumerate(named):
                yield from _unknown(name, (*place, index), sources, "source", parsed)
        yield from _unknown(written.get("embedder"), ("views", view, "embedder"), embedders, "embedder", parsed)


def _unknown(name: Any, place: Place, known: list[str], what: str, parsed: Parsed) -> Iterator[Problem]:
    if isinstance(name, str) and known and name not in known:
        message = f"no {what} is named{_quoted(' ', name, place, parsed) or ' like this'}. {_suggestion(name, known)}"
        yield Problem(place, parsed.line(place), message)


def _section(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = values.get(name)
    return section if isinstance(section, Mapping) else {}


def _place(location: tuple[str | int, ...]) -> Place:
    """Pydantic's location without what it adds: the kind after the name of a source or embedder or after `chunker`, and
    a mark for errors in keys."""
    if location[0] in ("sources", "embedders") and len(location) > 2 and location[2] != "[key]":
        location = (*location[:2], *location[3:])
    if location[0] == "views" and location[2:3] == ("chunker",) and len(location) > 3:
        location = (*location[:3], *location[4:])
    return location[:-1] if location[-1] == "[key]" else location


def _unknown_kind(details: ErrorDetails, place: Place, parsed: Parsed, schema: Mapping[str, Any]) -> str:
    context = details.get("ctx", {})
    expected = context.get("expected_tags") or context.get("expected") or ", ".join(_kinds(_at(schema, place[:-1], {})))
    known = re.findall(r"'(\w+)'", expected) or expected.split(", ")
    found: Any = parsed.values
    for part in place:
        # A section may be given as its kind alone; then the text stands one step higher.
        found = found.get(part) if isinstance(found, Mapping) else found if part == "kind" else None
    if not isinstance(found, str):
        return f"is missing. Known here: {', '.join(known)}."
    return f"unknown kind{_quoted(' ', found, place, parsed)}. {_suggestion(found, known)}"


def _quoted(before: str, value: Any, place: Place, parsed: Parsed) -> str:
    """The value in quotes for the end of a sentence; empty if it is, or could be, a secret."""
    secret = place in parsed.from_environment or place[-1] in _SECRET_FIELDS
    if secret or not isinstance(value, str) or not re.fullmatch(r"[\w .,{}/+-]{1,48}", value):
        return ""
    return f'{before}"{value}"'


def _suggestion(name: str, known: Iterable[str]) -> str:
    known = sorted(set(known))
    near = get_close_matches(name.lower().replace("-", "_"), known, n=1)
    return f'Did you mean "{near[0]}"?' if near else f"Known here: {', '.join(known)}."


def _at(schema: Mapping[str, Any], place: Place, values: Any) -> Mapping[str, Any]:
    """The JSON schema that holds at a place of the file."""
    node = schema
    for part in place:
        node = _resolved(schema, node, values)
        values = values.get(part) if isinstance(values, Mapping) else None
        properties = node.get("properties", {})
        node = properties[part] if part in properties else node.get("additionalProperties") or {}
    return _resolved(schema, node, values)


def _resolved(schema: Mapping[str, Any], node: Mapping[str, Any], values: Any) -> Mapping[str, Any]:
    if "anyOf" in node:  # of a section that may be left out
        node = next((kind for kind in node["anyOf"] if kind.get("type") != "null"), node)
    if "discriminator" in node:
        references = node["discriminator"]["mapping"]
        usual = node.get("default", {}).get("kind")
        kind = values.get("kind", usual) if isinstance(values, Mapping) else None
        if kind not in references:
            return node
        node = {"$ref": references[kind]}
    if "$ref" in node:
        return dict(schema["$defs"][node["$ref"].rpartition("/")[2]])
    return node


def _keys(node: Mapping[str, Any]) -> list[str]:
    return list(node.get("properties", {}))


def _kinds(node: Mapping[str, Any]) -> list[str]:
    return list(node.get("discriminator", {}).get("mapping", {}))
