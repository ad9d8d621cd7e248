"""What is declared and how it stands: sources with their positions, views with their generations."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any

from psycopg import AsyncConnection, sql
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from livedex.model import Generation, ModelIdentity, Recipe, TableMapping
from livedex.rules.lexical import LEAST_HEAVIEST, MOST_TERMS
from livedex.store.audit import Audits
from livedex.store.cost import ViewCost, read_cost
from livedex.store.database import Database
from livedex.store.entries import SourceRow
from livedex.store.freshness import Figures, figures
from livedex.store.marks import Marks
from livedex.store.statements import Statements, load
from livedex.store.upkeep import Size, read_size

SQL = load("catalog")
GENERATION = Statements("generation")
CHUNKS = Statements("chunks")
LEXICAL = Statements("lexical")
LEXICON = Statements("lexicon")


@dataclass(frozen=True, slots=True)
class Identity:
    """The store's own id, and the key of its hashes of text."""

    store_id: str
    hash_key: bytes


@dataclass(frozen=True, slots=True)
class PartitionRow:
    """Where capture of a source partition stands."""

    position: str | None
    epoch: int
    state: str
    error: str | None = None


class Catalog:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def identity(self) -> Identity:
        row = await self._row("store")
        return Identity(row["store_id"], bytes(row["hash_key"]))

    async def declare_source(self, name: str, kind: str, mapping: Mapping[str, TableMapping]) -> tuple[SourceRow, bool]:
        """Record a source. The second value says that its mapping changed, so that it will be read again."""
        wanted = {table: asdict(columns) for table, columns in mapping.items()}
        async with self._declaring() as connection:
            await connection.execute(SQL["add_source"], {"name": name, "kind": kind, "mapping": Jsonb(wanted)})
            row = await _one(connection, "source", name=name)
            changed = _mapping(row["mapping"]) != dict(mapping)
            if changed:
                values = {"source_id": row["source_id"], "mapping": Jsonb(wanted)}
                await connection.execute(SQL["remap_source"], values)
                await connection.execute(SQL["reset_partitions"], values)
            for column in sorted({column for columns in mapping.values() for column in columns.metadata_names}):
                await _index_metadata(connection, column)
        return SourceRow(row["source_id"], name, dict(mapping)), changed

    async def note_heartbeat(self, source: SourceRow, seconds: float) -> None:
        """Record how often an idle source is heard of, so that others know when it is silent."""
        await self._execute("note_heartbeat", source_id=source.source_id, seconds=seconds)

    async def sources(self) -> list[SourceRow]:
        rows = await self._rows("sources")
        return [SourceRow(row["source_id"], row["name"], _mapping(row["mapping"])) for row in rows]

    async def resync(self, source: SourceRow) -> None:
        """Forget where a source stood: it is read again from the start; what is unchanged costs nothing."""
        await self._execute("reset_partitions", source_id=source.source_id)

    async def partition(self, source: SourceRow, partition: str) -> PartitionRow:
        values = {"source_id": source.source_id, "partition": partition}
        await self._execute("add_partition", **values)
        row = await self._row("partition", **values)
        return PartitionRow(row["position"], row["epoch"], row["state"], row["error"])

    async def pause(self, source: SourceRow, partition: str, error: str) -> None:
        await self._execute("pause_partition", source_id=source.source_id, partition=partition, error=error)

    async def note_source_error(self, source: SourceRow, partition: str, error: str | None) -> None:
        await self._execute("note_partition_error", source_id=source.source_id, partition=partition, error=error)

    async def declare_view(
        self, name: str, sources: Sequence[SourceRow], recipe: Recipe, shards: int, target_lag_seconds: float
    ) -> Generation:
        """The view's active generation; its first one is made here. Its recipe may differ from the wanted one."""
        async with self._declaring() as connection:
            view = await _one(connection, "add_view", name=name, target_lag=target_lag_seconds)
            async with connection.cursor(row_factory=dict_row) as cursor:
                await cursor.execute(SQL["active_generation"], {"view": name})
                row = await cursor.fetchone()
            if row is None:
                await self._add_generation(connection, view["view_id"], sources, recipe, shards)
                row = await _one(connection, "active_generation", view=name)
            generation = _generation(row)
            await _make_functions(connection, generation)
        return generation

    async def ensure_functions(self, generation: Generation) -> None:
        """Have the functions of this version of livedex in a generation that another may have made."""
        row = await self._row("functions_digest", generation=generation.generation)
        if row["functions"] != _digest(functions(generation.schema)):
            async with self._declaring() as connection:
                await _make_functions(connection, generation)

    async def active_generation(self, view: str) -> Generation | None:
        rows = await self._rows("active_generation", view=view)
        return _generation(rows[0]) if rows else None

    async def generations(self) -> list[Generation]:
        """Every generation that follows the log."""
        return [_generation(row) for row in await self._rows("generations")]

    async def marks(self, generation: Generation) -> Marks:
        return Marks.of(await self._rows("marks", generation=generation.generation))

    async def counters(self, generation: Generation) -> dict[str, int]:
        """Totals since the generation was made: added, updated, deleted, texts_embedded, chunks_inserted; and as of
        now: documents, quarantined."""
        row = await self._row("counters", generation=generation.generation)
        return {name: int(value) for name, value in row.items() if name != "generation"}

    async def backlog(self, generation: Generation) -> list[dict[str, Any]]:
        """Per shard: documents to read, and why it makes no progress, if so."""
        return await self._rows("backlog", generation=generation.generation)

    async def figures(self, generation: Generation, seconds: float) -> Figures:
        return await figures(self._database, generation, seconds)

    async def chunk_count(self, generation: Generation) -> int:
        async with self._database.connection() as connection:
            cursor = await connection.execute(GENERATION.for_schema(generation.schema)["count_chunks"])
            row = await cursor.fetchone()
        return int(row[0]) if row else 0

    async def size(self, generation: Generation) -> Size:
        return await read_size(self._database, generation)

    async def partitions(self) -> list[dict[str, Any]]:
        return await self._rows("partitions")

    async def last_audit(self) -> dict[str, Any] | None:
        """When sources and views were last compared, and what that came to: `Audits.last`."""
        return await Audits(self._database).last()

    async def quarantined(self) -> list[dict[str, Any]]:
        return await self._rows("quarantined")

    async def retry(self, documents: Sequence[int]) -> None:
        """Send documents through the log again."""
        async with self._database.transaction() as connection:
            await connection.execute(load("log")["touch"], {"documents": list(documents)})
            await connection.execute(load("expectations")["judge_again"], {"documents": list(documents)})
            await connection.execute(load("log")["notify"], {"news": " "})

    async def cost(self, generation: Generation) -> ViewCost:
        return await read_cost(self._database, generation)

    async def prune(self) -> None:
        """What is kept for a time: resting vectors 30 days, spending 400; and room for the history's next weeks."""
        await self._execute("prune_embeddings")
        await self._execute("prune_spending")
        async with self._database.connection() as connection:
            await connection.execute(load("log")["ensure_history"])

    async def fold(self) -> None:
        """Add up the statistics of terms that many edits have appended to."""
        for generation in await self.generations():
            if generation.recipe.lexical:
                async with self._database.connection() as connection:
                    await connection.execute(LEXICON.for_schema(generation.schema)["fold"])

    async def _add_generation(
        self, connection: AsyncConnection[Any], view_id: int, sources: Sequence[SourceRow], recipe: Recipe, shards: int
    ) -> None:
        model = recipe.model
        values = {"name": model.name, "identity": Jsonb(asdict(model)), "dimensions": model.dimensions}
        await connection.execute(SQL["add_model"], values)
        model_id = (await _one(connection, "model_id", name=model.name))["model_id"]
        row = await _one(
            connection,
            "add_generation",
            view_id=view_id,
            recipe=Jsonb(recipe_to_json(recipe)),
            model_id=model_id,
            shards=shards,
            source_ids=[source.source_id for source in sources],
        )
        generation = int(row["generation"])
        statements = GENERATION.for_schema(f"livedex_g{generation}", dimensions=model.dimensions)
        await connection.execute(statements["create_tables"])
        await connection.execute(SQL["add_cursors"], {"generation": generation, "shards": shards})
        await connection.execute(SQL["activate"], {"generation": generation, "view_id": view_id})

    @asynccontextmanager
    async def _declaring(self) -> AsyncIterator[AsyncConnection[Any]]:
        async with self._database.transaction() as connection:
            await connection.execute(SQL["lock"])
            yield connection

    async def _execute(self, name: str, /, **values: Any) -> None:
        async with self._database.connection() as connection:
            await connection.execute(SQL[name], values)

    async def _rows(self, name: str, /, **values: Any) -> list[dict[str, Any]]:
        async with self._database.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(SQL[name], values)
            return await cursor.fetchall()

    async def _row(self, name: str, /, **values: Any) -> dict[str, Any]:
        (row,) = await self._rows(name, **values)
        return row


def functions(schema: str) -> list[str]:
    """The statements that make a generation's functions."""
    least = round(100 * LEAST_HEAVIEST)
    search = LEXICAL.for_schema(schema, least_heaviest=least, most_terms=MOST_TERMS)
    write = CHUNKS.for_schema(schema, least_heaviest=least)
    return [
        search["create_function"]
        .replace("{visible}", search["visible"])
        .replace("{scored_proposals}", search["scored"].replace("{these}", "visible[:depth]"))
        .replace("{scored_beside}", search["scored"].replace("{these}", "beside")),
        write["create_exchange_terms"],
        write["create_apply"],
    ]


def recipe_to_json(recipe: Recipe) -> dict[str, Any]:
    return {
        "parser": dict(recipe.parser),
        "chunker": dict(recipe.chunker),
        "model": asdict(recipe.model),
        "lexical": dict(recipe.lexical),
        "extractor": dict(recipe.extractor),
    }


def _generation(row: Mapping[str, Any]) -> Generation:
    stored = row["recipe"]
    later = (stored.get(part, {}) for part in ("lexical", "extractor"))  # what older versions did not have
    recipe = Recipe(stored["parser"], stored["chunker"], ModelIdentity(**stored["model"]), *later)
    return Generation(
        generation=row["generation"],
        view=row["view"],
        state=row["state"],
        recipe=recipe,
        model_id=row["model_id"],
        shards=row["shards"],
        source_ids=tuple(row["source_ids"]),
        indexed=row["indexed"],
        max_ages=tuple(row["max_ages"]),
    )


def _mapping(stored: Mapping[str, Any]) -> dict[str, TableMapping]:
    return {
        table: TableMapping(
            **{
                **columns,
                "key": tuple(columns["key"]),
                "metadata": tuple(columns["metadata"]),
                "front_matter": tuple(columns.get("front_matter", ())),
            }
        )
        for table, columns in stored.items()
    }


async def _make_functions(connection: AsyncConnection[Any], generation: Generation) -> None:
    if not generation.recipe.lexical:
        return  # from before there was a lexical leg; its tables have no room for one
    statements = functions(generation.schema)
    standing = await _one(connection, "functions_digest", generation=generation.generation)
    if standing["functions"] == _digest(statements):
        return
    await connection.execute(GENERATION.for_schema(generation.schema)["drop_functions"])
    for statement in statements:
        await connection.execute(statement)
    values = {"generation": generation.generation, "digest": _digest(statements)}
    await connection.execute(SQL["note_functions"], values)


def _digest(statements: Sequence[str]) -> str:
    return hashlib.blake2b("\0".join(statements).encode(), digest_size=8).hexdigest()


async def _index_metadata(connection: AsyncConnection[Any], column: str) -> None:
    digest = hashlib.blake2b(column.encode(), digest_size=6).hexdigest()
    for statement, name in (
        ("metadata_index", f"documents_metadata_{digest}"),
        ("metadata_list_index", f"documents_metadata_{digest}_list"),
        ("metadata_statistics", f"metadata_{digest}"),
    ):
        # Even IF NOT EXISTS waits for everybody who is writing documents, also for a worker that froze in doing so.
        if not (await _one(connection, "stands", name=name))["stands"]:
            await connection.execute(
                sql.SQL(SQL[statement]).format(index=sql.Identifier(name), name=sql.Literal(column))
            )


async def _one(connection: AsyncConnection[Any], statement: str, /, **values: Any) -> dict[str, Any]:
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(SQL[statement], values)
        row = await cursor.fetchone()
    if row is None:
        raise LookupError(f"The statement {statement} found nothing for {values}.")
    return row
