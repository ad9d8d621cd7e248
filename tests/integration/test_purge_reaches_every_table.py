"""Every column that could hold what has to be forgotten is known to purges, or is known to be harmless."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.world import World

from livedex.store.embedded import EmbeddedServer
from livedex.store.purge import IN_GENERATIONS, IN_STORE, Held

SUSPECT = """
SELECT CASE WHEN n.nspname = 'livedex' THEN n.nspname ELSE '{g}' END || '.' || c.relname, a.attname,
    coalesce(a.attstattarget, -1)
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE (n.nspname = 'livedex' OR n.nspname LIKE 'livedex\\_g%%') AND c.relkind IN ('r', 'p') AND NOT c.relispartition
    AND a.attnum > 0 AND NOT a.attisdropped
    AND format_type(a.atttypid, NULL) = ANY(
        '{text,jsonb,json,bytea,tsvector,sparsevec,halfvec,vector,text[],halfvec[]}')
ORDER BY 1, 2
"""

HARMLESS = {
    "configuration, or made from it": [
        "livedex.contracts.clauses", "livedex.contracts.contract", "livedex.generations.functions",
        "livedex.generations.recipe", "livedex.models.identity", "livedex.models.name", "livedex.partitions.judged",
        "livedex.sources.kind", "livedex.sources.mapping", "livedex.sources.name", "livedex.views.name",
        "livedex.views.sql_definition", "livedex.views.when_spent", "livedex.audits.wanted",
        "livedex.escalations.contract",
        "livedex.retrievals.contract",
    ],
    "names of columns and types of the source": [
        "livedex.documents.collection", "livedex.schema_changes.became", "livedex.schema_changes.column_name",
        "livedex.schema_changes.kind", "livedex.schema_changes.table_name", "livedex.schema_changes.was",
        "livedex.source_columns.column_name", "livedex.source_columns.table_name", "livedex.source_columns.type",
    ],
    "a place in the source's log": [
        "livedex.changes.source_position", "livedex.documents.source_position", "livedex.holds.partition",
        "livedex.partitions.partition", "livedex.partitions.position", "livedex.staged.partition",
        "livedex.watermarks.partition", "livedex.watermarks.position", "{g}.applied.source_position",
        "livedex.retrievals.watermark",
    ],
    "one of a few words": [
        "livedex.deferred.reason", "livedex.escalations.state", "livedex.generations.state", "livedex.holds.kinds",
        "livedex.partitions.state", "livedex.purges.action", "livedex.quarantine.stage", "livedex.retrievals.mode",
        "livedex.retrievals.outcome", "livedex.audit_examples.kind", "livedex.audit_examples.subject",
        "livedex.upkeep.action", "{g}.chunks.section_type",
    ],
    "figures": [
        "livedex.escalation_nearest.scores", "livedex.escalation_nearest.violations",
        "livedex.escalations.violations", "livedex.index_baselines.index_name", "livedex.purges.remains",
        "livedex.purges.removed", "livedex.retrieval_hits.scores", "livedex.retrievals.asked",
        "livedex.retrievals.freshness", "livedex.retrievals.timings", "livedex.retrievals.violations",
        "livedex.upkeep.reason", "livedex.upkeep.target",
    ],
    "people and processes of whoever runs livedex, and what they were asked to write without a name": [
        "livedex.audits.owner", "livedex.escalations.resolved_by", "livedex.escalations.taken_by",
        "livedex.holds.approved_by", "livedex.leases.owner", "livedex.leases.resource", "livedex.purges.made_by",
        "livedex.purges.reason",
    ],
    "who may see it: goes with its row, and ANALYZE after a purge knows the others only": [
        "livedex.documents.acl", "livedex.documents.tenant",
    ],
    "on whose behalf was asked": [
        "livedex.escalations.tenant", "livedex.retrievals.principals", "livedex.retrievals.tenant",
    ],
    "the source's name": ["livedex.escalation_nearest.source"],
    "keyed hashes of queries, or of keys that are kept away": [
        "livedex.escalations.question_hash", "livedex.retrievals.query_hash", "livedex.store.hash_key",
        "livedex.suppressions.key_hash",
    ],
    "random": ["livedex.escalations.retrieval_id"],
    "livedex's own": ["livedex.migrations.checksum", "livedex.migrations.name"],
}  # fmt: skip


@pytest.fixture
async def suspects(
    server: EmbeddedServer, database_on: Callable[[EmbeddedServer], str], tmp_path: Path
) -> dict[tuple[str, str], int]:
    """Table and column of whatever could hold text, a key or a query, with its statistics target."""
    world = World.make(database_on(server), database_on(server), tmp_path)
    async with world.open() as index:
        await index.prepare()
    return {(table, column): target for table, column, target in world.stored(SUSPECT)}


def registered() -> list[tuple[str, Held]]:
    return [*((f"livedex.{held.table}", held) for held in IN_STORE), *((f"{{g}}.{h.table}", h) for h in IN_GENERATIONS)]


async def test_every_column_that_could_hold_text_is_registered_for_purge(suspects: dict[tuple[str, str], int]) -> None:
    known = {(table, column) for table, held in registered() for column in (*held.columns, *held.traces)}
    harmless = {tuple(name.rsplit(".", 1)) for names in HARMLESS.values() for name in names}
    assert sorted(suspects.keys() - known - harmless) == []
    assert sorted(known & harmless) == []
    assert sorted(harmless - suspects.keys()) == []


async def test_no_statistics_are_kept_of_a_column_that_holds_text(suspects: dict[tuple[str, str], int]) -> None:
    text = [(table, column) for table, held in registered() for column in held.columns]
    assert {place: suspects[place] for place in text} == dict.fromkeys(text, 0)
