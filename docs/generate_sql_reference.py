"""Write docs/reference/sql.md from src/livedex/store/sql_view.py. Run it after a change there:

python docs/generate_sql_reference.py
"""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

from livedex.store.sql_view import COLUMNS

PAGE = Path(__file__).parent / "reference" / "sql.md"

TYPES = {
    "chunk_index": "integer",
    "section": "text[]",
    "start": "integer",
    "end": "integer",
    "acl": "text[]",
    "updated_at": "timestamptz",
    "source_time": "timestamptz",
    "created_at": "timestamptz",
    "stale": "boolean",
    "embedding": "halfvec",
}
"""Those that are not text."""

BEFORE = """\
<!-- Written by docs/generate_sql_reference.py; change that, or src/livedex/store/sql_view.py, instead. -->

# SQL

Each view of livedex.yaml is also a relation and a function in the store's database, in the schema `public` unless the
view sets `schema`. They are made by the first `livedex sync` or `livedex up`. `livedex dsn` prints the connection
string; livedex's own server runs only while a livedex process does, so keep `livedex up` running.

## The search function

For a view named `handbook`:

```sql
handbook_search(query halfvec, model text, k integer DEFAULT 10) RETURNS SETOF handbook
```

The `k` nearest chunks to a query vector, nearest first; ties by document and place. `model` names the model that made
the vector. If that is not the view's, the function raises an error: distances between vectors of two models mean
nothing. `livedex embed handbook "When are refunds paid?"` prints a whole statement to paste:

```sql
SELECT document_id, title, chunk_text FROM handbook_search('[0.0132,...]', 'all-MiniLM-L6-v2:bc4d099c', 5);
```

`livedex embed handbook TEXT --json` gives the vector and the model's name to a program. The name carries a checksum of
everything that makes vectors comparable, so it differs between precisions, revisions and prefixes of one model.

The function ranks by meaning alone, as `livedex search --mode dense` does; without `--mode` a search is hybrid and
ranks by words too. The function takes the rows that the vector index proposes and measures no more than that:
`livedex search` and the Python API also measure the newest chunks and the few that the index cannot find
([decision 7](../decisions/0007-strays.md)), and measure everything where few documents are visible. Who needs the very
same hits should use those.

## The relation

One row a chunk. **It enforces neither tenants nor access lists:** a role that may read it reads every row. Filter by
`tenant` and `acl` yourself, or give applications a view of your own that does.

| column | type | meaning |
|---|---|---|
"""

AFTER = """
Each declared metadata column follows, as text and under its own name; one that is named like a column above gets the
prefix `metadata_`. When other columns are declared the relation may have to be dropped and made anew, and with it go
the rights granted on it and the views that use it.

The columns carry these meanings as comments: `\\d+ handbook` in psql shows them.

## Examples

Documents of a category that changed in the last day, by the source's own clock:

```sql
SELECT DISTINCT document_id, title, source_time FROM handbook
WHERE category = 'policy' AND source_time > now() - interval '1 day' ORDER BY source_time DESC;
```

The nearest chunks among those that one customer's user may see. `<=>` is cosine distance; 1 minus it is the score that
`livedex search --mode dense` shows, and among a hit's `scores` the one called `dense`:

```sql
SELECT document_id, chunk_text, 1 - (embedding <=> '[0.0132,...]'::halfvec) AS score FROM handbook
WHERE (tenant IS NULL OR tenant = 'acme') AND acl && ARRAY['*', 'alice']
ORDER BY embedding <=> '[0.0132,...]'::halfvec LIMIT 10;
```

This relation cannot know what made the vector; the model is yours to check (`embedding_model`).

The database's defaults for `hnsw.iterative_scan` and `hnsw.ef_search` are set so that such a query finds as many rows
as its `LIMIT` asks for. They hold for connections made after the first start of livedex.

To let another role search:

```sql
GRANT SELECT ON handbook TO application;
```

## Freshness

`livedex.freshness` has one row a view and source, with figures over the last hour; `livedex.freshness_over(interval)`
has the same rows over another time, at most 7 days. What they mean, and how to ask for fresher data, stands in [Know
how fresh a search is](../how-to/freshness.md).

| column | type | meaning |
|---|---|---|
FRESHNESS
Whoever may read the view needs no right to what is behind it: `GRANT USAGE ON SCHEMA livedex TO monitoring` and `GRANT
SELECT ON livedex.freshness TO monitoring`.

Everything else in the schemas `livedex` and `livedex_g1`, `livedex_g2` and so on is livedex's own. It may be read, is
not part of any promise, and must not be written.
"""


def render() -> str:
    """The whole page."""
    rows = [f"| `{name}` | {TYPES.get(name, 'text')} | {meaning} |" for name, meaning in COLUMNS.items()]
    return BEFORE + "\n".join(rows) + "\n" + AFTER.replace("FRESHNESS", _freshness())


def _freshness() -> str:
    """The rows of the table, from the comments of the migration that makes the view."""
    made = resources.files("livedex.store") / "migrations" / "0003_freshness.sql"
    said = re.findall(r"COMMENT ON COLUMN livedex\.freshness\.(\w+) IS '(.+)';", made.read_text(encoding="utf-8"))
    plain = [(name, meaning.replace("''", "'")) for name, meaning in said]
    return "".join(f"| `{name}` | {_type(name)} | {meaning} |\n" for name, meaning in plain)


def _type(column: str) -> str:
    if column.endswith("_seconds") or column in ("within_target", "stale_retrieval_rate"):
        return "double precision"
    return {"generation": "integer", "data_timestamp": "timestamptz", "heartbeat_at": "timestamptz"}.get(column, "text")


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
    print(f"Wrote {PAGE}")
