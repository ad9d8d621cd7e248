"""Draw docs/pictures from what they show: the floors from pyproject.toml, the tables from a database that livedex made.

python docs/generate_pictures.py

Run it after a migration, a change of a generation's tables, or a new module. The data flow has no table to be drawn
from; it stands here as it is.
"""

from __future__ import annotations

import asyncio
import re
import tempfile
import tomllib
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from html import escape
from pathlib import Path

import psycopg

import livedex

ROOT = Path(__file__).resolve().parents[1]
PICTURES = ROOT / "docs" / "pictures"
PACKAGE = ROOT / "src" / "livedex"

CONFIGURATION = """\
sources: {notes: {kind: files, path: notes}}
views: {notes: {from: notes, embedder: hashing}}
"""

MODULES = {
    "__main__": "python -m livedex",
    "adapters": "sources, parsers, chunkers, embedders",
    "app": "an open index",
    "assembly": "settings to retrievers and workers",
    "bench": "whole systems side by side",
    "cli": "commands: asks app, prints",
    "clock": "time, passed in",
    "config": "livedex.yaml and the environment",
    "demo": "the tour and its handbook",
    "digests": "what both sides of an audit compute",
    "doctor": "what is missing, and its remedy",
    "errors": "each with a remedy",
    "faults": "points at which tests strike",
    "flow": "capture, materialize, follow",
    "front_matter": "YAML at the top of a text",
    "model": "frozen values",
    "parts": "settings to adapters",
    "ports": "what adapters promise",
    "retrieve": "query to hits",
    "rules": "pure decisions",
    "serve": "HTTP and MCP",
    "setup": "a first livedex.yaml",
    "status": "how it stands",
    "store": "the only SQL on the store",
    "testing": "fakes, faults, conformance kits",
}

TABLES = {
    "migrations": "what was done to this schema",
    "store": "this store's identity and its keys",
    "leases": "who may write for a source or shard",
    "sources": "what is followed",
    "partitions": "how far each source was captured",
    "log_head": "the lock of the log, and its end",
    "documents": "the log: each key once, at its newest seq",
    "staged": "parts of large transactions",
    "changes": "history without content",
    "models": "what makes two vectors comparable",
    "views": "what answers under which name",
    "generations": "builds of views, recipes locked",
    "cursors": "how far each shard has read the log",
    "watermarks": "up to where everything is searchable",
    "embeddings": "vectors that rest, without text",
    "quarantine": "what could not be processed, and why",
    "lag_samples": "commit to searchable",
    "retrievals": "what was asked, and on whose behalf",
    "retrieval_hits": "what was found, by references",
    "retrieval_texts": "texts that hits had, each once",
    "retrieval_minutes": "how many searches, how many stale",
    "freshness_samples": "how late each view was, every few seconds",
    "contracts": "every version of a view's contract",
    "escalations": "questions left to a person",
    "escalation_nearest": "what came nearest, by references",
    "fingerprints": "of what documents nearly say",
    "source_columns": "columns as last seen",
    "schema_changes": "what became of columns",
    "holds": "what the brake asks, and the answers",
    "purges": "receipts, without keys",
    "suppressions": "keyed hashes of what stays away",
    "audits": "what was compared and found",
    "audit_examples": "some of the documents concerned",
    "repairs": "rows to be read again from their source",
    "deferred": "what waits, behind the cursor",
    "spending": "texts and tokens embedded, by the hour",
    "index_baselines": "what indexes take when compact",
    "upkeep": "what was vacuumed and rebuilt",
    "chunks": "place, headings and text; rows may move",
    "vectors": "dense leg; never updated",
    "terms": "lexical leg; never updated",
    "frequencies": "lexical statistics, as appended deltas",
    "strays": "what HNSW does not find",
    "applied": "the searchable version of each document",
}

TYPES = {"timestamp with time zone": "timestamptz", "double precision": "float8", "character varying": "varchar"}

INK, MUTED, LINE, PAPER = "#1f2328", "#656d76", "#d0d7de", "#ffffff"
TINTS = {"blue": "#ddf4ff", "green": "#dafbe1", "yellow": "#fff8c5", "violet": "#fbefff", "grey": "#f6f8fa"}
MONO = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
SANS = "-apple-system, 'Segoe UI', Helvetica, Arial, 'DejaVu Sans', sans-serif"
ROW = 17


@dataclass(frozen=True)
class Column:
    name: str
    type: str
    is_key: bool
    refers_to: str | None
    values: tuple[str, ...]
    """Those that a CHECK allows, if it lists them."""


@dataclass(frozen=True)
class Table:
    name: str
    columns: tuple[Column, ...]
    indexes: tuple[str, ...]
    """Those that are no B-trees, such as `hnsw (embedding)`."""


def text(
    x: float, y: float, said: str, *, size: int = 12, fill: str = INK, style: str = "", anchor: str = "start"
) -> str:
    family = SANS if "sans" in style else MONO
    weight = ' font-weight="600"' if "bold" in style else ""
    return (
        f'<text x="{x:g}" y="{y:g}" font-family="{family}" font-size="{size}" fill="{fill}"{weight}'
        f' text-anchor="{anchor}">{escape(said)}</text>'
    )


def remark(x: float, y: float, said: str) -> str:
    return text(x, y, said, size=11, fill=MUTED, style="sans")


def box(x: float, y: float, width: float, height: float, fill: str, stroke: str = LINE) -> str:
    return f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6" fill="{fill}" stroke="{stroke}"/>'


def arrow(*points: tuple[float, float]) -> str:
    path = " ".join(f"{x:g},{y:g}" for x, y in points)
    return f'<polyline points="{path}" fill="none" stroke="{MUTED}" stroke-width="1.5" marker-end="url(#tip)"/>'


def svg(width: float, height: float, title: str, parts: Sequence[str]) -> str:
    tip = (
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0,0 L8,4 L0,8 z" fill="{MUTED}"/></marker></defs>'
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" role="img">',
            f"<title>{escape(title)}</title>",
            "<!-- Written by docs/generate_pictures.py; change that instead. -->",
            tip,
            f'<rect width="{width:g}" height="{height:g}" fill="{PAPER}"/>',
            *parts,
            "</svg>\n",
        ]
    )


def floors() -> list[list[str]]:
    """Modules by floor, the highest first, as pyproject.toml has them; without those that are planned."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    (layers,) = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    named = [re.findall(r"\w+", layer) for layer in layers]
    standing = [[name for name in names if _is_module(name)] for names in named]
    return [names for names in standing if names]


def _is_module(name: str) -> bool:
    return (PACKAGE / f"{name}.py").is_file() or (PACKAGE / name / "__init__.py").is_file()


def draw_floors() -> str:
    rows = floors()
    left, width, height, gap = 36, 860, 50, 8
    parts = []
    for number, names in enumerate(rows):
        y = 8 + number * (height + gap)
        share = (width - gap * (len(names) - 1)) / len(names)
        tint = TINTS["blue" if number < 4 else "green" if number < len(rows) - 1 else "yellow"]
        for place, name in enumerate(names):
            x = left + place * (share + gap)
            parts += [
                box(x, y, share, height, tint),
                text(x + 10, y + 20, name, style="bold", size=13),
                remark(x + 10, y + 38, MODULES[name]),
            ]
    bottom = 8 + len(rows) * (height + gap)
    parts += [
        arrow((18, 12), (18, bottom - gap - 4)),
        remark(left, bottom + 10, CAPTION),
    ]
    return svg(left + width + 8, bottom + 22, "The floors of src/livedex", parts)


CAPTION = "A module imports from lower floors only, and not from its own. Held by lint-imports."


def read_tables(dsn: str, schema: str) -> list[Table]:
    """The tables of a schema in the order in which they were made."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        tables = connection.execute(
            "SELECT oid, relname FROM pg_class WHERE relnamespace = %s::regnamespace AND relkind IN ('r', 'p') "
            "AND NOT relispartition ORDER BY oid",
            (schema,),
        ).fetchall()
        return [_table(connection, oid, name) for oid, name in tables]


def _table(connection: psycopg.Connection, oid: int, table: str) -> Table:
    constraints = connection.execute(
        "SELECT contype, conkey, confrelid::regclass::text, pg_get_constraintdef(oid) FROM pg_constraint "
        "WHERE conrelid = %s AND contype IN ('p', 'f', 'c') ORDER BY conname",
        (oid,),
    ).fetchall()
    key = {number for kind, numbers, *_ in constraints if kind == "p" for number in numbers}
    refers = {numbers[0]: to.rpartition(".")[2] for kind, numbers, to, _ in constraints if kind == "f"}
    values = {numbers[0]: _listed(said) for kind, numbers, _, said in constraints if kind == "c" and len(numbers) == 1}
    columns = connection.execute(
        "SELECT attnum, attname, format_type(atttypid, atttypmod) FROM pg_attribute "
        "WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
        (oid,),
    ).fetchall()
    indexes = connection.execute(
        "SELECT am.amname || ' (' || string_agg(pg_get_indexdef(i.indexrelid, n, true), ', ' ORDER BY n) || ')' "
        "FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am am ON am.oid = c.relam "
        "CROSS JOIN LATERAL generate_series(1, i.indnkeyatts) AS n "
        "WHERE i.indrelid = %s AND am.amname <> 'btree' GROUP BY i.indexrelid, am.amname ORDER BY 1",
        (oid,),
    ).fetchall()
    return Table(
        table,
        tuple(
            Column(name, _shortened(declared), number in key, refers.get(number), values.get(number, ()))
            for number, name, declared in columns
        ),
        tuple(index for (index,) in indexes),
    )


def _shortened(declared: str) -> str:
    return TYPES.get(declared, declared)


def _listed(check: str) -> tuple[str, ...]:
    return tuple(re.findall(r"'([^']*)'::text", check)) if "ANY (ARRAY[" in check else ()


def draw_tables(tables: Sequence[Table], title: str, tint: str) -> str:
    """One card a table, each put below the shortest of three columns."""
    width, gap, count = 300, 14, 3
    bottoms = [gap] * count
    parts: list[str] = []
    for table in tables:
        column = bottoms.index(min(bottoms))
        rows = list(_rows(table))
        height = 46 + ROW * len(rows)
        parts += _card(table, rows, gap + column * (width + gap), bottoms[column], width, height, TINTS[tint])
        bottoms[column] += height + gap
    return svg(gap + count * (width + gap), max(bottoms), title, parts)


def _rows(table: Table) -> Iterator[tuple[str, str, str]]:
    """Left, right and the style of each line of a card."""
    for column in table.columns:
        name = column.name if column.refers_to is None else f"{column.name} → {column.refers_to}"
        yield name, column.type, "bold" if column.is_key else ""
        line = ""
        for value in column.values:
            longer = f"{line} | {value}" if line else value
            if len(longer) > 36:
                yield f"  {line} |", "", "muted"
                longer = value
            line = longer
        if line:
            yield f"  {line}", "", "muted"
    for index in table.indexes:
        yield index, "", "muted"


def _card(
    table: Table, rows: Sequence[tuple[str, str, str]], x: int, y: int, width: int, height: int, tint: str
) -> list[str]:
    parts = [
        box(x, y, width, height, PAPER),
        box(x, y, width, 38, tint),
        text(x + 10, y + 16, table.name, style="bold", size=13),
        remark(x + 10, y + 31, TABLES[table.name]),
    ]
    for number, (left, right, style) in enumerate(rows):
        baseline = y + 54 + ROW * number
        fill = MUTED if style == "muted" else INK
        parts.append(text(x + 10 + (14 if left.startswith("  ") else 0), baseline, left.strip(), size=11, fill=fill,
                          style=style))  # fmt: skip
        if right:
            parts.append(text(x + width - 10, baseline, right, size=11, fill=MUTED, anchor="end"))
    return parts


def draw_data_flow() -> str:
    parts: list[str] = []

    def node(x: float, y: float, width: float, tint: str, name: str, *said: str) -> None:
        parts.append(box(x, y, width, 30 + 16 * len(said), TINTS[tint]))
        parts.append(text(x + 10, y + 20, name, style="bold", size=13))
        parts.extend(remark(x + 10, y + 38 + 16 * n, line) for n, line in enumerate(said))

    parts += [
        box(270, 8, 560, 300, "none", MUTED),
        text(282, 28, "the store: one PostgreSQL with pgvector", size=12, fill=MUTED, style="sans"),
    ]
    node(8, 52, 180, "blue", "PostgreSQL", "tables, through a slot")
    node(8, 134, 180, "blue", "a folder", "files, through the system", "that tells of changes")
    node(286, 84, 190, "yellow", "documents", "the log: each key once,", "in the order of commits")
    node(626, 52, 190, "green", "view A", "vectors · HNSW", "terms · GIN")
    node(626, 150, 190, "green", "view B", "another model or cut")
    node(286, 216, 530, "grey", "retrieve", "both legs propose · both scores for each · fused · judged by documents",
         "one statement, one snapshot")  # fmt: skip
    node(8, 340, 822, "violet", "doors", "Python · livedex search · HTTP · MCP over HTTP and stdio · SQL on a view")
    parts += [
        arrow((188, 75), (286, 100)),
        arrow((188, 160), (286, 126)),
        remark(200, 70, "capture"),
        arrow((476, 104), (626, 90)),
        arrow((476, 126), (626, 168)),
        remark(476, 52, "materialize:"),
        remark(476, 68, "cut ▸ diff ▸ embed ▸ apply"),
        arrow((381, 146), (381, 216)),
        arrow((721, 196), (721, 216)),
        arrow((816, 80), (823, 80), (823, 236), (816, 236)),
        arrow((551, 278), (551, 340)),
    ]
    return svg(838, 396, "From sources to doors", parts)


def draw_stored(dsn: str) -> dict[str, str]:
    """The pictures of a database with one view whose first load is done, by file name."""
    return {
        "store.svg": draw_tables(read_tables(dsn, "livedex"), "Tables of the schema livedex", "blue"),
        "generation.svg": draw_tables(read_tables(dsn, "livedex_g1"), "Tables of a generation", "green"),
    }


def draw_unstored() -> dict[str, str]:
    """The pictures that need no database, by file name."""
    return {"floors.svg": draw_floors(), "data-flow.svg": draw_data_flow()}


@asynccontextmanager
async def small_index(directory: Path, environ: dict[str, str]) -> AsyncIterator[str]:
    """An index with one view over one document, in an empty directory; the connection string while it is open."""
    (directory / "notes").mkdir()
    (directory / "notes" / "note.md").write_text("# A note\n\nIt holds a few words.\n", encoding="utf-8")
    (directory / "livedex.yaml").write_text(CONFIGURATION, encoding="utf-8")
    async with livedex.open(directory / "livedex.yaml", environ=environ) as index:
        await index.sync()
        yield index.dsn


async def draw(directory: Path) -> dict[str, str]:
    """Every picture, by file name."""
    async with small_index(directory, {"HOME": str(directory)}) as dsn:
        return draw_unstored() | draw_stored(dsn)


def write() -> None:
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o711)  # as root the server runs under another user, who has to get in
        pictures = asyncio.run(draw(Path(made)))
    for name, picture in pictures.items():
        (PICTURES / name).write_text(picture, encoding="utf-8")
        print(f"Wrote {PICTURES / name}")


if __name__ == "__main__":
    write()
