"""Write docs/reference/cli.md from the program itself. Run it after a change to a command or an option:

python docs/generate_cli_reference.py
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from livedex.cli import app

PAGE = Path(__file__).parent / "reference" / "cli.md"

BEFORE = """\
<!-- Written by docs/generate_cli_reference.py; change that, or the commands in src/livedex/cli, instead. -->

# The command line

Every command but `livedex demo`, `livedex init` and `livedex models` reads a [configuration](configuration.md). Results
go to stdout; progress, remarks and errors go to stderr.

Options that stand before the command, as in `livedex --config other.yaml status`:

"""

AFTER = """\
## JSON

With `--json` stdout holds one JSON document and nothing else. Times are ISO 8601 with their offset, durations are
numbers with the unit in the name.

`livedex sync --json`, per view and in documents, `texts_embedded` in texts:

```json
{"views": {"handbook": {"added": 3, "updated": 0, "unchanged": 0, "deleted": 0, "quarantined": 0, "texts_embedded": 3}}}
```

`unchanged` and `quarantined` describe the view as it is now, the others what this run did.

`livedex search VIEW QUERY --json` is a retrieval:

| key | meaning |
|---|---|
| `retrieval_id`, `view`, `generation` | what answered |
| `hits` | best first; see below |
| `watermark` | up to where everything is searchable, per source; see below |
| `data_timestamp` | everything committed before is searchable; null until the first load is complete |
| `lag_seconds` | how long ago that was |
| `freshness` | `met`: whether it was as fresh as was asked for, `unmet`: in which respects not, `waited_seconds` |
| `capturing` | whether a process follows every source of the view right now |
| `timings` | `embed_ms` and `search_ms`; `contract_ms` where the view has a contract |
| `searched_at` | the store's time when it was searched |
| `verdict` | what came of the view's [contract](../how-to/contracts.md), see below; null without one |

A watermark has `source`, `position`, `time`, `heartbeat_at`, `state` and `lag_seconds`: [what they
mean](../how-to/freshness.md).

A `verdict` has `contract` (the name of its version), `outcome` (`answered`, `abstained` or `escalated`), `violations`
of the answer as a whole, each with `clause` and `reason`, `dropped`, and `escalation`, the number of the ticket, or
null. What was `dropped`, best first, has `document_id`, `document_version`, `chunk_id`, `source`, `score`, `scores`
and `violations`.

A hit:

| key | meaning |
|---|---|
| `document_id`, `document_version`, `source` | the document, and the version that the text is from |
| `chunk_id`, `chunk_index` | the chunk, and its place in the document from 0 |
| `title`, `metadata` | as they are now |
| `section`, `section_type` | the headings above the chunk, outermost first; what it is |
| `start`, `end`, `text` | `content[start:end] == text`, in characters |
| `score` | orders the hits of this search, best first; says nothing beyond it |
| `scores` | what it was made of: `dense`, the cosine similarity, and `lexical`, BM25; of one leg with `--mode` |
| `source_position`, `source_time` | where and when this version was committed; null if it was read by a full load |
| `created_at` | when the text was embedded |
| `embedding_model`, `schema_version` | what embedded it; how it was cut |
| `stale`, `stale_since` | a newer version of the document is on its way, since then at least |
| `updated_at` | when the document says that it was last changed; null where no column for that is mapped |
| `complete` | all chunks of that version are there; null unless the view's contract asks for it |

`livedex status --json` holds

- `sources`, each with `source`, `kind`, `partition`, `state`, `error`, `position`, `position_time`, `heartbeat_at`,
  `clock_offset_seconds`, `documents`;
- `views`, each with `view`, `generation`, `embedding_model`, `schema_version`, `shards`, `indexed`, `documents`,
  `chunks`, `backlog`, `quarantined`, `target_lag_seconds`, `lag_seconds`, `data_timestamp`, `window_seconds` and over
  that time `lag_p50_seconds`, `lag_p95_seconds`, `lag_p99_seconds` (commit to searchable), `delete_p50_seconds`,
  `delete_p95_seconds`, `delete_p99_seconds` (delete to unsearchable), `within_target`, `stale_retrieval_rate`;
  `watermark`, `capturing`, `errors`, `totals`;
- `quarantined`, the number of documents in quarantine.

`livedex up --json` and `livedex serve --json` print one object a line, each with `time` and `event`:

| event | fields |
|---|---|
| `started` | `source`, `tables`, `views` |
| `serving` | `http`, `mcp`: the URLs; `mcp` is null without its extra |
| `not_serving` | `error`, `message`: why searches are not answered |
| `loaded` | `view`, `documents` |
| `error`, `recovered` | `worker`; of an error also `error` and `message` |
| `quarantine` | `documents`: how many were there at the start |
| `quarantined` | `quarantine_id`, `source`, `document_id`, `reason` |
| `stopping` | |
| `stopped` | `waiting`: captured documents that are left for the next start |

The others:

| command | JSON |
|---|---|
| `embed` | `{"model": ..., "embedding": "[0.1,...]"}` |
| `token` | `{"token": "kb:7391406215:1:0/16B3748"}` |
| `dsn` | `{"dsn": ...}` |
| `source resync` | `{"source": ...}` |
| `contract show` | `{"view": ..., "contract": ..., "clauses": {...}}` |
| `contract check` | how much of a view is within its contract; see below |
| `escalations list` | `{"escalations": [...]}` |
| `escalations show`, `take`, `resolve` | one of these |
| `quarantine list` | `{"quarantined": [...]}` |
| `quarantine show` | one of these |
| `quarantine retry` | `{"retried": 2}` |
| `models fetch` | `{"model": ..., "path": ...}` |
| `models list` | `{"models": [...]}` |
| `doctor` | `ok`: whether nothing failed; `groups`, each with `title` and `checks`; see below |
| `init` | `file`, null with `--print`; `configuration`, its text; `sources`, `view`, `embedder`; see below |
| `demo` | `folder`, `embedder`, `first_load` and `edits` |
| `demo --docs` | `folder`, `embedder`, `documents`, `first_load` and `quarantined`, a number |

- `contract check` has `view`, `contract`, `documents`, `documents_within`, `documents_partly`, `chunks`,
`chunks_within`, `clauses`, `violations`, `section_types` and `document_types`. Each of `clauses` has `clause`, how
many `documents` and `chunks` violate it, and `examples`, some document ids; `violations` are those of the view as a
whole.
- An escalation has `escalation` (its number), `view`, `state` (`open`, `taken` or `resolved`), `question`, `tenant`,
  `contract`, `violations`, `nearest` (as `dropped` of a verdict), `retrieval_id`, `times`, `opened_at`, `last_at`,
  `taken_by`, `taken_at`, `resolved_by`, `resolved_at` and `resolution`.
- A document in quarantine has `quarantine_id`, `source`, `document_id`, `view`, `stage` (`map`, `chunk` or `embed`),
  `reason`, `version`, `attempts`, `first_at` and `last_at`.
- A model has `name`, `revision`, `path`, `bytes`, `intact` and `precisions`.
- A check of `doctor` has `name`, `state` (`ok`, `warning`, `failed` or `not checked`), `message` and `remedy`, which is
  null or what to run.
- `init` also gives `tables`, the choices for each table with their reasons, `left_out`, the tables without, `exports`,
  variables to set, and `unready`, what keeps the sources from being followed.
- The `first_load` of the demo has `documents`, `chunks`, `texts_embedded` and `seconds`. An edit has `edit` (its kind),
  `what`, `statement`, `question`, `searchable_ms`, `texts_embedded`, and `before` and `after`: the hit on what was
  edited, or null.

## Exit codes

| code | meaning |
|---|---|
| 0 | done |
| 1 | an error that livedex did not expect; of `livedex doctor`: something it checked failed |
| 2 | wrong usage or configuration, or no such view, source or document |
| 3 | the store: the PostgreSQL that holds the index |
| 4 | a source |
| 5 | the embedder |
| 6 | the view is not as fresh as the search asked for |
| 130 | interrupted |
"""


def render() -> str:
    """The whole page."""
    program = typer.main.get_command(app)
    commands = "\n".join(line for path, command in leaves(program) for line in _section(path, command))
    return f"{BEFORE}{_table(_options(program))}\n## Commands\n\n{commands}\n{AFTER}"


def leaves(command: Any, path: str = "livedex") -> Iterator[tuple[str, Any]]:
    """Every command that does something, with all its words; in the order of the program's help."""
    subcommands = getattr(command, "commands", None)
    if subcommands is None:
        yield path, command
        return
    for name, subcommand in subcommands.items():
        yield from leaves(subcommand, f"{path} {name}")


def _section(path: str, command: Any) -> Iterator[str]:
    arguments = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    written = "".join(f" {_argument(argument)}" for argument in arguments)
    yield from (f"### `{path}{written}`", "", command.help, "")
    yield _table([(f"`{_argument(argument)}`", _meaning(argument)) for argument in arguments] + _options(command))


def _argument(argument: Any) -> str:
    name = argument.metavar + ("..." if argument.nargs == -1 else "")
    return name if argument.required else f"[{name}]"


def _options(command: Any) -> list[tuple[str, str]]:
    return [
        (_option(parameter), _meaning(parameter))
        for parameter in command.params
        if parameter.param_type_name == "option"
    ]


def _option(option: Any) -> str:
    value = f" {option.metavar}" if option.metavar else ""
    return ", ".join(f"`{name}{value}`" for name in option.opts)


def _meaning(parameter: Any) -> str:
    shown = parameter.default if isinstance(parameter.default, str | int) and parameter.default is not False else ""
    return f"{parameter.help} Default: {shown}." if shown else str(parameter.help)


def _table(rows: list[tuple[str, str]]) -> str:
    lines = ["| argument or option | meaning |", "|---|---|", *(f"| {name} | {meaning} |" for name, meaning in rows)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
    print(f"Wrote {PAGE}")
