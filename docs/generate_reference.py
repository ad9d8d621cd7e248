"""Write docs/reference/configuration.md from the modules of src/livedex/config. Run it after a change there:

python docs/generate_reference.py
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from inspect import cleandoc
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from livedex.config import (
    ApiEmbedder,
    AutoChunker,
    Brake,
    Budget,
    Configuration,
    Contract,
    Debounce,
    Expects,
    FilesSource,
    FixedChunker,
    HashingEmbedder,
    HtmlChunker,
    LocalEmbedder,
    MarkdownChunker,
    McpDoor,
    NearDuplicates,
    PostgresSource,
    Serve,
    Store,
    TextChunker,
    View,
)
from livedex.config.contracts import Scores, Versions
from livedex.config.sources import Table
from livedex.config.values import DURATION_UNITS

PAGE = Path(__file__).parent / "reference" / "configuration.md"

SECTIONS: tuple[tuple[str, type[BaseModel]], ...] = (
    ("The file", Configuration),
    ("`sources.<name>` with `kind: postgres`", PostgresSource),
    ("`sources.<name>.tables.<table>`", Table),
    ("`sources.<name>` with `kind: files`", FilesSource),
    ("`sources.<name>.expects`", Expects),
    ("`sources.<name>.expects.near_duplicates`", NearDuplicates),
    ("`sources.<name>.brake`", Brake),
    ("`embedders.<name>` with `kind: local`", LocalEmbedder),
    ("`embedders.<name>` with `kind: api`", ApiEmbedder),
    ("`embedders.<name>` with `kind: hashing`", HashingEmbedder),
    ("`views.<name>`", View),
    ("`views.<name>.contract`", Contract),
    ("`views.<name>.contract.version`", Versions),
    ("`views.<name>.contract.min_score`", Scores),
    ("`views.<name>.debounce`", Debounce),
    ("`views.<name>.budget`", Budget),
    ("`views.<name>.chunker` with `kind: auto`", AutoChunker),
    ("`views.<name>.chunker` with `kind: markdown`", MarkdownChunker),
    ("`views.<name>.chunker` with `kind: html`", HtmlChunker),
    ("`views.<name>.chunker` with `kind: text`", TextChunker),
    ("`views.<name>.chunker` with `kind: fixed`", FixedChunker),
    ("`store`", Store),
    ("`serve`", Serve),
    ("`serve.mcp`", McpDoor),
)

INTRODUCTION = """\
<!-- Written by docs/generate_reference.py; change the modules of src/livedex/config instead. -->

# Configuration

livedex reads one file: the one given on the command line, the one that `LIVEDEX_CONFIG` names, or `livedex.yaml` in the
current directory. It is YAML 1.2 in UTF-8. Everything that is wrong with it is reported at once, with line and key.

```yaml
sources:
  kb:
    kind: postgres
    url: ${KB_DATABASE_URL}
    tables:
      documents: {key: doc_id, title: title, content: content, updated_at: updated_at, metadata: [category]}
embedders:
  openai:
    kind: api
    base_url: https://api.openai.com/v1
    model: text-embedding-3-small
    dimensions: 1536
    api_key: ${OPENAI_API_KEY}
views:
  handbook: {from: [kb], chunker: {kind: markdown, max_tokens: 200}, embedder: local, target_lag: 2s}
```

## How values are written

- **Names** of sources, embedders and views begin with a lower-case letter, followed by lower-case letters, digits and
  `_`, 48 characters at most.
- **Durations** carry their unit: `500ms`, `2s`, `5m`, `1h`, `7d`.
- **Paths** are relative to the file; `~/` is the home directory.
- **Templates** put columns in braces; `{{` and `}}` are braces. A line break needs double quotes:
  `"{summary}\\n\\n{body}"`.
- **Variables**: `${NAME}` in a value is replaced by the environment variable, `${NAME:-default}` by the default when it
  is not set or empty. The default runs to the next `}` and is taken literally. `$$` is a dollar sign. Values are filled
  in after the file was parsed, so they need no quotes and cannot change its structure. Keys hold no variables.

## Environment variables

| variable | meaning |
|---|---|
| `LIVEDEX_CONFIG` | The configuration file, when none is given on the command line. |
| `LIVEDEX_DATABASE_URL` | The PostgreSQL server that holds the index. Comes before `store`. |
| `LIVEDEX_CACHE` | Where fetched models are kept. Default: `$XDG_CACHE_HOME/livedex`, else `~/.cache/livedex`. |

An empty `LIVEDEX_` variable counts as not set.
"""


def render() -> str:
    """The whole page."""
    return "\n".join([INTRODUCTION, *(line for title, section in SECTIONS for line in _section(title, section))])


def _section(title: str, section: type[BaseModel]) -> Iterator[str]:
    properties = section.model_json_schema()["properties"]
    yield from (
        f"## {title}",
        "",
        cleandoc(section.__doc__ or ""),
        "",
        "| key | value | default | meaning |",
        "|---|---|---|---|",
    )
    for name, field in section.model_fields.items():
        key = field.alias or name
        meaning = " ".join((field.description or "").split())
        yield f"| `{key}` | {_shape(properties[key])} | {_default(field)} | {meaning} |"
    yield ""


def _shape(schema: Mapping[str, Any]) -> str:
    if "anyOf" in schema:
        return _shape(next(choice for choice in schema["anyOf"] if choice.get("type") != "null"))
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return _quoted(schema["enum"])
    if schema.get("type") == "boolean":
        return "`true` or `false`"
    if schema.get("type") in ("integer", "number"):
        bounds = [str(schema[bound]) for bound in ("minimum", "maximum") if bound in schema]
        return f"number, {' to '.join(bounds)}" if len(bounds) == 2 else f"number from {bounds[0]}"
    if schema.get("type") == "array":
        return "text or list"
    if schema.get("type") == "string":
        return str(schema.get("format", "text")).replace("password", "secret text")
    return "mapping"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True)
    if isinstance(default, timedelta):
        return f"`{_duration(default)}`"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, tuple):
        return _quoted(default)
    if isinstance(default, float):
        return f"`{default:.0%}`"  # the only numbers that are not whole are shares
    if isinstance(default, AutoChunker):
        return f"`{default.kind}`"
    return f"`{default}`" if isinstance(default, str | int) and default != "" else ""


def _quoted(values: Sequence[str]) -> str:
    between = " or " if len(values) == 2 else ", "
    return between.join(f"`{value}`" for value in values)


def _duration(duration: timedelta) -> str:
    seconds = duration.total_seconds()
    unit = next(unit for unit in reversed(DURATION_UNITS) if seconds % DURATION_UNITS[unit] == 0)
    return f"{seconds / DURATION_UNITS[unit]:g}{unit}"


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(render(), encoding="utf-8")
    print(f"Wrote {PAGE}")
