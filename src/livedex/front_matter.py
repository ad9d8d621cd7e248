"""What a document says about itself before it begins: YAML between two lines of dashes.

    ---
    category: billing
    reviewed: 2026-03-01
    ---

It belongs to the metadata, so chunkers skip it: what `read` reads ends where `body_start` says.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

LONGEST = 16 * 2**10
"""Front matter of more characters is skipped but not read: YAML takes its time, and other documents wait."""
_MOST_VALUES = 1_000
_DEEPEST = 16

_LINE_END = r"(?:\r\n|[\r\n])"
_FENCE = rf"(?:---|\.\.\.)[ \t]*+(?:{_LINE_END}|\Z)"
_FRONT_MATTER = re.compile(rf"\ufeff?---[ \t]*+{_LINE_END}(?P<body>(?:(?!{_FENCE})[^\r\n]*+{_LINE_END})*+){_FENCE}")
_KEY = re.compile(r"(?:\A|(?<=[\r\n]))[\w\"'][^:\r\n]*+:(?:\s|\Z)")

_YAML_TAG = "tag:yaml.org,2002:"
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})")
_MOMENT = re.compile(
    r"(?P<day>\d{4}-\d\d-\d\d)(?:[Tt]|[ \t]+)(?P<time>\d\d:\d\d:\d\d(?:\.\d{1,6})?)"
    r"[ \t]*(?P<zone>[Zz]|[+-]\d\d(?::?\d\d)?)?"
)


def body_start(content: str) -> int:
    """Where a text starts after its byte order mark and front matter, if any."""
    found = _find(content)
    if found is None:
        return 1 if content.startswith("\ufeff") else 0
    return found.end()


def read(content: str) -> Mapping[str, Any]:
    """What a text's front matter says, as JSON values: texts, numbers, true, false, None, lists and mappings of these.

    Dates are texts in ISO's form. Empty where there is no front matter, and where it is broken, longer than `LONGEST`
    or holds more than a person would write: a document is not refused for what stands in front of it.
    """
    found = _find(content)
    if found is None:
        return {}
    written = found["body"]
    if len(written) > LONGEST or written.count("[") + written.count("{") > _MOST_VALUES:
        return {}
    try:
        root = YAML(typ="safe", pure=True).compose(re.sub(r"\r\n?", "\n", written))
        value = _Reader().value(root, 0)
    except (YAMLError, RecursionError, _TooMuch):
        return {}
    return value if isinstance(value, dict) else {}


def _find(content: str) -> re.Match[str] | None:
    found = _FRONT_MATTER.match(content)
    # A rule, some text and another rule are no front matter; an empty one is.
    if found is None or (found["body"].strip() and not _KEY.search(found["body"])):
        return None
    return found


class _TooMuch(Exception):
    """More values, or deeper nested, than front matter has. An alias can stand for any number of them."""


class _Reader:
    """YAML's nodes → values. Nothing is constructed but plain values, whatever tags say."""

    def __init__(self) -> None:
        self._values = 0

    def value(self, node: Node | None, depth: int) -> Any:
        self._values += 1
        if depth > _DEEPEST or self._values > _MOST_VALUES:
            raise _TooMuch
        match node:
            case MappingNode():
                pairs = [(key.value, value) for key, value in node.value if isinstance(key, ScalarNode)]
                return {_text(key): self.value(value, depth + 1) for key, value in pairs}
            case SequenceNode():
                return [self.value(item, depth + 1) for item in node.value]
            case ScalarNode():
                return _scalar(str(node.tag).removeprefix(_YAML_TAG), node.value)
        return None


def _scalar(kind: str, written: str) -> str | int | float | bool | None:
    """A number whose digits would not survive, such as 007, stays the text that it is."""
    if kind == "null":
        return None
    if kind == "bool" and written.lower() in ("true", "false"):
        return written.lower() == "true"
    if kind == "int" and _INTEGER.fullmatch(written):
        return int(written)
    if kind == "float":
        return _number(written)
    if kind == "timestamp":
        return _moment(written)
    return _text(written)


def _number(written: str) -> float | str:
    try:
        number = float(written)
    except ValueError:
        return written
    return number if math.isfinite(number) else written  # JSON has no infinity


def _moment(written: str) -> str:
    found = _MOMENT.fullmatch(written)
    if found is None:
        return written
    try:
        return datetime.fromisoformat(f"{found['day']}T{found['time']}{(found['zone'] or '').upper()}").isoformat()
    except ValueError:
        return written  # there is no 30th of February, but somebody wrote it


def _text(written: str) -> str:
    """Without what PostgreSQL cannot store: escapes can name a zero byte and half of a surrogate pair."""
    return written.replace("\0", "").encode("utf-8", "replace").decode()
