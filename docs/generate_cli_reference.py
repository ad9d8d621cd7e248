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
| `lexical_only` | how many documents of the view are found by words alone, for want of [budget](../how-to/cost.md) |
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
  `clock_offset_seconds`, `documents`, `schema_change` (the newest change of a column that waits for somebody);
- `views`, each with `view`, `generation`, `embedding_model`, `schema_version`, `shards`, `indexed`, `documents`,
  `chunks`, `backlog`, `quarantined`, `target_lag_seconds`, `lag_seconds`, `data_timestamp`, `window_seconds` and over
  that time `lag_p50_seconds`, `lag_p95_seconds`, `lag_p99_seconds` (commit to searchable), `delete_p50_seconds`,
  `delete_p95_seconds`, `delete_p99_seconds` (delete to unsearchable), `within_target`, `stale_retrieval_rate`;
  `watermark`, `capturing`, `errors`, `totals`; of its [limits](../how-to/cost.md) `cost`; of its room on disk `size`,
  `bytes_per_chunk` and `index_inserts_per_text` ([what they mean](../how-to/upkeep.md));
- `quarantined`, the number of documents in quarantine;
- `audit`, the last one: `audit_id`, `finished_at`, `subject` (null: everything), how many findings it `found` and how
  many are `left`, `not_compared` and `error`; null without any.

`cost` has `debounce_seconds`, `tokens_per_day`, `when_spent`, `tokens_today`, `ttl_seconds`, `goes_on_at`, and numbers
of documents: `debounced` (not quiet yet), `paused` (waiting for budget), `lexical_only` and `expired`. `size` has
`bytes`, `vector_index_bytes`, `text_index_bytes`, `dead_share` and `maintained_at`.

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
| `source resync`, `source retry` | `{"source": ...}` |
| `source show` | `{"source": ..., "holds": [...]}`, the newest first; see below |
| `source resume` | `{"source": ..., "resumed": {...}}`, what was let pass; it needs `--yes` |
| `source schema` | `{"source": ..., "schema_changes": [...]}`; see below |
| `audit` | what was compared and found; see below |
| `maintain` | `actions`, `partitions_dropped`, `tombstones_dropped`; `elsewhere`: another process is at it |
| `purge` | without `--yes` `purged` (false), `documents`, `unknown` keys and `rows` by table; with it the receipt |
| `purge --finish`, `receipts` | `{"receipts": [...]}`; see below |
| `unpurge` | `{"source": ..., "lifted": 1}` |
| `lineage` | `source`, `document_id`, `state`, `versions` and `quarantine`; see below |
| `retrievals list` | `{"retrievals": [...], "lost": 0}`; see below |
| `replay` | `then`, `now`, `why_not`, `changes` and `differences`; see below |
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
- A document in quarantine has `quarantine_id`, `source`, `document_id`, `view`, `stage` (`map`, `expect`, `chunk` or
  `embed`), `reason`, `version`, `attempts`, `first_at` and `last_at`.
- A hold of a source has `source`, `partition`, `is_open`, `reason` (while it is open), `held_at`, `kinds` (`deletes`,
  `shrinks`), how many `deletes` and `shrinks` of how many `documents`, `examples`, `approved_at`, `approved_by` and
  `ended_at`. A change of a column has `table`, `column`, `kind`, `was` and `became` (types), `mapped`, `seen_at`, and
  `resolved_at`, null while it waits for somebody.
- `audit` has `audit_id`, `started_at`, `finished_at`, `repair`, `deep`, `found`, `left` and `parts`: each with
  `subject` (`store`, `source` or `view`), `name`, `compared`, `unjudged`, `skipped` (why it was not compared),
  `seconds`, `source_bytes`, `content_bytes`, and `findings` of a `kind`, with how many were `found` and are `left`, a
  `note` and `examples`.
- A receipt has `purge_id`, `action`, `source`, `made_at`, `made_by`, `reason`, how many `documents` and `keys`,
  `removed` rows by table, `finished_at`, `complete` (whether the files are written anew too) and `remains`, what it did
  not reach.
- A version in a lineage has `op`, `version`, `position`, `committed_at`, `captured_at`, `expired` and `served`, for
  each generation `view`, `generation`, `active`, `served`, `embedded_at`, `searchable_at`, `replaced_at`,
  `lag_seconds` and `texts_written`.
- A recorded search has `retrieval_id`, `at`, `view`, `generation`, `query`, `tenant`, `principals`, `top_k`, `mode`,
  `lag_seconds`, `stale`, `contract`, `outcome` and the number of `hits`; `lost` is how many could not be recorded.
  `then` of a replay is such a record with all its hits, `now` a retrieval (null if it could not be asked again:
  `why_not`). A difference has `became`, `document_id`, rank, score and version `then_` and `now_`, `at`,
  `searchable_at` and an `explanation`.
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
| 1 | an error that livedex did not expect; of `livedex doctor` and `livedex audit`: something was found |
| 2 | wrong usage or configuration, or no such view, source or document |
| 3 | the store: the PostgreSQL that holds the index |
| 4 | a source |
| 5 | the embedder |
| 6 | the view is not as fresh as the search asked for |
| 130 | interrupted, or a question was not answered with yes |
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
